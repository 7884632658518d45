"""The run folder: on a full disk it stays what it was, and says so; what is done is done."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from test_bad_input import linux, no_special_rights
from test_mixer import write_folder
from test_trainer import RECIPE, train

from audiodae.errors import AudiodaeError
from audiodae.nets.checkpoint import load_denoiser, save_checkpoint
from audiodae.nets.denoiser import DenoiserConfig, DenoiserNet
from audiodae.training import folders as training
from audiodae.training.folders import train_folders
from audiodae.training.recipe import Recipe
from audiodae.training.run_state import add_to_curve, changes


@linux
def test_where_nothing_can_be_written_is_told_before_the_corpus_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "corpora_of", lambda *_: pytest.fail("the corpus is read"))
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    with no_special_rights():
        for run, words in (
            *(("file", "file is none"), ("link/run", "link is none")),
            ("locked/a/b", "you may not write in .*locked"),
        ):
            with pytest.raises(AudiodaeError, match=words):
                train_folders([tmp_path], [], [], None, tmp_path / run)
    assert not any(locked.iterdir())


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk that is full sooner."""
    resource = pytest.importorskip("resource", reason="this system has no such limit")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    write_folder(root, "speech", 6, 1.0)
    write_folder(root, "noise", 6, 1.0)
    short = RECIPE.format(optimizer="adamw").replace("steps = 30", "steps = 2")
    (root / "adamw.toml").write_text(short)
    return root


def test_a_full_disk_leaves_a_run_folder_as_it_was_and_names_the_file(root: Path) -> None:
    train(root, "full", stop_after_steps=1)
    run = root / "full"
    recipe = (run / "recipe.json").read_bytes()
    before = {path.name for path in run.iterdir()}
    for size, name in ((len(recipe) // 2, "recipe.json"), (2 * len(recipe), "model.safetensors")):
        with (
            files_of_at_most(size),
            pytest.raises(AudiodaeError, match=f"full/{name} cannot be written"),
        ):
            train(root, "full")
        assert (run / "recipe.json").read_bytes() == recipe
        assert {path.name for path in run.iterdir()} == before
    load_denoiser(run)
    assert train(root, "full")[-1]["step"] == 2


def test_pages_that_cannot_be_written_cost_no_weights(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard", reason="pages are an extra: pip install 'audiodae[train]'")
    run = root / "pageless"
    run.mkdir()
    (run / "board").write_text("no folder")
    assert train(root, "pageless")[-1]["step"] == 2
    load_denoiser(run)
    assert capsys.readouterr().err.count("goes on without them") == 1
    # And they come last: whatever may become of them.
    monkeypatch.setattr("audiodae.training.board.Board.show", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(root, "spoilt-pages")
    load_denoiser(root / "spoilt-pages")
    assert (root / "spoilt-pages" / "state.pt").exists()


def test_a_line_of_the_curve_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    add_to_curve(tmp_path, {"step": 1})
    for _ in range(2):
        with (
            files_of_at_most(20),
            pytest.raises(AudiodaeError, match=r"curve\.jsonl cannot be written"),
        ):
            add_to_curve(tmp_path, {"step": 2})
    add_to_curve(tmp_path, {"step": 3})
    lines = (tmp_path / "curve.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 3]


def test_what_is_no_number_is_left_out_of_the_curve_and_of_the_model(tmp_path: Path) -> None:
    config = DenoiserConfig(channels=(8, 8), blocks=1)
    figures = {"step": 3, "loss": 0.5, "si_sdr_db": math.nan, "each": [0.25, math.inf]}
    add_to_curve(tmp_path, figures)
    save_checkpoint(tmp_path / "model", DenoiserNet(config), {"training": figures})

    def refused(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    line = (tmp_path / "curve.jsonl").read_text()
    card = (tmp_path / "model.json").read_text()
    wanted = {"step": 3, "loss": 0.5, "each": [0.25, None]}
    assert json.loads(line, parse_constant=refused) == wanted
    assert json.loads(card, parse_constant=refused)["training"] == wanted


def test_a_training_that_is_done_is_left_as_it_is_and_that_is_told(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(root, "done")
    run = root / "done"
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    shorter = (root / "adamw.toml").read_text().replace("steps = 2", "steps = 1")
    (root / "shorter.toml").write_text(shorter)
    for recipe, steps in (("adamw", 2), ("shorter", 1)):
        capsys.readouterr()
        train(root, "done", recipe)
        told = capsys.readouterr().err
        words = (
            f"is done: 2 steps are taken, and the recipe asks for {steps}. The model is {run}/model"
        )
        assert words in told and "resumed" not in told
        assert {path: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    (run / "model.safetensors").unlink()
    train(root, "done")
    load_denoiser(run)


def test_other_sounds_to_train_on_and_other_processes_are_told() -> None:
    state = {"heard": {"talkers": "a", "noises": "b"}, "processes": 2}
    now = {"talkers": "a", "noises": "c"}
    sounds, processes = changes(state, Recipe(), {}, now, 1)
    assert "The noises to train on are not those of before" in sounds
    assert "There are now 1 processes, and were 2" in processes
    assert changes({}, Recipe(), {}, now, 1) == []  # of earlier versions


def test_other_held_out_sounds_are_told_and_not_refused(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_folder(tmp_path, "noise", 7, 1.0)
    recipe, run = root / "adamw.toml", tmp_path / "run"

    def told(noise: Path) -> str:
        capsys.readouterr()
        folders = [root / "speech"], [noise], []
        train_folders(*folders, recipe, run, tmp_path / "cache", "cpu", stop_after_steps=0)
        return capsys.readouterr().err

    assert "not those of before" not in told(root / "noise") + told(root / "noise")
    told_once = told(other)
    assert "The held-out noises are not those of before" in told_once
    assert "not those of before" not in told(other)
    state = torch.load(run / "state.pt", weights_only=True)
    del state["held_out"]  # one of an earlier version
    torch.save(state, run / "state.pt")
    assert "not those of before" not in told(root / "noise")


def test_another_seed_is_told_and_not_refused(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = "seed = 7\n" + (root / "adamw.toml").read_text().replace("steps = 2", "steps = 4")
    (root / "seven.toml").write_text(other)

    def told(recipe: str) -> str:
        capsys.readouterr()
        train(root, "seeds", recipe, stop_after_steps=1)
        return capsys.readouterr().err

    assert "The seed is" not in told("adamw")
    assert "The seed is 7, and the steps before were taken with 1" in told("seven")
    assert "The seed is" not in told("seven")
    run = root / "seeds"
    state = torch.load(run / "state.pt", weights_only=True)
    del state["seed"]  # one of an earlier version
    torch.save(state, run / "state.pt")
    assert "The seed is" not in told("seven")
