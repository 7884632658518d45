"""Noisy recordings and their clean originals on disk: finding, reading and checking them.

Files are paired by their path below the two folders; several channels are read as their mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from audiodae.errors import AudiodaeError, AudioError
from audiodae.files.audio import AUDIO_SUFFIXES, Reader, info
from audiodae.recordings.sources import walk
from audiodae.sound.arrays import NO_SOUND

Samples = npt.NDArray[np.float32]

_READ_FRAMES = 1 << 20
_NAMED_IN_ERRORS = 5
_SNR_IN_NAME = re.compile(r"_([+-]?\d+(?:\.\d+)?)dB$", re.IGNORECASE)


@dataclass(frozen=True)
class Pair:
    """A noisy recording and its clean original; `name` is the path below the folders, no suffix."""

    name: str
    noisy: Path
    clean: Path

    @property
    def snr_db(self) -> float | None:
        """The SNR that the name ends in, like `kitchen_-5dB` or `street_+10dB`."""
        found = _SNR_IN_NAME.search(self.name)
        return float(found[1]) if found else None


def find_pairs(
    noisy_dir: Path | str, clean_dir: Path | str, limit: int | None = None
) -> list[Pair]:
    """Pairs by path below the two folders, sorted, at most the first `limit`; suffixes may differ.

    Clean files without a noisy one are left alone. Raises `AudiodaeError` for a missing folder,
    for a noisy file without a clean one, and when there is no audio at all.
    """
    noisy = _audio_below(noisy_dir)
    names = sorted(noisy)[:limit]
    clean = matching(names, clean_dir, noisy_dir)
    return [Pair(name, noisy[name], clean[name]) for name in names]


def matching(names: list[str], folder: Path | str, noisy_dir: Path | str) -> dict[str, Path]:
    """The files of `folder` by name; raises `AudiodaeError` if it lacks one of `names`."""
    found = _audio_below(folder)
    absent = [name for name in names if name not in found]
    if absent:
        listed = ", ".join(absent[:_NAMED_IN_ERRORS]) + (
            ", ..." if absent[_NAMED_IN_ERRORS:] else ""
        )
        raise AudiodaeError(
            f"{len(absent)} of {len(names)} recordings of {noisy_dir} are not in {folder} "
            f"({listed}): every one needs its counterpart at the same place, with the same name "
            "(the suffix may differ)."
        )
    return found


def read_like(path: Path, noisy: Samples, sample_rate: int, of: Path) -> Samples:
    """A counterpart of the recording `of`, `(samples,)`. Raises `AudioError` if it is none."""
    samples, rate = _read(path)
    if rate != sample_rate:
        raise _other_rate(path, rate, sample_rate, of)
    return checked(samples, noisy, f"{path}, the counterpart of {of},")


def check_alike(noisy: Path, counterparts: Iterable[Path]) -> None:
    """Raise `AudioError` where a counterpart is of another rate or length, by what the headers say."""
    ours = info(noisy)
    for path in counterparts:
        theirs = info(path)
        if ours.sample_rate != theirs.sample_rate:
            raise _other_rate(path, theirs.sample_rate, ours.sample_rate, noisy)
        if None not in (ours.frames, theirs.frames) and ours.frames != theirs.frames:
            raise AudioError(
                f"{path} has {theirs.frames} samples but {noisy} has {ours.frames}: the two must be "
                "aligned and equally long."
            )


def read_pair(pair: Pair) -> tuple[Samples, Samples, int]:
    """Noisy and clean, `(samples,)` each, and their sample rate. Raises `AudioError`."""
    noisy, sample_rate = _read(pair.noisy)
    if not noisy.size:
        raise AudioError(f"{pair.noisy} holds no samples: remove it or record it again.")
    return noisy, read_like(pair.clean, noisy, sample_rate, pair.noisy), sample_rate


def checked(output: Any, noisy: Samples, what: str) -> Samples:
    """`output` as float32; raises `AudioError` if it is not as long as `noisy` or not finite."""
    samples = np.asarray(output, dtype=np.float32)
    if samples.shape != noisy.shape:
        raise AudioError(
            f"{what} has the shape {samples.shape}, the noisy recording {noisy.shape}: the two "
            "must be aligned and equally long."
        )
    if not np.isfinite(samples).all():
        raise AudioError(f"{what} has NaN or infinite samples: look for what made them.")
    return samples


def _other_rate(path: Path, rate: int, wanted_rate: int, of: Path) -> AudioError:
    return AudioError(
        f"{path} is at {rate} Hz but {of} at {wanted_rate} Hz: bring both to one sample rate."
    )


def _audio_below(folder: Path | str) -> dict[str, Path]:
    """Audio files by their path below the folder, suffix removed."""
    root = Path(folder)
    if not root.is_dir():
        raise AudiodaeError(
            f"{root} is not a folder: give folders of recordings whose names are the same."
        )
    found: dict[str, Path] = {}
    for path, problem in sorted(walk(root)):
        if problem:
            raise AudiodaeError(f"{path} {problem}")
        if path.suffix.lower() in AUDIO_SUFFIXES:
            name = path.relative_to(root).with_suffix("").as_posix()
            if name in found:
                raise AudiodaeError(
                    f"{found[name]} and {path} differ only in their suffix, so neither can be "
                    "paired: keep one of them."
                )
            found[name] = path
    if not found:
        raise AudiodaeError(f"There is no audio in {root}: is it the right folder?")
    return found


def _read(path: Path) -> tuple[Samples, int]:
    """The mean of the channels, `(samples,)`, and the sample rate."""
    with Reader(path) as reader:
        blocks = [block.mean(axis=0, dtype=np.float32) for block in reader.blocks(_READ_FRAMES)]
        if reader.nonfinite:  # read as 0, which would be measured as if it were sound
            raise AudioError(
                f"{path} has {reader.nonfinite} samples that are {NO_SOUND}: look for what made them."
            )
        if reader.truncated:
            raise AudioError(f"{' '.join(reader.warnings)} Only whole recordings can be measured.")
        return np.concatenate(blocks or [np.zeros(0, np.float32)]), reader.info.sample_rate
