"""The search for a recipe: real short trainings, a study that goes on, a recipe that can be trained."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import matplotlib
import pytest
from click.testing import CliRunner
from test_mixer import write_folder

from audiodae.cli.main import main
from audiodae.errors import AudioError
from audiodae.files.atomic import claimed
from audiodae.signals import Stop
from audiodae.training.learner import Learner
from audiodae.training.mixer import Mixture
from audiodae.training.recipe import Recipe, read_recipe
from audiodae.training.trainer import Diverged, Trainer

pytest.importorskip("optuna", reason="the search is an extra: pip install 'audiodae[tune]'")

DENOISER = """
held_out = 0.3
validation_batches = 1
[model.bands]
linear = 16
erb = 16
[[stages]]
steps = 900
batch_size = 2
crop_seconds = 0.3
learning_rate = 1e-3
[[stages]]
steps = 100
learning_rate = 5e-4
"""
FAMILY = """
family = "vanilla"
pca_patches = 100
held_out = 0.3
validation_batches = 1
[[stages]]
steps = 50
batch_size = 2
crop_seconds = 0.3
"""


VARIATIONAL = """
family = "variational"
pca_patches = 100
held_out = 0.3
validation_batches = 1
[autoencoder]
latent = 6
[elbo]
beta = 0.07
warmup_steps = 400
[mix]
noise_only = 1.0
babble = 0.0
[[stages]]
steps = 50
batch_size = 2
crop_seconds = 0.3
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tuning")
    write_folder(root, "speech", 4, 1.0)
    write_folder(root, "noise", 4, 1.0)
    (root / "denoiser.toml").write_text(DENOISER)
    (root / "family.toml").write_text(FAMILY)
    (root / "variational.toml").write_text(VARIATIONAL)
    return root


def tune(root: Path, run: str, recipe: str, *more: str, refused: bool = False) -> str:
    words = ["--speech", "speech", "--noise", "noise", "--recipe", f"{recipe}.toml", "--run", run]
    words = [str(root / w) if not w.startswith("--") else w for w in words]
    words += ["--steps", "3", "--device", "cpu", "--cache", str(root / "cache"), *more]
    result = CliRunner().invoke(main, ["tune", *words])
    assert result.exit_code == refused, result.output
    return result.output


def losses(run: Path) -> list[float]:
    curves = sorted(run.glob("trials/*/curve.jsonl"))
    return [json.loads(curve.read_text().splitlines()[-1])["loss"] for curve in curves]


def test_a_search_goes_on_and_its_best_recipe_can_be_trained(root: Path) -> None:
    run = root / "run"
    colours = matplotlib.rcParams["axes.prop_cycle"]
    tune(root, "run", "denoiser", "--trials", "2")
    assert len(losses(run)) == 2
    assert matplotlib.rcParams["axes.prop_cycle"] == colours  # Optuna draws in a style of its own
    said = tune(root, "run", "denoiser", "--trials", "4")
    assert len(losses(run)) == 4 and "trial 0" not in said  # the first two were not done again
    best, base = read_recipe(run / "best.toml"), read_recipe(root / "denoiser.toml")
    trials = sorted((run / "trials").iterdir())
    winner = trials[losses(run).index(min(losses(run)))]
    assert json.loads((winner / "recipe.json").read_text())["model"]["channels"] == list(
        best.model.channels
    )
    assert [s.steps for s in best.stages] == [900, 100]  # the whole training, not the trial's
    first, second = best.stages
    assert second.learning_rate == pytest.approx(first.learning_rate / 2)
    assert best.model.bands == base.model.bands and best.held_out == base.held_out
    for name in ("history", "slices", "importance"):
        assert (run / f"{name}.png").stat().st_size > 5000


def test_without_its_study_a_search_learns_nothing_from_old_trainings(root: Path) -> None:
    tune(root, "lost", "denoiser", "--trials", "1")
    (root / "lost/study.db").unlink()
    said = tune(root, "lost", "denoiser", "--trials", "1", refused=True)
    assert "knows nothing of: move" in said and len(losses(root / "lost")) == 1
    (root / "lost/trials").rename(root / "trials-of-before")
    tune(root, "lost", "denoiser", "--trials", "1")


def test_two_searches_do_not_share_a_folder(root: Path) -> None:
    (root / "taken").mkdir()
    with claimed(root / "taken"):
        said = tune(root, "taken", "denoiser", "--trials", "1", refused=True)
    assert "Another process is at work in" in said


def test_a_search_for_something_else_is_not_gone_on_with(root: Path) -> None:
    one_more = ["--trials", "2"]
    tune(root, "same", "denoiser", "--trials", "1")
    (root / "edited.toml").write_text(DENOISER + "[loss]\nsnr = 0.1\n[mix]\nclip = 0.5\n")
    said = tune(root, "same", "edited", *one_more, refused=True)
    assert "recipe.mix, recipe.loss" in said and "use a new --run" in said
    assert "values of steps," in tune(
        root, "same", "denoiser", *one_more, "--steps", "4", refused=True
    )
    write_folder(root / "more", "noise", 2, 1.0)
    more_noise = ["--noise", str(root / "more" / "noise")]
    assert "values of noise," in tune(
        root, "same", "denoiser", *one_more, *more_noise, refused=True
    )
    assert len(losses(root / "same")) == 1
    tune(root, "same", "denoiser", *one_more)
    assert len(losses(root / "same")) == 2


@pytest.mark.usefixtures("interruptible")
@pytest.mark.skipif(os.name == "nt", reason="no process of Windows can be sent these")
def test_a_search_that_is_stopped_leaves_out_the_trial_under_way_and_goes_on(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Learner.learn
    words = ["--speech", "speech", "--noise", "noise", "--recipe", "denoiser.toml", "--run", "stop"]
    words = [str(root / w) if not w.startswith("--") else w for w in words]
    words += ["--steps", "3", "--device", "cpu", "--cache", str(root / "cache"), "--trials", "2"]
    for kill, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):

        def told(
            self: Learner, mixture: Mixture, stopped: Stop, kill: signal.Signals = kill
        ) -> float:
            if self.step == 2:
                signal.raise_signal(kill)
            return step(self, mixture, stopped)

        monkeypatch.setattr(Learner, "learn", told)
        result = CliRunner().invoke(main, ["tune", *words])
        assert result.exit_code == code, result.output
        assert "Stopped: a trial under way is left out" in result.output
        assert "Traceback" not in result.output
    assert not (root / "stop" / "best.toml").exists()
    monkeypatch.setattr(Learner, "learn", step)
    tune(root, "stop", "denoiser", "--trials", "2")
    assert len(losses(root / "stop")) == 2


def test_a_loss_that_is_no_number_is_told_and_wins_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "validate", lambda self: {"loss": float("nan")})
    said = tune(root, "no-number", "denoiser", "--trials", "1", refused=True)
    assert "trial 0: The validation loss is not a number" in said
    assert "None of the 1 trainings came to a loss" in said


def test_a_search_of_an_earlier_version_goes_on(root: Path) -> None:
    tune(root, "earlier", "denoiser", "--trials", "1")
    with sqlite3.connect(root / "earlier" / "study.db") as study:
        study.execute("DELETE FROM study_user_attributes")
    tune(root, "earlier", "denoiser", "--trials", "2", "--steps", "4")
    assert len(losses(root / "earlier")) == 2


def test_nets_that_are_too_large_are_not_trained(root: Path) -> None:
    output = tune(root, "small", "denoiser", "--trials", "3", "--most-parameters", "60000")
    models = [json.loads(p.read_text()) for p in (root / "small").glob("trials/*/recipe.json")]
    assert len(models) == 3 and "are too many" in output  # which cost no training


def test_where_no_net_is_small_enough_the_search_ends_and_goes_on_with_more(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiodae.training.tune._REFUSED_IN_A_ROW", 3)  # each takes a moment
    monkeypatch.setattr("audiodae.training.tune._draw", lambda *_: None)
    run = ("none", "denoiser", "--trials", "2")
    said = tune(root, *run, "--most-parameters", "100", refused=True)
    assert said.count("are too many") == 3 and not losses(root / "none")
    smallest = re.search(r"smallest has ([\d,]+) parameters: allow more", said)
    assert smallest and int(smallest[1].replace(",", "")) > 100
    tune(root, *run[:-1], "1")
    assert len(losses(root / "none")) == 1  # those before did not count
    said = tune(root, *run, "--most-parameters", "100", refused=True)
    assert "best.toml is the best of the 1 that were trained" in said


def test_where_no_training_is_survived_it_is_said(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(trainer: Trainer) -> None:
        raise Diverged("The loss is no number.")

    monkeypatch.setattr(Trainer, "train", dies)
    said = tune(root, "dead", "denoiser", "--trials", "2", refused=True)
    assert said.count("trial ") == 2 and "None of the 2 trainings came to a loss" in said


def test_a_full_disk_ends_the_search_and_costs_no_trial(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiodae.training.tune._draw", lambda *_: None)

    def full(trainer: Trainer) -> None:
        raise AudioError("state.pt cannot be written: the disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train", full)
        said = tune(root, "full", "denoiser", "--trials", "1", refused=True)
    assert "the disk is full" in said and "Traceback" not in said and "more --trials" not in said
    tune(root, "full", "denoiser", "--trials", "1")
    assert len(losses(root / "full")) == 1


def test_a_study_lies_in_its_folder_whatever_that_is_called(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiodae.training.tune._draw", lambda *_: None)
    name = "a%20b?x=1#y"
    (root / "a b").mkdir()
    for trials in (1, 2):
        tune(root, name, "denoiser", "--trials", str(trials))
        assert len(losses(root / name)) == trials
    assert (root / name / "study.db").stat().st_size > 0
    assert not (root / "a").exists() and not list((root / "a b").iterdir())


def _garbage(study: Path) -> None:
    study.write_text("no database")


def _cut(study: Path) -> None:
    study.write_bytes(study.read_bytes()[:5000])


def _folder(study: Path) -> None:
    study.unlink()
    study.mkdir()


def _sql(command: str) -> Callable[[Path], None]:
    def edit(study: Path) -> None:
        with closing(sqlite3.connect(study)) as connection, connection:
            connection.execute(command)

    return edit


@pytest.mark.parametrize(
    "damage",
    [
        _garbage,
        _cut,
        _folder,
        _sql("UPDATE alembic_version SET version_num = 'v9.9.9'"),
        _sql("UPDATE study_user_attributes SET value_json = '3'"),
        _sql("UPDATE study_user_attributes SET value_json = '{\"steps\": 1}'"),
        _sql("UPDATE trial_user_attributes SET value_json = 'x'"),
        _sql("UPDATE trial_values SET value = NULL"),
    ],
    ids=["garbage", "cut", "folder", "later", "number", "half", "no-json", "no-loss"],
)
def test_a_study_that_is_damaged_or_another_s_is_told(
    root: Path, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    if not (root / "whole").exists():
        tune(root, "whole", "denoiser", "--trials", "1")
    shutil.copytree(root / "whole", tmp_path / "run")
    damage(tmp_path / "run" / "study.db")
    said = tune(root, str(tmp_path / "run"), "denoiser", "--trials", "1", refused=True)
    assert "study.db cannot be used as the study of a search" in said and "Traceback" not in said


def test_a_family_is_searched_like_a_denoiser(root: Path) -> None:
    tune(root, "family", "family", "--trials", "1")
    best = read_recipe(root / "family" / "best.toml")
    assert best.autoencoder is not None and best.autoencoder.body == "dense"
    assert best.stages[0].steps == 50


def test_a_code_keeps_its_size_and_its_price_in_a_search(root: Path) -> None:
    tune(root, "variational", "variational", "--trials", "2")
    best = read_recipe(root / "variational" / "best.toml")
    assert best.autoencoder is not None
    assert best.autoencoder.latent == 6 and best.autoencoder.bottleneck == "gaussian"
    assert (best.elbo.beta, best.elbo.warmup_steps) == (0.07, 400)
    trial = json.loads((root / "variational" / "trials" / "000" / "recipe.json").read_text())
    assert trial["elbo"]["warmup_steps"] == 1  # or the price would hardly be asked in three steps


def test_every_recipe_can_be_written_and_read_again() -> None:
    import tomllib

    from audiodae.config import from_plain, to_plain
    from audiodae.training.tune import to_toml

    recipe = Recipe(description='a quote " and a line\nbreak')
    assert from_plain(Recipe, tomllib.loads(to_toml(to_plain(recipe)))) == recipe
