"""Read and write any sound file block by block; keep rate, bits, channels and tags.

`Reader` gives float32 blocks `(channels, n)` of whatever libsndfile or, failing that, the `ffmpeg`
program can read. `Writer` writes such blocks to a file that appears under its name only when
complete. Neither holds more than a block, so memory does not grow with length.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from audiodae.errors import AudioError, reason
from audiodae.files import ffmpeg
from audiodae.files.atomic import TEMP_PREFIX
from audiodae.files.formats import AUDIO_SUFFIXES, FFMPEG_SUFFIXES, AudioInfo, output_format
from audiodae.files.samples import silence_nonfinite
from audiodae.files.sndfile import SndfileSource
from audiodae.files.unclosed_wav import UnclosedWavSource
from audiodae.files.unread import ends_early, told
from audiodae.files.writer import Writer

__all__ = [
    "AUDIO_SUFFIXES",
    "TEMP_PREFIX",
    "AudioInfo",
    "Reader",
    "Writer",
    "info",
    "output_format",
]


def info(path: str | os.PathLike[str]) -> AudioInfo:
    """What the header of a file says, without its samples; raises AudioError like `Reader`."""
    with Reader(path) as reader:
        return reader.info


class Reader:
    """Reads a sound file in blocks, front to back, as a context manager.

    `info` is known from the start. `nonfinite` counts samples that are NaN, infinite or absurdly
    loud, which are replaced by 0. `truncated` says that the file is cut short or damaged and what
    could be read was; `warnings` has a sentence for each such thing. Both are complete once the end
    is reached. Raises AudioError for a file that is missing, unreadable, empty, a folder, or not sound.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.nonfinite = 0
        self.truncated = False
        self.warnings: list[str] = []
        self._position = 0
        self._at_end = False
        self._unread = ""  # why libsndfile would leave some of it so
        self._source: SndfileSource | ffmpeg.FfmpegSource | UnclosedWavSource
        path = Path(path)
        _check_readable(path)
        try:
            self._source = source = SndfileSource(path)
        except OSError as error:
            raise AudioError(f"{path} cannot be read: {reason(error)}.") from error
        except soundfile.LibsndfileError as error:
            self.info = _probe_with_ffmpeg(path, error)
            self._source = ffmpeg.FfmpegSource(self.info)
            if self.info.tracks > 1:
                self.warnings.append(
                    f"{path} has {self.info.tracks} audio tracks, of which the first is read: `ffmpeg -i IN "
                    "-map 0:a:1 OUT.mka` takes out the second."
                )
            return
        self.info, self._unread = told(source.info)
        if unclosed := UnclosedWavSource.find(source.info):
            source.close()
            self._source, self.info = unclosed, unclosed.info
            self.warnings.append(
                f"{path} was never closed by its recorder: its header says {unclosed.told_seconds:.1f} s, "
                f"and it holds {self.info.seconds:.1f} s. All sound in it is read."
            )
        elif self._unread and ffmpeg.available():
            source.close()
            self._source = ffmpeg.FfmpegSource(self.info)
        elif self._unread:
            self._truncate(
                f"{path} is not read to its end, for {self._unread}: with ffmpeg it is, so "
                f"{ffmpeg.HOW_TO_INSTALL}."
            )
        elif cut := source.cut_short():
            self._truncate(
                f"{path} is cut short: it announces {cut[0]} bytes of sound and has {cut[1]}."
            )
        elif ends_early(source.info):
            self.warnings.append(f"{path} has no mark of its end: it may be cut short.")

    def read(self, n: int) -> np.ndarray:
        """The next `n` frames, `(channels, n)` float32; fewer only at the end, none after it."""
        if n < 1:
            raise ValueError(f"read({n}) was asked for; a block has at least one frame.")
        if self._at_end:
            return np.zeros((self.info.channels, 0), np.float32)
        frames = self._source.read(n)
        self._position += len(frames)
        if len(frames) < n:
            self._at_end = True
            self._check_end()
        samples, nonfinite = silence_nonfinite(frames)
        self.nonfinite += nonfinite
        return np.ascontiguousarray(samples.T)

    def blocks(self, n: int) -> Iterator[np.ndarray]:
        """All blocks of `n` frames; the last one may be shorter, none is empty."""
        while (block := self.read(n)).shape[1]:
            yield block

    def close(self) -> None:
        self._source.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _truncate(self, warning: str) -> None:
        self.truncated = True
        self.warnings.append(warning)

    def _check_end(self) -> None:
        path, rate = self.info.path, self.info.sample_rate
        # At a seam ffmpeg complains of what begins there.
        if (complaint := self._source.complaint()) and not self._unread:
            self.warnings.append(f"{path} is damaged ({complaint}).")
        wanted, seconds = self.info.frames, self.info.seconds
        if wanted is not None and self._position < wanted:
            self._truncate(f"{path} has {self._position} of its {wanted} frames; the rest is lost.")
        elif wanted is not None or seconds is None or self.info.rough:
            return
        elif (found := self._position / rate) < seconds - 1:
            # Durations are rounded; a second is more than any of them is off.
            self._truncate(f"{path} has {found:.1f} s of its {seconds:.1f} s; the rest is lost.")


def _check_readable(path: Path) -> None:
    """Raise AudioError unless `path` is a readable file with something in it."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise AudioError(f"{path} cannot be read: {why}.") from error
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(f"{path} is a folder; give the name of an audio file.")
    if not stat.S_ISREG(status.st_mode):
        raise AudioError(
            f"{path} is not a regular file; read pipes and devices as standard input, with '-'."
        )
    if status.st_size == 0:
        raise AudioError(
            f"{path} is empty (0 bytes): there is no sound in it, not even of length 0."
        )


def _probe_with_ffmpeg(path: Path, error: soundfile.LibsndfileError) -> AudioInfo:
    """Describe what libsndfile refused, or raise AudioError with what can be done."""
    if _looks_like_text(path):
        raise AudioError(f"{path} cannot be read as audio: its content is text.") from error
    said = error.error_string.rstrip(".")
    if ffmpeg.available():
        try:
            return ffmpeg.probe(path)
        except AudioError as second:
            raise AudioError(f"{second} (libsndfile said: {said}.)") from error
    if path.suffix.lower() in FFMPEG_SUFFIXES:
        raise AudioError(
            f"{path} needs the ffmpeg program to be read; {ffmpeg.HOW_TO_INSTALL}."
        ) from error
    raise AudioError(
        f"{path} cannot be read as audio (libsndfile said: {said}). If it plays elsewhere,"
        f" {ffmpeg.HOW_TO_INSTALL}."
    ) from error


def _looks_like_text(path: Path) -> bool:
    with open(path, "rb") as file:
        head = file.read(512)
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as cut:
        # Only the end of the excerpt may lie inside a character.
        if len(head) < 512 or cut.start < 508:
            return False
        text = head[: cut.start].decode("utf-8")
    return all(c.isprintable() or c in "\t\r\n\f\ufeff" for c in text)
