"""Tags of WAV under names that libsndfile does not know: ffmpeg calls the track number IPRT, as RIFF may."""

from __future__ import annotations

import struct
from typing import BinaryIO

_NAMES = {b"IPRT": "tracknumber"}
_MOST_BYTES = 1 << 20
_UNTOLD_BYTES = 0xFFFF_FFFF  # of RF64's sound
_LEAST_LETTER = 0x20  # of a chunk's name; room made beforehand has none


def texts(file: BinaryIO) -> dict[str, str]:
    """Those texts by libsndfile's names, of a file at its start; none where there is nothing of that kind."""
    head = struct.Struct(">4sI" if file.read(4) == b"RIFX" else "<4sI")
    file.seek(8, 1)
    found: dict[str, str] = {}
    try:
        while True:
            kind, size = head.unpack(file.read(head.size))
            if size == _UNTOLD_BYTES or min(kind) < _LEAST_LETTER:
                break
            if kind == b"LIST" and size <= _MOST_BYTES:
                found |= _texts(file.read(size), head)
                file.seek(size % 2, 1)
            else:
                file.seek(size + size % 2, 1)
    except struct.error:  # the end
        pass
    return found


def _texts(chunk: bytes, head: struct.Struct) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 4
    while chunk.startswith(b"INFO") and at + head.size <= len(chunk):
        kind, size = head.unpack_from(chunk, at)
        at += head.size
        text = chunk[at : at + size].decode("utf-8", "replace").rstrip("\0")
        at += size + size % 2
        if kind in _NAMES and text.strip():
            found[_NAMES[kind]] = text
    return found
