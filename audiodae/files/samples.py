"""Samples as files hold them: whole numbers where they do, and none that is no number."""

from __future__ import annotations

import numpy as np

from audiodae.sound.arrays import LOUDEST


def quantise(x: np.ndarray, bits: int) -> tuple[np.ndarray, int]:
    """Round `x` to int32 of so many bits, clamped to [-1, 1 - lsb], and count the clamped.

    Full scale is a power of two, so samples that came from an integer file go back to the same
    bits.
    """
    scale = 2 ** (bits - 1)
    # float32 holds every 24-bit integer, but not 2**31 - 1.
    scaled = np.rint(np.multiply(x, scale, dtype=np.float32 if bits <= 24 else np.float64))
    clipped = int(np.count_nonzero((scaled > scale - 1) | (scaled < -scale)))
    return np.clip(scaled, -scale, scale - 1, out=scaled).astype(np.int32), clipped


def silence_nonfinite(x: np.ndarray) -> tuple[np.ndarray, int]:
    """`x` with samples that are NaN, infinite or absurdly loud as 0 (in a copy); their number."""
    finite = np.abs(x) <= LOUDEST  # a NaN is not
    count = x.size - int(np.count_nonzero(finite))
    return (np.where(finite, x, x.dtype.type(0)) if count else x), count
