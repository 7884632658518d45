"""A step of fixed shape is the same function: same bits, nothing remembered, nothing overwritten."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from audiodae.nets.checkpoint import load_denoiser
from audiodae.nets.denoiser import DenoiserNet
from audiodae.nets.fixed_step import FixedStep
from audiodae.streaming.stream import Streamer

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
    ),
]


@pytest.fixture(params=DEVICES)
def net(request) -> DenoiserNet:
    return load_denoiser("speech-16k", request.param)


def spectra(net: DenoiserNet, seed: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(3, 2, net.stft.bins, dtype=torch.complex64, generator=rng).to(net.device)


@torch.inference_mode()
def test_it_is_the_same_function(net):
    state = net.initial_state(3)
    step = FixedStep(net.mask, spectra(net, 0), state)
    first, after = step(spectra(net, 1), state)
    wanted, wanted_after = net.mask(spectra(net, 1), net.initial_state(3))
    kept = first.clone()
    second, _ = step(spectra(net, 2), after)
    wanted_second, _ = net.mask(spectra(net, 2), wanted_after)
    for ours, theirs in ((first, wanted), (second, wanted_second)):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert torch.equal(first, kept)  # the second step did not write into the first one's result
    for name, tensor in net.initial_state(3).items():
        assert torch.equal(state[name], tensor)  # nor the first one into what it was given


def test_streams_with_rows_reset_sound_the_same_with_it(net, monkeypatch):
    x = (0.1 * np.random.default_rng(0).standard_normal((4, 1, 9000))).astype(np.float32)

    def run() -> np.ndarray:
        stream = Streamer(net, batch=4)
        parts = [stream.feed(x[..., :4000])]
        stream.reset(rows=[2])
        return np.concatenate([*parts, stream.feed(x[..., 4000:]), stream.flush()], axis=-1)

    monkeypatch.setattr(DenoiserNet, "step", lambda self, batch, frames: self.mask)
    plain = run()
    monkeypatch.undo()
    fixed = []

    def step(self: DenoiserNet, batch: int, frames: int) -> FixedStep:
        spec = torch.zeros(batch, frames, self.stft.bins, dtype=torch.complex64, device=self.device)
        fixed.append(FixedStep(self.mask, spec, self.initial_state(batch)))
        return fixed[-1]

    monkeypatch.setattr(DenoiserNet, "step", step)
    assert np.abs(run() - plain).max() < 1e-5
    assert len(fixed) == 1
    assert (fixed[0]._graph is not None) == (
        net.device.type == "cuda"
    )  # it was captured on the way
