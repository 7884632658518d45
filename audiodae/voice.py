"""Where somebody speaks, read from the mask: what the net keeps is speech, what it closes is not.

It costs next to nothing beside the cleaning. It is no speaker recognition and no trained detector: what
the net lets through counts as speech (a cry, a radio, other people's talk), and whispers below about
-70 dBFS do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from audiodae.arrays import Array, array_namespace
from audiodae.stft import Stft

_BAND_HZ = (125.0, 4000.0)  # where speech has its power
# The probability is one half where this share of the power is kept, and this much of it is left; each
# with the dB in which it rises from there to 0.73.
_KEPT_DB, _KEPT_SLOPE_DB = -12.0, 2.5
_LEFT_DB, _LEFT_SLOPE_DB = -65.0, 3.0  # 0 dB is a full-scale sine
_LEAST = 1e-12

SPEECH = 0.5
"""From this probability on it is speech."""
_SHORTEST_PAUSE_SECONDS = 0.3
_SHORTEST_SPEECH_SECONDS = 0.1

Track = npt.NDArray[np.float32]


def speech_probability(spec: Array, mask: Array, stft: Stft) -> Array:
    """For spectra and their masks `(batch, frames, bins)`, between 0 and 1: `(batch, frames)`."""
    xp = array_namespace(spec)
    first, last = (round(hz * stft.n_fft / stft.sample_rate) for hz in _BAND_HZ)
    spec, mask = spec[..., first:last], mask[..., first:last]
    power = _square(spec)
    came = xp.sum(power, axis=-1)
    left = xp.sum(power * _square(mask), axis=-1)
    kept_db = 10.0 * xp.log10((left + _LEAST) / (came + _LEAST))
    left_db = 10.0 * xp.log10(left * (4.0 / (stft.n_fft * stft.hop_length)) + _LEAST)
    doubt = xp.exp((_KEPT_DB - kept_db) / _KEPT_SLOPE_DB)
    quiet = xp.exp((_LEFT_DB - left_db) / _LEFT_SLOPE_DB)
    return 1.0 / ((1.0 + doubt) * (1.0 + quiet))


def _square(z: Array) -> Array:
    """Of the magnitude; without its square root, which is slow."""
    return z.real**2 + z.imag**2


class VoiceTrack:
    """The speech probability of one recording, one value a frame, gathered while it is cleaned."""

    def __init__(self, sample_rate: int, hop_seconds: float) -> None:
        self.hop_seconds = hop_seconds
        self._hop_samples = hop_seconds * sample_rate
        self._values: list[float] = []
        self._samples = 0

    def add(self, probability: Track) -> None:
        """The next samples' probabilities, `(n,)`, as `Streamer.speech_probability` gives them."""
        end = self._samples + len(probability)
        while (moment := round(len(self._values) * self._hop_samples)) < end:
            self._values.append(round(float(probability[moment - self._samples]), 3))
        self._samples = end

    def plain(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """What goes into a JSON file: value `i` belongs to the moment `i * hop_seconds`."""
        return {
            **about,
            "hop_seconds": self.hop_seconds,
            "segments": segments(np.array(self._values), self.hop_seconds),
            "probability": self._values,
        }


def segments(probability: npt.NDArray[np.floating], hop_seconds: float) -> list[dict[str, float]]:
    """Stretches of speech, `{"start": seconds, "end": seconds}`; short pauses do not divide one."""
    speech = np.concatenate(([False], probability >= SPEECH, [False]))
    edges = np.flatnonzero(np.diff(speech.astype(np.int8))) * hop_seconds
    joined: list[list[float]] = []
    for start, end in edges.reshape(-1, 2).tolist():
        if joined and start - joined[-1][1] < _SHORTEST_PAUSE_SECONDS:
            joined[-1][1] = end
        else:
            joined.append([start, end])
    return [
        {"start": round(start, 3), "end": round(end, 3)}
        for start, end in joined
        if end - start >= _SHORTEST_SPEECH_SECONDS
    ]
