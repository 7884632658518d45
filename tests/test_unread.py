"""All sound of a file is read, also where its header, or libsndfile, thinks that there is less."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_ffmpeg import needs_ffmpeg

from audiodae.files import ffmpeg
from audiodae.files.audio import Reader, info
from audiodae.files.unread import _first_frame, _frame_at

RATE = 44100
LOUD_THEN_QUIET = np.random.default_rng(0).standard_normal(8 * RATE).astype(np.float32) * 0.3
LOUD_THEN_QUIET[2 * RATE :] *= 1e-4


def write(path: Path, sound: np.ndarray = LOUD_THEN_QUIET, **form: object) -> Path:
    if path.suffix == ".opus":
        soundfile.write(path, sound, 48000, format="OGG", subtype="OPUS", **form)
    else:
        soundfile.write(path, sound, RATE, **form)
    return path


def without_header(path: Path) -> Path:
    """The MP3 without the frame that says how many follow."""
    data = path.read_bytes()
    start = _first_frame(data, 0)
    frame = _frame_at(data, start)
    path.write_bytes(data[start + frame.length :])
    return path


def seconds_in(path: Path) -> tuple[float, Reader]:
    with Reader(path) as reader:
        return sum(
            block.shape[1] for block in reader.blocks(RATE)
        ) / reader.info.sample_rate, reader


@needs_ffmpeg
def test_an_mp3_of_a_changing_rate_that_does_not_say_how_long_it_is(tmp_path: Path) -> None:
    path = without_header(write(tmp_path / "x.mp3", bitrate_mode="VARIABLE"))
    assert soundfile.info(path).duration < 6  # the trap works
    seconds, reader = seconds_in(path)
    assert seconds == pytest.approx(8, abs=0.2) and reader.info.seconds == pytest.approx(8, abs=0.2)
    assert not reader.warnings and reader.info.container == "MP3"


@pytest.mark.parametrize("tag_bytes", [0, 200_000])
def test_an_mp3_of_one_rate_needs_no_other_program_and_loses_nothing(
    tag_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ffmpeg, "available", lambda: False)
    path = without_header(write(tmp_path / "x.mp3", bitrate_mode="CONSTANT", compression_level=0.5))
    size = bytes(tag_bytes >> shift & 0x7F for shift in (21, 14, 7, 0))
    tag = b"ID3\x03\0\0" + size + bytes(tag_bytes)
    path.write_bytes((tag if tag_bytes else b"") + path.read_bytes())
    seconds, reader = seconds_in(path)
    assert seconds == pytest.approx(8, abs=0.2) and not reader.warnings


@needs_ffmpeg
@pytest.mark.parametrize("name", ["x.mp3", "x.ogg", "x.opus"])
def test_several_recordings_in_one_file(name: str, tmp_path: Path) -> None:
    one = write(tmp_path / name)
    once, _ = seconds_in(one)
    one.write_bytes(2 * one.read_bytes())
    assert soundfile.info(one).duration < 1.1 * once
    seconds, reader = seconds_in(one)
    assert seconds == pytest.approx(2 * once, abs=0.2) and not reader.warnings
    assert reader.info.container == {".mp3": "MP3"}.get(one.suffix, "OGG")


@pytest.mark.parametrize("name", ["x.mp3", "x.ogg"])
def test_without_ffmpeg_it_is_told_that_more_follows(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ffmpeg, "available", lambda: False)
    path = write(tmp_path / name)
    path.write_bytes(2 * path.read_bytes())
    seconds, reader = seconds_in(path)
    assert seconds == pytest.approx(8, abs=0.2)
    assert reader.truncated and "several recordings" in reader.warnings[0]


def test_an_ogg_file_that_was_cut_short_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "x.ogg")
    assert not seconds_in(path)[1].warnings
    path.write_bytes(path.read_bytes()[:-20000])
    assert "it may be cut short" in seconds_in(path)[1].warnings[0]


def header_says(path: Path, size: int) -> None:
    with open(path, "r+b") as file:
        at = file.read(100).index(b"data")
        for place, value in ((4, size + at), (at + 4, size)):
            file.seek(place)
            file.write(struct.pack("<I", value % 2**32))


def test_a_wav_whose_recorder_went_on_after_its_header(tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav")
    header_says(path, 2 * RATE)
    seconds, reader = seconds_in(path)
    assert seconds == 8 and "its header says 1.0 s, and it holds 8.0 s" in reader.warnings[0]


def test_a_wav_beyond_what_its_header_can_say(tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", LOUD_THEN_QUIET[:RATE])
    start = path.stat().st_size - 2 * RATE
    os.truncate(path, start + 2**32 + 2 * RATE)
    with open(path, "ab") as file:
        file.write(b"LIST" + struct.pack("<I4s", 4, b"INFO"))
    header_says(path, 2**32 + 2 * RATE)
    assert info(path).frames == 2**31 + RATE


LONG = LOUD_THEN_QUIET.astype("<f4").tobytes()  # more than a second, as pictures are


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
@pytest.mark.parametrize(
    "behind",
    [
        *(b"", b"\0", bytes(512), bytes(600_000), b"TAG" + bytes(125), b"APETAGEX" + LONG),
        *(b"note\4\0\0\0abcd", b"JUNK\3\0\0\0abc\0", b"LIST\xff\xff\0\0cut", b"LIST" + LONG),
        b"id3 \0\0\0\1" + LONG,
    ],
    ids=lambda behind: f"{behind[:4]!r}{len(behind)}",
)
def test_what_is_behind_the_sound_of_a_wav_is_no_sound(
    behind: bytes, endian: str, odd: bool, tmp_path: Path
) -> None:
    """Also without the byte that is to follow an odd number of them."""
    path = tmp_path / "x.wav"
    sound = LOUD_THEN_QUIET[:1001]
    soundfile.write(path, sound, RATE, "PCM_24" if odd else "PCM_16", endian=endian)
    data = path.read_bytes()
    path.write_bytes((data[:-1] if odd else data) + behind)
    frames = soundfile.info(path).frames
    with Reader(path) as reader:
        assert reader.info.frames == frames and not reader.warnings


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_wav_that_was_a_stream_needs_no_word(size: int, tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav")
    header_says(path, size)
    seconds, reader = seconds_in(path)
    assert seconds == 8 and not reader.warnings


@needs_ffmpeg
def test_a_picture_longer_than_its_sound_is_no_loss(tmp_path: Path) -> None:
    write(tmp_path / "x.wav")
    picture = ["-f", "lavfi", "-i", "testsrc=s=64x64:r=5:d=20"]
    words = ["ffmpeg", "-v", "error", *picture, "-i", "x.wav", "-c:v", "mpeg4", "-c:a", "aac"]
    subprocess.run([*words, "x.mkv"], check=True, cwd=tmp_path)
    seconds, reader = seconds_in(tmp_path / "x.mkv")
    assert seconds == pytest.approx(8, abs=0.2) and not reader.warnings
