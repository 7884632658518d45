"""How far out a clip stands among normal ones of its own length.

What is measured of a clip scatters the more the shorter it is, and the largest oddity of its patches
grows with their number. So normal clips are also looked at in halves, quarters and so on, and a clip
is held against those of its own length. One that is longer than the fitted ones is looked at in stretches
of their length: the oddest counts, and as the oddest of many is odder, the more there are the less; or
all of them together, where each is a little odd.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_SHORT = 4  # patches, below which a patch more or less makes much of a difference
_LEAST_SHARE = 0.75  # of a length: shorter clips say nothing about it
_MOST_STRETCHES = 500  # of a length
_LEAST_SPREAD = 1e-3
_FLAT_SPREAD = 0.25  # of the last statistic, more
_TAIL = 20  # so many highest standings (of few, half of them) are taken to fall off exponentially


@dataclass(frozen=True)
class Standing:
    """What is normal at lengths of `patches` `(k,)`, ascending; the last is that of the fitted clips.

    Statistics are standardised by `centre` and `spread` `(k, statistics)`; `thresholds` `(k,)` are of
    one clip, `growth` is by what part of them they rise for e times as many stretches.
    """

    patches: Floats
    centre: Floats
    spread: Floats
    thresholds: Floats
    growth: float

    @classmethod
    def fit(cls, statistics: Sequence[Floats], patches: Sequence[int], quantile: float) -> Standing:
        """Of the statistics `(n, statistics)` of normal stretches of each length."""
        centres, spreads, thresholds, growths = [], [], [], []
        # Of silence every clip is like every other: rounding alone must not make one odd.
        least = np.full(statistics[0].shape[1], _LEAST_SPREAD)
        for rows in reversed(statistics):
            centre, spread = rows.mean(axis=0), rows.std(axis=0)
            spread[-1] += _FLAT_SPREAD
            # What is shorter scatters no less, even if a patch alone is always its own median.
            spread = least = np.maximum(spread, least)
            standings = np.array([_standing(row, centre, spread) for row in rows])
            threshold, excess = _threshold(standings, quantile)
            growths.append(excess / threshold)
            centres.append(centre)
            spreads.append(spread)
            thresholds.append(threshold)
        return cls(
            np.array(patches, dtype=np.float64),
            np.stack(centres[::-1]),
            np.stack(spreads[::-1]),
            np.array(thresholds[::-1]),
            max(growths),  # rather too much: few rows say little of their tail
        )

    def raised(self, part: float) -> Standing:
        """The same with thresholds as many times as high."""
        return replace(self, thresholds=part * self.thresholds)

    @classmethod
    def of_one_length(cls, centre: Floats, spread: Floats, threshold: float) -> Standing:
        """What detectors of earlier versions know: every clip is held against the fitted ones."""
        return cls(np.array([np.inf]), centre[None], spread[None], np.array([threshold]), 0.0)

    def score(self, clip: Floats, statistics: Callable[[Floats, int], Floats]) -> float:
        """Of a clip `(patches, d)`; 1 is the threshold.

        `statistics` are taken of a stretch as one of the i-th length.
        """
        scores = [self._score(part, statistics) for part in stretches(clip, self.patches[-1])]
        oddest = max(scores) / (1.0 + self.growth * math.log(len(scores)))
        return max(oddest, sum(scores) / len(scores))

    def _score(self, part: Floats, statistics: Callable[[Floats, int], Floats]) -> float:
        """Between two lengths something between what they say."""
        at = np.interp(math.log(len(part)), np.log(self.patches), np.arange(len(self.patches)))
        score = 0.0
        for i in {math.floor(at), math.ceil(at)}:
            found = _standing(statistics(part, i), self.centre[i], self.spread[i])
            score += (1.0 - abs(float(at) - i)) * found / float(self.thresholds[i])
        return score


def lengths(clips: Sequence[Floats]) -> list[int]:
    """The usual length of the clips in patches, half of it and so on, and all up to four; ascending."""
    usual = max(1, round(float(np.median([len(clip) for clip in clips]))))
    found = {usual} | set(range(1, min(usual, _SHORT + 1)))
    while usual > _SHORT:
        usual //= 2
        found.add(usual)
    return sorted(found)


def stretches(clip: Floats, patches: float) -> list[Floats]:
    """A clip `(patches, d)` in equal parts of about so many patches."""
    return np.array_split(clip, max(1, round(len(clip) / patches)))


def pieces(clips: Sequence[Floats], patches: int) -> list[Floats]:
    """Stretches of about that length of the clips that have it; some of them, where there are many."""
    long = [clip for clip in clips if len(clip) >= _LEAST_SHARE * patches]
    found = [part for clip in long for part in stretches(clip, patches)]
    return found[:: -(-len(found) // _MOST_STRETCHES) or 1]


def _threshold(standings: Floats, quantile: float) -> tuple[float, float]:
    """What a `quantile` of all normal stretches is under, and the mean excess of the highest of these.

    The highest of a dozen is exceeded by one in thirteen others: beyond what was seen it goes on as the
    tail does.
    """
    over = (1.0 - quantile) * len(standings)  # so many are to be
    count = max(min(_TAIL, len(standings) // 2), math.ceil(over), 1)
    ordered = np.sort(standings)
    base = float(ordered[max(0, len(ordered) - count - 1)])
    excess = float(ordered[-count:].mean()) - base
    tail = base + excess * math.log(count / over)
    return max(tail, float(np.quantile(standings, quantile))) + _LEAST_SPREAD, excess


def _standing(statistics: Floats, centre: Floats, spread: Floats) -> float:
    """How far out a clip stands among normal ones, never negative; small oddities of many kinds add up."""
    return float(np.logaddexp.reduce(np.append(0.0, (statistics - centre) / spread)))
