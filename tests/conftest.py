"""A small net with random weights, saved once: real code, quick enough for every test."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from tasks_model import trained

from audiodae.api import Denoiser, load
from audiodae.latent.latents import Trained
from audiodae.nets.checkpoint import save_checkpoint
from audiodae.nets.denoiser import DenoiserConfig, DenoiserNet
from audiodae.nets.export import export
from audiodae.signals import OF_TERMINALS
from audiodae.training import board, trainer

# How long an example takes is no law.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("patient", patient)
settings.load_profile("patient")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # tests import it by themselves too
# What is validated on and shown, of trainings in the tests' own process: half of their time was that.
trainer._VALIDATION_SECONDS = board._SECONDS = 1.0
torch.set_num_threads(1)  # small nets on busy cores: a second thread only waits

# Begun first, so that processes that share the tests end at about the same time.
LONG = ("test_stopping", "test_trainer", "test_tune", "test_metrics", "test_soak")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Programs the test starts can be interrupted, also where the tests run in the background of a script.

    There signals of terminals are ignored, which programs inherit; a handler they do not inherit.
    """
    before = {number: signal.signal(number, signal.default_int_handler) for number in OF_TERMINALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


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


@pytest.fixture(scope="session")
def exported_path(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same net as an ONNX file: a process that cleans with it is there in a fifth of torch's time."""
    return export(model_path, tmp_path_factory.mktemp("exported") / "small.onnx")


@pytest.fixture(scope="session")
def exported(exported_path: Path) -> Denoiser:
    return load(exported_path)


@pytest.fixture(scope="session")
def plain_model(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A small vanilla autoencoder that has learned what a humming machine sounds like."""
    return trained(tmp_path_factory.mktemp("plain") / "plain", "vanilla")


@pytest.fixture(scope="session")
def variational_model(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The same with a latent space to draw from."""
    return trained(tmp_path_factory.mktemp("variational") / "variational", "variational")
