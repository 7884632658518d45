"""What the net sees of a spectrum, and how its answer in bands gets back onto the bins.

Low frequencies keep their bins (harmonics must be told apart), high ones are gathered in triangular bands
evenly spaced on the ERB-rate scale (Glasberg and Moore, 1990). Values are compressed by a power law, so
that quiet and loud sounds lie close together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audiodae.stft import Stft

FEATURE_CHANNELS = 3  # compressed magnitude, real part, imaginary part
_FLOOR_POWER = 1e-10  # keeps the compression's slope finite in digital silence


@dataclass(frozen=True)
class BandsConfig:
    """`linear` bins kept one by one from 0 Hz, then `erb` triangular bands up to the Nyquist frequency."""

    linear: int = 64
    erb: int = 64
    compression: float = 0.3

    @property
    def count(self) -> int:
        return self.linear + self.erb


def erb_rate(hz: float) -> float:
    """Number of equivalent rectangular bandwidths below a frequency (Glasberg and Moore, 1990)."""
    return 21.4 * math.log10(1.0 + 0.00437 * hz)


def erb_rate_to_hz(rate: float) -> float:
    """Inverse of `erb_rate`."""
    return (10.0 ** (rate / 21.4) - 1.0) / 0.00437


def band_matrix(config: BandsConfig, stft: Stft) -> Tensor:
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
    matrix = torch.zeros(config.count, stft.bins, dtype=torch.float64)
    matrix[:first, :first] = torch.eye(first, dtype=torch.float64)
    matrix[first:, first:] = _triangles(centres, first, stft.bins)
    return (matrix / matrix.sum(dim=0, keepdim=True)).float()


def _triangles(centres: list[float], first: int, bins: int) -> Tensor:
    """Weights of the bins from `first` on in triangles around the centres: `(centres, bins - first)`."""
    matrix = torch.zeros(len(centres), bins - first, dtype=torch.float64)
    place = torch.arange(first, bins, dtype=torch.float64)
    for band, centre in enumerate(centres):
        weight = torch.zeros_like(place)
        if band > 0:
            rise = (place - centres[band - 1]) / (centre - centres[band - 1])
            weight = torch.where(place <= centre, rise.clamp(0, 1), weight)
        else:
            weight = (place <= centre).to(place)
        if band < len(centres) - 1:
            fall = (centres[band + 1] - place) / (centres[band + 1] - centre)
            weight = torch.where(place > centre, fall.clamp(0, 1), weight)
        else:
            weight = torch.where(place > centre, torch.ones_like(place), weight)
        matrix[band] = weight
    return matrix


def mel_matrix(mels: int, stft: Stft) -> Tensor:
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
    return (matrix / matrix.sum(dim=0, keepdim=True)).float()


class Bands(nn.Module):
    """Spectrum to compressed band features, and a mask in bands back to a mask on bins."""

    to_bands: Tensor
    to_bins: Tensor

    def __init__(self, config: BandsConfig, stft: Stft) -> None:
        super().__init__()
        self.config = config
        spread = band_matrix(config, stft)
        gather = spread / spread.sum(dim=1, keepdim=True)
        # Derived from the config, so not part of the weights.
        self.register_buffer("to_bins", spread, persistent=False)
        self.register_buffer("to_bands", gather.T.contiguous(), persistent=False)

    def features(self, spec: Tensor) -> Tensor:
        """`(batch, frames, bins)` complex -> `(batch, 3, frames, bands)`."""
        real, imag = spec.real, spec.imag
        power = real.square() + imag.square() + _FLOOR_POWER
        shrink = power.pow((self.config.compression - 1.0) / 2.0)
        compressed = torch.stack((power.sqrt() * shrink, real * shrink, imag * shrink), dim=1)
        return compressed @ self.to_bands

    def spread(self, mask: Tensor) -> Tensor:
        """`(batch, 2, frames, bands)` real -> `(batch, frames, bins)` complex."""
        bins = mask @ self.to_bins
        return torch.complex(bins[:, 0], bins[:, 1])
