"""Autoencoders: shapes, laws of the code, every option, and the way from sound to patches and back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from audiodae.errors import AudiodaeError, CheckpointError
from audiodae.nets.autoencoder import CENTRE_DB, SCALE_DB, Code
from audiodae.nets.autoencoder_config import AutoencoderConfig
from audiodae.nets.checkpoint import load_autoencoder, load_denoiser, save_checkpoint
from audiodae.nets.families import FAMILIES, build, family
from audiodae.nets.features import mel_matrix
from audiodae.sound.stft import Stft

SMALL = {"hidden": (24, 16), "channels": (4, 6), "latent": 5, "mels": 16, "patch_frames": 8}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_patches(n: int = 6) -> Tensor:
    return torch.randn(n, 8, 16, generator=rng())


@pytest.mark.parametrize("name", FAMILIES)
def test_a_patch_becomes_a_code_and_a_patch_again(name: str) -> None:
    net = build(name, **SMALL)
    rebuilt, code = net(random_patches())
    assert rebuilt.shape == (6, 8, 16)
    assert code.mean.shape == (6, 5)
    assert (code.logvar is not None) == (net.config.bottleneck == "gaussian")
    assert net.decode(net.sample(code)).shape == (6, 8, 16)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_gradient_reaches_every_weight(name: str) -> None:
    net = build(name, **SMALL)
    rebuilt, _ = net(random_patches(), rng())
    (rebuilt - random_patches()).square().mean().backward()
    for key, weight in net.named_parameters():
        assert weight.grad is not None and float(weight.grad.abs().sum()) > 0, key


@pytest.mark.parametrize("down", ["stride", "max", "average"])
@pytest.mark.parametrize("up", ["transposed", "upsample"])
@pytest.mark.parametrize("kernel", [3, 5])
def test_every_way_down_and_up_keeps_the_shape(down: str, up: str, kernel: int) -> None:
    net = build("convolutional", **SMALL, down=down, up=up, kernel=kernel)
    assert net(random_patches())[0].shape == (6, 8, 16)
    inner = net.encoder[:3](random_patches())
    assert inner.shape == (6, 6, 2, 4)


def test_a_gaussian_code_is_sampled_by_its_mean_and_variance() -> None:
    net = build("variational", **SMALL)
    mean, std = torch.tensor([1.0, -2.0, 0.0, 3.0, 0.5]), torch.tensor([0.1, 1.0, 2.0, 0.5, 0.01])
    n = 40_000
    code = Code(mean.expand(n, 5), std.log().mul(2).expand(n, 5))
    draws = net.sample(code, rng(3))
    # Standard errors: std / sqrt(n) of a mean, std / sqrt(2 n) of a deviation; five of them are enough.
    assert bool(((draws.mean(0) - mean).abs() < 5 * std / n**0.5).all())
    assert bool(((draws.std(0) - std).abs() < 5 * std / (2 * n) ** 0.5).all())
    assert torch.equal(draws, net.sample(code, rng(3)))
    assert not torch.equal(draws, net.sample(code, rng(4)))


def test_a_plain_code_is_its_own_only_draw() -> None:
    net = build("vanilla", **SMALL)
    code = net.encode(random_patches())
    assert torch.equal(net.sample(code, rng()), code.mean)


@pytest.mark.parametrize("name", ["vanilla", "convolutional"])
def test_dropout_acts_in_training_only(name: str) -> None:
    net = build(name, **{**SMALL, "dropout": 0.5})
    x = random_patches()
    assert not torch.equal(net(x)[0], net(x)[0])
    net.eval()
    assert torch.equal(net(x)[0], net(x)[0])


def test_training_decodes_a_draw_and_use_decodes_the_mean() -> None:
    net = build("variational", **SMALL)
    x = random_patches()
    assert not torch.equal(net(x, rng(1))[0], net(x, rng(2))[0])
    net.eval()
    rebuilt, code = net(x, rng(1))
    assert torch.equal(rebuilt, net.decode(code.mean))


@settings(max_examples=20)
@given(samples=st.integers(0, 9000), batch=st.integers(1, 3))
def test_patches_cover_every_sample_and_do_not_depend_on_the_batch(
    samples: int, batch: int
) -> None:
    net = build("vanilla", **SMALL).eval()
    sound = 0.1 * torch.randn(batch, samples, generator=rng(samples))
    patches = net.patches(sound)
    size = net.config.patch_samples
    assert patches.shape == (batch, max(1, -(-samples // size)), 8, 16)
    assert torch.equal(patches[-1:], net.patches(sound[-1:]))
    assert torch.isfinite(patches).all()


def test_a_full_scale_sine_reads_zero_db_where_its_bin_is_a_band_of_its_own() -> None:
    net = build("vanilla")
    hz = 16000 / 512 * 10
    sine = torch.sin(2 * torch.pi * hz * torch.arange(16000) / 16000)[None]
    level_db = net.patches(sine)[0, 1] * SCALE_DB + CENTRE_DB
    # Mel bands there are about a bin wide, and may share the bin with their neighbour.
    assert -5.0 < float(level_db.max()) < 0.5
    assert float((level_db.max(dim=-1).values - level_db.max()).abs().max()) < 0.1
    halved = net.patches(0.5 * sine)[0, 1] * SCALE_DB + CENTRE_DB
    assert float(level_db.max() - halved.max()) == pytest.approx(6.02, abs=0.01)


def test_mel_bands_share_every_bin_out_completely() -> None:
    matrix = mel_matrix(64, Stft(16000, 512, 256))
    assert np.allclose(matrix.sum(axis=0), 1.0)
    assert matrix.min() >= 0.0 and (matrix.sum(axis=1) > 0).all()
    with pytest.raises(ValueError, match="300 mel bands do not fit 257 bins"):
        mel_matrix(300, Stft(16000, 512, 256))


def test_a_mask_of_one_gives_the_recording_back() -> None:
    net = build("vanilla").eval()
    net.forward = lambda patches: (patches, None)
    sound = 0.1 * torch.randn(2, 12_345, generator=rng())
    assert torch.allclose(net.masked(sound), sound, atol=1e-5)


def test_a_mask_never_makes_louder() -> None:
    net = build("vanilla").eval()
    sound = 0.1 * torch.randn(1, 16_000, generator=rng())
    assert float(net.masked(sound).detach().square().sum()) <= float(sound.square().sum())


def test_griffin_lim_gives_sound_with_those_patches() -> None:
    pytest.importorskip("librosa", reason="Griffin-Lim comes with librosa")
    net = build("vanilla").eval()
    sound = 0.1 * torch.randn(1, 4 * net.config.patch_samples, generator=rng())
    patches = net.patches(sound)[0]
    found = net.waveform(patches)
    assert found.shape == sound.shape[1:]
    error_db = SCALE_DB * float((net.patches(found[None])[0] - patches).square().mean().sqrt())
    assert error_db < 3.0
    assert torch.equal(found, net.waveform(patches))
    assert not torch.equal(found, net.waveform(patches, seed=1))


def test_griffin_lim_works_where_its_library_may_write_nothing() -> None:
    pytest.importorskip("librosa", reason="Griffin-Lim comes with librosa")
    program = (
        "from importlib import import_module\n"
        "from audiodae.sound.phase import _have_a_place_to_cache\n"
        "try: import_module('librosa.core.notation')\n"
        "except RuntimeError as error: assert 'cannot cache' in str(error)\n"
        "else: raise AssertionError('it needs no place')\n"
        "_have_a_place_to_cache()\n"
        "import_module('librosa.core.notation')\n"  # all of it takes half a minute to compile
        "import importlib\n"
        "from audiodae.errors import AudiodaeError\n"
        "def homeless(_): raise RuntimeError('could not determine the home directory')\n"
        "importlib.import_module = homeless\n"  # what it says to a user without one
        "try: _have_a_place_to_cache()\n"
        "except AudiodaeError as error: assert 'set HOME' in str(error)\n"
        "else: raise AssertionError('it needs no home')\n"
    )
    nowhere = {"NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **nowhere},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "set NUMBA_CACHE_DIR" in done.stderr, done.stderr


def test_with_the_phase_of_the_recording_a_tone_comes_back_in_place() -> None:
    net = build("vanilla").eval()
    time = torch.arange(2 * net.config.patch_samples) / 16000
    sound = 0.1 * torch.sin(2 * torch.pi * 440 * time)[None]
    spectrum = net._spectrum(sound)
    found = net.waveform(net.patches(sound)[0], torch.angle(spectrum)[0])
    assert float((found - sound[0]).square().mean() / sound.square().mean()) < 0.1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"body": "transformer"}, "choose from dense, conv"),
        ({"kernel": 4}, "odd"),
        ({"patch_frames": 12, "channels": (4, 4, 4)}, "multiples of 8"),
        ({"latent": 0}, "latent is 0, and not a number from 1"),
        ({"dropout": 1.0}, "below 1"),
        ({"channels": ()}, "at least one layer"),
        ({"chanels": (4,)}, "did you mean 'channels'"),
    ],
)
def test_a_shape_that_cannot_be_is_refused_in_a_sentence(changes: dict, words: str) -> None:
    with pytest.raises(AudiodaeError, match=words):
        family("convolutional", **changes)


def test_an_unknown_family_names_the_nearest() -> None:
    with pytest.raises(AudiodaeError, match="did you mean 'vanilla'"):
        build("vanila")


def test_the_same_seed_builds_the_same_weights() -> None:
    one, same, other = (
        build("vanilla", **SMALL),
        build("vanilla", **SMALL),
        build("vanilla", seed=1, **SMALL),
    )
    key = "encoder.1.linear.weight"
    assert torch.equal(one.state_dict()[key], same.state_dict()[key])
    assert not torch.equal(one.state_dict()[key], other.state_dict()[key])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_saved_as_plain_data_and_comes_back(name: str, tmp_path: Path) -> None:
    net = build(name, **SMALL).eval()
    save_checkpoint(tmp_path / "net", net, {"licence": "MIT"})
    again = load_autoencoder(tmp_path / "net")
    assert again.config == net.config and not again.training
    assert torch.equal(net(random_patches())[0], again(random_patches())[0])
    with pytest.raises(CheckpointError, match="kind 'autoencoder'.*'denoiser' is wanted"):
        load_denoiser(tmp_path / "net")


def test_a_denoiser_is_not_taken_for_an_autoencoder(model_path: Path) -> None:
    with pytest.raises(CheckpointError, match="'autoencoder' is wanted"):
        load_autoencoder(model_path)


def test_the_table_is_the_four_families() -> None:
    assert list(FAMILIES) == ["vanilla", "denoising", "convolutional", "variational"]
    assert all(isinstance(config, AutoencoderConfig) for config in FAMILIES.values())
    assert [n for n, c in FAMILIES.items() if c.denoising] == ["denoising"]
    assert [n for n, c in FAMILIES.items() if c.bottleneck == "gaussian"] == ["variational"]


@pytest.mark.parametrize("name", FAMILIES)
def test_before_training_an_autoencoder_is_the_best_linear_one(name: str) -> None:
    net = build(name, **SMALL).eval()
    mixing = torch.randn(128, 128, generator=rng(1)) * torch.logspace(0, -2, 128)[:, None]
    patches = (torch.randn(2000, 128, generator=rng(2)) @ mixing + 1.0).view(-1, 8, 16)
    net.start_from_pca(patches)
    rebuilt, code = net(patches)
    flat = patches.flatten(1)
    centred = flat - flat.mean(dim=0)
    values = torch.linalg.svdvals(centred)
    least = float(values[5:].square().sum())  # Eckart and Young, 1936
    assert float((rebuilt - patches).detach().square().sum()) == pytest.approx(least, rel=1e-3)
    assert code.mean.detach().std(dim=0).tolist() == pytest.approx([1.0] * 5, abs=0.01)
