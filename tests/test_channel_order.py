"""Surround sound: each channel stays with its loudspeaker, whatever order a format has for them."""

import subprocess

import numpy as np
import pytest
import soundfile
from sounds import read, write

from audiodae.files import ffmpeg
from audiodae.files.audio import info

RATE = 48_000
# By a channel's place in a WAV of 5.1: left, right, centre, low frequencies, surrounds.
TONES_HZ = (300, 500, 700, 60, 1100, 1300, 1700, 1900)
# Vorbis I specification, 4.3.9; RFC 7845, 5.1.1.2: L C R, ... and low frequencies last.
OGG_HZ = {
    1: (300,),
    2: (300, 500),
    3: (300, 700, 500),
    4: (300, 500, 700, 60),
    5: (300, 700, 500, 60, 1100),
    6: (300, 700, 500, 1100, 1300, 60),
    7: (300, 700, 500, 1300, 1700, 1100, 60),
    8: (300, 700, 500, 1700, 1900, 1100, 1300, 60),
}


def tones(channels: int) -> np.ndarray:
    t = np.arange(RATE) / RATE
    return np.stack([0.1 * np.sin(2 * np.pi * hz * t) for hz in TONES_HZ[:channels]]).astype("f4")


def heard_hz(sound: np.ndarray) -> tuple[int, ...]:
    """The tone of each channel, `(channels, a second of samples)`."""
    return tuple(int(np.abs(np.fft.rfft(row)).argmax()) for row in sound)


@pytest.mark.parametrize("channels", OGG_HZ)
@pytest.mark.parametrize("suffix", ["ogg", "opus"])
def test_ogg_has_its_own_order_in_the_file_and_wavs_outside(tmp_path, suffix, channels):
    path = tmp_path / f"x.{suffix}"
    write(path, tones(channels), RATE)
    raw, _ = soundfile.read(path, always_2d=True)
    # Low frequencies are a channel of few kilobits; nothing else may get into it.
    assert heard_hz(raw.T) == OGG_HZ[channels]
    back, reader = read(path)
    assert heard_hz(back) == TONES_HZ[:channels]
    write(tmp_path / f"again.{suffix}", back, RATE)
    again, _ = read(tmp_path / f"again.{suffix}")
    assert heard_hz(again) == TONES_HZ[:channels]
    assert (len(reader.info.speakers) == channels) == (channels > 2)


@pytest.mark.skipif(not ffmpeg.available(), reason="the ffmpeg program is not installed")
@pytest.mark.parametrize("layout", ["5.1", "5.1(side)", "quad", "7.1"])
def test_what_ffmpeg_reads_keeps_its_loudspeakers(tmp_path, layout):
    source, there = tmp_path / "x.mka", {"5.1": 6, "5.1(side)": 6, "quad": 4, "7.1": 8}[layout]
    soundfile.write(tmp_path / "x.wav", tones(there).T, RATE)
    named = f"channelmap=map={'|'.join(map(str, range(there)))}:channel_layout={layout}"
    make = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "x.wav"), "-af", named]
    subprocess.run([*make, "-c:a", "flac", str(source)], check=True)
    back, reader = read(source)
    assert reader.info.reader == "ffmpeg" and heard_hz(back) == TONES_HZ[:there]
    assert len(reader.info.speakers) == there
    speakers = reader.info.speakers
    write(tmp_path / "y.wav", back, RATE, "WAVEX", speakers=speakers)
    ask = ["ffprobe", "-v", "error", "-show_entries", "stream=channel_layout", "-of", "csv=p=0"]
    said = subprocess.run([*ask, str(tmp_path / "y.wav")], capture_output=True, text=True)
    assert said.stdout.strip() == layout
    assert info(tmp_path / "y.wav").speakers == speakers
