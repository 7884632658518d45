"""The speech probability: near one on speech, near zero on noise and silence, at the right moments."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import audiodae
from audiodae.cli.main import main
from audiodae.nets.checkpoint import load_net
from audiodae.sound.resample import resample
from audiodae.streaming.voice import VoiceTrack, segments

DATA = Path(__file__).parent / "data"
RATE = 16000


@pytest.fixture(scope="module")
def denoiser() -> audiodae.Denoiser:
    return audiodae.load("speech-16k")


@pytest.fixture(scope="module")
def speech() -> tuple[np.ndarray, np.ndarray]:
    """The demo recording, noisy; and for each sample, whether there is speech in it, and loud."""
    noisy = soundfile.read(DATA / "noisy-speech.flac", dtype="float32")[0]
    clean = soundfile.read(DATA / "clean-speech.flac", dtype="float32")[0]
    power = np.convolve(clean**2, np.ones(800) / 800, "same")
    return noisy, power > 0.05 * np.percentile(power, 95)


def track(stream: audiodae.Streamer, x: np.ndarray, chunk: int = 5000) -> np.ndarray:
    """The probability for every sample of `x`."""
    parts = []
    for i in range(0, x.shape[-1], chunk):
        out = stream.feed(x[..., i : i + chunk])
        assert stream.speech_probability.shape[-1] == out.shape[-1]
        parts.append(stream.speech_probability)
    stream.flush()
    return np.concatenate([*parts, stream.speech_probability], axis=-1)


@pytest.mark.parametrize("sample_rate", [16000, 48000])
def test_it_is_near_one_on_speech_and_near_zero_in_the_noise_before(denoiser, speech, sample_rate):
    noisy, loud = speech
    fan = (noisy - soundfile.read(DATA / "clean-speech.flac", dtype="float32")[0])[:48000]
    x = resample(np.concatenate([fan, noisy]), RATE, sample_rate)
    p = track(denoiser.stream(sample_rate=sample_rate), x)
    assert p.dtype == np.float32 and p.shape == x.shape
    p = p[:: sample_rate // RATE]
    assert np.median(p[48000:][loud]) > 0.95
    assert np.mean(p[48000:][loud] > 0.5) > 0.85
    assert np.mean(p[:48000] > 0.5) < 0.05
    assert np.mean(p[:48000]) < 0.1


def test_noise_hum_and_silence_are_no_speech(denoiser):
    rng = np.random.default_rng(0)
    time = np.arange(3 * RATE) / RATE
    white = rng.standard_normal(len(time))
    for x in (
        0.1 * white,
        1e-4 * white,
        0.1 * np.sign(np.sin(2 * np.pi * 50 * time)) + 0.01 * white,
        np.zeros(len(time)),
    ):
        p = track(denoiser.stream(), x.astype(np.float32))[RATE // 2 :]
        assert p.mean() < 0.05 and p.max() < 0.5


def test_clean_speech_is_speech_and_its_pauses_are_none(denoiser):
    clean = soundfile.read(DATA / "clean-speech.flac", dtype="float32")[0]
    power = np.convolve(clean**2, np.ones(1600) / 1600, "same")
    p = track(denoiser.stream(), clean)
    assert np.median(p[power > 0.05 * np.percentile(power, 95)]) > 0.98
    quiet = power < 1e-8
    assert quiet.sum() > 3000 and np.median(p[quiet]) < 0.05


def test_it_belongs_to_the_samples_it_is_given_with(denoiser):
    """Speech that begins in the middle of digital silence."""
    clean = soundfile.read(DATA / "clean-speech.flac", dtype="float32")[0]
    loudest = int(np.argmax(np.convolve(clean**2, np.ones(800), "same")))
    x = np.zeros(3 * RATE, np.float32)
    x[RATE : 2 * RATE] = np.resize(clean[loudest - 2000 : loudest + 2000], RATE)
    p = track(denoiser.stream(), x)
    begin, end = np.flatnonzero(p > 0.5)[[0, -1]]
    assert abs(begin - RATE) < 2 * 256 + 800 and abs(end - 2 * RATE) < 2 * 256 + 800


@given(
    lengths=st.lists(st.integers(0, 3000), max_size=8),
    sample_rate=st.sampled_from([16000, 44100]),
    block_frames=st.sampled_from([1, 4]),
)
@settings(max_examples=15)
def test_any_chunking_gives_the_same_track(denoiser, speech, lengths, sample_rate, block_frames):
    x = speech[0][20000:30000]
    make = {"sample_rate": sample_rate, "block_frames": block_frames}
    whole = track(denoiser.stream(**make), x, chunk=10000)
    stream, parts = denoiser.stream(**make), []
    for chunk in np.split(x, np.cumsum(lengths)):
        stream.feed(chunk)
        parts.append(stream.speech_probability)
    stream.flush()
    assert np.array_equal(np.concatenate([*parts, stream.speech_probability]), whole)


def test_it_does_not_hear_mix_and_limit_and_every_row_has_its_own(denoiser, speech):
    x = np.stack([speech[0][:30000], np.zeros(30000, np.float32)])[:, None]
    plain = track(denoiser.stream(batch=2), x)
    assert plain.shape == (2, 30000)
    assert plain[0].max() > 0.9 and plain[1].max() < 0.01
    assert np.array_equal(track(denoiser.stream(batch=2, mix=0.0), x), plain)
    each = track(denoiser.stream(channels=2, link="each"), x[:, 0])
    assert each.shape == (30000,) and np.abs(each - plain[0]).max() < 1e-3


def test_the_engines_agree_and_give_the_caller_s_kind_of_array(speech):
    torch = pytest.importorskip("torch")
    x = speech[0][:20000]
    wanted = track(audiodae.Streamer("speech-16k", engine="onnx"), x)
    stream = audiodae.Streamer("speech-16k", engine="torch")
    assert isinstance(stream.feed(torch.from_numpy(x)), torch.Tensor)
    given_first = stream.speech_probability
    assert isinstance(given_first, torch.Tensor)
    assert np.abs(given_first.numpy() - wanted[: len(given_first)]).max() < 1e-3


def test_a_state_and_a_reset_go_with_it(denoiser, speech):
    x = speech[0][:30000]
    first, second = denoiser.stream(), denoiser.stream()
    first.feed(x[:12345])
    second.state = first.state
    assert second.speech_probability.shape == (0,)
    first.feed(x[12345:]), second.feed(x[12345:])
    assert np.array_equal(first.speech_probability, second.speech_probability)
    first.reset()
    assert first.speech_probability.shape == (0,)


def test_segments_bridge_short_pauses_and_drop_clicks():
    p = np.zeros(200)
    p[20:60] = p[70:100] = 1.0  # a pause of 0.16 s
    p[150:153] = 1.0
    assert segments(p, 0.016) == [{"start": 0.32, "end": 1.6}]
    assert segments(np.zeros(0), 0.016) == []
    assert segments(np.ones(10), 0.1, 0.95) == [{"start": 0.0, "end": 0.95}]


def test_what_is_written_of_a_long_recording_takes_little_memory_and_is_all_there():
    values = np.square(np.sin(np.arange(30_001) / 300)).astype(np.float32)
    heard = VoiceTrack(100, 0.01)  # a value a sample
    tracemalloc.start()
    for start in range(0, len(values), 1000):
        heard.add(values[start : start + 1000])
    for _ in heard.as_json({"source": "a.wav"}):
        pass
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 16 * len(values)
    document = json.loads("".join(heard.as_json({"source": "a.wav"})))
    assert document["probability"] == [round(float(value), 3) for value in values]
    assert document["source"] == "a.wav" and document["hop_seconds"] == 0.01
    nothing = json.loads("".join(VoiceTrack(100, 0.01).as_json({})))
    assert nothing["segments"] == nothing["probability"] == []


def test_the_command_writes_it(tmp_path, speech):
    (tmp_path / "in").mkdir()
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / "in" / name, speech[0], RATE)
    one = ["clean", tmp_path / "in" / "a.wav", "-o", tmp_path / "a.wav", "--vad"]
    done = CliRunner().invoke(main, [*map(str, one), str(tmp_path / "speech.json")])
    assert done.exit_code == 0, done.output
    heard = json.loads((tmp_path / "speech.json").read_text())
    hop_seconds = load_net("speech-16k").stft.hop_length / RATE
    assert heard["seconds"] == 9.0 and heard["hop_seconds"] == hop_seconds
    assert len(heard["probability"]) == math.ceil(9.0 / hop_seconds)  # from 0 on
    assert all(0.0 <= p <= 1.0 for p in heard["probability"])
    assert heard["segments"] and all(
        s["start"] < s["end"] <= 9.0 + hop_seconds for s in heard["segments"]
    )
    folder = [tmp_path / "in", "-o", tmp_path / "out", "--vad", tmp_path / "speech", "--jobs", "2"]
    done = CliRunner().invoke(main, ["clean", *map(str, folder)])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "speech" / "b.wav.json").read_text())["probability"]
    (tmp_path / "file").touch()
    nowhere = [tmp_path / "in", "-o", tmp_path / "d", "--vad", tmp_path / "file" / "speech"]
    done = CliRunner().invoke(main, ["clean", *map(str, nowhere)])
    assert done.exit_code == 1 and "file" in done.output
    assert not (tmp_path / "d" / "a.wav").exists()
    both = [tmp_path / "in", "-o", tmp_path / "c", "--vad", tmp_path / "all.json"]
    done = CliRunner().invoke(main, ["clean", *map(str, both)])
    assert done.exit_code == 1 and "all.json" in done.output
