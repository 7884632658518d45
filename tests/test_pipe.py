"""Sound through real pipes: live, whole, and whatever way the bytes are cut."""

import io
import os
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from audiodae.errors import AudioError
from audiodae.files.pipe import PipeReader, PipeWriter

STEP = {"s16": 2**-16, "s24": 2**-24, "s32": 2**-25, "f32": 0.0}
SUBTYPES = {"PCM_U8": "u8", "PCM_16": "s16", "PCM_24": "s24", "PCM_32": "s32"}
SUBTYPES |= {"FLOAT": "f32", "DOUBLE": "f64"}


class Dribble(io.RawIOBase):
    """A stream that cannot seek and gives its bytes in pieces of given sizes, as a pipe may."""

    def __init__(self, data, sizes):
        self.data, self.sizes, self.turn = memoryview(data), sizes, 0

    def readable(self):
        return True

    def readinto(self, buffer):
        size = min(len(buffer), self.sizes[self.turn % len(self.sizes)], len(self.data))
        self.turn += 1
        buffer[:size] = self.data[:size]
        self.data = self.data[size:]
        return size


def noise(channels=2, frames=500):
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 0.99, (channels, frames)).astype(np.float32)


def piped(sound, encoding="s16", wav=True):
    stream = io.BytesIO()
    stream.seekable = lambda: False
    writer = PipeWriter(stream, 16000, len(sound), encoding, wav)
    for start in range(0, sound.shape[1], 77):
        writer.write(sound[:, start : start + 77])
    writer.close()
    return stream.getvalue()


def read_all(reader, n=64):
    return np.concatenate([np.zeros((reader.channels, 0)), *reader.blocks(n)], axis=1)


@pytest.mark.parametrize("encoding", STEP)
@pytest.mark.parametrize("wav", [True, False])
def test_every_encoding_comes_back_within_its_step(encoding, wav):
    sound = noise(3)
    raw = {} if wav else {"encoding": encoding, "sample_rate": 16000, "channels": 3}
    reader = PipeReader(io.BytesIO(piped(sound, encoding, wav)), **raw)
    back = reader.read(10000)
    assert (reader.sample_rate, reader.channels, reader.encoding) == (16000, 3, encoding)
    assert back.dtype == np.float32 and back.shape == sound.shape
    assert np.abs(back - sound).max() <= STEP[encoding]
    assert reader.read(10).shape == (3, 0)
    assert not reader.truncated


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    n=st.integers(1, 100),
    channels=st.integers(1, 4),
    encoding=st.sampled_from(sorted(STEP)),
)
def test_any_cutting_of_the_bytes_gives_the_same_samples(sizes, n, channels, encoding):
    sound = noise(channels, 120)
    data = piped(sound, encoding)
    whole = PipeReader(io.BytesIO(data)).read(1000)
    for stream in (Dribble(data, sizes), io.BufferedReader(Dribble(data, sizes), 16)):
        assert np.array_equal(read_all(PipeReader(stream), n), whole)


@pytest.mark.parametrize("subtype", SUBTYPES)
@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64", "RIFX"])
def test_wav_of_others_reads_like_libsndfile_reads_it(tmp_path, container, subtype):
    path = tmp_path / "x"
    big = container == "RIFX"
    with soundfile.SoundFile(
        path, "w", 44100, 3, subtype, "BIG" if big else None, "WAV" if big else container
    ) as file:
        file.title, file.comment = "odd", "a list chunk before the data"
        file.write(noise(3).T)
    reader = PipeReader(io.BytesIO(path.read_bytes()))
    assert (reader.sample_rate, reader.encoding) == (44100, SUBTYPES[subtype])
    assert reader.frames == 500
    wanted = soundfile.read(path, dtype="float32")[0].T
    assert np.array_equal(read_all(reader), wanted)
    assert not reader.truncated


def wav(fmt_body, chunks=b"", data=b"\1\2" * 10, riff=None, size=None):
    body = b"WAVEfmt " + struct.pack("<I", len(fmt_body)) + fmt_body + chunks
    size = len(data) if size is None else size
    body += b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", len(body) if riff is None else riff) + body


PCM_MONO = struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16)


def test_odd_chunks_are_padded_and_what_follows_the_data_is_no_sound():
    odd = b"LIST" + struct.pack("<I", 5) + b"odd!!\0"
    data = wav(PCM_MONO, odd) + b"LIST" + struct.pack("<I", 4) + b"tail"
    assert PipeReader(io.BytesIO(data)).read(100).shape == (1, 10)


def test_who_sends_tags_behind_the_sound_is_heard_out():
    tail = b"LIST" + struct.pack("<I", 300_000) + bytes(300_000)
    whole = wav(PCM_MONO)
    data = whole[:4] + struct.pack("<I", len(whole) - 8 + len(tail)) + whole[8:] + tail
    stream = io.BytesIO(data + b"of another file")
    assert read_all(PipeReader(stream)).shape == (1, 10)
    assert stream.read() == b"of another file"


@pytest.mark.parametrize("name", [b"RF64", b"BW64"])
@pytest.mark.parametrize(("data_bytes", "frames"), [(20, 10), (2**64 - 1, None), (0, None)])
def test_sizes_of_64_bits_are_heeded_where_they_say_one(name, data_bytes, frames):
    ds64 = b"ds64" + struct.pack("<IQQQI", 28, 2**64 - 1, data_bytes, 0, 0)
    data = wav(PCM_MONO, size=0xFFFF_FFFF, riff=0xFFFF_FFFF)
    data = name + data[4:12] + ds64 + data[12:]
    reader = PipeReader(io.BytesIO(data))
    assert reader.frames == frames
    assert read_all(reader).shape == (1, 10) and not reader.warnings


@pytest.mark.parametrize("size", [0x7FFF_E000, 0x9000_0000, 0xFFFF_0000])
def test_a_long_recording_says_its_length_even_above_2_gib(size):
    reader = PipeReader(io.BytesIO(wav(PCM_MONO, size=size)))
    assert reader.frames == size // 2
    assert read_all(reader).shape == (1, 10) and reader.truncated


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0xFFFFFFDB, 0x7FFFF000, 0x7FFFFFFF, 0x80000000])
@pytest.mark.parametrize("riff", [0, 36, 0xFFFFFFFF, 0x7FFFF024])
def test_an_unknown_size_means_until_the_end(size, riff):
    reader = PipeReader(io.BytesIO(wav(PCM_MONO, riff=riff, size=size)))
    assert reader.frames is None
    assert reader.read(100).shape == (1, 10)
    assert not reader.truncated


def test_an_empty_recording_with_chunks_behind_it_stays_empty():
    tail = b"LIST" + struct.pack("<I", 4) + b"tail"
    data = wav(PCM_MONO, data=b"", riff=36 + len(tail)) + tail
    reader = PipeReader(io.BytesIO(data))
    assert reader.frames == 0 and reader.read(9).shape == (1, 0)


def test_a_stream_that_breaks_off_gives_what_came_and_says_so():
    reader = PipeReader(io.BytesIO(wav(PCM_MONO)[:-5]))
    assert reader.read(100).shape == (1, 7)
    assert reader.read(100).shape == (1, 0)
    assert reader.truncated and "broke off" in reader.warnings[0]
    reader = PipeReader(io.BytesIO(b"\0" * 7), "s16", 8000, 2)
    assert read_all(reader).shape == (2, 1)
    assert reader.truncated and "middle of a frame" in reader.warnings[0]


def test_nan_is_silenced_and_counted_both_ways():
    sound = np.array([[0.5, np.nan, np.inf, -np.inf]], np.float32)
    reader = PipeReader(io.BytesIO(sound.tobytes()), "f32", 8000)
    assert np.array_equal(reader.read(9), np.array([[0.5, 0, 0, 0]], np.float32))
    assert reader.nonfinite == 3
    for encoding in STEP:
        stream = io.BytesIO()
        writer = PipeWriter(stream, 8000, 1, encoding, wav=False)
        writer.write(sound)
        assert writer.nonfinite == 3
        back = PipeReader(io.BytesIO(stream.getvalue()), encoding, 8000).read(9)
        assert np.array_equal(back, np.array([[0.5, 0, 0, 0]], np.float32))


def test_too_loud_samples_are_clamped_never_wrapped():
    stream = io.BytesIO()
    writer = PipeWriter(stream, 8000, 1, "s16", wav=False)
    writer.write(np.array([[1.0, 7.0, -7.0, -1.0]], np.float32))
    assert np.frombuffer(stream.getvalue(), "<i2").tolist() == [32767, 32767, -32768, -32768]
    assert writer.clipped == 3


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"RI", "not WAV"),
        (b"fLaC" + bytes(50), r"not WAV \(it begins with b'fLaC'\).*--rate and --encoding"),
        (b"RIFF\0\0\0\0AVI " + bytes(20), "not WAVE"),
        (wav(PCM_MONO)[:30], "inside its header"),
        (wav(struct.pack("<HHIIHH", 7, 1, 8000, 8000, 1, 8)), "format tag 7"),
        (wav(struct.pack("<HHIIHH", 1, 0, 8000, 8000, 0, 16)), "0 channels"),
        (wav(struct.pack("<HHIIHH", 1, 60000, 8000, 8000, 54464, 16)), "tag 1 with 16 bits|60000"),
        (wav(struct.pack("<HHIIHH", 1, 1, 0, 0, 2, 16)), "0 Hz"),
        (wav(b"short"), "too short"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", "no 'fmt ' chunk"),
        (b"RIFF\0\0\0\0WAVEfmt \xff\xff\xff\x7f" + bytes(100), "header chunk of"),
    ],
)
def test_a_stream_that_is_no_wav_is_named_in_a_sentence(data, words):
    with pytest.raises(AudioError, match=words):
        PipeReader(io.BytesIO(data))


def test_wrong_arguments_are_named_in_a_sentence():
    with pytest.raises(AudioError, match=r"'s17' is not known; choose one of s16"):
        PipeReader(io.BytesIO(b""), "s17", 8000)
    with pytest.raises(AudioError, match="--rate"):
        PipeReader(io.BytesIO(b""), "s16")
    with pytest.raises(AudioError, match=r"shape \(3, 500\)"):
        PipeWriter(io.BytesIO(), 8000, 2, "s16", True).write(noise(3))


def test_sound_passes_a_pipe_while_it_is_still_open():
    source, sink = os.pipe()
    with os.fdopen(source, "rb") as incoming, os.fdopen(sink, "wb") as outgoing:
        # A reader that waits for more than is there must fail here, not hang.
        watchdog = threading.Timer(20, outgoing.close)
        watchdog.start()
        writer = PipeWriter(outgoing, 16000, 2, "s16", wav=True)
        reader = PipeReader(incoming)
        for frames in (1, 160, 7):
            writer.write(noise(2, frames))
            assert reader.read(10**6).shape == (2, frames)
        # Half a frame is no sound yet: it waits for its other half.
        outgoing.write(b"\0\0\1")
        outgoing.flush()
        threading.Timer(0.1, lambda: (outgoing.write(b"\1\5\5"), outgoing.flush())).start()
        assert reader.read(10**6)[:, 0].tolist() == [0.0, 257 / 32768]
        outgoing.write(b"\5\5")
        outgoing.flush()
        assert reader.read(10**6).shape == (2, 1)
        watchdog.cancel()


def test_standard_streams_of_a_program_work_and_a_non_blocking_one_too():
    program = (
        "import os, sys; from audiodae.files.pipe import *\n"
        "os.set_blocking(0, False)\n"
        "reader = PipeReader(sys.stdin.buffer)\n"
        "rate, channels = reader.sample_rate, reader.channels\n"
        "with PipeWriter(sys.stdout.buffer, rate, channels, 's16', True) as w:\n"
        "    [w.write(block) for block in reader.blocks(100)]\n"
    )
    sound = piped(noise(2, 50_000))
    done = subprocess.run([sys.executable, "-c", program], input=sound, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == sound


def test_a_reader_that_goes_away_breaks_the_pipe_for_the_caller():
    source, sink = os.pipe()
    os.close(source)
    writer = None
    with os.fdopen(sink, "wb", buffering=0) as outgoing, pytest.raises(BrokenPipeError):
        writer = PipeWriter(outgoing, 16000, 2, "s16", wav=True)
    assert writer is None


@pytest.mark.parametrize("frames", [0, 1, 501])
def test_a_stream_that_is_a_file_gets_its_true_length(tmp_path, frames):
    path = tmp_path / "x.wav"
    with open(path, "wb") as file, PipeWriter(file, 16000, 1, "s24", wav=True) as writer:
        writer.write(noise(1, frames))
    data = path.read_bytes()
    assert struct.unpack_from("<I", data, 4)[0] == len(data) - 8
    assert soundfile.info(path).frames == frames
    # Appending cannot go back, so it must not try.
    with open(path, "ab") as file, PipeWriter(file, 16000, 1, "s24", wav=True) as writer:
        writer.write(noise(1, frames))
    assert path.read_bytes()[: len(data)] == data
