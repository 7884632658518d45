"""Looking for a better recipe: many short trainings, each with a guess that learns from the last.

The guesses are those of a tree-structured Parzen estimator (Bergstra et al., 2011) by Optuna. All is kept
in the run folder, so a search goes on where it stopped.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from audiodae.config import from_plain, to_plain
from audiodae.errors import AudiodaeError
from audiodae.files.atomic import claimed, write_whole
from audiodae.nets.device import training_device
from audiodae.training.folders import corpora_of, mixers_of
from audiodae.training.guess import suggest
from audiodae.training.lessons import lesson_of
from audiodae.training.recipe import Recipe, read_recipe
from audiodae.training.run_state import CURVE
from audiodae.training.study import storage, told_of
from audiodae.training.trainer import Diverged, Trainer

STUDY, STUDY_FILE = "tune", "study.db"
_ASKED = "asked"  # attribute of a study: what all of its trials have in common
BEST = "best.toml"
_FEWEST_FOR_IMPORTANCE = 4
_REFUSED_IN_A_ROW = 20  # nets that cost no training; then it is not by chance
_SIZE, _TOO_LARGE = "parameters", "too many parameters"  # attributes of a trial: one of them


def tune_folders(
    speech: Sequence[Path],
    noise: Sequence[Path],
    rir: Sequence[Path],
    recipe_path: Path | None,
    run: Path,
    cache: Path | None = None,
    device: str = "auto",
    *,
    trials: int = 20,
    steps: int = 500,
    most_parameters: int | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Search until `trials` trainings of `steps` steps are done in all; returns the best recipe's path.

    A trial is judged by its loss on held-out talkers and noises. Nets with over `most_parameters` are
    not trained and not counted. `run` gets `study.db`, a folder a trial, `best.toml` (the given recipe,
    all its stages included, with the best net and rates) and pictures. Raises `AudiodaeError`, also where
    the search in `run` is one by another recipe, of other steps or on other sounds, and where hardly any
    net is small enough.
    """
    optuna = _optuna()
    recipe = read_recipe(recipe_path)
    if not recipe.stages[0].learning_rate:
        raise AudiodaeError(
            "The learning_rate of the first stage is 0, and is scaled: give another."
        )
    chosen = training_device(device)
    cache = cache or run / "cache"
    corpora = corpora_of(speech, noise, rir, recipe, cache)
    training, validation = mixers_of(corpora, recipe, chosen)
    run.mkdir(parents=True, exist_ok=True)
    with claimed(run):  # another search would repeat these guesses
        sounds = {name: corpus.fingerprint() if corpus else "" for name, corpus in corpora.items()}
        with told_of(run / STUDY_FILE, reading=True):
            study = optuna.create_study(
                storage=storage(run / STUDY_FILE), study_name=STUDY, load_if_exists=True
            )
            # Another seed on every start, or the search would repeat its first guesses.
            seed = (recipe.seed + len(study.trials)) % 2**32
            study.sampler = optuna.samplers.TPESampler(seed=seed)
            _refuse_trainings_of_others(run, len(study.trials))
            _check_same(
                study, {"recipe": json.dumps(to_plain(recipe)), "steps": steps} | sounds, run
            )

        def judge(trial: Any) -> float:
            try:
                guess = suggest(trial, recipe)
                size = sum(
                    p.numel() for p in lesson_of(guess, torch.device("cpu")).build().parameters()
                )
                if most_parameters is not None and size > most_parameters:
                    trial.set_user_attr(_TOO_LARGE, size)
                    raise AudiodaeError(f"{size:,} parameters are too many.")
                trial.set_user_attr(_SIZE, size)
                trial.set_user_attr("recipe", json.dumps(to_plain(guess)))
                folder = run / "trials" / f"{trial.number:03d}"
                short = _shortened(guess, steps)
            except (AudiodaeError, ValueError) as error:  # no such net
                say(f"trial {trial.number}: {error}")
                raise optuna.TrialPruned(str(error)) from error
            try:
                trainer = Trainer(
                    short, training, validation, folder, device=chosen, say=lambda _: None
                )
                trainer.train()
                loss = json.loads((folder / CURVE).read_text("utf-8").splitlines()[-1]).get("loss")
                if loss is None:  # JSON has no word for it
                    raise Diverged("The validation loss is not a number.")
            except Diverged as error:  # a rate that was too high; all else ends the search
                say(f"trial {trial.number}: {error}")
                raise optuna.TrialPruned(str(error)) from error
            say(f"trial {trial.number}: loss {loss:.4f}, {size:,} parameters, {trial.params}")
            return float(loss)

        refused: list[Any] = []
        with told_of(run / STUDY_FILE):
            while len(_trained(study)) < trials and len(refused) < _REFUSED_IN_A_ROW:
                study.optimize(judge, n_trials=1)
                last = study.trials[-1]
                refused = [] if _SIZE in last.user_attrs else [*refused, last]
        return _best(study, run, refused)


def _best(study: Any, run: Path, refused: Sequence[Any]) -> Path:
    """Write and draw what was found. Raises `AudiodaeError` where it was too little, and says why."""
    best = run / BEST
    with told_of(run / STUDY_FILE, reading=True):
        complete = [trial for trial in study.trials if trial.value is not None]
        plain = json.loads(study.best_trial.user_attrs["recipe"]) if complete else None
        trained = len(_trained(study))
    if plain is not None:
        text = to_toml(plain).encode()
        write_whole(best, lambda file: file.write(text))
        try:
            from_plain(Recipe, tomllib.loads(best.read_text("utf-8")))
        except ValueError as error:  # an earlier version allowed it
            raise AudiodaeError(f"{best} is the best, and cannot be trained: {error}") from error
        with told_of(run / STUDY_FILE):
            _draw(study, run)
    if len(refused) == _REFUSED_IN_A_ROW:
        raise AudiodaeError(
            _why_refused(refused)
            + (f" {best} is the best of the {len(complete)} that were trained." if complete else "")
        )
    if not complete:
        raise AudiodaeError(
            f"None of the {trained} trainings came to a loss, as said of each: ask for more "
            "--trials, or begin with another --recipe."
        )
    return best


def _trained(study: Any) -> list[Any]:
    """Trials whose training was begun and is over, also where the net did not survive it."""
    over = [t for t in study.trials if t.state.name in ("COMPLETE", "PRUNED")]  # not broken off
    return [t for t in over if _SIZE in t.user_attrs]


def _why_refused(trials: Sequence[Any]) -> str:
    sizes = [t.user_attrs[_TOO_LARGE] for t in trials if _TOO_LARGE in t.user_attrs]
    if not sizes:
        return (
            f"{len(trials)} nets in a row were invalid, for the reasons above: begin with another "
            "--recipe."
        )
    return (
        f"{len(trials)} nets in a row were refused, and the smallest has {min(sizes):,} parameters: allow "
        "more with --most-parameters, or begin with a smaller --recipe."
    )


def _refuse_trainings_of_others(run: Path, known: int) -> None:
    """Raise `AudiodaeError` where trials lie that the study does not know: their losses would be taken."""
    for folder in sorted((run / "trials").glob("[0-9]*")):
        if folder.name.isdecimal() and int(folder.name) >= known:
            raise AudiodaeError(
                f"{folder} is a training that {run / STUDY_FILE} knows nothing of: move {folder.parent} "
                "away, or use a new --run."
            )


def _check_same(study: Any, asked: dict[str, Any], run: Path) -> None:
    """Raise `AudiodaeError` where earlier trials were of something else: no loss could be compared."""
    before = study.user_attrs.get(_ASKED)
    if before is not None and study.trials:
        other = [
            key for key in asked if key != "recipe" and asked[key] != before.get(key, asked[key])
        ]
        other += _changed(json.loads(before["recipe"]), json.loads(asked["recipe"]))
        if other:
            raise AudiodaeError(
                f"{run} holds a search with other values of {', '.join(other)}, and losses can only be "
                "compared where these are the same: use a new --run, or what it began with."
            )
    study.set_user_attr(_ASKED, asked)  # a search of an earlier version has none


def _changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Which parts of a recipe are not what they were."""
    try:  # by way of a recipe: what an earlier version did not know has its default
        before = json.loads(json.dumps(to_plain(from_plain(Recipe, before))))
    except ValueError:
        return ["recipe"]
    return [f"recipe.{key}" for key in now if now[key] != before[key]]


def to_toml(plain: dict[str, Any]) -> str:
    """A recipe's plain data as the TOML `read_recipe` takes: without what its net does not use."""
    import tomli_w

    unused = ("model", "loss") if plain.get("autoencoder") else ("autoencoder", "elbo", "family")
    return tomli_w.dumps(_said({k: v for k, v in plain.items() if k not in unused}))


def _said(value: Any) -> Any:
    """Without the entries that are None, which TOML has no word for."""
    if isinstance(value, dict):
        return {key: _said(item) for key, item in value.items() if item is not None}
    return [_said(item) for item in value] if isinstance(value, list | tuple) else value


def _shortened(recipe: Recipe, steps: int) -> Recipe:
    """One stage of so many steps, with warm-ups that fit into it."""
    stage, elbo = recipe.stages[0], recipe.elbo
    rise = min(stage.warmup_steps, steps // 5)
    stage = replace(stage, steps=steps, warmup_steps=rise)
    stage = replace(
        stage, pesq=0.0, dnsmos=0.0, stoi=0.0, whisper=0.0
    )  # they take most of the time
    elbo = replace(elbo, warmup_steps=min(elbo.warmup_steps, steps // 2))
    return replace(recipe, stages=(stage,), elbo=elbo, checkpoint_minutes=1e9)


def _draw(study: Any, run: Path) -> None:
    """How the search went, where it looked, and, once there is enough to tell, what mattered."""
    import warnings

    import matplotlib

    matplotlib.use("Agg", force=False)
    import optuna.visualization.matplotlib as drawing
    from optuna.importance import PedAnovaImportanceEvaluator

    drawings: dict[str, Callable[[], Any]] = {
        "history": lambda: drawing.plot_optimization_history(study),
        "slices": lambda: drawing.plot_slice(study),
    }
    complete = [t for t in study.trials if t.value is not None]
    if len(complete) >= _FEWEST_FOR_IMPORTANCE:
        drawings["importance"] = lambda: drawing.plot_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator()
        )
    for name, draw in drawings.items():
        # What it draws is called experimental, and its style is not for pictures to come.
        with warnings.catch_warnings(), matplotlib.rc_context():
            warnings.simplefilter("ignore")
            axes = draw()
            figure = (axes.flat[0] if hasattr(axes, "flat") else axes).figure
            figure.savefig(run / f"{name}.png", dpi=100, bbox_inches="tight")


def _optuna() -> Any:
    try:
        import matplotlib
        import optuna
        import tomli_w
    except ImportError as error:
        raise AudiodaeError(
            f'`audiodae tune` needs {error.name}, which is not installed: run pip install "audiodae[tune]".'
        ) from error
    del matplotlib, tomli_w
    optuna.logging.set_verbosity(
        optuna.logging.ERROR
    )  # below, it tells of each trial by a traceback
    return optuna
