"""What a measurement must say of signals whose worth is known beforehand."""

import math
import sys
import tracemalloc
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audiodae.errors import AudiodaeError, AudioError
from audiodae.measure import metrics
from audiodae.measure.spectral import log_spectral_distance_db
from audiodae.sound.resample import resample
from audiodae.sound.stft import Stft

DATA = Path(__file__).parent / "data"
RATE = 16_000
CLEAN, _ = soundfile.read(DATA / "clean-speech.flac")
NOISY, _ = soundfile.read(DATA / "noisy-speech.flac")
NOISE = np.random.default_rng(0).standard_normal(CLEAN.size) * CLEAN.std()
SILENCE = np.zeros(RATE)

gains = st.floats(0.01, 10.0)


def with_noise(snr_db):
    return CLEAN + NOISE * 10 ** (-snr_db / 20)


@given(gain=gains, offset=st.floats(-0.5, 0.5))
@settings(max_examples=25)
def test_si_sdr_does_not_hear_gain_or_offset(gain, offset):
    expected = metrics.si_sdr_db(NOISY, CLEAN)
    assert metrics.si_sdr_db(NOISY * gain + offset, CLEAN) == pytest.approx(expected, abs=1e-6)


@given(snr_db=st.floats(-40, 60))
@settings(max_examples=25)
def test_noise_at_right_angles_gives_its_own_ratio(snr_db):
    speech = CLEAN - CLEAN.mean()
    noise = NOISE - NOISE.mean()
    noise -= (noise @ speech) / (speech @ speech) * speech
    noise *= math.sqrt((speech @ speech) / (noise @ noise)) * 10 ** (-snr_db / 20)
    assert metrics.si_sdr_db(speech + noise, speech) == pytest.approx(snr_db, abs=1e-6)
    assert metrics.snr_db(speech + noise, speech) == pytest.approx(snr_db, abs=1e-6)


def test_snr_hears_the_gain_that_si_sdr_forgives():
    assert metrics.snr_db(CLEAN / 2, CLEAN) == pytest.approx(6.02, abs=0.01)
    assert metrics.si_sdr_db(CLEAN / 2, CLEAN) == metrics.LIMIT_DB


def test_silence_is_the_worst_answer_and_not_a_way_out():
    assert metrics.si_sdr_db(np.zeros_like(CLEAN), CLEAN) == -metrics.LIMIT_DB
    assert metrics.stoi(np.zeros_like(CLEAN), CLEAN, RATE) == pytest.approx(0.0, abs=1e-6)
    assert metrics.speech_attenuation_db(np.zeros_like(CLEAN), CLEAN, RATE) == metrics.LIMIT_DB


def test_a_silent_reference_has_no_score():
    for score in (metrics.si_sdr_db, metrics.snr_db):
        assert math.isnan(score(CLEAN[:RATE], SILENCE))
    for score in (metrics.stoi, metrics.pesq_wb, metrics.speech_attenuation_db):
        assert math.isnan(score(CLEAN[:RATE], SILENCE, RATE))


@pytest.mark.parametrize("samples", [0, 1, 100, 3000])
def test_clips_too_short_to_judge_never_crash(samples):
    x, s = NOISY[20_000 : 20_000 + samples], CLEAN[20_000 : 20_000 + samples]
    assert math.isnan(metrics.pesq_wb(x, s, RATE))
    stoi = metrics.stoi(x, s, RATE)
    assert math.isnan(stoi) or stoi == metrics.TOO_LITTLE_SPEECH_STOI
    for value in (
        metrics.si_sdr_db(x, s),
        metrics.speech_attenuation_db(x, s, RATE),
        metrics.noise_attenuation_db(x, x, s, RATE),
        log_spectral_distance_db(x, s, RATE),
    ):
        assert math.isnan(value) or abs(value) < 1000


def test_a_silent_answer_has_no_pesq():
    assert math.isnan(metrics.pesq_wb(np.zeros_like(CLEAN), CLEAN, RATE))


def test_speech_deleted_from_a_part_of_a_long_clip_makes_its_pesq_no_better():
    clean, noisy = np.tile(CLEAN, 2), np.tile(NOISY, 2)  # 18 s: heard in halves
    half = noisy * (np.arange(noisy.size) < NOISY.size)
    assert math.isnan(metrics.pesq_wb(half, clean, RATE))
    pause = clean * (
        np.arange(noisy.size) < NOISY.size
    )  # where nobody spoke, nothing was to be kept
    of_the_rest = metrics.pesq_wb(NOISY, CLEAN, RATE)
    assert metrics.pesq_wb(noisy, pause, RATE) == pytest.approx(of_the_rest, abs=1e-3)
    assert metrics.pesq_wb(half, pause, RATE) == pytest.approx(of_the_rest, abs=1e-3)


def test_pesq_and_stoi_fall_as_noise_rises():
    for score in (metrics.pesq_wb, metrics.stoi):
        values = [score(with_noise(snr_db), CLEAN, RATE) for snr_db in (60, 20, 5, -10)]
        assert values == sorted(values, reverse=True)
        assert values[0] - values[-1] > 0.3
    assert metrics.pesq_wb(CLEAN, CLEAN, RATE) == pytest.approx(4.64, abs=0.01)
    assert metrics.stoi(CLEAN, CLEAN, RATE) == pytest.approx(1.0, abs=1e-3)


def test_scores_at_16_khz_do_not_depend_on_the_rate_of_the_file():
    x, s = resample(NOISY[: 4 * RATE], RATE, 48_000), resample(CLEAN[: 4 * RATE], RATE, 48_000)
    for score in (metrics.pesq_wb, metrics.stoi):
        expected = score(NOISY[: 4 * RATE], CLEAN[: 4 * RATE], RATE)
        assert score(x, s, 48_000) == pytest.approx(expected, abs=0.03)


def test_pesq_survives_more_utterances_than_its_tables_hold():
    burst = np.concatenate([NOISE[: RATE // 2], np.zeros(RATE // 2)])
    speech = np.tile(burst, 60)
    noisy = speech + 0.05 * np.random.default_rng(1).standard_normal(speech.size) * burst.std()
    assert 1.0 < metrics.pesq_wb(noisy, speech, RATE) < 4.6


@given(gain=gains, sample_rate=st.sampled_from([8_000, 16_000, 22_050, 48_000]))
@settings(max_examples=12)
def test_speech_attenuation_is_the_gain_on_speech(gain, sample_rate):
    lost = metrics.speech_attenuation_db(CLEAN * gain, CLEAN, sample_rate)
    assert lost == pytest.approx(-20 * math.log10(gain), abs=1e-6)


@pytest.mark.parametrize("snr_db", [-5, 0, 10])
def test_noise_is_not_taken_for_speech_lost_or_won(snr_db):
    assert abs(metrics.speech_attenuation_db(with_noise(snr_db), CLEAN, RATE)) < 0.3
    halved = CLEAN / 2 + NOISE * 10 ** (-snr_db / 20)
    assert metrics.speech_attenuation_db(halved, CLEAN, RATE) == pytest.approx(6.02, abs=0.6)


def test_a_quiet_consonant_eaten_counts_more_than_its_energy():
    frames = CLEAN[: CLEAN.size // 320 * 320].reshape(-1, 320)
    power = np.square(frames).mean(axis=1)
    quiet = power < 0.05 * power.max()
    eaten = np.where(quiet[:, None], 0.0, frames).ravel()
    lost_energy_db = -10 * math.log10(power[~quiet].sum() / power.sum())
    assert metrics.speech_attenuation_db(eaten, frames.ravel(), RATE) > 1.5 * lost_energy_db > 0


def test_speech_high_up_eaten_is_speech_lost():
    spectrum = np.fft.rfft(CLEAN)
    spectrum[int(3000 / RATE * CLEAN.size) :] = 0
    lost = metrics.speech_attenuation_db(np.fft.irfft(spectrum, CLEAN.size), CLEAN, RATE)
    assert 0.3 < lost < 10


@given(gain=gains)
@settings(max_examples=12)
def test_noise_attenuation_is_the_gain_on_noise(gain):
    cut = metrics.noise_attenuation_db(NOISY * gain, NOISY, CLEAN, RATE)
    assert cut == pytest.approx(-20 * math.log10(gain), abs=1e-6)


def test_noise_attenuation_listens_only_to_pauses():
    pause = np.repeat(np.arange(9) % 2 == 1, RATE)
    clean = np.where(pause, 0.0, NOISE)
    noisy = clean + with_noise(0) - CLEAN
    louder_speech = np.where(pause, noisy * 0.1, noisy * 3.0)
    assert metrics.noise_attenuation_db(louder_speech, noisy, clean, RATE) == pytest.approx(20.0)
    assert math.isnan(metrics.noise_attenuation_db(noisy, noisy, NOISE, RATE))


@pytest.mark.parametrize("level", [0.1, 0.3, 0.37, 1e-8, 1.0])
def test_a_constant_is_silence_however_its_mean_is_rounded(level):
    assert math.isnan(metrics.si_sdr_db(CLEAN, np.full(CLEAN.size, level)))
    quiet = 1e-6 * CLEAN + level  # and beside a constant a quiet recording is none
    assert metrics.si_sdr_db(quiet, 1e-6 * CLEAN) > 60


@given(samples=st.integers(0, 5000), parts=st.sampled_from([2, 3, 4]), hop=st.integers(1, 300))
def test_blocks_of_frames_hold_every_frame_once(samples, parts, hop):
    stft = Stft(RATE, parts * hop, hop)
    x = np.arange(samples, dtype=np.float64)[None]
    blocks = list(metrics.frame_blocks(stft, samples))
    if samples < stft.n_fft:
        assert not blocks
        return
    spectra = [stft.analyse(x[:, block]) for block in blocks]
    assert np.array_equal(np.concatenate(spectra, axis=1), stft.analyse(x))


def test_memory_for_spectra_does_not_grow_with_length():
    rng = np.random.default_rng(2)
    x, s = (rng.standard_normal(60 * 48_000) * 0.1 for _ in range(2))
    peaks = []
    for seconds in (20, 60):
        tracemalloc.start()
        log_spectral_distance_db(x[: seconds * 48_000], s[: seconds * 48_000], 48_000)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < s[: 40 * 48_000].nbytes


@given(gain=gains)
@settings(max_examples=12)
def test_spectral_distance_of_a_gain_is_the_gain(gain):
    distance = log_spectral_distance_db(NOISE * gain, NOISE, RATE)
    assert distance == pytest.approx(abs(20 * math.log10(gain)), abs=0.01)
    assert log_spectral_distance_db(-NOISE, NOISE, RATE) == pytest.approx(0.0, abs=1e-9)


def test_spectral_distance_above_a_frequency_is_deaf_below_it():
    time = np.arange(NOISE.size) / 48_000
    hum = np.sin(2 * np.pi * 1000 * time)
    assert log_spectral_distance_db(NOISE + hum, NOISE, 48_000, 8000) < 0.1
    assert log_spectral_distance_db(NOISE + hum, NOISE, 48_000, 0) > 0.5
    whistle = np.sin(2 * np.pi * 12_000 * time)
    assert log_spectral_distance_db(NOISE + whistle, NOISE, 48_000, 8000) > 0.5
    with pytest.raises(AudioError, match="ends at 8000 Hz"):
        log_spectral_distance_db(NOISE, NOISE, RATE, 9000)


def test_the_spectral_distance_is_what_its_docstring_writes_out():
    x, s = NOISE, np.cumsum(NOISE) / 50

    def level_db(signal):
        starts = range(0, len(signal) - 2047, 512)
        frames = np.stack([signal[i : i + 2048] for i in starts])
        spectrum = np.fft.fft(frames * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)))
        return 20 * np.log10(np.abs(spectrum[:, 342:1025]) + 1e-5)  # 8016 Hz and up

    expected = np.sqrt(np.mean((level_db(x) - level_db(s)) ** 2, axis=1)).mean()
    assert log_spectral_distance_db(x, s, 48_000, 8000) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("estimate", "sentence"),
    [
        (CLEAN[:-1], "equal lengths"),
        (CLEAN[None], r"one channel"),
        (np.where(np.arange(CLEAN.size) == 7, np.nan, CLEAN), "NaN"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_a_sentence(estimate, sentence):
    with pytest.raises(AudioError, match=sentence):
        metrics.si_sdr_db(estimate, CLEAN)
    with pytest.raises(AudioError, match=sentence):
        metrics.pesq_wb(estimate, CLEAN, RATE)


@pytest.mark.parametrize(
    ("package", "extra", "measure"),
    [
        ("pesq", "metrics", lambda: metrics.pesq_wb(CLEAN, CLEAN, RATE)),
        ("pystoi", "metrics", lambda: metrics.stoi(CLEAN, CLEAN, RATE)),
        ("onnxruntime", "dnsmos", lambda: metrics.dnsmos(CLEAN, RATE)),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    package, extra, measure, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)
    metrics._dnsmos_session.cache_clear()
    with pytest.raises(AudiodaeError, match=rf'`{package}`.*pip install "audiodae\[{extra}\]"'):
        measure()


class TestDnsmos:
    """Runs where the optional extra `dnsmos` is installed."""

    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("onnxruntime", reason="the optional extra `dnsmos` is not installed")
        if not find_spec("speechmos"):
            pytest.skip("the optional extra `dnsmos` is not installed")

    def test_noise_is_heard_without_a_reference(self):
        clean, noisy = metrics.dnsmos(CLEAN, RATE), metrics.dnsmos(NOISY, RATE)
        assert clean.bak > noisy.bak + 0.5
        assert clean.ovrl > noisy.ovrl + 0.5
        assert all(1 <= score <= 5 for score in (*clean, *noisy))

    def test_any_length_and_level_has_a_score_but_nothing_has_none(self):
        for clip in (CLEAN[:1], np.tile(CLEAN, 2)[: 11 * RATE] * 20):
            assert np.isfinite(metrics.dnsmos(clip, RATE)).all()
        assert np.isnan(metrics.dnsmos(CLEAN[:0], RATE)).all()

    def test_a_short_clip_is_heard_as_its_own_repetition(self):
        once, twice = CLEAN[: 3 * RATE], np.tile(CLEAN[: 3 * RATE], 2)
        assert metrics.dnsmos(once, RATE) == pytest.approx(metrics.dnsmos(twice, RATE))

    @pytest.mark.parametrize("seconds", [18, 25])
    def test_a_long_clip_is_heard_where_the_original_hears_it(self, seconds):
        rest = np.resize(CLEAN, (seconds - 16) * RATE)
        assert metrics.dnsmos(np.concatenate([self.long(), rest]), RATE) == self.heard_of_long()

    @staticmethod
    def long():
        return np.resize(NOISY, 16 * RATE)

    @staticmethod
    @cache
    def heard_of_long():
        return metrics.dnsmos(TestDnsmos.long(), RATE)
