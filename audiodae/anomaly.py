"""Where a recording is not like the normal ones: learned from a folder of these alone.

Each patch is described by its latent and by how badly each band was reconstructed. A Gaussian over
these descriptions, fitted to normal recordings, gives a patch its score: the Mahalanobis distance
per dimension. A clip is as odd as its mean patch or its oddest patches are, whichever is rarer among
normal clips. Scores are given in units of their threshold, a quantile of normal scores that were
taken of clips the Gaussian had not seen.
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

from audiodae.autoencoder import Autoencoder
from audiodae.errors import AudiodaeError
from audiodae.latents import Patches, Progress, Trained, encode

Floats = npt.NDArray[np.float64]

QUANTILE = 0.99
_BANDS = 16
_SHRINK = 0.05  # of the covariance towards its diagonal
_FOLDS = 4
_ODD_PATCHES = 0.9  # the quantile of a clip's patches that stands for its oddest
_FEWEST_PATCHES = 40
_ERROR_FLOOR = 1e-4


@dataclass(frozen=True)
class Gaussian:
    """Mean `(d,)` and whitening `(d, d)` of descriptions."""

    mean: Floats
    whitening: Floats

    @classmethod
    def fit(cls, rows: Floats) -> Gaussian:
        mean = rows.mean(axis=0)
        covariance = np.cov(rows, rowvar=False)
        covariance = (1 - _SHRINK) * covariance + _SHRINK * np.diag(np.diag(covariance))
        covariance += 1e-9 * np.trace(covariance) / len(mean) * np.eye(len(mean))
        values, vectors = np.linalg.eigh(covariance)
        return cls(mean, vectors / np.sqrt(values))

    def distance(self, rows: Floats) -> Floats:
        """Root mean square of the whitened deviations: about 1 for normal rows, `(n,)`."""
        return np.asarray(np.sqrt(np.square((rows - self.mean) @ self.whitening).mean(axis=1)))


@dataclass(frozen=True)
class Detector:
    """What `fit` learned. Clip statistics are standardised by the normal clips' `centre`, `spread`."""

    gaussian: Gaussian
    centre: Floats
    spread: Floats
    patch_threshold: float
    clip_threshold: float
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


def describe(autoencoder: Autoencoder, patches: Tensor) -> Floats:
    """Latent and log reconstruction error in 16 bands: `(n, frames, mels)` -> `(n, latent + 16)`."""
    latent = encode(autoencoder, patches)
    with torch.inference_mode():
        error = (patches - autoencoder.decode(latent)).square().mean(dim=1)
        bands = torch.nn.functional.adaptive_avg_pool1d(error[:, None], _BANDS)[:, 0]
        rows = torch.cat([latent, (bands + _ERROR_FLOOR).log()], dim=1)
    return rows.cpu().numpy().astype(np.float64)


def describe_file(
    path: str | os.PathLike[str], autoencoder: Autoencoder, progress: Progress | None = None
) -> tuple[Floats, tuple[str, ...]]:
    """Descriptions of all patches of a recording, `(patches, d)`, and warnings about the file."""
    reader = Patches(path, autoencoder, progress, whole_only=True)
    rows = np.concatenate([describe(autoencoder, block) for block in reader])
    return rows, tuple(reader.warnings)


def fit(clips: Sequence[Floats], model: Trained, quantile: float = QUANTILE) -> Detector:
    """Learn what is normal from the descriptions of normal recordings.

    Thresholds come from clips left out in turn: of every fourth clip, scored by a Gaussian of the
    others; with fewer than eight clips, of every fourth stretch. Raises `AudiodaeError` for a
    quantile outside (0, 1) and for too little audio.
    """
    if not 0.0 < quantile < 1.0:
        raise AudiodaeError(f"quantile is {quantile:g}: give a part of 1, such as {QUANTILE:g}.")
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
    distances: list[Floats] = [np.zeros(0)] * len(parts)
    for fold in range(_FOLDS):
        seen = [part for i, part in enumerate(parts) if i % _FOLDS != fold]
        gaussian = Gaussian.fit(np.concatenate(seen))
        for i in range(fold, len(parts), _FOLDS):
            distances[i] = gaussian.distance(parts[i])
    statistics = np.stack([_statistics(d) for d in distances])
    centre, spread = statistics.mean(axis=0), statistics.std(axis=0) + 1e-6
    of_clips = [_standing(d, centre, spread) for d in distances]
    return Detector(
        Gaussian.fit(np.concatenate(parts)),
        centre,
        spread,
        float(np.quantile(np.concatenate(distances), quantile)),
        float(np.quantile(of_clips, quantile)),
        quantile,
        model.name,
        model.sha256,
    )


def score(rows: Floats, detector: Detector, patch_seconds: float) -> Scores:
    """Scores of a recording from the descriptions of its patches, in units of the thresholds."""
    distance = detector.gaussian.distance(rows)
    clip = _standing(distance, detector.centre, detector.spread) / detector.clip_threshold
    seconds = np.arange(len(rows)) * patch_seconds
    return Scores(clip, distance / detector.patch_threshold, seconds, patch_seconds)


def _statistics(distance: Floats) -> Floats:
    """Log of the mean patch and of the oddest ones: distances are never negative, and skewed."""
    return np.log([distance.mean(), np.quantile(distance, _ODD_PATCHES), distance.max()])


def _standing(distance: Floats, centre: Floats, spread: Floats) -> float:
    """How far out a clip stands among normal ones, never negative: 1 is one deviation above."""
    above = (_statistics(distance) - centre) / spread
    return float(np.logaddexp(0.0, above.max()))
