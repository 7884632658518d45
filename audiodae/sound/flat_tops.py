"""How much of a recording is flat at its peaks: what clipping leaves, whatever became of the level since.

Counted in the samples as they were read, before channels are averaged or the rate is changed, which
would round the corners off.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_NEAR_PEAK = 0.7  # of a stretch's peak: tops above and below need not be equally high
_LOWEST_PEAK = 10 ** (-50 / 20)  # below it the steps of 16 bits alone make tops flat


def flat_share(samples: npt.NDArray[np.floating]) -> float:
    """The share of `(channels, samples)` in which a third equal sample in a row stands near the peak.

    That of the channel with the most. Silence has none.
    """
    if samples.shape[1] < 3:
        return 0.0
    size = np.abs(samples)
    peak = size.max(axis=1, keepdims=True)
    same = np.diff(samples, axis=1) == 0
    flat = same[:, 1:] & same[:, :-1] & (size[:, 2:] >= _NEAR_PEAK * peak) & (peak > _LOWEST_PEAK)
    return float(flat.mean(axis=1).max())


class FlatTops:
    """`flat_share` of one stretch of `seconds` after the other, of a recording fed block by block."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._shares: list[float] = []
        self._held: npt.NDArray[np.floating] | None = None
        self._first = 0  # frame of the recording that `_held` begins with
        self._sample_rate = 0

    def feed(self, block: npt.NDArray[np.floating], sample_rate: int) -> None:
        """`(channels, frames)`; blocks of any length, one after the other."""
        self._sample_rate = sample_rate
        held = block if self._held is None else np.concatenate([self._held, block], axis=1)
        while (size := self._end() - self._first) <= held.shape[1]:
            self._shares.append(flat_share(held[:, :size]))
            held, self._first = held[:, size:], self._first + size
        self._held = held.copy()

    def shares(self, count: int) -> npt.NDArray[np.float64]:
        """Of the first `count` stretches, `(count,)`; the last may be shorter, or not there: then 0."""
        shares = list(self._shares)
        if self._held is not None:
            shares.append(flat_share(self._held))
        found = np.zeros(count)
        found[: len(shares)] = shares[:count]
        return found

    def _end(self) -> int:
        return round((len(self._shares) + 1) * self.seconds * self._sample_rate)
