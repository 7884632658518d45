"""libsndfile, strictly front to back: what `audio` reads from and writes to.

soundfile seeks after every block, which costs time and, in lossy formats, can disturb the decoder;
and it waits for the disk (fsync) at every close. Neither is wanted here.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from audiodae.errors import AudioError
from audiodae.files import id3, riff_info, vorbis_comments
from audiodae.files.formats import AudioInfo, check_layout, is_lossy
from audiodae.files.wav import is_placeholder
from audiodae.sound.channel_order import from_ogg, speakers_in_ogg

TAG_NAMES = (
    *("title", "artist", "comment", "date", "album", "genre", "tracknumber"),
    *("copyright", "license", "software"),
)

# What libsndfile notes of a sound chunk that claims more bytes than the file has.
_CUT_SHORT = re.compile(
    r"^\s*(?:data|SSND|Data Size|Riff size|riff)\s*: (\d+) \(should be (\d+)\)", re.M
)
_UNKNOWN_FRAMES = 2**60
_SYSTEM_ERROR = 2
# What soundfile leaves out.
_SET_ADD_PEAK_CHUNK, _GET_CHANNEL_MAP, _SET_CHANNEL_MAP = 0x1050, 0x1100, 0x1101
# libsndfile signs the software tag of what it writes, in AIFF followed by stray bytes.
_SIGNATURE = re.compile(r"\s*\(libsndfile-[\d.]+.*$", re.DOTALL)

# Bytes of text that libsndfile 1.2 writes so that it can be read again: of one tag, and of all together.
# Beyond them all tags are lost (WAV, CAF), or the whole file cannot be opened (AIFF, Opus).
_TAG_BYTES = {"WAV": 2045, "WAVEX": 2045, "RF64": 2045, "AIFF": 8189}
_TAGS_BYTES = {"WAV": 15_000, "WAVEX": 15_000, "RF64": 15_000, "AIFF": 60_000, "CAF": 16_000}
_TAGS_BYTES |= {"OPUS": 50_000}
# It cuts the software, signed by itself, to 127 bytes; amid a character, that is memory freed twice (FLAC).
_SOFTWARE_BYTES = 100

# What it does not read, in the words of other programs.
_OTHER_TAGS = {
    "MP3": id3.texts,
    **dict.fromkeys(("FLAC", "OGG"), vorbis_comments.texts),
    **dict.fromkeys(("WAV", "WAVEX", "RF64"), riff_info.texts),
}


def tags_that_fit(tags: dict[str, str], container: str, subtype: str) -> dict[str, str]:
    """Those that the file can hold beside each other, the shortest first; one too long costs no other."""
    longest = _TAG_BYTES.get(container)
    room = _TAGS_BYTES.get(subtype, _TAGS_BYTES.get(container))
    fitting: dict[str, str] = {}
    for name, text in sorted(tags.items(), key=lambda tag: len(tag[1])):
        text = text.encode("utf-8", "replace").decode()
        if name == "software":
            text = text.encode()[:_SOFTWARE_BYTES].decode(errors="ignore")
        size = len(text.encode())
        if name not in TAG_NAMES or (longest is not None and size > longest):
            continue
        if room is not None:
            if size > room:
                continue
            room -= size
        fitting[name] = text
    return fitting


class SequentialFile(soundfile.SoundFile):
    """A `SoundFile` that never seeks and never waits for the disk."""

    def seekable(self) -> bool:
        return False

    def flush(self) -> None:
        """Nothing: the system writes when it likes."""

    @property
    def text_tags(self) -> dict[str, str]:
        """The tags of the file, without libsndfile's own signature."""
        tags = {name: getattr(self, name) for name in TAG_NAMES}
        tags["software"] = unsigned(tags["software"])
        return {name: text for name, text in tags.items() if text}

    @property
    def speakers(self) -> tuple[int, ...]:
        """Which channel is for which speaker (`SF_CHANNEL_MAP_*`); empty where nothing says so."""
        heard = soundfile._ffi.new("int[]", self.channels)
        size = soundfile._ffi.sizeof(heard)
        found = soundfile._snd.sf_command(self._file, _GET_CHANNEL_MAP, heard, size)
        return tuple(heard) if found else ()

    @speakers.setter
    def speakers(self, wanted: tuple[int, ...]) -> None:
        """Before the first sample; containers without such a thing let it pass."""
        given = soundfile._ffi.new("int[]", wanted)
        size = soundfile._ffi.sizeof(given)
        soundfile._snd.sf_command(self._file, _SET_CHANNEL_MAP, given, size)

    def leave_out_peak(self) -> None:
        """Before the first sample: no chunk with the peak, which notes the time too, of float samples.

        The same sound is the same bytes then, whenever it is written.
        """
        if self.format in ("WAV", "WAVEX", "AIFF"):  # RF64 has none, and would get one
            soundfile._snd.sf_command(self._file, _SET_ADD_PEAK_CHUNK, soundfile._ffi.NULL, 0)


def unsigned(text: str) -> str:
    """A tag, such as the software's, without libsndfile's own signature."""
    return _SIGNATURE.sub("", text)


def open_file(fd: int, path: Path, mode: str, **form: Any) -> SequentialFile:
    """A `SequentialFile` on an open descriptor, which stays the caller's to close.

    By descriptor no path is too long or too oddly encoded for libsndfile. On Windows descriptors do
    not cross from one C library to another, so there it is the path.
    """
    if os.name == "nt":
        return SequentialFile(str(path), mode, **form)
    os.lseek(fd, 0, os.SEEK_SET)
    return SequentialFile(fd, mode, closefd=False, **form)


class SndfileSource:
    """The sound of a file that libsndfile knows, as `(n, channels)` float32 blocks, and its `info`.

    Raises `soundfile.LibsndfileError` where libsndfile cannot read the content, OSError where the
    system cannot, and AudioError for a header that claims the impossible.
    """

    def __init__(self, path: Path) -> None:
        self._complaint = ""
        self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            self._file = open_file(self._fd, path, "r")
            self.info = _describe(path, self._file, os.fstat(self._fd).st_size)
        except BaseException:
            os.close(self._fd)
            raise

    def read(self, n: int) -> np.ndarray:
        """The next `n` frames, in WAV's order of channels; fewer at the end, and where it is damaged."""
        return from_ogg(self._next(n), self.info.subtype)

    def _next(self, n: int) -> np.ndarray:
        block = np.full((n, self.info.channels), np.nan, np.float32)
        try:
            return self._file.read(out=block)  # type: ignore[no-any-return]
        except soundfile.LibsndfileError as error:
            if error.code == _SYSTEM_ERROR:
                raise AudioError(
                    f"{self.info.path} could not be read on: the system reports an error."
                ) from error
            # soundfile does not say how far it came; the rows it did not touch do.
            self._complaint = str(error).removeprefix("Error : ").rstrip(".")
            touched = np.flatnonzero(~np.isnan(block).all(axis=1))
            return block[: touched[-1] + 1] if touched.size else block[:0]

    def complaint(self) -> str:
        """What libsndfile said of damage met while reading; empty when all was well."""
        return self._complaint

    def cut_short(self) -> tuple[int, int] | None:
        """Bytes of sound announced and present, if the header announces more than there is."""
        for announced, present in _CUT_SHORT.findall(self._file.extra_info):
            if int(present) < int(announced) and not is_placeholder(int(announced)):
                return int(announced), int(present)
        return None

    def close(self) -> None:
        if not self._file.closed:
            self._file.close()
            os.close(self._fd)


def _describe(path: Path, file: SequentialFile, size_bytes: int) -> AudioInfo:
    channels, sample_rate = file.channels, file.samplerate
    check_layout(str(path), sample_rate, channels)
    frames = file.frames if 0 <= file.frames < _UNKNOWN_FRAMES else None
    seconds = None if frames is None else frames / sample_rate
    return AudioInfo(
        path=path,
        sample_rate=sample_rate,
        channels=channels,
        frames=frames,
        container=file.format,
        subtype=file.subtype,
        tags=_tags(path, file),
        endian=file.endian,
        seconds=seconds,
        speakers=file.speakers or speakers_in_ogg(file.subtype, channels),
        bitrate=round(8 * size_bytes / seconds) if seconds and is_lossy(file.subtype) else None,
    )


def _tags(path: Path, file: SequentialFile) -> dict[str, str]:
    reader = _OTHER_TAGS.get(file.format)
    if reader is None:
        return file.text_tags
    with open(path, "rb") as start:
        return reader(start) | file.text_tags
