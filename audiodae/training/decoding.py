"""Decoding a corpus: every file to mono int16 at one rate, by all cores, into one array with an index."""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from audiodae.cores import can_fork, cores
from audiodae.errors import AudioError
from audiodae.files.atomic import AtomicFile, BeingWritten, write_whole
from audiodae.files.audio import Reader
from audiodae.files.regular import read_regular
from audiodae.signals import leave_to_the_parent
from audiodae.sound.arrays import NO_SOUND
from audiodae.sound.resample import resample

GENERATED = "generated"  # the folder, and so the category, of generated noise
INT16_SCALE = 32767.0
_READ_SAMPLES = 1 << 20
_POLL_SECONDS = 1.0
_POOL_FROM_FILES = 32
_LONG_BYTES = 4_000_000  # compressed, some twenty minutes

File = tuple[Path, Path, str]
"""Itself, the folder that was given, and its group."""

_Mono = tuple[npt.NDArray[np.int16], int]
Decoder = Callable[[Path], _Mono | AudioError]


@dataclass(frozen=True)
class Clip:
    """Where one file lies in the array (`start` and `samples` at the corpus rate), and its mean square."""

    name: str
    category: str
    group: str
    start: int
    samples: int
    power: float = 1.0


def index_of(array_path: Path, index_path: Path) -> dict[str, Any] | None:
    """What says where each clip lies in the array, if both are there and of one decoding."""
    try:
        index: dict[str, Any] = json.loads(read_regular(index_path))
        # Another process may be putting an array of more files in this one's place.
        samples = sum(Clip(**clip).samples for clip in index["clips"])
        [(int(rate), count) for rate, count in index["rates_hz"]]
        [Path(path) for path in index["failures"]], index["failures"].values()
        return index if array_path.stat().st_size == 2 * samples else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None  # none there, or damaged: decoded again


def some_can_be_read(failed: list[str], mono: Decoder) -> bool:
    """Whether there is now what was wanting when they were decoded: ffmpeg, a right, memory."""
    answers = _monos([Path(path) for path in failed], mono)
    return any(not isinstance(answer, AudioError) for answer in answers)


def decoded(files: list[File], mono: Decoder, array_path: Path, index_path: Path) -> dict[str, Any]:
    """As `_decode`; where another training is at it, its work is waited for."""
    said = False
    while True:
        array_path.parent.mkdir(parents=True, exist_ok=True)  # another that gave up takes it away
        try:
            return _decode(files, mono, array_path, index_path)
        except BeingWritten:
            if not said:
                print(
                    f"waiting for another training that decodes into {array_path.parent}",
                    file=sys.stderr,
                )
                said = True
        while _is_being_written(array_path):
            time.sleep(_POLL_SECONDS)
        if (index := index_of(array_path, index_path)) is not None:
            return index


def _is_being_written(path: Path) -> bool:
    try:
        AtomicFile(path, _salt()).discard()
    except BeingWritten:
        return True
    except AudioError:  # the folder is gone, or what `_decode` will say
        return False
    return False


def _salt() -> str:
    """The processes of one training may all be decoding; what a killed one left is taken over."""
    return os.environ.get("RANK", "")


def _decode(files: list[File], mono: Decoder, array_path: Path, index_path: Path) -> dict[str, Any]:
    """Write array and index; returns the latter. Raises `AudioError`, and writes neither, without clips."""
    clips: list[dict[str, object]] = []
    failures: dict[str, str] = {}
    rates_hz: Counter[int] = Counter()
    start = 0
    with AtomicFile(array_path, _salt()) as array:
        answers = _monos([path for path, _, _ in files], mono)
        for (path, folder, group), answer in zip(files, answers, strict=True):
            if isinstance(answer, AudioError):
                failures[str(path)] = str(answer)
                continue
            samples, rate = answer
            rates_hz[rate] += 1
            array.write(samples.tobytes())
            relative = path.relative_to(folder)
            category = relative.parts[0] if len(relative.parts) > 1 else folder.name
            category = GENERATED if folder.name == GENERATED else category
            clips.append(
                {"name": str(relative), "category": category, "group": group}
                | {"start": start, "samples": len(samples), "power": _power(samples)}
            )
            start += len(samples)
        if not clips:
            first = next(iter(failures.values()))
            raise AudioError(f"None of the {len(files)} audio files could be used: {first}")
        # While the array has its lock, which others wait for.
        index = {"clips": clips, "failures": failures, "rates_hz": sorted(rates_hz.items())}
        write_whole(index_path, lambda file: file.write(json.dumps(index).encode()), salt=_salt())
    return index


def _power(samples: npt.NDArray[np.int16]) -> float:
    blocks = range(0, len(samples), _READ_SAMPLES)
    squares = (np.square(samples[i : i + _READ_SAMPLES], dtype=np.float64).sum() for i in blocks)
    return float(sum(squares)) / len(samples) / INT16_SCALE**2


def _monos(paths: list[Path], mono: Decoder) -> Iterator[_Mono | AudioError]:
    """What `mono` makes of each path, in order, by all cores where there is much to do.

    Long files are decoded one by one: whole, each of them takes a gigabyte or so meanwhile.
    """
    processes = cores() if len(paths) >= _POOL_FROM_FILES and can_fork() else 1
    if processes == 1:
        yield from (mono(path) for path in paths)
        return
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(processes, context, _end_with_parent, (os.getpid(),))
    coming: deque[Callable[[], _Mono | AudioError]] = deque()
    try:
        for path in paths:
            if path.stat().st_size > _LONG_BYTES:
                coming.append(functools.partial(mono, path))
            else:
                coming.append(pool.submit(mono, path).result)
            if len(coming) > 2 * processes:
                yield coming.popleft()()
        while coming:
            yield coming.popleft()()
    except BrokenProcessPool as error:
        raise AudioError(
            "A process that decoded audio was killed, perhaps because memory ran out: start "
            "the training again."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent(parent: int) -> None:
    """In a process of the pool: it would wait for ever for work of a parent that was killed."""
    leave_to_the_parent()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def mono_of(path: Path, sample_rate: int, full_scale: bool) -> _Mono | AudioError:
    """The mean of the channels at `sample_rate`, `(samples,)` int16, and the rate it came at."""
    try:
        with Reader(path) as reader:
            blocks = [block.mean(axis=0) for block in reader.blocks(_READ_SAMPLES)]
            rate, nonfinite = reader.info.sample_rate, reader.nonfinite
    except AudioError as error:
        return error
    if nonfinite:
        return AudioError(f"{path} has {nonfinite} samples that are {NO_SOUND}: mend or remove it.")
    mono = resample(np.concatenate([np.zeros(0, np.float32), *blocks]), rate, sample_rate)
    if not len(mono):
        return AudioError(f"{path} holds no samples.")
    peak = float(np.abs(mono).max())
    # What is louder than full scale keeps its shape: whoever mixes gives it a level anyway.
    mono = mono / (peak if full_scale and peak else max(1.0, peak))
    samples = (mono * INT16_SCALE).round().astype("<i2")
    if not samples.any():
        return AudioError(f"{path} is silent: at 16 bits every sample of it is 0.")
    return samples, rate
