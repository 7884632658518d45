"""The `ffmpeg` program as an optional reader for what libsndfile does not know: m4a, mp4, webm...

The file is decoded into a pipe of float32 and read block by block; nothing is unpacked to disk.
ffmpeg may open local files only: a playlist dressed up as sound cannot make it call the network.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from audiodae.errors import AudioError
from audiodae.files.formats import AudioInfo, check_layout
from audiodae.sound.channel_order import layout_of, speakers_of

HOW_TO_INSTALL = "install ffmpeg (apt install ffmpeg, brew install ffmpeg, winget install ffmpeg)"
_PROBE_SECONDS = 60
_NOTICEABLY_LATE_SECONDS = 0.01  # what codecs need to begin is less
# Ways in which the tags of libsndfile are spelt elsewhere.
_TAGS = {
    **dict.fromkeys(
        ("title", "artist", "comment", "date", "album", "genre", "copyright", "license"), ""
    ),
    "track": "tracknumber",
    "tracknumber": "tracknumber",
    "encoder": "software",
}
_WITHOUT_HEADER = ("aac", "ac3", "eac3", "mp3", "amr", "dts", "loas", "truehd")
_LOSSLESS = ("ALAC", "FLAC", "PCM_", "APE", "TTA", "WAVPACK", "WMALOSSLESS", "TRUEHD", "MLP")
_FLOATS = {"flt": "FLOAT", "dbl": "DOUBLE"}  # planar ones end in "p"


def available() -> bool:
    """Whether both programs, `ffmpeg` and `ffprobe`, are on PATH."""
    return shutil.which("ffmpeg") is not None and shutil.which("ffprobe") is not None


def probe(path: Path) -> AudioInfo:
    """What ffprobe tells of the first audio track; raises AudioError where there is none."""
    program = shutil.which("ffprobe")
    if program is None:
        raise AudioError(
            f"{path} needs the ffmpeg program to be read, and it is not on PATH; {HOW_TO_INSTALL}."
        )
    stream_keys = "codec_name,sample_fmt,sample_rate,channels,channel_layout,bit_rate,"
    stream_keys += "bits_per_raw_sample,duration,start_time"
    wanted = f"format=format_name,duration,bit_rate,start_time:format_tags:stream_tags:stream={stream_keys}"
    command = [program, "-v", "error", "-select_streams", "a", "-show_entries", wanted]
    command += ["-of", "json", *_input(path)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_SECONDS,
            start_new_session=True,  # as below
        )
        found: dict[str, Any] = {} if done.returncode else json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise AudioError(f"{path} could not be examined by ffprobe: {error}") from error
    if not found.get("streams"):
        silent = "ffprobe was stopped" if done.returncode < 0 else "it has no audio track"
        why = _first_line(done.stderr).removeprefix(f"file:{path}: ") or silent
        raise AudioError(f"{path} cannot be read as audio: {why}.")
    stream, container = found["streams"][0], found.get("format", {})
    sample_rate = int(_number(stream.get("sample_rate")) or 0)
    channels = int(_number(stream.get("channels")) or 0)
    check_layout(str(path), sample_rate, channels)
    codec = str(stream.get("codec_name", "unknown")).upper()
    bits = _number(stream.get("bits_per_raw_sample"))
    rate = _number(stream.get("bit_rate")) or _number(container.get("bit_rate"))
    lossless = codec.startswith(_LOSSLESS)
    # The container begins with its first track, which may be the picture.
    late = (_number(stream.get("start_time")) or 0) - (_number(container.get("start_time")) or 0)
    # Others are guessed from the size, or are those of the picture.
    announced = _number(stream.get("duration")) or _seconds(stream.get("tags", {}))
    kind = str(container.get("format_name", "unknown"))
    floats = _FLOATS.get(str(stream.get("sample_fmt"))[:3])
    return AudioInfo(
        path=path,
        sample_rate=sample_rate,
        channels=channels,
        frames=None,
        container=kind.upper(),
        subtype=floats if lossless and floats else codec,
        tags=_tags(stream.get("tags", {}) | container.get("tags", {})),
        seconds=announced or _number(container.get("duration")),
        rough=announced is None or kind in _WITHOUT_HEADER,
        bitrate=int(rate) if rate and not lossless else None,
        bits=int(bits) if bits and lossless else None,
        speakers=speakers_of(str(stream.get("channel_layout"))),
        late_seconds=late if late > _NOTICEABLY_LATE_SECONDS else 0.0,
        tracks=len(found["streams"]),
        reader="ffmpeg",
    )


class FfmpegSource:
    """The decoded sound of a file in `(n, channels)` float32 blocks, laid out as its probe says."""

    def __init__(self, info: AudioInfo) -> None:
        self._info = info
        self._process: subprocess.Popen[bytes] | None = None  # from the first read on
        self._complaints: IO[bytes] | None = None

    def _start(self) -> subprocess.Popen[bytes]:
        info = self._info
        program = shutil.which("ffmpeg")
        if program is None:
            raise AudioError(
                f"{info.path} needs the ffmpeg program, and it is not on PATH; {HOW_TO_INSTALL}."
            )
        command = [program, "-v", "error", "-nostdin", *_input(info.path), "-map", "0:a:0"]
        # A change of channels amid the file must not be one of ours; by number alone ffmpeg would take four
        # for a layout of its choice and mix them into it.
        layout = layout_of(info.speakers)
        filters = [f"aformat=channel_layouts={layout}"] if layout else []
        if info.late_seconds:
            filters.append("aresample=first_pts=0")  # silence in front: in step with the picture
        command += ["-af", ",".join(filters)] if filters else []
        command += [] if layout else ["-ac", str(info.channels)]
        command += ["-f", "f32le", "-c:a", "pcm_f32le", "-ar", str(info.sample_rate), "-"]
        try:
            # A file takes any number of complaints; a pipe that nobody reads would stop ffmpeg.
            self._complaints = tempfile.TemporaryFile()  # noqa: SIM115
        except OSError as error:
            raise AudioError(
                f"{info.path} could not be read: there is no folder for temporary files; set TMPDIR to one."
            ) from error
        try:
            # Its own session: Ctrl-C must stop us, not make the sound seem to end here.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                start_new_session=True,
            )
        except OSError as error:
            raise AudioError(
                f"{info.path} could not be read: ffmpeg did not start ({error})."
            ) from error
        return self._process

    def read(self, n: int) -> np.ndarray:
        """The next `n` frames, fewer only at the end; raises AudioError where ffmpeg failed."""
        process = self._process or self._start()
        assert process.stdout is not None
        frame_bytes = 4 * self._info.channels
        data = process.stdout.read(n * frame_bytes)
        if len(data) < n * frame_bytes and process.wait() != 0:
            why = self.complaint() or "ffmpeg was stopped"
            raise AudioError(f"{self._info.path} could not be decoded: {why}.")
        whole = len(data) // frame_bytes * frame_bytes
        return (
            np.frombuffer(data[:whole], "<f4").astype(np.float32).reshape(-1, self._info.channels)
        )

    def complaint(self) -> str:
        """The first thing ffmpeg said of damage in the file; empty when all was well."""
        if self._complaints is None or self._complaints.closed:
            return ""
        self._complaints.seek(0)
        return _first_line(self._complaints.read())

    def close(self) -> None:
        """End ffmpeg, also in the middle of the file."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process.wait()
        if self._complaints is not None:
            self._complaints.close()


def _input(path: Path) -> list[str]:
    # "file:" also keeps names like "-" or "http:x" from being anything but names.
    return ["-protocol_whitelist", "file", "-i", f"file:{path}"]


def _tags(found: dict[str, Any]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for key, text in found.items():
        name = key.lower()
        if name in _TAGS and str(text).strip():
            tags.setdefault(_TAGS[name] or name, str(text))
    return tags


def _seconds(tags: dict[str, Any]) -> float | None:
    """Of Matroska's DURATION, such as 00:01:02.345."""
    found = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", str(tags.get("DURATION", "")))
    if found is None:
        return None
    hours, minutes, seconds = found.groups()
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)


def _number(text: Any) -> float | None:
    try:
        return float(text) or None
    except (TypeError, ValueError):
        return None


def _first_line(output: bytes) -> str:
    """The first complaint, without the name and address of the part of ffmpeg that makes it."""
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return re.sub(r"^\[[^]]* @ 0x[0-9a-f]+\] ", "", lines[0]).strip().rstrip(".") if lines else ""
