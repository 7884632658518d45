"""Tags of FLAC and Ogg under names that libsndfile does not know: ffmpeg writes a comment as DESCRIPTION."""

from __future__ import annotations

import struct
from typing import BinaryIO

_NAMES = {"description": "comment"}
_COMMENTS_OF_FLAC = 4  # a kind of block
_SIGNS = (b"\x03vorbis", b"OpusTags")
_MOST_BYTES = 1 << 24  # with pictures


def texts(file: BinaryIO) -> dict[str, str]:
    """Those texts by libsndfile's names, of a file at its start; none where there is nothing of that kind."""
    sign = file.read(4)
    try:
        block = _of_flac(file) if sign == b"fLaC" else _of_ogg(file) if sign == b"OggS" else b""
        return _texts(block)
    except (struct.error, IndexError):  # cut short
        return {}


def _of_flac(file: BinaryIO) -> bytes:
    last = False
    while not last:
        (head,) = struct.unpack(">I", file.read(4))
        last, kind, size = bool(head >> 31), head >> 24 & 0x7F, head & 0xFFFFFF
        if kind == _COMMENTS_OF_FLAC:
            return file.read(size)
        file.seek(size, 1)
    return b""


def _of_ogg(file: BinaryIO) -> bytes:
    """The second packet, which may go over several pages, without its sign."""
    packets, whole = [bytearray()], 0
    while whole < 2 and len(packets[-1]) < _MOST_BYTES:
        lacing = file.read(file.read(23)[22])  # the sign is read already
        for size in lacing:
            packets[-1] += file.read(size)
            if size < 255:
                whole += 1
                packets.append(bytearray())
        if file.read(4) != b"OggS":
            break
    packet = bytes(packets[1]) if whole > 1 else b""
    return next((packet[len(sign) :] for sign in _SIGNS if packet.startswith(sign)), b"")


def _texts(block: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    if not block:
        return found
    at = 4 + struct.unpack_from("<I", block)[0]
    (count,) = struct.unpack_from("<I", block, at)
    at += 4
    for _ in range(count):
        (size,) = struct.unpack_from("<I", block, at)
        name, _, text = block[at + 4 : at + 4 + size].decode("utf-8", "replace").partition("=")
        at += 4 + size
        if (known := _NAMES.get(name.lower())) and text.strip():
            found.setdefault(known, text)
    return found
