"""Pictures that show what was there: right place, right level, any length, nothing half-written."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audiodae.errors import AudiodaeError, AudioError
from audiodae.recordings.plot import plot_before_after, plot_files, spectrogram

DATA = Path(__file__).parent / "data"
RATE = 16_000
PNG = b"\x89PNG\r\n\x1a\n"


def tone(hz, seconds, sample_rate=RATE, amplitude=1.0):
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return (amplitude * np.sin(2 * np.pi * hz * time)).astype(np.float32)


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("amplitude", [1.0, 0.01])
def test_a_tone_is_a_line_at_its_frequency_and_level(sample_rate, amplitude):
    picture = spectrogram([tone(1000, 1, sample_rate, amplitude)[None]], sample_rate)
    hz = np.linspace(0, sample_rate / 2, picture.level_db.shape[0])
    assert (np.abs(hz[picture.level_db.argmax(axis=0)] - 1000) < 20).all()
    np.testing.assert_allclose(picture.level_db.max(axis=0), 20 * np.log10(amplitude), atol=1.5)


@given(cuts=st.lists(st.integers(1, 5000), max_size=12))
@settings(max_examples=25)
def test_any_blocks_draw_the_same_picture(cuts):
    sound = np.random.default_rng(0).standard_normal((2, 24_000)).astype(np.float32)
    whole = spectrogram([sound], RATE, max_seconds=0.5)
    ends = np.unique(np.minimum(np.cumsum(cuts), sound.shape[1])) if cuts else []
    pieces = spectrogram(np.split(sound, np.int_(ends), axis=1), RATE, max_seconds=0.5)
    np.testing.assert_allclose(pieces.level_db, whole.level_db, atol=1e-3)
    assert pieces.seconds == whole.seconds == 1.5


@pytest.mark.parametrize("seconds", [5, 5.1, 10, 19.7, 40, 100])
def test_long_sound_is_thinned_evenly_and_shown_to_its_end(seconds):
    samples = round(seconds * RATE)
    sound = np.random.default_rng(0).standard_normal((1, samples)).astype(np.float32)
    sound[:, samples // 2 :] *= 0.001
    picture = spectrogram([sound], RATE, max_seconds=5)
    columns = picture.level_db.shape[1]
    assert columns <= 5 * 125 + 1
    assert columns >= min(seconds, 5) * 125 // 2 - 3
    # The drop of 60 dB in the middle of the sound is in the middle of the picture.
    loud = picture.level_db.mean(axis=0) > picture.level_db.mean()
    assert abs(loud.sum() / columns - 0.5) < 0.01


def test_memory_does_not_grow_with_length():
    import tracemalloc

    def peak_bytes(seconds):
        tracemalloc.start()
        spectrogram((second for _ in range(seconds)), RATE, max_seconds=5)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    second = np.random.default_rng(0).standard_normal((2, RATE)).astype(np.float32)
    assert peak_bytes(400) < 1.1 * peak_bytes(20)


@pytest.mark.parametrize("samples", [0, 1, 511])
def test_sound_shorter_than_a_frame_is_one_column(samples, tmp_path):
    assert spectrogram([np.ones((1, samples), np.float32)], RATE).level_db.shape == (257, 1)
    short = np.ones(samples, np.float32)
    plot_before_after(short, short * 0, RATE, tmp_path / "short.png")
    assert (tmp_path / "short.png").read_bytes().startswith(PNG)


def pixels(path):
    from matplotlib.image import imread

    return imread(path)[..., :3]


def test_before_is_above_after_on_one_colour_scale(tmp_path):
    loud, quiet = tone(2000, 2), tone(2000, 2, amplitude=1e-6)
    plot_before_after(loud, quiet, RATE, tmp_path / "a.png")
    plot_before_after(quiet, loud, RATE, tmp_path / "b.png", title="x $ y _ z")
    for name, bright in (("a.png", "upper"), ("b.png", "lower")):
        image = pixels(tmp_path / name)
        assert image.shape[0] >= 600
        assert image.shape[1] >= 1000
        # Between axis and colour bar: points with the colour of the loud line.
        inner = image[:, image.shape[1] // 8 : image.shape[1] * 4 // 5]
        line = (inner[..., 0] > 0.9) & (inner[..., 2] < 0.85) & (inner[..., 1] < 0.99)
        upper, lower = np.array_split(line, 2, axis=0)
        counts = {"upper": upper.sum(), "lower": lower.sum()}
        assert counts[bright] > 1000
        assert min(counts.values()) == 0


def test_files_and_arrays_draw_the_same_picture(tmp_path):
    before, after = DATA / "noisy-speech.flac", DATA / "clean-speech.flac"
    plot_files(before, after, tmp_path / "files.png", title="same")
    arrays = [soundfile.read(path, dtype="float32")[0] for path in (before, after)]
    plot_before_after(*arrays, RATE, tmp_path / "arrays.png", title="same")
    assert (tmp_path / "files.png").read_bytes() == (tmp_path / "arrays.png").read_bytes()


def test_hours_are_drawn_with_a_clock(tmp_path):
    from audiodae.recordings import plot

    assert plot._clock(3 * 3600 + 65) == "3:01:05"
    second = tone(500, 1)[None]
    long = spectrogram((second for _ in range(400)), RATE)
    plot._draw(long, long, tmp_path / "long.png", None)
    assert pixels(tmp_path / "long.png").std() > 0.05


def test_drawing_leaves_the_callers_own_plots_alone(tmp_path):
    before = set(sys.modules)
    plot_before_after(tone(500, 1), tone(500, 1), RATE, tmp_path / "a.png")
    assert "matplotlib.pyplot" not in set(sys.modules) - before
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_what_cannot_be_drawn_is_refused_with_a_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    sound = tone(500, 1)
    with pytest.raises(AudioError, match=r"shape \(1, 1, 16000\)"):
        plot_before_after(sound[None, None], sound, RATE, tmp_path / "a.png")
    with pytest.raises(AudioError, match="cannot be written"):
        plot_before_after(sound, sound, RATE, tmp_path / "nowhere" / "a.png")
    with pytest.raises(AudioError):
        plot_files(tmp_path / "none.wav", tmp_path / "none.wav", tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(AudiodaeError, match=r'pip install "audiodae\[plot\]"'):
        plot_before_after(sound, sound, RATE, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_a_name_no_font_has_is_drawn_without_a_word(tmp_path):
    sound = tone(500, 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_before_after(sound, sound, RATE, tmp_path / "picture.png", title="日本語.wav")
