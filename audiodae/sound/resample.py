"""A sampling-rate converter whose whole state can be copied, saved, and reset row by row.

Output sample `j` is the input's value at time `j / to_rate` (zero phase): a dot product of the
input around that moment with a windowed sinc. It needs `lookahead` input samples from after its
moment, about 2 ms where the lower rate is 16 kHz. The pass band reaches 0.9 of the lower rate's
Nyquist frequency; the stop band (100 dB down) begins at 1.1 of it.

Chunks of any size give the same bits, because the work is cut into blocks at fixed places in the
output. A block is one calculation of a fixed shape; while it is not yet fully heard it is worked
out with the missing samples at zero, which touch only outputs not yet given.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from audiodae.errors import AudioError
from audiodae.limits import RATES_HZ
from audiodae.sound.arrays import (
    Array,
    Audio,
    Constant,
    Home,
    array_namespace,
    copy,
    like,
    plain,
    windows,
)

_LOBES = 32  # zero crossings of the sinc on each side, in samples of the lower rate
_KAISER_BETA = 10.06  # side lobes 100 dB down
_MATRIX_ELEMENTS = 2_000_000  # the largest matrix kept, 8 MB
_BLOCK_SAMPLES = 8192  # a block is about so long at the higher rate
_IRREGULAR_BLOCK_SAMPLES = 1024  # costly, and worked out again for small chunks: keep it short
_PHASES = 1024  # per sample of the lower rate: the interpolation error stays near -125 dB
_SLICE_SAMPLES = 1 << 20  # offline work takes so many samples at a time


class Resampler:
    """Turns a stream at `from_rate` into a stream at `to_rate`, for `rows` signals side by side.

    After `n` finite samples in, exactly `outputs_after(n)` samples have come out; after `flush()`
    it is `ceil(n * to_rate / from_rate)` in all. Equal rates pass through untouched. Raises
    `AudioError` for a rate that is not a whole number of Hz between 1,000 and 768,000.
    """

    def __init__(
        self,
        from_rate: int,
        to_rate: int,
        *,
        rows: int = 1,
        home: Home | None = None,
    ) -> None:
        self.from_rate, self.to_rate = check_rate(from_rate), check_rate(to_rate)
        self._rows = rows
        self._home = home or Home()
        common = math.gcd(self.from_rate, self.to_rate)
        self._up, self._down = self.to_rate // common, self.from_rate // common
        self._filter = _filter(self._up, self._down)
        self._samples_in = 0
        self._samples_out = 0
        self._history = self._silence()

    @property
    def lookahead(self) -> int:
        """Input samples an output waits for after its own moment; 0 when the rates are equal."""
        return self._filter.half if self._filter else 0

    def outputs_after(self, samples_in: int) -> int:
        """Output samples that have come out once `samples_in` went in."""
        return max(0, -(-(samples_in - self.lookahead) * self._up // self._down))

    def inputs_for(self, samples_out: int) -> int:
        """The fewest input samples after which `samples_out` have come out."""
        if samples_out <= 0:
            return 0
        return self.lookahead + (samples_out - 1) * self._down // self._up + 1

    def feed(self, x: Array) -> Array:
        """`(rows, any n)` float32 -> `(rows, m)`: what can now be known of the output."""
        if self._filter is None:
            self._samples_in += x.shape[-1]
            self._samples_out += x.shape[-1]
            return x
        xp = array_namespace(x)
        history = xp.concat((self._history, x), axis=-1)
        self._samples_in += x.shape[-1]
        ready = self.outputs_after(self._samples_in)
        size, position = self._filter.block, 0
        parts = [history[:, :0]]
        while self._samples_out < ready:
            block = self._samples_out // size
            segment = history[:, position : position + self._filter.reach]
            missing = self._filter.reach - segment.shape[-1]
            if missing:
                segment = xp.concat((segment, self._home.zeros(self._rows, missing)), axis=-1)
            until = min(ready, (block + 1) * size)
            y = self._filter.apply(segment, block)
            parts.append(y[:, self._samples_out - block * size : until - block * size])
            self._samples_out = until
            if until == (block + 1) * size:
                position += self._filter.start(block + 1) - self._filter.start(block)
        self._history = copy(history[:, position:]) if position else history
        return xp.concat(parts, axis=-1) if len(parts) != 2 else parts[1]

    def flush(self) -> Array:
        """The rest of the output, as if silence followed; afterwards ready for a new stream."""
        wanted = -(-self._samples_in * self._up // self._down)
        missing = wanted - self._samples_out
        rest = self.feed(self._home.zeros(self._rows, self.lookahead))[:, :missing]
        self.reset()
        return rest

    def reset(self, rows: Sequence[int] | None = None) -> None:
        """Forget what was heard: everything, or only these rows while the others run on."""
        if rows is not None:
            history = copy(self._history)
            history[list(rows)] = 0.0
            self._history = history
            return
        self._samples_in = 0
        self._samples_out = 0
        self._history = self._silence()

    @property
    def state(self) -> dict[str, Any]:
        """All that is remembered: an array `(rows, some)`, two integers. Set it back to resume."""
        return {
            "history": copy(self._history),
            "samples_in": self._samples_in,
            "samples_out": self._samples_out,
        }

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self._history = copy(self._home.bring(state["history"]))
        self._samples_in = state["samples_in"]
        self._samples_out = state["samples_out"]

    def _silence(self) -> Array:
        """What was heard before the stream began."""
        samples = self._filter.half - 1 if self._filter else 0
        return self._home.zeros(self._rows, samples)


def resample(audio: Audio, from_rate: int, to_rate: int) -> Audio:
    """A whole signal at another rate: `(..., n)` -> `(..., ceil(n * to_rate / from_rate))`.

    Numpy or torch, any floating-point type; the result is of the same kind (calculated in float32).
    Raises `AudioError` for rates or samples that make no sense.
    """
    x, form = plain(audio)
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    home = Home.of(x)
    with home.without_gradients():
        resampler = Resampler(from_rate, to_rate, rows=rows.shape[0], home=home)
        parts: list[Array] = []
        for start in range(0, rows.shape[-1], _SLICE_SAMPLES):
            parts.append(resampler.feed(rows[:, start : start + _SLICE_SAMPLES]))
        y = array_namespace(x).concat((*parts, resampler.flush()), axis=-1)
    return like(y.reshape(*x.shape[:-1], y.shape[-1]), form)  # type: ignore[no-any-return]


def check_rate(sample_rate: int | float) -> int:
    """The rate as an int, or an `AudioError` that says what is wrong with it."""
    low, high = RATES_HZ
    number = sample_rate if isinstance(sample_rate, Real) else math.nan
    if not (low <= number <= high) or int(number) != number:
        raise AudioError(
            f"The sample rate {sample_rate!r} is not a whole number of Hz between {low:,} and "
            f"{high:,}: give it in Hz, for example 16000 or 44100."
        )
    return int(number)


class _Periodic:
    """The filter of a ratio `up / down` whose weights repeat soon: a matrix, applied tile by tile.

    After `down` inputs and `up` outputs the weights are the same again. Some such periods make a
    tile, about as long as the filter so that few factors are zero; some tiles make a block.

    half    input samples used on each side of an output's moment
    block   output samples of a block
    reach   input samples that a block touches, the first of them at `start(block number)`
    """

    def __init__(self, up: int, down: int) -> None:
        self.half = _half(up, down)
        self._tile_in, tile_out, self._tile_reach = self._tile(up, down)
        tiles = max(1, _BLOCK_SAMPLES // max(self._tile_in, tile_out))
        self.block = tiles * tile_out
        self.reach = (tiles - 1) * self._tile_in + self._tile_reach
        self._advance = tiles * self._tile_in
        first, fraction = _moments(up, down, 0, tile_out)
        matrix = np.zeros((self._tile_reach, tile_out))
        matrix[first[:, None] + np.arange(2 * self.half), np.arange(tile_out)[:, None]] = _weights(
            up, down, fraction
        )
        self._matrix = Constant(matrix)

    @classmethod
    def fits(cls, up: int, down: int) -> bool:
        """Whether the matrix is of a bearable size."""
        _, tile_out, tile_reach = cls._tile(up, down)
        return tile_reach * tile_out <= _MATRIX_ELEMENTS

    @staticmethod
    def _tile(up: int, down: int) -> tuple[int, int, int]:
        """Input samples a tile moves on by, output samples it gives, input samples it touches."""
        taps = 2 * _half(up, down)
        periods = max(1, round(taps / max(up, down)))
        return periods * down, periods * up, periods * down + taps

    def start(self, block: int) -> int:
        """Index of the first input sample a block touches (below zero: before the stream began)."""
        return block * self._advance - self.half + 1

    def apply(self, segment: Array, block: int) -> Array:
        """`(rows, reach)` -> `(rows, block)`."""
        tiles = copy(windows(segment, self._tile_reach, self._tile_in))
        return (tiles @ self._matrix.like(tiles)).reshape(-1, self.block)


class _Irregular:
    """The filter of a ratio like 16000 / 22051: weights between those of two stored phases."""

    def __init__(self, up: int, down: int) -> None:
        self._up, self._down = up, down
        self.half = _half(up, down)
        self.block = max(1, _IRREGULAR_BLOCK_SAMPLES * up // max(up, down))
        self.reach = self.block * down // up + 2 * self.half + 1
        self._phases = -(-_PHASES * min(up, down) // down)
        phase = np.arange(self._phases + 1) / self._phases
        self._table = _weights(up, down, phase).astype(np.float32)

    def start(self, block: int) -> int:
        return block * self.block * self._down // self._up - self.half + 1

    def apply(self, segment: Array, block: int) -> Array:
        first, fraction = _moments(self._up, self._down, block * self.block, self.block)
        phase = fraction * self._phases
        below = phase.astype(np.int64)
        part = (phase - below).astype(np.float32)[:, None]
        weights = self._table[below] + part * (self._table[below + 1] - self._table[below])
        home = Home.of(segment)
        xp = array_namespace(segment)
        index = xp.asarray(first - self.half + 1 - self.start(block), device=segment.device)
        around = windows(segment, 2 * self.half, 1)[:, index]
        return xp.sum(around * home.bring(weights), axis=-1)


@functools.lru_cache(maxsize=16)
def _filter(up: int, down: int) -> _Periodic | _Irregular | None:
    if up == down:
        return None
    return _Periodic(up, down) if _Periodic.fits(up, down) else _Irregular(up, down)


def _half(up: int, down: int) -> int:
    return -(-_LOBES * max(up, down) // up)


def _moments(
    up: int, down: int, output: int, count: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Where outputs `output...` lie in the input: at or after which sample, by what part of one."""
    moments = (output + np.arange(count, dtype=np.int64)) * down
    return moments // up, moments % up / up


def _weights(up: int, down: int, fraction: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`(count,)` moments within a sample -> `(count, 2 * half)` weights of those around it."""
    half = _half(up, down)
    offset = np.arange(1 - half, half + 1) - fraction[:, None]
    scaled = offset * min(1.0, up / down)  # in samples of the lower rate
    window = np.i0(_KAISER_BETA * np.sqrt(np.maximum(1 - (scaled / _LOBES) ** 2, 0.0)))
    weights = np.where(np.abs(scaled) <= _LOBES, np.sinc(scaled) * window, 0.0)
    # So that a constant stays that constant.
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))
