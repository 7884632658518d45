"""Does generated noise help a denoiser? Two short trainings, alike but for that, on unseen noise."""

from __future__ import annotations

import json
import tempfile
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch
from data import RATE, corpora, markdown, pieces

from audiodae.latent.generate import generate, texture_of
from audiodae.latent.latents import Trained
from audiodae.nets.denoiser import DenoiserConfig
from audiodae.training.corpus import Clip, Corpus
from audiodae.training.draw import GENERATED
from audiodae.training.mix_config import MixConfig
from audiodae.training.mixer import Mixer
from audiodae.training.recipe import Recipe, Stage
from audiodae.training.trainer import Trainer

SECONDS, COUNT, CHANCE, SEED = 8.0, 60, 0.2, 20_000
FIGURES = "si_sdr_noisy_db", "si_sdr_db"


def with_generated(noise: Corpus, model: Trained) -> Corpus:
    """The corpus and sounds like pieces of it, as a category of their own."""
    like = []
    with tempfile.TemporaryDirectory() as folder:
        for piece in pieces(noise, SECONDS, 1, limit=COUNT):
            path = Path(folder) / "a.wav"
            soundfile.write(path, piece.samples, RATE, subtype="FLOAT")
            like.append(texture_of(path, model.net))
    clips, parts, start = list(noise.clips), [np.asarray(noise.audio)], len(noise.audio)
    for number, x in enumerate(generate(model.net, COUNT, SECONDS, like=like)):
        parts.append((x * 32767).astype(np.int16))
        clips.append(Clip(f"{number}.wav", GENERATED, f"{number}", start, len(x)))
        start += len(x)
    return Corpus(tuple(clips), np.concatenate(parts), RATE)


def run(args: Namespace) -> None:
    parts = corpora(args)
    (speech, held_speech), (noise, held_noise) = parts["speech"], parts["noise"]
    more = with_generated(noise, Trained.load(args.models[0]))
    plain = MixConfig(room=0.0)
    device = torch.device("cpu")
    rows: list[list[object]] = []
    for name, corpus, chance in (("recorded noise", noise, 0.0), ("and generated", more, CHANCE)):
        recipe = Recipe(
            stages=(Stage(args.steps, 8, 1.0, warmup_steps=50),),
            model=DenoiserConfig(channels=(24, 32), blocks=1),
            checkpoint_minutes=1e9,
        )
        training = Mixer(speech, corpus, None, replace(plain, generated_noise=chance), seed=1)
        unseen = Mixer(held_speech, held_noise, None, plain, seed=SEED)
        with tempfile.TemporaryDirectory() as folder:
            Trainer(recipe, training, unseen, Path(folder), device=device).train()
            last = json.loads((Path(folder) / "curve.jsonl").read_text().splitlines()[-1])
        # What is no number is not in the curve.
        figures = [f"{last[key]:.2f}" if key in last else "n/a" for key in FIGURES]
        rows.append([name, last.get("loss", "n/a"), *figures])
    print("\n### Generated noise in a training\n")
    print(
        f"A small denoiser from scratch, {args.steps} steps of 8 s, the same seed; {COUNT} sounds of "
        f"{SECONDS:g} s in {CHANCE:.0%} of the mixtures. Means on mixtures of held-out talkers and noises.\n"
    )
    print(markdown(["trained with", "validation loss", *FIGURES], rows))
