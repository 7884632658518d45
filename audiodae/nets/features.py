"""What the net sees of a spectrum, and how its answer in bands gets back onto the bins.

Low frequencies keep their bins (harmonics must be told apart), high ones are gathered in triangular bands
evenly spaced on the ERB-rate scale (Glasberg and Moore, 1990). Values are compressed by a power law, so
that quiet and loud sounds lie close together.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from audiodae.config import check_range
from audiodae.sound.arrays import Array, Constant, array_namespace
from audiodae.sound.stft import Stft

FEATURE_CHANNELS = 3  # compressed magnitude, real part, imaginary part
FLOOR_POWER = 1e-10  # keeps the compression's slope finite in digital silence


@dataclass(frozen=True)
class BandsConfig:
    """`linear` bins kept one by one from 0 Hz, then `erb` triangular bands up to the Nyquist frequency.

    Magnitudes are raised to the power `compression`; with 1 they stay what they are.
    """

    linear: int = 64
    erb: int = 64
    compression: float = 0.3

    def __post_init__(self) -> None:
        check_range(self, 0, math.inf, "linear")
        check_range(self, 2, math.inf, "erb")
        check_range(self, 0.05, 1.0, "compression")

    @property
    def count(self) -> int:
        return self.linear + self.erb


def erb_rate(hz: float) -> float:
    """Number of equivalent rectangular bandwidths below a frequency (Glasberg and Moore, 1990)."""
    return 21.4 * math.log10(1.0 + 0.00437 * hz)


def erb_rate_to_hz(rate: float) -> float:
    """Inverse of `erb_rate`."""
    return (10.0 ** (rate / 21.4) - 1.0) / 0.00437


def band_matrix(config: BandsConfig, stft: Stft) -> npt.NDArray[np.float64]:
    """How much of each band every bin gets: `(bands, bins)`; each column adds up to one."""
    bin_hz = stft.sample_rate / stft.n_fft
    first = config.linear
    low, high = erb_rate(first * bin_hz), erb_rate((stft.bins - 1) * bin_hz)
    step = (high - low) / (config.erb - 1)
    centres = [erb_rate_to_hz(low + step * band) / bin_hz for band in range(config.erb)]
    # Close to the linear part the ERB scale may ask for less than a bin a band: then go bin by bin.
    for band in range(1, config.erb):
        centres[band] = max(centres[band], centres[band - 1] + 1.0)
    stretch = (stft.bins - 1 - first) / (centres[-1] - first)
    if stretch < 1.0:
        centres = [first + (c - first) * max(stretch, 0.0) for c in centres]
    matrix = np.zeros((config.count, stft.bins))
    matrix[:first, :first] = np.eye(first)
    matrix[first:, first:] = _triangles(centres, first, stft.bins)
    return matrix / matrix.sum(axis=0, keepdims=True)


def _triangles(centres: list[float], first: int, bins: int) -> npt.NDArray[np.float64]:
    """Weights of the bins from `first` on in triangles around the centres: `(centres, bins - first)`.

    Each reaches to its neighbours' centres; the outermost are level on their outer side.
    """
    rows = []
    for band, centre in enumerate(centres):
        corners = centres[max(band - 1, 0) : band + 2]
        heights = [float(corner == centre) for corner in corners]
        rows.append(np.interp(np.arange(first, bins), corners, heights))
    return np.stack(rows)


def mel_matrix(mels: int, stft: Stft) -> npt.NDArray[np.float64]:
    """How much of each mel band every bin gets: `(mels, bins)`; each column adds up to one.

    Triangles evenly spaced on the mel scale (O'Shaughnessy, 1987) from 0 Hz to the Nyquist frequency, at
    least a bin apart. Raises `ValueError` for more bands than bins.
    """
    if not 2 <= mels <= stft.bins:
        raise ValueError(
            f"{mels} mel bands do not fit {stft.bins} bins: choose from 2 to that many."
        )
    bin_hz = stft.sample_rate / stft.n_fft
    top = math.log10(1.0 + stft.sample_rate / 2 / 700.0)
    centres = [700.0 * (10.0 ** (top * m / (mels - 1)) - 1.0) / bin_hz for m in range(mels)]
    for m in range(1, mels):
        centres[m] = max(centres[m], centres[m - 1] + 1.0)
    stretch = (stft.bins - 1) / centres[-1]
    matrix = _triangles([c * stretch for c in centres], 0, stft.bins)
    return matrix / matrix.sum(axis=0, keepdims=True)


@dataclass(frozen=True)
class Bands:
    """Spectrum to compressed band features, and a mask in bands back to a mask on bins."""

    config: BandsConfig
    stft: Stft

    def features(self, spec: Array) -> Array:
        """`(batch, frames, bins)` complex -> `(batch, 3, frames, bands)`."""
        xp = array_namespace(spec)
        real, imag = xp.real(spec), xp.imag(spec)
        power = real * real + imag * imag + FLOOR_POWER
        shrink = power ** ((self.config.compression - 1.0) / 2.0)
        compressed = xp.stack((xp.sqrt(power) * shrink, real * shrink, imag * shrink), axis=1)
        return compressed @ _matrices(self.config, self.stft)[0].like(compressed)

    def spread(self, mask: Array) -> Array:
        """`(batch, 2, frames, bands)` real -> `(batch, frames, bins)` complex."""
        bins = mask @ _matrices(self.config, self.stft)[1].like(mask)
        return bins[:, 0] + 1j * bins[:, 1]


@functools.lru_cache(maxsize=8)
def _matrices(config: BandsConfig, stft: Stft) -> tuple[Constant, Constant]:
    """Bins to bands (means), and bands to bins."""
    spread = band_matrix(config, stft)
    return Constant((spread / spread.sum(axis=1, keepdims=True)).T.copy()), Constant(spread)
