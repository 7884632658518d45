"""Folders of any audio as one memory-mapped array of int16 at one rate, decoded once.

A corpus knows for every clip its category (the folder it lies in) and its group (what must not be split
between training and validation: a talker, a room, a recording); `groups` says how the latter come about.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from audiodae.errors import AudioError
from audiodae.files.audio import AUDIO_SUFFIXES
from audiodae.files.place import made
from audiodae.recordings.sources import walk
from audiodae.training.decoding import (
    GENERATED,
    INT16_SCALE,
    Clip,
    File,
    decoded,
    index_of,
    mono_of,
    some_can_be_read,
)
from audiodae.training.groups import groups_of

__all__ = ["GENERATED", "INT16_SCALE", "Clip", "Corpus", "read_corpus"]


_CACHE_FORMAT = 5  # what is decoded in another way is another array


@dataclass(frozen=True)
class Corpus:
    """Clips and the array they lie in: `audio` is int16, `(samples,)`, mono, at `sample_rate`."""

    clips: tuple[Clip, ...]
    audio: npt.NDArray[np.int16]
    sample_rate: int
    failures: tuple[str, ...] = ()
    rates_hz: tuple[tuple[int, int], ...] = ()
    """What the files came at, and how many at each."""

    @property
    def hours(self) -> float:
        return sum(clip.samples for clip in self.clips) / self.sample_rate / 3600.0

    @property
    def groups(self) -> set[str]:
        return {clip.group for clip in self.clips}

    def fingerprint(self) -> str:
        """Of which clips there are and whose: also of which ones are held out."""
        clips = sorted((clip.name, clip.group, clip.samples) for clip in self.clips)
        return hashlib.sha256(json.dumps(clips).encode()).hexdigest()

    def split(self, held_out: float) -> tuple[Corpus, Corpus]:
        """Training and validation parts, by group; which group goes where depends on its name alone.

        Each gets one group at least. Where there is but one, or none is to be held out, both get all:
        better the same clips twice than none.
        """
        order = sorted(self.groups, key=_place)
        count = sum(_place(group) < held_out for group in order)
        held = set(order[: min(max(count, 1), len(order) - 1)] if held_out else ())
        parts = [
            tuple(clip for clip in self.clips if not held or (clip.group in held) == validates)
            for validates in (False, True)
        ]
        return (
            Corpus(parts[0], self.audio, self.sample_rate),
            Corpus(parts[1], self.audio, self.sample_rate),
        )


def _place(group: str) -> float:
    """Where in 0 to 1 a group stands, by its name."""
    # Names on disk may be no valid text.
    digest = hashlib.sha256(group.encode(errors="surrogateescape")).digest()
    return (digest[0] + digest[1] / 256) / 256


def read_corpus(
    folders: Sequence[Path],
    sample_rate: int,
    cache: Path,
    talkers_in_folders: bool = False,
    full_scale: bool = False,
) -> Corpus:
    """Decode every audio file under `folders` to mono int16 at `sample_rate`, or reuse the cache.

    `cache` is a folder; the array is keyed by rate, by the names, sizes and times of the files, and by the
    folders and groups they are of. With `talkers_in_folders`, which is for speech, a folder may be a group
    (see `groups`). With `full_scale`, which is for room responses, each file is as loud as can be: 16 bits
    then hold all of its decay, at whatever level it was stored. Files that cannot be read, silent ones and
    those with samples that are no sound are left out and listed in `failures`, as are folders that cannot be
    listed; each call tries them again.
    Raises `AudioError` when nothing is left.
    """
    # By their whole path, so that each has a name, and once: a clip said twice is no two clips.
    folders = list(dict.fromkeys(Path(os.path.abspath(folder)) for folder in folders))
    files: list[File] = []
    closed: list[str] = []
    for folder in folders:
        paths, problems = _audio_files(folder)
        closed += problems
        names = [path.relative_to(folder) for path in paths]
        groups = groups_of(folder, names, talkers_in_folders)
        files += zip(paths, [folder] * len(paths), groups, strict=True)
    if not files:
        raise AudioError(
            f"No audio was found in {', '.join(map(str, folders))}: give a folder with wav, flac, "
            "ogg, opus or mp3 files." + "".join(f" {problem}" for problem in closed[:1])
        )
    stats = [
        (str(path), path.stat().st_size, path.stat().st_mtime_ns, str(folder), group)
        for path, folder, group in files
    ]
    mono = functools.partial(mono_of, sample_rate=sample_rate, full_scale=full_scale)
    facts = [_CACHE_FORMAT, sample_rate, full_scale, stats]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    array_path, index_path = cache / f"{key}.i16", cache / f"{key}.json"
    index = index_of(array_path, index_path)
    if index is None or some_can_be_read(list(index["failures"]), mono):
        with made(cache):
            index = decoded(files, mono, array_path, index_path)
    audio = np.memmap(array_path, dtype=np.int16, mode="r")
    clips = tuple(Clip(**clip) for clip in index["clips"])
    rates_hz = tuple((int(rate), count) for rate, count in index["rates_hz"])
    failures = (*closed, *index["failures"].values())
    return Corpus(clips, audio, sample_rate, failures, rates_hz)


def _audio_files(folder: Path) -> tuple[list[Path], list[str]]:
    """Those below `folder`, sorted, and a sentence for each folder there that cannot be listed."""
    if not folder.is_dir():
        raise AudioError(f"{folder} is not a folder: give a folder with audio files in it.")
    found = list(walk(folder))
    paths = [path for path, problem in found if not problem and path.is_file()]
    problems = [f"{path} {problem}" for path, problem in found if problem]
    return sorted(path for path in paths if path.suffix.lower() in AUDIO_SUFFIXES), problems
