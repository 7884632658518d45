"""Frames and overlap-add: physics of the transform."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audiodae.sound.stft import Stft

SHAPES = [(512, 256), (512, 128), (960, 480), (1024, 256)]


@pytest.mark.parametrize(("n_fft", "hop_length"), SHAPES)
def test_what_is_analysed_comes_back_aligned(n_fft: int, hop_length: int) -> None:
    stft = Stft(16000, n_fft, hop_length)
    x = torch.randn(2, 10 * n_fft, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(x, (stft.tail_samples, stft.tail_samples))
    y, _ = stft.synthesise(stft.analyse(padded))
    torch.testing.assert_close(
        y[:, stft.tail_samples :][:, : x.shape[1]], x[:, : y.shape[1]], atol=2e-6, rtol=0
    )


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_frames_may_be_added_in_any_portions(portions: list[int]) -> None:
    stft = Stft(16000, 512, 256)
    spec = torch.randn(
        1, sum(portions), 257, dtype=torch.complex64, generator=torch.Generator().manual_seed(1)
    )
    whole, last = stft.synthesise(spec)
    parts, tail, at = [], None, 0
    for frames in portions:
        y, tail = stft.synthesise(spec[:, at : at + frames], tail)
        parts.append(y)
        at += frames
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-6, rtol=0)
    torch.testing.assert_close(tail, last, atol=1e-6, rtol=0)


def test_a_tone_lands_in_its_bin() -> None:
    stft = Stft(16000, 512, 256)
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(4096) / 16000)[None]
    assert int(stft.analyse(tone).abs()[0, 3].argmax()) == 32  # 1000 Hz / 31.25 Hz


def test_a_hop_that_cannot_add_up_is_refused() -> None:
    with pytest.raises(ValueError, match="does not overlap-add"):
        Stft(16000, 512, 300)


def test_streaming_first_does_not_stop_training_later() -> None:
    stft = Stft(16000, 320, 160)  # a window nobody has asked for yet
    with torch.inference_mode():
        stft.analyse(torch.zeros(1, 640))
    x = torch.randn(1, 640, requires_grad=True)
    spec = stft.analyse(x)
    y, _ = stft.synthesise(spec)
    y.square().sum().backward()
    assert x.grad is not None
