"""What libsndfile does not know is read through the ffmpeg program, if it is there."""

import contextlib
import http.server
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import soundfile

from audiodae.api import load
from audiodae.errors import AudioError
from audiodae.files import ffmpeg
from audiodae.files.audio import Reader, Writer, info, output_format
from audiodae.recordings.blockwise import clean_together
from audiodae.recordings.job import Job
from audiodae.recordings.options import Options

needs_ffmpeg = pytest.mark.skipif(
    not ffmpeg.available(), reason="the ffmpeg program is not installed"
)


def tone(channels=2, seconds=2.0, sample_rate=44100):
    t = np.arange(int(seconds * sample_rate)) / sample_rate
    fade = np.hanning(t.size)
    pitches = 300.0 * (1 + np.arange(channels))[:, None]
    return (0.3 * fade * np.sin(2 * np.pi * pitches * t)).astype(np.float32)


def encode(path, sound, *options, sample_rate=44100, subtype="PCM_24"):
    source = path.parent / "source.wav"
    soundfile.write(source, sound.T, sample_rate, subtype)
    command = ["ffmpeg", "-v", "error", "-y", "-i", str(source), *options, f"file:{path}"]
    subprocess.run(command, check=True)
    source.unlink()


@needs_ffmpeg
@pytest.mark.parametrize("name", ["x.flac", "x.ogg", "x.opus"])
def test_a_comment_that_ffmpeg_wrote_is_read(name, tmp_path):
    codec = {"x.ogg": ["-c:a", "libvorbis"], "x.opus": ["-c:a", "libopus"]}.get(name, [])
    text = "a long one " * 9000
    sound = tone(sample_rate=48000)
    encode(tmp_path / name, sound, *codec, "-metadata", f"comment={text}", sample_rate=48000)
    assert info(tmp_path / name).tags["comment"] == text
    short = (tmp_path / name).read_bytes()[:5000]
    (tmp_path / name).write_bytes(short)
    with contextlib.suppress(AudioError):
        info(tmp_path / name)


@needs_ffmpeg
def test_what_lost_nothing_does_not_become_lossy_in_silence(tmp_path):
    encode(tmp_path / "x.oga", tone(), "-c:a", "flac")
    job = Job(tmp_path / "x.oga", tmp_path / "out/x.oga", tmp_path / "out")
    (report,) = clean_together([job], load(), Options())
    assert report.status == "done" and "--format flac" in report.warnings[0]
    asked = Job(tmp_path / "x.oga", tmp_path / "out/y.oga", tmp_path / "out", container="ogg")
    (report,) = clean_together([asked], load(), Options())
    assert report.status == "done" and not report.warnings


def read(path, block=10000):
    with Reader(path) as reader:
        return np.concatenate(list(reader.blocks(block)), axis=1), reader


@needs_ffmpeg
@pytest.mark.parametrize("codec", ["pcm_f32le", "pcm_f64le", "wavpack"])
def test_floats_stay_floats(tmp_path, codec):
    options = ["-c:a", codec] + (["-sample_fmt", "fltp"] if codec == "wavpack" else [])
    encode(tmp_path / "x.mkv", tone(), *options, subtype="FLOAT")
    about = info(tmp_path / "x.mkv")
    assert about.subtype in ("FLOAT", "DOUBLE")
    assert output_format(about)[:2] == ("WAV", about.subtype)


@needs_ffmpeg
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("x.m4a", ["-c:a", "aac", "-b:a", "192k"]),
        ("x.mp4", ["-c:a", "aac", "-b:a", "192k"]),
        ("x.webm", ["-c:a", "libopus", "-ar", "48000"]),
        ("x.mkv", ["-c:a", "ac3"]),
        ("x.wma", ["-c:a", "wmav2"]),
    ],
)
def test_lossy_files_and_videos_are_read_aligned(tmp_path, name, options):
    path = tmp_path / name
    sample_rate = 48000 if "48000" in options else 44100
    sound = tone(2, sample_rate=sample_rate)
    encode(path, sound, *options, sample_rate=sample_rate)
    back, reader = read(path)
    assert (reader.info.sample_rate, reader.info.channels) == (sample_rate, 2)
    assert reader.info.seconds == pytest.approx(2, abs=0.1)
    assert not reader.truncated and reader.warnings == []
    assert abs(back.shape[1] - sound.shape[1]) < 4500
    frames = min(back.shape[1], sound.shape[1])
    # An encoder may delay by a block that it does not declare (wma); channels must not mix.
    delay = 2048 if name.endswith("wma") else 300
    for given, found, other in zip(sound, back, back[::-1], strict=True):
        scale = np.abs(np.fft.rfft(given[:frames])).argmax()
        assert np.abs(np.fft.rfft(found[:frames])).argmax() == scale
        assert np.abs(np.fft.rfft(other[:frames])).argmax() != scale
        lags = np.fft.irfft(np.fft.rfft(found[:frames]) * np.fft.rfft(given[:frames]).conj())
        assert min(int(lags.argmax()), frames - int(lags.argmax())) <= delay
    assert output_format(reader.info) == ("WAV", "PCM_16", ".wav")


@needs_ffmpeg
@pytest.mark.parametrize(("subtype", "form"), [("PCM_16", "s16p"), ("PCM_24", "s32p")])
def test_lossless_files_are_read_bit_by_bit_and_keep_their_resolution(tmp_path, subtype, form):
    path = tmp_path / "x.m4a"
    encode(path, tone(), "-c:a", "alac", "-sample_fmt", form, subtype=subtype)
    back, reader = read(path)
    wanted, _ = soundfile_round_trip(tmp_path, subtype)
    assert np.array_equal(back, wanted)
    assert output_format(reader.info) == ("WAV", subtype, ".wav")


def soundfile_round_trip(folder, subtype):
    soundfile.write(folder / "plain.wav", tone().T, 44100, subtype)
    return soundfile.read(folder / "plain.wav", dtype="float32")[0].T, 44100


@needs_ffmpeg
def test_block_size_never_changes_what_is_read(tmp_path):
    encode(tmp_path / "x.m4a", tone(1), "-c:a", "aac")
    whole, _ = read(tmp_path / "x.m4a", 10**6)
    assert np.array_equal(read(tmp_path / "x.m4a", 997)[0], whole)


@needs_ffmpeg
def test_tags_are_read(tmp_path):
    tags = {"title": "Gespräch", "artist": "Müller", "date": "2024", "comment": "c"}
    options = [word for key, text in tags.items() for word in ("-metadata", f"{key}={text}")]
    encode(tmp_path / "x.m4a", tone(1, 0.2), "-metadata", "track=3", *options, "-c:a", "aac")
    assert tags.items() <= info(tmp_path / "x.m4a").tags.items()
    assert info(tmp_path / "x.m4a").tags["tracknumber"] == "3"


@needs_ffmpeg
def test_the_content_counts_not_the_suffix_and_any_name_is_fine(tmp_path):
    for name in ("really-m4a.mp3", "-i.m4a", "http:x.m4a", "ähm 声音 %03d.m4a"):
        encode(tmp_path / name, tone(1, 0.2), "-c:a", "aac", "-f", "mp4", sample_rate=44100)
        assert read(tmp_path / name)[1].info.reader == "ffmpeg"


@needs_ffmpeg
def test_a_video_without_sound_and_a_broken_file_are_sentences(tmp_path):
    silent = tmp_path / "silent.mp4"
    make = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "color=s=32x32:d=0.2", str(silent)]
    subprocess.run(make, check=True)
    with pytest.raises(AudioError, match=r"silent.mp4 cannot be read as audio: it has no audio"):
        Reader(silent)
    encode(tmp_path / "x.m4a", tone(1, 1), "-c:a", "aac")
    data = (tmp_path / "x.m4a").read_bytes()
    (tmp_path / "x.m4a").write_bytes(data[: len(data) // 2])
    with pytest.raises(AudioError, match=r"x.m4a cannot be read as audio: moov atom not found"):
        Reader(tmp_path / "x.m4a")


def test_a_stopped_ffprobe_is_no_recording_without_sound(tmp_path, monkeypatch):
    for name in ("ffmpeg", "ffprobe"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\nps -o pgid= -p $$ > group\nkill -KILL $$\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.m4a").write_bytes(bytes(range(256)))
    with pytest.raises(AudioError, match="ffprobe was stopped"):
        Reader(tmp_path / "x.m4a")
    # Ctrl-C comes to all of a group, and it must stop us.
    assert int((tmp_path / "group").read_text()) != os.getpgrp()


@needs_ffmpeg
def test_a_cut_stream_gives_what_is_there_and_says_so(tmp_path):
    path = tmp_path / "x.mkv"
    encode(path, tone(1, 8), "-c:a", "aac")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    back, reader = read(path)
    assert 2 * 44100 < back.shape[1] < 6 * 44100
    assert reader.truncated and any("the rest is lost" in w for w in reader.warnings)


@needs_ffmpeg
def test_stopping_early_ends_the_program(tmp_path):
    encode(tmp_path / "x.m4a", tone(2, 30), "-c:a", "aac")
    with Reader(tmp_path / "x.m4a") as reader:
        reader.read(10)
        process = reader._source._process
        assert process.poll() is None
    assert process.poll() is not None


@needs_ffmpeg
def test_a_program_that_dies_midway_is_an_error_not_an_end(tmp_path):
    encode(tmp_path / "x.m4a", tone(2, 30), "-c:a", "aac")
    with (
        pytest.raises(AudioError, match="could not be decoded"),
        Reader(tmp_path / "x.m4a") as reader,
        Writer(tmp_path / "y.wav", 44100, 2) as writer,
    ):
        writer.write(reader.read(10))
        reader._source._process.terminate()
        for block in reader.blocks(100_000):
            writer.write(block)
    assert not (tmp_path / "y.wav").exists()


@needs_ffmpeg
def test_no_file_makes_the_network_be_called(tmp_path):
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/a.ts"
    playlist = f"#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{address}\n#EXT-X-ENDLIST\n"
    # A byte that is no text takes it past the check for text, to ffmpeg itself.
    (tmp_path / "x.m3u8").write_bytes(b"#EXTM3U\n#\xff\n" + playlist.encode())
    try:
        with pytest.raises(AudioError):
            Reader(tmp_path / "x.m3u8")
        assert asked == []
        # The trap works: let off the leash, ffmpeg does call.
        command = ["ffmpeg", "-v", "quiet", "-protocol_whitelist", "file,http,tcp"]
        command += ["-i", str(tmp_path / "x.m3u8"), "-f", "null", "-"]
        direct = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        subprocess.run(command, timeout=60, stdin=subprocess.DEVNULL, env=direct)
        assert asked
    finally:
        server.shutdown()
        server.server_close()


def test_without_the_program_it_is_named_and_how_to_get_it(tmp_path, monkeypatch):
    (tmp_path / "x.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not ffmpeg.available()
    with pytest.raises(AudioError, match=r"x.m4a needs the ffmpeg program to be read; install ff"):
        Reader(tmp_path / "x.m4a")


def test_reading_a_wav_never_starts_a_program(tmp_path):
    with Writer(tmp_path / "x.wav", 16000, 1) as writer:
        writer.write(np.zeros((1, 100), np.float32))
    program = (
        "import subprocess; subprocess.Popen = None\n"
        "from audiodae.files.audio import Reader\n"
        f"print(Reader({str(tmp_path / 'x.wav')!r}).read(1000).shape)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "(1, 100)", done.stderr


@needs_ffmpeg
def test_that_only_the_first_of_several_tracks_is_read_is_told(tmp_path):
    tones = [a for hz in (200, 2000) for a in ("-f", "lavfi", "-i", f"sine={hz}:r=44100:d=0.2")]
    maps = ["-map", "0:a", "-map", "1:a", "-c:a", "pcm_s16le"]
    subprocess.run(["ffmpeg", "-v", "error", *tones, *maps, str(tmp_path / "x.mkv")], check=True)
    with Reader(tmp_path / "x.mkv") as reader:
        sound = np.concatenate(list(reader.blocks(1000)), axis=1)
    assert sound.shape == (1, 8820)
    assert np.abs(np.fft.rfft(sound[0])).argmax() == 40  # 200 Hz
    assert "has 2 audio tracks, of which the first is read" in reader.warnings[0]


@needs_ffmpeg
def test_sound_that_begins_after_the_picture_stays_in_step_with_it(tmp_path):
    soundfile.write(tmp_path / "x.wav", np.full(44100, 0.5), 44100)
    picture = ["-f", "lavfi", "-i", "color=s=32x32:d=2"]
    sound = ["-itsoffset", "0.5", "-i", str(tmp_path / "x.wav"), "-map", "0:v", "-map", "1:a"]
    make = ["ffmpeg", "-v", "error", *picture, *sound, "-c:a", "pcm_s16le", str(tmp_path / "x.mkv")]
    subprocess.run(make, check=True)
    back, _ = read(tmp_path / "x.mkv")
    assert back.shape == (1, 22050 + 44100)
    assert not back[0, :22050].any() and np.allclose(back[0, 22050:], 0.5, atol=1e-4)
