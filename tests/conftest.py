"""A small net with random weights, saved once: real code, quick enough for every test."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from audiodae.api import Denoiser, load
from audiodae.checkpoint import save_checkpoint
from audiodae.denoiser import DenoiserConfig, DenoiserNet

torch.set_num_threads(1)  # small nets on busy cores: a second thread only waits


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weight file of a net that changes what it hears and has been trained on nothing."""
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = DenoiserNet(DenoiserConfig(channels=(8, 8), blocks=1, heads=2))
    save_checkpoint(path, net, {"description": "random weights for tests"})
    return path


@pytest.fixture(scope="session")
def denoiser(model_path: Path) -> Denoiser:
    return load(model_path)
