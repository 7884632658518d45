"""WAV files that hold more sound than their header says.

Their recorder died before it wrote the length, or went on after it had; or there is more than the header
can say. libsndfile sees no sound in them, or its first part.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from io import BufferedReader

import numpy as np

from audiodae.errors import AudioError
from audiodae.files.formats import AudioInfo
from audiodae.files.pipe import PipeReader


class UnclosedWavSource:
    """The sound of such a file, read like the stream it once was, and its `info`.

    `told_seconds` is how much of it its header says there is.
    """

    def __init__(self, info: AudioInfo, stream: BufferedReader, pipe: PipeReader) -> None:
        self._stream, self._pipe = stream, pipe
        told = pipe.frames or 0
        self.told_seconds = told / info.sample_rate
        size = os.fstat(stream.fileno()).st_size - stream.tell()
        wraps = (size - told * pipe.frame_bytes) >> 32 << 32  # a size beyond 4 GiB begins anew at 0
        frames = (told * pipe.frame_bytes + wraps if wraps else size) // pipe.frame_bytes
        pipe.read_on(frames)
        self.info = dataclasses.replace(info, frames=frames, seconds=frames / info.sample_rate)

    @classmethod
    def find(cls, info: AudioInfo) -> UnclosedWavSource | None:
        """Such a source, if the file is one."""
        if info.container not in ("WAV", "WAVEX"):
            return None
        stream = open(info.path, "rb")  # noqa: SIM115
        with contextlib.suppress(AudioError):
            pipe = PipeReader(stream)
            if _is_unclosed(stream, pipe) and (source := cls(info, stream, pipe)).info.frames:
                return source
        stream.close()
        return None

    def read(self, n: int) -> np.ndarray:
        blocks = [np.zeros((self.info.channels, 0), np.float32)]
        while n and (block := self._pipe.read(n)).shape[1]:
            blocks.append(block)
            n -= block.shape[1]
        return np.concatenate(blocks, axis=1).T

    def complaint(self) -> str:
        return ""

    def close(self) -> None:
        self._stream.close()


def _is_unclosed(stream: BufferedReader, pipe: PipeReader) -> bool:
    """Whether what lies behind the sound of a WAV that was read up to it is sound too, and no chunk."""
    if pipe.frames is None:
        return True
    start = stream.tell()
    size = pipe.frames * pipe.frame_bytes
    stream.seek(size + size % 2, os.SEEK_CUR)
    left = os.fstat(stream.fileno()).st_size - stream.tell()
    name, length = stream.read(4), int.from_bytes(stream.read(4), "little")
    stream.seek(start)
    is_chunk = name.isascii() and name.decode().isprintable() and length <= left - 8
    return left >= 8 and not is_chunk
