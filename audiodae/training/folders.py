"""From folders to a training: decode, split, mix, train; or only look and listen (`--check`)."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from audiodae.errors import AudiodaeError, printable
from audiodae.files.audio import Writer
from audiodae.nets.checkpoint import load_autoencoder, load_denoiser, pretrained_folder
from audiodae.nets.denoiser import DenoiserConfig
from audiodae.nets.device import training_device
from audiodae.nets.families import family
from audiodae.signals import Stop
from audiodae.training import together
from audiodae.training.ahead import check_workers, default_workers
from audiodae.training.corpus import GENERATED, Corpus, read_corpus
from audiodae.training.draw import parted
from audiodae.training.lessons import Net, lesson_of
from audiodae.training.mixer import Mixer
from audiodae.training.recipe import Recipe, read_recipe
from audiodae.training.run_state import STATE, check_folder
from audiodae.training.together import say
from audiodae.training.trainer import Trainer

_EXAMPLES = 10
_EXAMPLE_SECONDS = 4.0
_GROUPS_SHOWN = 5
_VALIDATION_SEED = 20_000


def train_folders(
    speech: Sequence[Path],
    noise: Sequence[Path],
    rir: Sequence[Path],
    recipe_path: Path | None,
    run: Path,
    cache: Path | None = None,
    device: str = "auto",
    init: str | None = None,
    stop_after_steps: int | None = None,
    workers: int | None = None,
    stop: Stop | None = None,
) -> None:
    """Train by a recipe on folders of audio, going on with what `run` holds.

    With `init` the weights come from that checkpoint, and the model's shape too where the recipe asks for
    none; for another shape (wider, deeper, more bands) what fits is taken over. `workers` processes mix,
    by default where there is a GPU; with 0 it is this one, on the device. `stop`, of `heeding_signals`, ends
    it after a step, which is saved. Raises `AudiodaeError`.
    """
    stop = stop or Stop()
    recipe = read_recipe(recipe_path)
    chosen = training_device(device)
    workers = default_workers(chosen, say) if workers is None else workers
    check_workers(workers)
    if chosen.type == "cuda" and chosen.index is not None:
        torch.cuda.set_device(chosen)  # also where batches are pinned
    recipe, start_from = _begun(recipe, init, chosen)
    if not (run / STATE).exists():
        check_folder(run)
    elif init is not None:
        say(f"{run} goes on from where it stopped; --init is for beginning.")
    try:
        with stop.waiting():  # before the first step nothing would be lost
            together.join(chosen)
            mixes_on = torch.device("cpu") if workers else chosen
            cache = cache or run / "cache"
            mixers = make_mixers(speech, noise, rir, recipe, cache, mixes_on)
            trainer = Trainer(
                recipe, *mixers, run, device=chosen, start_from=start_from, workers=workers
            )
        trainer.train(stop_after_steps, lambda: stop() or together.is_orphaned())
    finally:
        together.leave()


def _begun(recipe: Recipe, init: str | None, device: torch.device) -> tuple[Recipe, Net | None]:
    """The recipe, in the shape of the net to begin with where it asks for none; and that net."""
    if init is None:
        return recipe, None
    if recipe.autoencoder is not None:
        return recipe, load_autoencoder(init, device)
    net = load_denoiser(init, device)
    return (replace(recipe, model=net.config) if recipe.model == DenoiserConfig() else recipe), net


def check_folders(
    speech: Sequence[Path],
    noise: Sequence[Path],
    rir: Sequence[Path],
    recipe_path: Path | None,
    run: Path,
    cache: Path | None = None,
    init: str | None = None,
) -> None:
    """Print hours, clips, groups and the recipe's length, and write ten mixtures to `RUN/examples`.

    Of several processes the first does. Raises `AudiodaeError` as `train_folders`.
    """
    if not together.is_first():
        return
    recipe, _ = _begun(read_recipe(recipe_path), init, torch.device("cpu"))
    lesson = lesson_of(recipe, torch.device("cpu"))
    lesson.check(0)
    check_folder(run)
    corpora = corpora_of(speech, noise, rir, recipe, cache or run / "cache")
    parts = _parts(corpora, recipe)
    for name, corpus in corpora.items():
        if corpus is None:
            if name != GENERATED:
                print(f"{name:7s} none")
            continue
        groups = len(corpus.groups)
        # A single group is in both parts, as all are where none is to be held out.
        held, apart = 0, parts[1].get(name)
        if recipe.held_out and groups > 1 and apart is not None:
            held = len(apart.groups)
        print(
            f"{name:7s} {corpus.hours:7.2f} h  {len(corpus.clips):6d} clips  {groups:5d} "
            f"group{'' if groups == 1 else 's'} ({held or 'none'} held out to validate)  "
            f"{len(corpus.failures)} left out"
        )
        if corpus.rates_hz:
            rates = ", ".join(f"{count} at {rate} Hz" for rate, count in corpus.rates_hz)
            print(f"        {rates}")
        print(printable(f"        groups: {_first_groups(corpus)}"))
        for failure in corpus.failures:
            print(printable(f"        left out: {failure}"))
    net = lesson.build()
    parameters = sum(p.numel() for p in net.parameters())
    hours = recipe.audio_seconds(recipe.steps) / 3600
    print(f"model   {parameters:,} parameters at {recipe.sample_rate} Hz")
    print(f"recipe  {recipe.steps:,} steps, {hours:.1f} h of mixtures a process")
    mixer, _ = _mixers_of_parts(parts, recipe, torch.device("cpu"))
    mixture = mixer.batch(0, _EXAMPLES, _EXAMPLE_SECONDS)
    folder = run / "examples"
    folder.mkdir(parents=True, exist_ok=True)
    for kind, batch in (("noisy", mixture.noisy), ("clean", mixture.clean)):
        for i, waveform in enumerate(batch.numpy()):
            target = folder / f"{i:02d}-{kind}.wav"
            with Writer(target, mixer.sample_rate, 1, "WAV", "PCM_16") as writer:
                writer.write(waveform[None])
    print(f"wrote {_EXAMPLES} mixtures, noisy and clean, to {folder}")


def _first_groups(corpus: Corpus) -> str:
    """Enough of them to see whether they are talkers, and not utterances or all of the folder."""
    clips = sorted(Counter(clip.group for clip in corpus.clips).items())
    named = [f"{group} ({count} clip{'s' * (count > 1)})" for group, count in clips[:_GROUPS_SHOWN]]
    return ", ".join(named) + (", ..." if len(clips) > _GROUPS_SHOWN else "")


def family_recipe(name: str) -> Path:
    """The recipe behind a family's shipped weights. Raises `AudiodaeError` for an unknown family."""
    family(name)
    path = pretrained_folder() / f"{name}-16k.toml"
    if not path.is_file():
        raise AudiodaeError(f"The recipe {path} is not installed: give one of your own (--recipe).")
    return path


def corpora_of(
    speech: Sequence[Path],
    noise: Sequence[Path],
    rir: Sequence[Path],
    recipe: Recipe,
    cache: Path,
) -> dict[str, Corpus | None]:
    """All that was given, decoded: speech, noise, generated noise and rooms. Raises `AudiodaeError`."""
    rate = recipe.sample_rate
    if not speech and recipe.mix.noise_only < 1.0:
        raise AudiodaeError("This recipe is about speech: give a folder of it with --speech.")
    if recipe.mix.noise_only < 1.0:
        _check_apart(speech, noise)
    corpora = {
        "speech": read_corpus(speech, rate, cache, talkers_in_folders=True) if speech else None,
        "noise": read_corpus(noise, rate, cache) if noise else None,
        "rooms": read_corpus(rir, rate, cache, full_scale=True) if rir else None,
    }
    return corpora | _noises(recipe, corpora["noise"])


def _check_apart(speech: Sequence[Path], noise: Sequence[Path]) -> None:
    """Raise `AudiodaeError` where speech would be heard as noise too: what is learnt is to remove it."""
    for voices, noises in itertools.product(speech, noise):
        one, other = Path(os.path.realpath(voices)), Path(os.path.realpath(noises))
        if one.is_relative_to(other) or other.is_relative_to(one):
            raise AudiodaeError(
                f"{voices} is given as speech, and {noises} as noise: they are one folder, or one is in the "
                "other. Give two folders that lie apart."
            )


def _noises(recipe: Recipe, noise: Corpus | None) -> dict[str, Corpus | None]:
    """Recorded noise and what of the generated noise the recipe asks for; says what does nothing."""
    chance = recipe.mix.generated_noise
    recorded, generated = parted(noise, chance)
    if generated is not None and not chance:
        say(
            f"mix.generated_noise is 0: the noise in the folder {GENERATED!r} ({len(generated.clips)} "
            "clips) is left out. To train with it, set how often it is to be heard, such as 0.2."
        )
        generated = None
    if noise is not None and recorded is None and recipe.mix.noise_only == 1.0:
        raise AudiodaeError(
            "This recipe is about noise, and all there is was generated: give a folder of recorded "
            "noise too, to measure with."
        )
    if recorded is not None:
        _check_categories(recipe, recorded)
    return {"noise": recorded, GENERATED: generated}


def _together(generated: Corpus | None, recorded: Corpus | None) -> Corpus | None:
    if generated is None or recorded is None:
        return generated or recorded
    return replace(generated, clips=generated.clips + recorded.clips)


def make_mixers(
    speech: Sequence[Path],
    noise: Sequence[Path],
    rir: Sequence[Path],
    recipe: Recipe,
    cache: Path,
    device: torch.device,
) -> tuple[Mixer, Mixer]:
    """Mixers of the groups a recipe trains on and of those it holds out. Raises `AudiodaeError`."""
    return mixers_of(corpora_of(speech, noise, rir, recipe, cache), recipe, device)


def mixers_of(
    corpora: dict[str, Corpus | None], recipe: Recipe, device: torch.device
) -> tuple[Mixer, Mixer]:
    """The same of what `corpora_of` returns."""
    for name, corpus in corpora.items():
        if name == GENERATED or corpus is None:
            continue
        if corpus.failures:
            say(
                f"{len(corpus.failures)} of the {name} files cannot be used and are left out: "
                "`audiodae train --check` names them."
            )
        if recipe.held_out and len(corpus.groups) == 1 and name != "rooms":
            say(
                f"All {name} is one group ({corpus.clips[0].group}), so none can be held out: the validation "
                "hears what the training hears."
            )
    return _mixers_of_parts(_parts(corpora, recipe), recipe, device)


def _parts(
    corpora: dict[str, Corpus | None], recipe: Recipe
) -> tuple[dict[str, Corpus | None], dict[str, Corpus | None]]:
    """What is trained on of each corpus, and what is held out."""
    parts: tuple[dict[str, Corpus | None], dict[str, Corpus | None]] = ({}, {})
    for name, corpus in corpora.items():
        if name == GENERATED:
            continue
        if name == "noise" and corpus is not None:
            corpus = _wanted(corpus, recipe.mix.category_weights)
        split = (None, None) if corpus is None else corpus.split(recipe.held_out)
        parts[0][name], parts[1][name] = split
    # Generated noise is of the training alone: it is one group, and no measure of what is held out.
    parts[0]["noise"] = _together(corpora[GENERATED], parts[0]["noise"])
    return parts


def _wanted(noise: Corpus, weights: Mapping[str, float]) -> Corpus:
    """Noise without the categories whose weight is 0: they must not be all that is held out."""
    clips = tuple(clip for clip in noise.clips if weights.get(clip.category, 1.0))
    return replace(noise, clips=clips) if clips else noise


def _mixers_of_parts(
    parts: tuple[dict[str, Corpus | None], dict[str, Corpus | None]],
    recipe: Recipe,
    device: torch.device,
) -> tuple[Mixer, Mixer]:
    mixes = recipe.mix, replace(recipe.mix, generated_noise=0.0)
    mixers = [
        Mixer(part["speech"], part["noise"], part["rooms"], mix, seed=seed, device=device)
        for part, mix, seed in zip(parts, mixes, (recipe.seed, _VALIDATION_SEED), strict=True)
    ]
    return mixers[0], mixers[1]


def _check_categories(recipe: Recipe, noise: Corpus) -> None:
    """Say which weights do nothing: a recipe of others names categories that one's own noise has not."""
    there = {clip.category for clip in noise.clips}
    unknown = sorted(set(recipe.mix.category_weights) - there)
    if unknown:
        say(
            f"mix.category_weights: the noise has no category {', '.join(unknown)}, so these weights do "
            f"nothing; it has {', '.join(sorted(there))}."
        )
