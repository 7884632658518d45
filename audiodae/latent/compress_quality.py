"""What compression left of a recording: distance of the spectrograms, and STOI and PESQ if they are there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from audiodae.files.audio import Reader
from audiodae.installed import is_installed
from audiodae.latent.adae_file import Compressed
from audiodae.latent.compress import decompress
from audiodae.latent.latents import Trained
from audiodae.measure.metrics import pesq_wb, stoi
from audiodae.measure.spectral import log_spectral_distance_db
from audiodae.sound.resample import resample

_MOST_SECONDS = 120  # of a recording that are compared
_BLOCK = 1 << 16


def quality(source: Path, content: Compressed, model: Trained) -> dict[str, float]:
    """Of the first two minutes, in the band the model hears.

    `lsd_db` always, `stoi` and `pesq_wb` with the extra `metrics`.
    """
    most = _MOST_SECONDS * content.sample_rate
    with Reader(source) as reader:
        before = _first(most, (block.mean(axis=0) for block in reader.blocks(_BLOCK)))
    after = _first(most, (block[0] for block in decompress(content, model)))
    rate = min(content.sample_rate, model.net.sample_rate)
    a, b = (resample(x, content.sample_rate, rate) for x in (before, after))
    return compare(a, b, rate)


def compare(
    before: npt.NDArray[np.float32], after: npt.NDArray[np.float32], sample_rate: int
) -> dict[str, float]:
    """The same of two signals `(samples,)` of equal length."""
    scores = {"lsd_db": log_spectral_distance_db(after, before, sample_rate)}
    if is_installed("pystoi"):
        scores["stoi"] = stoi(after, before, sample_rate)
    if is_installed("pesq"):
        scores["pesq_wb"] = pesq_wb(after, before, sample_rate)
    return scores


def _first(samples: int, blocks: Iterable[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    taken: list[npt.NDArray[np.float32]] = []
    left = samples
    for block in blocks:
        taken.append(block[:left])
        left -= len(taken[-1])
        if left <= 0:
            break
    return np.concatenate(taken)
