"""Cut, unclosed, hostile or no sound at all: what is there is read, the rest is a sentence."""

import contextlib
import os
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from sounds import noise, read, write

from audiodae.errors import AudioError
from audiodae.files import ffmpeg
from audiodae.files.audio import Reader, Writer, info


@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "FLAC", "MP3"])
def test_a_cut_file_gives_what_is_there_and_says_so(tmp_path, container):
    path = tmp_path / "x"
    subtype = "MPEG_LAYER_III" if container == "MP3" else "PCM_16"
    sound = noise(2, 40000, level=0.1)
    write(path, sound, 16000, container, subtype)
    whole, reader = read(path)
    assert not reader.truncated and reader.warnings == []
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    back, reader = read(path)
    assert reader.truncated and len(reader.warnings) >= 1
    assert 20000 <= back.shape[1] < 25000
    if container == "FLAC":
        assert back.shape[1] % 4096 == 0  # to the last frame of the last whole FLAC block
    same = back.shape[1] - (4000 if container == "MP3" else 0)
    assert np.array_equal(back[:, :same], whole[:, :same])


def test_a_recorder_that_never_closed_its_wav_is_no_cut_file(tmp_path):
    path = tmp_path / "x.wav"
    write(path, noise(1, 1000))
    data = bytearray(path.read_bytes())
    whole = read(path)[0]
    for riff_bytes, data_bytes in [
        (0, 0),
        (36, 0),
        (2**32 - 1, 2**32 - 1),
        (2**31 - 1, 0x7FFFF000),
    ]:
        struct.pack_into("<I", data, 4, riff_bytes)
        struct.pack_into("<I", data, 40, data_bytes)
        path.write_bytes(data)
        back, reader = read(path, 300)
        assert np.array_equal(back, whole)
        assert reader.info.frames == 1000 and not reader.truncated
    # A truly empty recording stays empty, whatever chunks follow, and is no cause to complain.
    write(path, noise(1, 0))
    assert read(path)[1].warnings == []
    write(path, noise(1, 0), tags={"title": "nothing"})
    assert info(path).frames == 0


def test_hostile_headers_are_refused_before_memory_is_taken(tmp_path):
    path = tmp_path / "x.wav"
    write(path, noise(1, 1000))
    data = bytearray(path.read_bytes())
    for offset, form, value, word in [
        (22, "<H", 900, "channels"),
        (22, "<H", 65535, "cannot be read"),
        (24, "<I", 2**31 - 1, "sample rate"),
        (24, "<I", 1, "sample rate"),
    ]:
        bad = bytearray(data)
        struct.pack_into(form, bad, offset, value)
        struct.pack_into("<H", bad, 32, 2 * 900 if value == 900 else 2)
        path.write_bytes(bad)
        with pytest.raises(AudioError, match=word):
            Reader(path)


def test_what_is_no_sound_file_is_named_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    (tmp_path / "text.wav").write_text("Dear diary, today I recorded nothing. Größe\n" * 40)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "junk.wav").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "video.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(200))
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    for name, words in [
        ("text.wav", "its content is text"),
        ("empty.wav", r"is empty \(0 bytes\)"),
        ("junk.wav", "cannot be read as audio"),
        ("video.mp4", "install ffmpeg"),
        ("missing.wav", "does not exist"),
        ("loop.wav", "circles"),
        ("pipe.wav", "not a regular file"),
        (".", "is a folder"),
        ("n" * 300 + ".wav", "name is too long"),
        ("nul\0.wav", "null"),
        ("text.wav/x.wav", "not a folder"),
    ]:
        with pytest.raises(AudioError, match=words):
            Reader(tmp_path / name)
    assert not ffmpeg.available()


@contextlib.contextmanager
def without_privileges():
    """Root may read and write everything; as somebody else the permissions count."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_lack_of_permission_is_named_in_a_sentence():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        write(folder / "x.wav", noise())
        with without_privileges():
            assert read(folder / "x.wav")[0].shape == (2, 3001)
        (folder / "x.wav").chmod(0)
        folder.chmod(0o555)
        with without_privileges():
            with pytest.raises(AudioError, match=r"x.wav cannot be read: permission is denied"):
                Reader(folder / "x.wav")
            with pytest.raises(AudioError, match=r"y.wav cannot be written: permission is denied"):
                Writer(folder / "y.wav", 16000, 2)
        folder.chmod(0o755)
        assert [p.name for p in folder.iterdir()] == ["x.wav"]
