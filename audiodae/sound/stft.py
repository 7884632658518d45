"""Frames, window, analysis, and overlap-add with a carried tail.

The same two functions serve a whole file and a single frame: `analyse` does not pad, and `synthesise`
takes and returns the unfinished tail. Whoever starts a signal puts `tail_samples` zeros before it; the
first `tail_samples` samples that come back belong to those zeros. Numpy arrays and tensors go in alike.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from audiodae.sound.arrays import Array, Constant, array_namespace

_MOST_N_FFT = 1 << 20  # more is a slip, and no memory would do


@dataclass(frozen=True)
class Stft:
    """Short-time Fourier transform with a square-root Hann window both ways (perfect reconstruction).

    `n_fft` is the window length in samples; it must be 2, 3, 4... times `hop_length`.
    """

    sample_rate: int
    n_fft: int
    hop_length: int

    def __post_init__(self) -> None:
        if self.n_fft > _MOST_N_FFT:
            raise ValueError(f"n_fft={self.n_fft} is too long a frame: give at most {_MOST_N_FFT}.")
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

    def window(self) -> npt.NDArray[np.float64]:
        """The window of both ways, `(n_fft,)`."""
        return _window(self.n_fft, self.hop_length).values

    def frames(self, samples: int) -> int:
        """Whole frames in so many samples."""
        return max(0, (samples - self.n_fft) // self.hop_length + 1)

    def analyse(self, x: Array) -> Array:
        """`(batch, samples)` -> `(batch, frames, bins)` complex, without padding."""
        xp = array_namespace(x)
        count, parts = self.frames(x.shape[-1]), self.n_fft // self.hop_length
        used = x[:, : (count + parts - 1) * self.hop_length]
        hops = used.reshape(x.shape[0], count + parts - 1, self.hop_length)
        frames = xp.concat([hops[:, k : k + count] for k in range(parts)], axis=-1)
        return xp.fft.rfft(frames * _window(self.n_fft, self.hop_length).like(x))

    def synthesise(self, spec: Array, tail: Array | None = None) -> tuple[Array, Array]:
        """Overlap-add: `(batch, frames, bins)`, `(batch, tail_samples)` -> `(batch, frames * hop_length)`.

        The second value is the new tail, to be given to the next call; None is silence.
        """
        xp = array_namespace(spec)
        frames = xp.fft.irfft(spec, n=self.n_fft)
        frames = frames * _window(self.n_fft, self.hop_length).like(frames)
        batch, count, _ = frames.shape
        hop = self.hop_length
        kept = {"dtype": frames.dtype, "device": frames.device}
        if tail is None:
            tail = xp.zeros((batch, self.tail_samples), **kept)
        out = xp.concat((tail, xp.zeros((batch, count * hop), **kept)), axis=-1)
        # One shifted addition for each part of the window: few, long, and the same at any block size.
        parts = xp.reshape(frames, (batch, count, self.n_fft // hop, hop))
        for k in range(self.n_fft // hop):
            out[:, k * hop : (k + count) * hop] += xp.reshape(parts[:, :, k], (batch, count * hop))
        return out[:, : count * hop], out[:, count * hop :]


@functools.lru_cache(maxsize=32)
def _window(n_fft: int, hop_length: int) -> Constant:
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n_fft) / n_fft)  # periodic
    # Hann frames at this hop add up to n_fft / (2 hop); divide, so that the two windows together
    # add up to one.
    return Constant(np.sqrt(hann / (n_fft / (2 * hop_length))))
