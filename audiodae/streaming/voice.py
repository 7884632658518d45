"""Where somebody speaks, read from the mask: what the net keeps is speech, what it closes is not.

It costs next to nothing beside the cleaning. It is no speaker recognition and no trained detector: what
the net lets through counts as speech (a cry, a radio, other people's talk), and whispers below about
-70 dBFS do not.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from audiodae.sound.arrays import Array, Home, array_namespace, copy
from audiodae.sound.stft import Stft

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
_VALUES_A_PIECE = 1000

Track = npt.NDArray[np.float32]


def speech_power(spec: Array, mask: Array, stft: Stft) -> Array:
    """What came and what is left where speech has its power: `(batch, frames, bins)` -> `(..., 2)`."""
    xp = array_namespace(spec)
    first, last = (round(hz * stft.n_fft / stft.sample_rate) for hz in _BAND_HZ)
    power = _square(spec[..., first:last])
    left = power * _square(mask[..., first:last])
    return xp.stack((xp.sum(power, axis=-1), xp.sum(left, axis=-1)), axis=-1)


def speech_probability(power: Array, stft: Stft) -> Array:
    """From what `speech_power` gave, `(..., 2)`, how probably there is speech, 0 to 1: `(...)`."""
    xp = array_namespace(power)
    came, left = power[..., 0], power[..., 1]
    kept_db = 10.0 * xp.log10((left + _LEAST) / (came + _LEAST))
    left_db = 10.0 * xp.log10(left * (4.0 / (stft.n_fft * stft.hop_length)) + _LEAST)
    doubt = xp.exp((_KEPT_DB - kept_db) / _KEPT_SLOPE_DB)
    quiet = xp.exp((_LEFT_DB - left_db) / _LEFT_SLOPE_DB)
    return 1.0 / ((1.0 + doubt) * (1.0 + quiet))


def _square(z: Array) -> Array:
    """Of the magnitude; without its square root, which is slow."""
    return z.real**2 + z.imag**2


class RunningVoice:
    """The speech probability of running streams: powers of frames come in, samples are given out.

    What it costs is paid by who asks. `masks` rows; `sample_rate` in Hz is that of the samples.
    """

    def __init__(self, masks: int, sample_rate: int, stft: Stft, home: Home) -> None:
        self._masks, self._sample_rate, self._stft, self._home = masks, sample_rate, stft, home
        self.restart()
        self.give(0, 0)

    def restart(self) -> None:
        """Forget all frames; what was given last can still be asked for."""
        self._frames = 0  # that came
        self._power = self._home.zeros(self._masks, 0, 2)  # of the newest of them

    def reset(self, masks: Sequence[int]) -> None:
        """Forget the frames of some masks."""
        self._power = copy(self._power)
        self._power[masks] = 0.0

    def add(self, power: Array) -> None:
        """The next frames, `(masks, n, 2)` as from `speech_power`."""
        self._power = array_namespace(power).concat((self._power, power), axis=1)
        self._frames += power.shape[1]

    def give(self, start: int, stop: int) -> None:
        """Samples `start` to `stop` are given out: those before are asked for no more."""
        kept = self._power.shape[1]
        first = self._frames - kept
        self._given = (start, stop, self._power, first)
        old = min(max(0, self._frame_at(stop) - first), kept)
        if old:
            self._power = copy(self._power[:, old:])

    def probability(self) -> Array:
        """Of the samples given last, `(masks, samples)`."""
        start, stop, power, first = self._given
        if start == stop:
            return self._home.zeros(self._masks, 0)
        track = speech_probability(power, self._stft)
        xp = array_namespace(track)
        frames = np.clip(self._frame_at(np.arange(start, stop)) - first, 0, track.shape[-1] - 1)
        return xp.take(track, xp.asarray(frames, device=track.device), axis=-1)

    def _frame_at(self, sample: Any) -> Any:
        """Number of the frame whose middle is nearest to a sample; below 0 for the very first."""
        stft = self._stft
        moment = sample * stft.sample_rate // self._sample_rate
        return (moment + stft.n_fft // 2 - stft.hop_length // 2) // stft.hop_length

    @property
    def state(self) -> dict[str, Any]:
        """All that is remembered; copies."""
        return {"frames": self._frames, "power": copy(self._power)}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self._frames = state["frames"]
        self._power = copy(self._home.bring(state["power"]))
        self._given = (0, 0, self._power, 0)


class VoiceTrack:
    """The speech probability of one recording, one value a frame, gathered while it is cleaned."""

    def __init__(self, sample_rate: int, hop_seconds: float) -> None:
        self.hop_seconds = hop_seconds
        self._hop_samples, self._sample_rate = hop_seconds * sample_rate, sample_rate
        self._values = array("f")  # a list of them takes 16 MB an hour
        self.samples = 0

    def add(self, probability: Track) -> None:
        """The next samples' probabilities, `(n,)`, as `Streamer.speech_probability` gives them."""
        end = self.samples + len(probability)
        while (moment := round(len(self._values) * self._hop_samples)) < end:
            self._values.append(round(float(probability[moment - self.samples]), 3))
        self.samples = end

    def as_json(self, about: Mapping[str, Any]) -> Iterator[str]:
        """What goes into a JSON file, in pieces: value `i` belongs to the moment `i * hop_seconds`."""
        heard = np.asarray(self._values)
        seconds = self.samples / self._sample_rate
        speech = segments(heard, self.hop_seconds, seconds)
        document = {"hop_seconds": self.hop_seconds, "segments": speech, "probability": []}
        head = json.dumps({**about, **document})
        yield head.removesuffix("]}")
        for start in range(0, len(heard), _VALUES_A_PIECE):
            piece = self._values[start : start + _VALUES_A_PIECE]
            values = json.dumps([round(value, 3) for value in piece])[1:-1]
            yield f", {values}" if start else values
        yield "]}"


def segments(
    probability: npt.NDArray[np.floating], hop_seconds: float, seconds: float = math.inf
) -> list[dict[str, float]]:
    """Stretches of speech, `{"start": seconds, "end": seconds}`; short pauses do not divide one.

    None goes on after `seconds`, where the recording ends, which may be in the midst of a hop.
    """
    speech = np.concatenate(([False], probability >= SPEECH, [False]))
    edges = np.flatnonzero(np.diff(speech.astype(np.int8))) * hop_seconds
    joined: list[list[float]] = []
    for start, end in edges.reshape(-1, 2).tolist():
        if joined and start - joined[-1][1] < _SHORTEST_PAUSE_SECONDS:
            joined[-1][1] = end
        else:
            joined.append([start, end])
    return [
        {"start": round(start, 3), "end": round(min(end, seconds), 3)}
        for start, end in joined
        if end - start >= _SHORTEST_SPEECH_SECONDS
    ]
