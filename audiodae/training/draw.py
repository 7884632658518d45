"""Random pieces of a corpus, so that no talker, room or kind of noise drowns the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from audiodae.errors import AudioError
from audiodae.training.corpus import GENERATED, INT16_SCALE, Corpus

_TRIES = 4  # clips of speech, and places in one, looked at before a quiet one is taken
_QUIET = 0.05  # of the clip's own power: 13 dB below its mean
_NOTHING = 1e-7  # power (-70 dBFS) of a clip in which nobody speaks


class Draw:
    """Random crops of a corpus: first a group or category, then a clip of it, then a place in the clip.

    A category, and a group within it, is drawn by the square root of its length, a clip of it by its length.
    Raises `AudioError` where the `weights` of all are 0.
    """

    def __init__(self, corpus: Corpus, by_group: bool, weights: dict[str, float]) -> None:
        self.corpus = corpus
        boxes: dict[str, list[int]] = {}
        for i, clip in enumerate(corpus.clips):
            boxes.setdefault(clip.group if by_group else clip.category, []).append(i)
        self.boxes = [np.array(clips) for clips in boxes.values()]
        lengths = np.array([clip.samples for clip in corpus.clips], dtype=np.float64)
        self.shares = [_shares(corpus, box, lengths) for box in self.boxes]
        weight = [
            np.sqrt(lengths[box].sum()) * weights.get(name, 1.0)
            for name, box in zip(boxes, self.boxes, strict=True)
        ]
        if not np.sum(weight) > 0.0:
            raise AudioError(
                "mix.category_weights leave no category to draw from: give at least one of "
                f"{', '.join(boxes)} a weight above 0."
            )
        self.cumulative = np.cumsum(weight) / np.sum(weight)

    def crop(
        self,
        numbers: np.random.Generator,
        samples: int,
        *,
        active: bool = False,
        from_start: bool = False,
    ) -> npt.NDArray[np.float32]:
        """`(samples,)`; a clip that is too short stands at a random place between zeros.

        With `active` a few places are looked at and the first that is not quiet, for that clip, is taken.
        """
        crop = np.zeros(samples, dtype=np.float32)
        for _ in range(_TRIES if active else 1):
            box = min(int(np.searchsorted(self.cumulative, numbers.random())), len(self.boxes) - 1)
            clip = self.corpus.clips[numbers.choice(self.boxes[box], p=self.shares[box])]
            if clip.power > _NOTHING:
                break
        room = clip.samples - samples
        for _ in range(_TRIES if active else 1):
            start = 0 if from_start else int(numbers.integers(min(room, 0), max(room, 0) + 1))
            first, last = max(start, 0), min(start + samples, clip.samples)
            piece = self.corpus.audio[clip.start + first : clip.start + last]
            crop[:] = 0.0
            crop[first - start : first - start + len(piece)] = piece / np.float32(INT16_SCALE)
            if not active or float(np.square(crop).sum()) > _QUIET * clip.power * len(piece):
                break
        return crop


def parted(noise: Corpus | None, chance: float) -> tuple[Corpus | None, Corpus | None]:
    """Recorded and generated noise, by the name of the folder; None where there is none of a kind.

    `chance` is that of generated noise. Raises `AudioError` where it is above 0 and there is none.
    """
    clips = noise.clips if noise is not None else ()
    recorded = tuple(clip for clip in clips if clip.category != GENERATED)
    generated = tuple(clip for clip in clips if clip.category == GENERATED)
    if chance > 0.0 and not generated:
        raise AudioError(
            f"mix.generated_noise is above 0, but no noise folder is named {GENERATED!r}: make one "
            f"with `audiodae generate -o {GENERATED}` and give it as one more --noise."
        )
    if noise is None or not generated:
        return noise, None
    if not recorded:
        return None, noise
    # What the files came at, and which failed, is told once.
    apart = replace(noise, clips=generated, failures=(), rates_hz=())
    return replace(noise, clips=recorded), apart


def _shares(
    corpus: Corpus, box: npt.NDArray[np.int_], lengths: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """How often each clip of a box is drawn."""
    names = [corpus.clips[i].group for i in box]
    whole: dict[str, float] = {}
    for name, length in zip(names, lengths[box], strict=True):
        whole[name] = whole.get(name, 0.0) + length
    shares = lengths[box] / np.sqrt([whole[name] for name in names])
    return shares / shares.sum()
