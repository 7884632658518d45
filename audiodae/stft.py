"""Frames, window, analysis, and overlap-add with a carried tail.

The same two functions serve a whole file and a single frame: `analyse` does not pad, and `synthesise`
takes and returns the unfinished tail. Whoever starts a signal puts `tail_samples` zeros before it; the
first `tail_samples` samples that come back belong to those zeros.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Stft:
    """Short-time Fourier transform with a square-root Hann window both ways (perfect reconstruction).

    `n_fft` is the window length in samples; it must be a multiple of twice `hop_length`.
    """

    sample_rate: int
    n_fft: int
    hop_length: int

    def __post_init__(self) -> None:
        if self.hop_length < 1 or self.n_fft % self.hop_length or self.n_fft < 2 * self.hop_length:
            raise ValueError(
                f"n_fft={self.n_fft} with hop_length={self.hop_length} does not overlap-add to one: "
                "choose an n_fft that is 2, 3, 4... times the hop_length."
            )

    @property
    def bins(self) -> int:
        return self.n_fft // 2 + 1

    @property
    def tail_samples(self) -> int:
        """Samples a frame shares with later ones: the lead-in, and the length of the tail."""
        return self.n_fft - self.hop_length

    def window(self, device: torch.device | None = None) -> Tensor:
        """The window of both ways, `(n_fft,)` float32."""
        return _window(self.n_fft, self.hop_length, device or torch.device("cpu"), torch.float32)

    def frames(self, samples: int) -> int:
        """Whole frames in so many samples."""
        return max(0, (samples - self.n_fft) // self.hop_length + 1)

    def analyse(self, x: Tensor) -> Tensor:
        """`(batch, samples)` -> `(batch, frames, bins)` complex, without padding."""
        frames = x.unfold(-1, self.n_fft, self.hop_length)
        return torch.fft.rfft(frames * _window(self.n_fft, self.hop_length, x.device, x.dtype))

    def synthesise(self, spec: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """Overlap-add: `(batch, frames, bins)`, `(batch, tail_samples)` -> `(batch, frames * hop_length)`.

        The second value is the new tail, to be given to the next call.
        """
        frames = torch.fft.irfft(spec, n=self.n_fft)
        frames = frames * _window(self.n_fft, self.hop_length, frames.device, frames.dtype)
        batch, count, _ = frames.shape
        hop = self.hop_length
        out = frames.new_zeros(batch, count * hop + self.tail_samples)
        out[:, : self.tail_samples] = tail
        # One shifted addition for each part of the window: few, long, and the same at any block size.
        parts = frames.view(batch, count, self.n_fft // hop, hop)
        for k in range(self.n_fft // hop):
            out[:, k * hop : (k + count) * hop] += parts[:, :, k].reshape(batch, count * hop)
        return out[:, : count * hop], out[:, count * hop :]

    def silence(self, batch: int, device: torch.device | None = None) -> Tensor:
        """The tail before anything was heard, `(batch, tail_samples)`; also the lead-in."""
        return torch.zeros(batch, self.tail_samples, device=device)


@functools.lru_cache(maxsize=32)
def _window(n_fft: int, hop_length: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # cached for all, so also for those who train
        hann = torch.hann_window(n_fft, periodic=True, dtype=torch.float64)
        # Hann frames at this hop add up to n_fft / (2 hop); divide, so that the two windows together
        # add up to one.
        return (hann / (n_fft / (2 * hop_length))).sqrt().to(device=device, dtype=dtype)
