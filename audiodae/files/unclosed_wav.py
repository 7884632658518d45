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

# What stands behind sound, whatever length it says it has: chunks, and tags of MP3s.
_CHUNKS = (
    *(b"LIST", b"id3 ", b"ID3 ", b"bext", b"cue ", b"smpl", b"iXML", b"cart", b"JUNK", b"PAD "),
    *(b"fact", b"_PMX", b"afsp", b"APET"),
)


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
            if _is_unclosed(info, stream, pipe) and (source := cls(info, stream, pipe)).info.frames:
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


def _is_unclosed(info: AudioInfo, stream: BufferedReader, pipe: PipeReader) -> bool:
    """Whether what lies behind the sound of a WAV that was read up to it is sound too: much, and no chunk."""
    if pipe.frames is None:  # the size is that of a stream, which libsndfile knows, or 0
        return info.frames == 0
    start = stream.tell()
    end = start + pipe.data_bytes
    left = os.fstat(stream.fileno()).st_size - end
    try:
        if left < pipe.sample_rate * pipe.frame_bytes:
            return False
        stream.seek(end)
        behind = stream.read(9)
        for padding in (0, 1):  # which some writers leave out
            head = behind[padding : padding + 8]
            length = int.from_bytes(head[4:], "big" if pipe.byte_order == ">" else "little")
            named = head[:4].isascii() and head[:4].decode().isprintable()
            if head[:4] in _CHUNKS or (named and length <= left - padding - 8):
                return False
        stream.seek(end)
        blocks = iter(lambda: stream.read(1 << 20), b"")
        return left >> 32 > 0 or any(block.strip(b"\0") for block in blocks)  # room made beforehand
    finally:
        stream.seek(start)
