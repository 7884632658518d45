"""The tag in front of an MP3 (ID3v2.4), in UTF-8.

LAME's own says Latin-1 and holds the UTF-8 that libsndfile gave it: "MÃ¼ller" instead of "Müller".
Short texts it only puts into the old tag at the end, which cuts dates and has no encoding at all.
"""

from __future__ import annotations

from collections.abc import Mapping

_FRAMES = {
    **{"title": b"TIT2", "artist": b"TPE1", "album": b"TALB", "date": b"TDRC", "genre": b"TCON"},
    **{"tracknumber": b"TRCK", "comment": b"COMM", "copyright": b"TCOP", "software": b"TSSE"},
}
_UTF8 = b"\x03"
_UNKNOWN_LANGUAGE = b"XXX"


def tag(tags: Mapping[str, str]) -> bytes:
    """The bytes of a tag with these texts, by libsndfile's names; none where there are no texts.

    A licence has no frame that libsndfile would read back, and is left out.
    """
    frames = b"".join(
        _frame(frame, tags[name]) for name, frame in _FRAMES.items() if tags.get(name)
    )
    return b"ID3\x04\x00\x00" + _size(frames) + frames if frames else b""


def _frame(frame: bytes, text: str) -> bytes:
    # A comment has a language and a description, which ends with a zero and here is empty.
    before = _UNKNOWN_LANGUAGE + b"\x00" if frame == b"COMM" else b""
    body = _UTF8 + before + text.encode("utf-8", "replace")
    return frame + _size(body) + b"\x00\x00" + body


def _size(data: bytes) -> bytes:
    """The length in four bytes of seven bits each: eight would look like the start of a sound frame."""
    return bytes((len(data) >> shift) & 0x7F for shift in (21, 14, 7, 0))
