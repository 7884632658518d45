"""The net: causal, bounded, and the same frame by frame as in one block."""

import numpy as np
import pytest
import torch

from audiodae.nets.denoiser import DenoiserConfig, DenoiserNet
from audiodae.nets.features import BandsConfig, band_matrix, erb_rate, erb_rate_to_hz
from audiodae.sound.stft import Stft


@pytest.fixture(scope="module")
def net() -> DenoiserNet:
    """Random weights, large enough that the mask moves."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = DenoiserNet(DenoiserConfig(channels=(8, 16))).eval().requires_grad_(False)
        net.decoder[-1].conv.weight.mul_(30.0)
    return net


def spectrum(net: DenoiserNet, frames: int, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(2, frames, net.stft.bins, dtype=torch.complex64, generator=rng) * 3


def test_frame_by_frame_is_the_same_as_in_one_block(net: DenoiserNet) -> None:
    spec = spectrum(net, 12)
    whole, last = net.mask(spec, net.initial_state(2))
    state, parts = net.initial_state(2), []
    for i in range(12):
        mask, state = net.mask(spec[:, i : i + 1], state)
        parts.append(mask)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=1e-4)
    for name, value in last.items():
        torch.testing.assert_close(state[name], value, atol=1e-5, rtol=1e-4)


def test_the_future_is_never_heard(net: DenoiserNet) -> None:
    spec = spectrum(net, 12)
    before, _ = net.mask(spec, net.initial_state(2))
    spec[:, 7:] = spectrum(net, 5, seed=9) * 10
    after, _ = net.mask(spec, net.initial_state(2))
    torch.testing.assert_close(before[:, :7], after[:, :7], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(before[:, 7:], after[:, 7:])


def test_the_mask_never_amplifies(net: DenoiserNet) -> None:
    for level in (1e-6, 1.0, 1e4):
        mask, _ = net.mask(spectrum(net, 8) * level, net.initial_state(2))
        assert float(mask.abs().max()) <= 1.0 + 1e-5


def test_every_length_comes_back_at_its_length(net: DenoiserNet) -> None:
    for samples in (1, 2, 255, 256, 257, 511, 512, 513, 4000):
        assert net(torch.zeros(1, samples)).shape == (1, samples)


def test_in_half_precision_it_learns_nearly_the_same() -> None:
    """As on a GPU; spectra are complex, and no device computes with complex numbers that small."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        net = DenoiserNet(DenoiserConfig(channels=(8, 16))).train()
        sound = 0.1 * torch.randn(2, 8000)
    estimates, gradients = [], []
    for half in (False, True):
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            estimate = net(sound)
        estimate.float().square().mean().backward()
        estimates.append(estimate.detach())
        gradients.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    assert estimates[1].dtype == torch.float32
    torch.testing.assert_close(estimates[1], estimates[0], atol=3e-3, rtol=0.0)
    assert float(torch.cosine_similarity(*gradients, dim=0)) > 0.98


def test_an_untrained_net_changes_little() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = DenoiserNet(DenoiserConfig()).eval().requires_grad_(False)
    x = torch.randn(1, 8000, generator=torch.Generator().manual_seed(1)) * 0.1
    assert float((net(x) - x).square().mean() / x.square().mean()) < 0.1


@pytest.mark.parametrize("rate", [16000, 48000])
def test_the_bands_share_every_bin_completely(rate: int) -> None:
    n_fft = rate * 32 // 1000
    matrix = band_matrix(BandsConfig(), Stft(rate, n_fft, n_fft // 2))
    assert np.allclose(matrix.sum(axis=0), 1.0)
    assert (matrix.sum(axis=1) > 0).all()
    assert (matrix >= 0).all()


def test_erb_rate_follows_glasberg_and_moore() -> None:
    assert erb_rate(1000.0) == pytest.approx(15.6, abs=0.05)
    assert erb_rate_to_hz(erb_rate(4321.0)) == pytest.approx(4321.0)


@pytest.mark.parametrize(
    "change", [{"channels": (8,)}, {"strides": (4, 3)}, {"channels": (8, 18)}], ids=str
)
def test_impossible_shapes_are_refused(change: dict) -> None:
    with pytest.raises(ValueError, match="bands|heads|number of values"):
        DenoiserConfig(**change)
