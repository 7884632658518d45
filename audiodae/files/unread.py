"""Sound that libsndfile would leave unread, and lengths that it only guesses.

It takes the length of an MP3 from the header in its first frame or, where there is none, from the size of
that frame; and it stops at the first seam of a file that is several, one after the other.
"""

from __future__ import annotations

import contextlib
import mmap
import re
import struct
from dataclasses import replace
from typing import NamedTuple

from audiodae.files.formats import AudioInfo

JOINED = "it is several recordings, one after the other"
_OGG_PAGE = struct.Struct(
    "<4sBBqIIIB"
)  # sign, version, kind, position, stream, number, sum, segments
_BEGINS, _ENDS = 2, 4  # kinds of pages
_FIRST_PAGE = b"OggS\0\x02"
_LONGEST_PAGE = 27 + 255 + 255 * 255
_SCANNED_BYTES = 1 << 20

# Of MPEG 1, and of 2 and 2.5, by layer (1 to 3): kbit/s by index, samples and bytes of a frame.
_KBPS = {
    (True, 1): (*range(0, 449, 32),),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_KBPS[False, 3] = _KBPS[False, 2]
_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_SYNC = re.compile(rb"\xff[\xe2-\xff]")
_IN_A_ROW = 3  # frames: bytes of a picture may look like one
_SLACK_FRAMES = 2


class _Frame(NamedTuple):
    kind: int  # what all frames of a stream have in common
    length: int
    samples: int
    header_at: int  # of Xing's header, from its start


def told(info: AudioInfo) -> tuple[AudioInfo, str]:
    """What libsndfile said of a file, with the length that it truly has, or None for it.

    And why some of it would be left unread, or "".
    """
    try:
        if info.subtype.startswith("MPEG"):
            return _told_of_mpeg(info)
        if info.container == "OGG" and _is_chained(info):
            return replace(info, frames=None, seconds=None, bitrate=None), JOINED
    except (OSError, ValueError):  # whoever reads on will say it
        pass
    return info, ""


def ends_early(info: AudioInfo) -> bool:
    """Whether an Ogg file lacks its last page."""
    if info.container != "OGG":
        return False
    with contextlib.suppress(OSError), open(info.path, "rb") as file:
        file.seek(max(0, info.path.stat().st_size - 2 * _LONGEST_PAGE))
        data = file.read()
        at = len(data)
        while (at := data.rfind(b"OggS", 0, at)) >= 0:
            if page := _page(data, at):
                return not page[2] & _ENDS
    return False


def _is_chained(info: AudioInfo) -> bool:
    """Whether a stream begins amid the file, behind those that the file begins with side by side."""
    with open(info.path, "rb") as file:
        data = file.read(_SCANNED_BYTES)
        at = 0
        while (page := _page(data, at)) and page[2] & _BEGINS:
            segments = at + _OGG_PAGE.size
            at = segments + page[7] + sum(data[segments : segments + page[7]])
        data = data[at:]
        while len(data) >= _OGG_PAGE.size:
            at = -1
            while (at := data.find(_FIRST_PAGE, at + 1)) >= 0:
                if _page(data, at):
                    return True
            # A page may begin at the end of what was read.
            data = data[1 - _OGG_PAGE.size :] + file.read(_SCANNED_BYTES)
        return False


def _page(data: bytes, at: int) -> tuple[bytes, int, int, int, int, int, int, int] | None:
    if at + _OGG_PAGE.size > len(data):
        return None
    page = _OGG_PAGE.unpack_from(data, at)
    return page if page[0] == b"OggS" and page[1] == 0 else None


def _told_of_mpeg(info: AudioInfo) -> tuple[AudioInfo, str]:
    with (
        open(info.path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        start = _first_frame(data, 0)
        if start is None:
            return info, ""
        says, end = _header(data, start)
        if says and (end is None or _first_frame(data, end) is None):
            return info, ""
        samples, size = _count(data, start)
        frame = _frame_at(data, start)
    seconds = samples / info.sample_rate
    known = replace(info, frames=None, seconds=seconds, bitrate=round(8 * size / seconds))
    if frame is None or samples <= (info.frames or 0) + _SLACK_FRAMES * frame.samples:
        return known, ""
    if says:
        return known, JOINED
    return known, "its header does not say how long it is"


def _frame_at(data: mmap.mmap, at: int) -> _Frame | None:
    """The frame that begins at `at`; None where none does, or one of a free rate."""
    if at + 4 > len(data):
        return None
    sync, versions, rates, mode = data[at : at + 4]
    version, layer = versions >> 3 & 3, 4 - (versions >> 1 & 3)
    index, rate_index, padding = rates >> 4, rates >> 2 & 3, rates >> 1 & 1
    if sync != 0xFF or versions < 0xE0 or version == 1 or layer == 4:
        return None
    if index in (0, 15) or rate_index == 3:
        return None
    first = version == 3
    bits, rate = 1000 * _KBPS[first, layer][index], _RATES_HZ[version][rate_index]
    if layer == 1:
        length, samples = 4 * (12 * bits // rate + padding), 384
    elif layer == 2 or first:
        length, samples = 144 * bits // rate + padding, 1152
    else:
        length, samples = 72 * bits // rate + padding, 576
    mono = mode >> 6 == 3
    header_at = 4 + ((17 if mono else 32) if first else (9 if mono else 17))
    return _Frame(version << 8 | layer << 4 | rate_index, length, samples, header_at)


def _first_frame(data: mmap.mmap, at: int) -> int | None:
    """Where frames that follow each other begin, from `at` on and behind tags; None where none do."""
    at = _behind_tag(data, at)
    while match := _SYNC.search(data, at):
        at = match.start()
        kinds, here = set[int](), at
        for _ in range(_IN_A_ROW):
            frame = _frame_at(data, here)
            if frame is None:
                break
            kinds.add(frame.kind)
            here += frame.length
        else:
            if len(kinds) == 1:
                return at
        at += 1
    return None


def _behind_tag(data: mmap.mmap, at: int) -> int:
    while data[at : at + 3] == b"ID3" and at + 10 <= len(data):
        size = 0
        for byte in data[at + 6 : at + 10]:
            size = size << 7 | byte & 0x7F
        at += 10 + size
    return at


def _header(data: mmap.mmap, start: int) -> tuple[bool, int | None]:
    """Whether the first frame says how many follow, and where it says that they end."""
    frame = _frame_at(data, start)
    assert frame is not None
    at = start + frame.header_at
    if data[at : at + 4] in (b"Xing", b"Info"):
        (flags,) = struct.unpack_from(">I", data, at + 4)
        place = at + 8 + 4 * (flags & 1)
        end = start + struct.unpack_from(">I", data, place)[0] if flags & 2 else None
        return bool(flags & 1), end
    if data[start + 36 : start + 40] == b"VBRI":
        return True, start + int(struct.unpack_from(">I", data, start + 46)[0])
    return False, None


def _count(data: mmap.mmap, start: int) -> tuple[int, int]:
    """Samples and bytes of all frames from `start` on, over seams and damage."""
    samples = size = 0
    at: int | None = start
    while at is not None:
        while frame := _frame_at(data, at):
            samples += frame.samples
            size += frame.length
            at += frame.length
        at = _first_frame(data, at)
    return samples, size
