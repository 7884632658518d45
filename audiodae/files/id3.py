"""The tag in front of an MP3 (ID3): written in UTF-8 as version 2.4, and read where libsndfile does not.

LAME's own says Latin-1 and holds the UTF-8 that libsndfile gave it: "MÃ¼ller" instead of "Müller".
Short texts it only puts into the old tag at the end, which cuts dates and has no encoding at all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import BinaryIO

_FRAMES = {
    **{"title": b"TIT2", "artist": b"TPE1", "album": b"TALB", "date": b"TDRC", "genre": b"TCON"},
    **{"tracknumber": b"TRCK", "comment": b"COMM", "copyright": b"TCOP", "software": b"TSSE"},
}
_UTF8 = b"\x03"
_ENCODINGS = {0: "latin-1", 1: "utf-16", 2: "utf-16-be", 3: "utf-8"}
_LONGEST_TEXT = 1 << 20
_UNKNOWN_LANGUAGE = b"XXX"


def tag(tags: Mapping[str, str]) -> bytes:
    """The bytes of a tag with these texts, by libsndfile's names; none where there are no texts.

    A licence has no frame that libsndfile would read back, and is left out.
    """
    frames = b"".join(
        _frame(frame, tags[name]) for name, frame in _FRAMES.items() if tags.get(name)
    )
    return b"ID3\x04\x00\x00" + _size(frames) + frames if frames else b""


def texts(file: BinaryIO) -> dict[str, str]:
    """Texts under names of the writer's choosing (TXXX), which is how ffmpeg writes a comment.

    `file` is at its start. Only those whose names are libsndfile's; none where there is no such tag, or one
    with what is rare (version 2.2, an extended header, bytes put in for old decoders).
    """
    start = file.read(10)
    if len(start) < 10 or start[:3] != b"ID3" or start[3] not in (3, 4) or start[5] & 0xC0:
        return {}
    left, bits = _number(start[6:], 7), 7 if start[3] == 4 else 8
    found: dict[str, str] = {}
    while left > 10 and len(head := file.read(10)) == 10 and head[0]:
        size = _number(head[4:8], bits)
        left -= 10 + size
        if head[:4] != b"TXXX" or head[8:] != b"\x00\x00" or not 0 < size <= _LONGEST_TEXT:
            file.seek(size, os.SEEK_CUR)  # pictures, mostly
            continue
        body = file.read(size)
        text = body[1:].decode(_ENCODINGS.get(body[0], "utf-8"), "replace")
        name, _, value = text.partition("\x00")
        # In UTF-16 each of the two may have a mark of its own, of which decoding takes only the first.
        value = value.strip("\x00\ufeff").strip()
        if name.lower() in (*_FRAMES, "license") and value:
            found.setdefault(name.lower(), value)
    return found


def _frame(frame: bytes, text: str) -> bytes:
    # A comment has a language and a description, which ends with a zero and here is empty.
    before = _UNKNOWN_LANGUAGE + b"\x00" if frame == b"COMM" else b""
    body = _UTF8 + before + text.encode("utf-8", "replace")
    return frame + _size(body) + b"\x00\x00" + body


def _number(data: bytes, bits: int) -> int:
    number = 0
    for byte in data:
        number = number << bits | byte
    return number


def _size(data: bytes) -> bytes:
    """The length in four bytes of seven bits each: eight would look like the start of a sound frame."""
    return bytes((len(data) >> shift) & 0x7F for shift in (21, 14, 7, 0))
