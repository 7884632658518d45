"""Between two real ffmpeg programs: live, whole, and polite when one of them leaves."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
from sounds import noise

import audiodae

pytestmark = pytest.mark.skipif(
    shutil.which("ffmpeg") is None or os.name == "nt", reason="needs the program ffmpeg and a shell"
)
CLEAN = f"{shlex.quote(sys.executable)} -m audiodae clean -"
MODEL = "speech-16k"
QUIET = "ffmpeg -hide_banner -loglevel error -nostdin"


def shell(line, folder):
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], cwd=folder, capture_output=True, timeout=120
    )
    return done.returncode, done.stderr.decode()


@pytest.fixture
def talk(tmp_path):
    soundfile.write(tmp_path / "talk.wav", noise(2, 50_021).T, 44_100, subtype="PCM_16")
    return tmp_path


def test_between_two_ffmpegs_the_length_and_the_sound_are_those_of_the_stream(talk):
    code, said = shell(
        f"{QUIET} -i talk.wav -f wav -c:a pcm_f32le - | {CLEAN} --model {MODEL} "
        f"| {QUIET} -f wav -i - -c:a pcm_f32le clean.wav",
        talk,
    )
    assert (code, said) == (0, "")
    clean, rate = soundfile.read(talk / "clean.wav", dtype="float32")
    noisy, _ = soundfile.read(talk / "talk.wav", dtype="float32")
    assert rate == 44_100 and clean.shape == noisy.shape
    stream = audiodae.load(MODEL).stream(sample_rate=rate, channels=2)
    wanted = np.concatenate([stream.feed(noisy.T), stream.flush()], axis=-1)
    # Not to the bit: the order of sums depends on the number of threads, and the command takes one.
    np.testing.assert_allclose(clean.T, wanted, rtol=0, atol=1e-6)


def test_raw_sound_goes_between_them_too(talk):
    raw = "--encoding s16 --rate 44100 --input-channels 2"
    code, said = shell(
        f"{QUIET} -i talk.wav -f s16le - | {CLEAN} {raw} --model {MODEL} > clean.s16", talk
    )
    assert (code, said) == (0, "")
    assert (talk / "clean.s16").stat().st_size == 50_021 * 2 * 2


def test_a_video_s_sound_is_cleaned_as_the_readme_says(tmp_path):
    soundfile.write(tmp_path / "talk.wav", noise(1, 48_000).T, 48_000)
    code, said = shell(f"{QUIET} -i talk.wav -c:a aac talk.mp4", tmp_path)
    assert code == 0, said
    code, said = shell(
        f"{QUIET} -i talk.mp4 -f wav - | {CLEAN} --model {MODEL} | {QUIET} -i - talk-clean.m4a",
        tmp_path,
    )
    assert (code, said) == (0, "")
    assert abs(seconds(tmp_path / "talk-clean.m4a") - seconds(tmp_path / "talk.mp4")) < 0.05


def seconds(path):
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "json", path],
        capture_output=True,
        check=True,
    )
    return float(json.loads(done.stdout)["format"]["duration"])


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_the_first_sample_is_out_after_the_latency_and_one_more(rate):
    latency = audiodae.load(MODEL).stream(sample_rate=rate).latency
    block = rate // 100
    with subprocess.Popen(
        [*shlex.split(CLEAN), "--encoding", "f32", "--rate", str(rate), "--model", MODEL],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        process.stdin.write(bytes(4 * (latency + block)))
        process.stdin.flush()
        assert len(process.stdout.read(4 * block)) == 4 * block  # and the stream is still open
        process.stdin.write(bytes(4))
        process.stdin.flush()
        assert len(process.stdout.read(4)) == 4
        process.stdin.close()
        assert len(process.stdout.read()) == 4 * latency


def test_a_live_ffmpeg_is_heard_while_it_runs():
    source = "anoisesrc=r=48000:d=30"
    program = (
        f"{QUIET} -re -f lavfi -i {source} -f wav -flush_packets 1 - | {CLEAN} --model {MODEL}"
    )
    with subprocess.Popen(
        ["bash", "-c", program], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        header = process.stdout.read(44)
        assert header[:4] == b"RIFF"
        began = time.monotonic()
        assert len(process.stdout.read(2 * 24_000)) == 2 * 24_000
        assert time.monotonic() - began < 20  # of 30 seconds it plays
        os.killpg(process.pid, signal.SIGKILL)


def test_when_the_sender_is_killed_what_came_is_cleaned_to_its_end():
    source = "anoisesrc=r=16000:d=60"
    sender = subprocess.Popen(
        [*QUIET.split(), "-re", "-f", "lavfi", "-i", source, "-f", "s16le", "-"],
        stdout=subprocess.PIPE,
    )
    # Counted on the way, so that it is known how much came.
    with subprocess.Popen(
        [*shlex.split(CLEAN), "--encoding", "s16", "--rate", "16000", "--model", MODEL],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        came = sender.stdout.read(20_000)
        sender.kill()
        came += sender.stdout.read()
        sender.wait()
        out, said = process.communicate(came, timeout=60)
    assert process.returncode == 0 and said == b""
    assert len(out) == len(came) // 2 * 2


def test_when_the_listener_leaves_the_whole_pipe_ends_without_a_word_from_us(talk):
    line = (
        f"ffmpeg -hide_banner -loglevel quiet -nostdin -f lavfi -i anoisesrc=d=3600 -f wav - "
        f"| {CLEAN} --model {MODEL} | head -c 5000 > some.wav; echo ${{PIPESTATUS[1]}}"
    )
    done = subprocess.run(
        ["bash", "-c", line], cwd=talk, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "141" and done.stderr == ""
    assert (talk / "some.wav").stat().st_size == 5000


def test_an_ffmpeg_that_finds_no_sound_leaves_one_sentence(tmp_path):
    code, said = shell(
        f"ffmpeg -loglevel quiet -nostdin -i none.mp4 -f wav - | {CLEAN} --model {MODEL} > out.wav",
        tmp_path,
    )
    assert code != 0 and "empty" in said and "Traceback" not in said
    assert (tmp_path / "out.wav").stat().st_size == 0
