"""Weights as plain data: what is damaged, foreign or hostile is refused in a sentence."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from audiodae.errors import AudiodaeError, CheckpointError
from audiodae.nets.checkpoint import (
    load_autoencoder,
    load_denoiser,
    load_net,
    pretrained_names,
    save_checkpoint,
)
from audiodae.nets.denoiser import DenoiserConfig, DenoiserNet


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "net", DenoiserNet(DenoiserConfig(channels=(8, 8))))
    return tmp_path / "net.safetensors"


def rewrite(path: Path, **changes: object) -> None:
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**card, **changes}))


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    net = DenoiserNet(DenoiserConfig(channels=(8, 8))).eval()
    save_checkpoint(tmp_path / "net", net, {"licence": "MIT"})
    again = load_denoiser(tmp_path / "net")
    x = torch.randn(1, 3000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(net(x), again(x))
    assert again.config == net.config


def test_a_shipped_model_is_small_and_loads() -> None:
    assert "speech-16k" in pretrained_names()
    net = load_denoiser("speech-16k")
    assert sum(p.numel() for p in net.parameters()) * 4 < 10e6


def test_a_changed_byte_is_noticed(saved: Path) -> None:
    data = bytearray(saved.read_bytes())
    data[-1] ^= 1
    saved.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match="sha256"):
        load_denoiser(saved)


def test_a_pickle_is_never_opened(saved: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path(saved.parent / "exploded").touch, ())

    saved.write_bytes(pickle.dumps(Bomb()))
    import hashlib

    rewrite(saved, sha256=hashlib.sha256(saved.read_bytes()).hexdigest())
    with pytest.raises(CheckpointError, match="does not fit"):
        load_denoiser(saved)
    assert not (saved.parent / "exploded").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 99}, "format 1"),
        ({"kind": "toaster"}, "toaster"),
        ({"config": {"channels": [8, 12]}}, "does not fit"),
        ({"config": {"chanels": [8, 8]}}, "did you mean"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(saved: Path, changes: dict, words: str) -> None:
    rewrite(saved, **changes)
    with pytest.raises(CheckpointError, match=words):
        load_denoiser(saved)


def test_a_missing_description_or_file_is_named(saved: Path, tmp_path: Path) -> None:
    saved.with_suffix(".json").unlink()
    with pytest.raises(CheckpointError, match=r"net\.json"):
        load_denoiser(saved)
    with pytest.raises(CheckpointError, match="no model 'nothing'"):
        load_denoiser("nothing")


def test_a_save_that_fails_leaves_the_pair_of_before_and_nothing_else(saved: Path) -> None:
    resource = pytest.importorskip("resource", reason="this system has no such limit")
    before = {path: path.read_bytes() for path in saved.parent.iterdir()}
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    other = DenoiserNet(DenoiserConfig(channels=(8, 8)))
    for size, notes in ((1000, ""), (1 << 20, "x" * (1 << 21))):  # the tensors; what describes them
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
        try:
            with pytest.raises(AudiodaeError, match="cannot be written"):
                save_checkpoint(saved, other, {"notes": notes})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert {path: path.read_bytes() for path in saved.parent.iterdir()} == before


@pytest.mark.parametrize(
    ("wanted", "offered", "not_offered"),
    [
        (load_denoiser, "speech-16k", "vanilla-16k"),
        (load_net, "speech-16k", "vanilla-16k"),
        (load_autoencoder, "vanilla-16k", "speech-16k"),
    ],
)
def test_only_models_of_the_kind_that_is_wanted_are_offered(
    wanted: Callable[[str], object], offered: str, not_offered: str
) -> None:
    with pytest.raises(CheckpointError, match="no model 'nothing'") as refused:
        wanted("nothing")
    assert offered in str(refused.value) and not_offered not in str(refused.value)
