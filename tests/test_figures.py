"""What the figures are made with does what its name says."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tasks_model import RATE, machine

pytest.importorskip("sklearn", reason="the extra `analysis` is not installed")
sys.path.insert(0, str(Path(__file__).parent.parent / "scripts" / "figures"))
import damage
import generation

WAYS = damage.ten_ways([machine(1.0, 5, hum_hz=700.0)])


@pytest.mark.parametrize("way", WAYS)
def test_damage_changes_a_recording_and_keeps_its_length(way):
    if "Opus" in way and not (shutil.which("ffmpeg") and shutil.which("ffprobe")):
        pytest.skip("needs the programs ffmpeg and ffprobe")
    x = machine(4.0, 1)
    before = x.copy()
    y = WAYS[way](x, np.random.default_rng(0))
    assert y.shape == x.shape and np.isfinite(y).all()
    assert np.abs(y - x).max() > 0.01
    np.testing.assert_array_equal(x, before)


def test_a_folder_that_is_not_there_is_told_in_a_sentence(tmp_path):
    figures = str(Path(damage.__file__).parent)
    folders = ["--speech", "not-there", "--noise", "not-there", "--cache", str(tmp_path)]
    words = [sys.executable, figures, *folders, "reconstruction"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1 and "not-there is not a folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_each_damage_is_the_one_it_is_called():
    x, rng = machine(4.0, 1), np.random.default_rng(0)
    hz = np.fft.rfftfreq(len(x), 1 / RATE)
    high = np.abs(np.fft.rfft(damage.band_loss(x, rng)))[hz > 4000]
    assert high.max() < 0.01 * np.abs(np.fft.rfft(x))[hz > 4000].max()
    assert np.abs(damage.clipping(x, rng)).max() == pytest.approx(np.abs(x).max() * 0.316, rel=0.01)
    assert np.mean(damage.dropouts(x, rng) == 0) > 0.02
    hum = damage.hum(x, rng) - x
    assert hum.std() == pytest.approx(0.1 * x.std(), rel=0.05)


def test_frechet_is_zero_for_the_same_and_the_squared_distance_for_the_shifted():
    rows = np.random.default_rng(0).standard_normal((500, 4))
    assert generation.frechet(rows, rows) == pytest.approx(0, abs=1e-3)
    assert generation.frechet(rows, rows + np.array((3, 0, 4, 0))) == pytest.approx(25, abs=0.01)
    assert generation.frechet(rows, 2 * rows) == pytest.approx(np.trace(np.cov(rows.T)), rel=0.05)


def test_shuffling_keeps_the_spectrum_and_filtering_too():
    x, rng = machine(4.0, 1), np.random.default_rng(0)
    assert generation.shuffled(x, rng).std() == pytest.approx(x.std(), rel=1e-3)
    made = generation.levelled(generation.filtered_white(x, rng))
    spectrum = np.abs(np.fft.rfft(made[:RATE]))
    assert 100 < np.argmax(spectrum) < 1000  # a hum of 120 Hz and its harmonics, in 16 Hz bins
