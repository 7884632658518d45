"""Where a recording is not like the normal ones: learned from a folder of these alone.

Each patch is described by the levels of its bands, by how suddenly it changes, by how badly an
autoencoder reconstructs its frames, and by how much of it is flat at its peaks. Three Gaussians are
fitted to normal recordings: one over a whole clip's mean level, deviation and change in every band
(hum, lost bands, codecs, other kinds of sound), two over how far a patch is from its own clip's median
(gaps and clicks; sounds that do not belong). The distance of Mahalanobis from them is the score, in
units of a threshold: a quantile of normal scores that were taken of clips the Gaussians had not seen (for
whole clips, as their tail has it where they are few), and no less than that of those they had seen.
All that is of whole clips is learned for clips of several lengths (`audiodae.latent.standing`).
Flat peaks (clipping) are held against those of normal recordings as they are.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from audiodae.errors import AudiodaeError
from audiodae.latent.latents import Patches, Progress, Trained, encode
from audiodae.latent.standing import Standing, lengths, pieces
from audiodae.nets.autoencoder import Autoencoder
from audiodae.sound.flat_tops import FlatTops

Floats = npt.NDArray[np.float64]

QUANTILE = 0.99
_BANDS, _EXTREME_BANDS = 16, 8
_WHOLE = slice(0, 3 * _BANDS)  # of a description: what a clip is known by as a whole
_LEVELS = slice(_WHOLE.stop, _WHOLE.stop + 2 * _EXTREME_BANDS)
_MOMENTS = slice(_LEVELS.stop, _LEVELS.stop + 5)
_FLAT = _MOMENTS.stop
_SHRINK_PATCHES, _SHRINK_CLIPS = 0.05, 0.5  # of covariances towards their diagonal
_FOLDS = 4
_ODD_PATCHES = 0.9  # the quantile of a clip's patches that stands for its oddest
_FEWEST_PATCHES = 40
_ERROR_FLOOR = 1e-4
_FLAT_FLOOR = 1e-3  # a share that says nothing
_FEWEST_FLAT = 5e-3  # of a patch
_LEAST_THRESHOLD = 1e-3
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Gaussian:
    """Mean `(d,)` and whitening `(d, d)` of descriptions."""

    mean: Floats
    whitening: Floats

    @classmethod
    def fit(cls, rows: Floats, shrink: float = _SHRINK_PATCHES) -> Gaussian:
        mean = rows.mean(axis=0)
        covariance = np.cov(rows, rowvar=False)
        covariance = (1 - shrink) * covariance + shrink * np.diag(np.diag(covariance))
        covariance += np.diag(1e-6 * np.diag(covariance) + 1e-12)
        values, vectors = np.linalg.eigh(covariance)
        return cls(mean, vectors / np.sqrt(values))

    def distance(self, rows: Floats) -> Floats:
        """Root mean square of the whitened deviations: about 1 for normal rows, `(n,)`."""
        return np.asarray(np.sqrt(np.square((rows - self.mean) @ self.whitening).mean(axis=1)))


@dataclass(frozen=True)
class Normal:
    """What normal clips are like as a whole, by their length, and their patches against their own median."""

    clips: tuple[Gaussian, ...]
    moments: Gaussian
    levels: Gaussian

    @classmethod
    def fit(cls, clips: Sequence[Floats], sizes: Sequence[int]) -> Normal:
        """`sizes` are the lengths in patches, ascending; the last are the clips as they are."""
        within = np.concatenate([_within(clip) for clip in clips])
        parts = [*(pieces(clips, size) for size in sizes[:-1]), clips]
        # Where clips differ much in length, a few of them may have none that is long enough.
        parts = [found if len(found) > 1 else clips for found in parts]
        return cls(
            tuple(
                Gaussian.fit(np.stack([_whole(part) for part in found]), _SHRINK_CLIPS)
                for found in parts
            ),
            Gaussian.fit(within[:, _MOMENTS]),
            Gaussian.fit(within[:, _LEVELS]),
        )

    def patches(self, clip: Floats) -> Floats:
        """Of every patch, distances of the moments and of the levels, and its flat share: `(3, patches)`."""
        within = _within(clip)
        return np.stack(
            [
                self.moments.distance(within[:, _MOMENTS]),
                self.levels.distance(within[:, _LEVELS]),
                clip[:, _FLAT],
            ]
        )

    def statistics(self, clip: Floats, length: int) -> Floats:
        """Logs, as all are skewed: of the whole clip, its mean and oddest patches, its flat share.

        The whole clip is held against those of the `length`-th length.
        """
        whole = self.clips[length].distance(_whole(clip)[None])[0]
        moments = self.patches(clip)[0]
        oddest = np.quantile(moments, _ODD_PATCHES)
        distances = np.maximum([whole, moments.mean(), oddest, moments.max()], 1e-9)
        return np.append(np.log(distances), np.log10(clip[:, _FLAT].mean() + _FLAT_FLOOR))


@dataclass(frozen=True)
class Detector:
    """What `fit` learned. `patch_thresholds` are for moments, levels and flat peaks."""

    normal: Normal
    standing: Standing
    patch_thresholds: Floats
    quantile: float
    model: str
    sha256: str

    def check(self, model: Trained) -> None:
        """Raise `AudiodaeError` unless `model` is the autoencoder this was fitted with."""
        if model.sha256 != self.sha256:
            raise AudiodaeError(
                f"The detector was fitted with other weights of {self.model!r} than these "
                f"({model.name!r}): fit it again."
            )


@dataclass(frozen=True)
class Scores:
    """Of one recording: 1 is the threshold. `patches` `(n,)` begin at `seconds` and last `patch_seconds`."""

    clip: float
    patches: Floats
    seconds: npt.NDArray[np.floating]
    patch_seconds: float
    warnings: tuple[str, ...] = ()

    @property
    def odd(self) -> bool:
        return self.clip > 1.0

    @property
    def odd_spans(self) -> list[tuple[float, float]]:
        """Where patches are above their threshold: (from, to) in seconds, neighbours joined."""
        spans: list[tuple[float, float]] = []
        for begin in self.seconds[self.patches > 1.0].tolist():
            end = begin + self.patch_seconds
            if spans and begin - spans[-1][1] < 0.5 * self.patch_seconds:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((begin, end))
        return spans

    def plain(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "score": round(self.clip, 4),
            "odd": self.odd,
            "odd_spans": [[round(a, 3), round(b, 3)] for a, b in self.odd_spans],
            "patch_seconds": round(self.patch_seconds, 6),
            "patch_scores": [round(float(x), 4) for x in self.patches],
            "warnings": list(self.warnings),
        }


def describe(autoencoder: Autoencoder, patches: Tensor, flat: Floats) -> Floats:
    """What is looked at in each patch: `(n, frames, mels)` and its flat share `(n,)` -> `(n, 70)`.

    Mean level of 16 bands, its mean square and mean change from frame to frame; lowest and highest level
    over time of 8 bands; the steepest rise and fall of the level from frame to frame, the largest change
    of the spectrum, the log error of reconstruction of the worst and of the median frame; `flat`.
    """
    with torch.inference_mode():
        error = (patches - autoencoder.decode(encode(autoencoder, patches))).square()
        of_frames = (error.mean(dim=2) + _ERROR_FLOOR).log()
        change = patches.diff(dim=1)
        bands = _bands(patches.flatten(0, 1), _BANDS).view(*patches.shape[:2], _BANDS)
        rows = torch.cat(
            [
                bands.mean(dim=1),
                bands.square().mean(dim=1),
                bands.diff(dim=1).abs().mean(dim=1),
                _bands(patches.amin(dim=1), _EXTREME_BANDS),
                _bands(patches.amax(dim=1), _EXTREME_BANDS),
                change.mean(dim=2).amax(dim=1, keepdim=True),
                change.mean(dim=2).amin(dim=1, keepdim=True),
                (change.square().mean(dim=2).amax(dim=1, keepdim=True) + _ERROR_FLOOR).log(),
                of_frames.amax(dim=1, keepdim=True),
                of_frames.median(dim=1, keepdim=True).values,
            ],
            dim=1,
        )
    return np.column_stack([rows.cpu().numpy().astype(np.float64), flat])


def _bands(rows: Tensor, count: int) -> Tensor:
    return torch.nn.functional.adaptive_avg_pool1d(rows[:, None], count)[:, 0]


def describe_file(
    path: str | os.PathLike[str], autoencoder: Autoencoder, progress: Progress | None = None
) -> tuple[Floats, tuple[str, ...]]:
    """Descriptions of all patches of a recording, `(patches, d)`, and warnings about the file."""
    config = autoencoder.config
    tops = FlatTops(config.patch_samples / config.sample_rate)
    reader = Patches(path, autoencoder, progress, whole_only=True, listener=tops.feed)
    rows, count = [], 0
    for block in reader:
        # A block comes after its last patch was read, so all of its stretches are there.
        flat = tops.shares(count + len(block))[count:]
        rows.append(describe(autoencoder, block, flat))
        count += len(block)
    return np.concatenate(rows), tuple(reader.warnings)


def check_quantile(quantile: float) -> float:
    """As it came. Raises `AudiodaeError` for one outside (0, 1)."""
    if not 0.0 < quantile < 1.0:  # also where it is no number
        raise AudiodaeError(f"quantile is {quantile:g}: give a part of 1, such as {QUANTILE:g}.")
    return quantile


def fit(clips: Sequence[Floats], model: Trained, quantile: float = QUANTILE) -> Detector:
    """Learn what is normal from the descriptions of normal recordings.

    Thresholds come from clips left out in turn: of every fourth clip, scored by a Gaussian of the
    others; with fewer than eight clips, of every fourth stretch. For clips of other lengths they come
    from stretches of these. The clips themselves are held against them, too.
    Raises `AudiodaeError` for a quantile outside (0, 1) and for too little audio.
    """
    check_quantile(quantile)
    patches = sum(len(clip) for clip in clips)
    if patches < _FEWEST_PATCHES:
        seconds = model.net.config.patch_samples / model.net.sample_rate * _FEWEST_PATCHES
        raise AudiodaeError(
            f"The normal recordings have {patches} patches in all; {_FEWEST_PATCHES} are wanted: "
            f"give at least {seconds:.0f} s of normal sound, better ten minutes."
        )
    parts = list(clips)
    if len(parts) < 2 * _FOLDS:
        joined = np.concatenate(parts)
        parts = np.array_split(joined, min(40, len(joined) // 5))
    patches_of: list[Floats] = []
    sizes = lengths(parts)
    statistics: list[list[Floats]] = [[] for _ in sizes]
    for fold in range(_FOLDS):
        seen = Normal.fit([part for i, part in enumerate(parts) if i % _FOLDS != fold], sizes)
        held = parts[fold::_FOLDS]
        patches_of += [seen.patches(part) for part in held]
        for i, size in enumerate(sizes):
            statistics[i] += [seen.statistics(part, i) for part in pieces(held, size)]
    normal = Normal.fit(parts, sizes)
    left_out = np.concatenate(patches_of, axis=1)
    thresholds = np.quantile(left_out, quantile, axis=1)
    # Of silence every patch is like every other: none would be normal but exactly that.
    thresholds[:-1] = np.maximum(thresholds[:-1], _LEAST_THRESHOLD)
    thresholds[-1] = max(thresholds[-1], _FEWEST_FLAT)
    standing = Standing.fit([np.stack(found) for found in statistics], sizes, quantile)
    # A patch is odd if one of the three is: each alone at its quantile, more patches would be.
    thresholds *= _over(_largest(left_out, thresholds), quantile)
    # What was left out was held against others than these; the promise is for what is fitted, too.
    fitted = np.concatenate([normal.patches(clip) for clip in clips], axis=1)
    thresholds *= _over(_largest(fitted, thresholds), quantile)
    scores = np.array([standing.score(clip, normal.statistics) for clip in clips])
    return Detector(
        normal,
        standing.raised(_over(scores, quantile)),
        thresholds,
        quantile,
        model.name,
        model.sha256,
    )


def _over(scores: Floats, quantile: float) -> float:
    """By how much thresholds are to rise for that part of the scores to be under them; 1 at least."""
    return max(1.0, (1.0 + _ROUNDING) * float(np.quantile(scores, quantile)))


def score(rows: Floats, detector: Detector, patch_seconds: float) -> Scores:
    """Scores of a recording from the descriptions of its patches, in units of the thresholds.

    That of the clip is no larger or smaller for its length.
    """
    clip = detector.standing.score(rows, detector.normal.statistics)
    patches = _largest(detector.normal.patches(rows), detector.patch_thresholds)
    return Scores(clip, patches, np.arange(len(rows)) * patch_seconds, patch_seconds)


def _largest(patches: Floats, thresholds: Floats) -> Floats:
    """Of every patch, what is farthest out of the three: `(3, n)` and `(3,)` -> `(n,)`."""
    return np.asarray((patches / thresholds[:, None]).max(axis=0))


def _whole(clip: Floats) -> Floats:
    """Mean level, deviation over time and mean change of every band of a clip, `(48,)`."""
    mean, square, change = np.split(clip[:, _WHOLE].mean(axis=0), 3)
    return np.concatenate([mean, np.sqrt(np.maximum(square - mean**2, 0.0)), change])


def _within(clip: Floats) -> Floats:
    return np.asarray(clip - np.median(clip, axis=0))
