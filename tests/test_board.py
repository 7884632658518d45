"""What a training shows: the same mixture at every validation, in figures, sound and pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_mixer import write_folder

from audiodae.nets.denoiser import DenoiserConfig, DenoiserNet
from audiodae.training import board
from audiodae.training.board import Board
from audiodae.training.corpus import read_corpus
from audiodae.training.mix_config import MixConfig
from audiodae.training.mixer import Mixer


@pytest.fixture(scope="module")
def validation(tmp_path_factory: pytest.TempPathFactory) -> Mixer:
    root = tmp_path_factory.mktemp("board")
    speech = read_corpus([write_folder(root, "speech", 2, 1.0)], 16000, root / "cache")
    return Mixer(speech, None, None, MixConfig())


def net() -> DenoiserNet:
    return DenoiserNet(DenoiserConfig(channels=(8, 8), blocks=1)).eval()


def test_a_run_s_pages_hold_figures_sound_and_pictures(tmp_path: Path, validation: Mixer) -> None:
    pytest.importorskip("tensorboard", reason="pages are an extra: pip install 'audiodae[train]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    pages = Board(tmp_path, 0, print)
    for step in (5, 10):
        pages.show(step, {"step": step, "loss": 1.0 / step, "kl": [1.0]}, net(), validation)
    events = EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    tags = events.Tags()
    assert tags["scalars"] == ["loss"]
    assert [(e.step, round(e.value, 3)) for e in events.Scalars("loss")] == [(5, 0.2), (10, 0.1)]
    sides = [f"{row}/{side}" for row in (0, 1) for side in ("clean", "denoised", "noisy")]
    assert sorted(tags["audio"]) == sorted(tags["images"]) == sides
    assert len(events.Audio("0/denoised")) == 2 and len(events.Audio("0/noisy")) == 1


def test_without_the_package_a_training_goes_on(
    tmp_path: Path, validation: Mixer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "is_installed", lambda name: False)
    Board(tmp_path, 0, print).show(1, {"loss": 1.0}, net(), validation)
    assert list(tmp_path.iterdir()) == []


def test_pages_that_cannot_be_written_are_told_once_and_cost_nothing(
    tmp_path: Path, validation: Mixer, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard", reason="pages are an extra: pip install 'audiodae[train]'")
    resource = pytest.importorskip("resource", reason="this system has no such limit")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (20, 1000):  # full at once, and when the first sound comes
        told: list[str] = []
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
        try:
            pages = Board(tmp_path / str(size), 0, told.append)
            for step in (1, 2):
                pages.show(step, {"loss": 1.0}, net(), validation)
            pages.close()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert len(told) == 1 and "cannot be written (the file grew beyond" in told[0]
    assert "Traceback" not in capfd.readouterr().err


def test_the_picture_has_low_notes_at_the_bottom_and_silence_black() -> None:
    spec = torch.zeros(3, 5, dtype=torch.complex64)
    spec[1, 1] = 2.0
    grey = board.picture(spec)
    assert grey.shape == (5, 3)
    assert float(grey[3, 1]) == 1.0 and float(grey.sum()) == 1.0
    assert not board.picture(torch.zeros(3, 5, dtype=torch.complex64)).any()
