"""What was damaged stands out, where it was damaged; what was not, does not."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from sounds import write
from tasks_model import RATE, machine

from audiodae.anomaly import Gaussian, describe_file, fit, score
from audiodae.cli import main
from audiodae.detector_file import read_detector, write_detector
from audiodae.errors import AudiodaeError, CheckpointError


def run(*arguments):
    return CliRunner().invoke(main, ["anomaly", *map(str, arguments)])


@pytest.fixture(scope="module")
def normal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("normal")
    for seed in range(100, 124):
        write(folder / f"{seed}.wav", machine(4.0, seed)[None])
    return folder


@pytest.fixture(scope="module")
def detector(normal, plain_model):
    clips = [describe_file(path, plain_model.net)[0] for path in sorted(normal.iterdir())]
    return fit(clips, plain_model)


def scores_of(sound, tmp_path, detector, model):
    write(tmp_path / "x.wav", sound[None])
    rows, _ = describe_file(tmp_path / "x.wav", model.net)
    return score(rows, detector, 0.256)


def dropout(x):
    x[24000:40000] = 0


def clicks(x):
    x[20000:44000:3000] = 0.9


def clipping(x):
    np.clip(x * 20, -0.5, 0.5, out=x)


def stranger(x):
    x[24000:40000] += 0.1 * np.sin(np.arange(16000) * 2 * np.pi * 3300 / RATE)


@pytest.mark.parametrize("damage", [dropout, clicks, clipping, stranger])
def test_damage_is_found(damage, tmp_path, detector, plain_model):
    sound = machine(4.0, seed=7)
    before = scores_of(sound, tmp_path, detector, plain_model)
    damage(sound)
    after = scores_of(sound, tmp_path, detector, plain_model)
    assert after.odd and after.clip > 1.5 * before.clip


@pytest.mark.parametrize("damage", [dropout, stranger])
def test_where_it_is_odd_is_where_it_was_damaged(damage, tmp_path, detector, plain_model):
    sound = machine(4.0, seed=8)
    damage(sound)
    spans = scores_of(sound, tmp_path, detector, plain_model).odd_spans
    assert len(spans) == 1
    assert spans[0] == pytest.approx((1.5, 2.5), abs=0.35)  # patches of 0.26 s, frames across them


def test_normal_recordings_are_seldom_odd(tmp_path, detector, plain_model):
    scores = [scores_of(machine(4.0, s), tmp_path, detector, plain_model) for s in range(40)]
    assert sum(s.odd for s in scores) <= 6  # the highest of 24 clips is but a rough quantile
    patches = np.concatenate([s.patches for s in scores])
    assert np.mean(patches > 1) < 0.03  # the threshold is the 0.99 quantile of others


def test_distances_are_about_one_whatever_the_units():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((2000, 5)) * [1, 10, 100, 0.1, 1e3] + [0, 5, 0, 1, 1e4]
    distance = Gaussian.fit(rows).distance(rows)
    assert np.sqrt(np.square(distance).mean()) == pytest.approx(1, abs=0.05)
    scaled = Gaussian.fit(rows * 7).distance(rows * 7)
    np.testing.assert_allclose(scaled, distance, rtol=1e-6)


def test_a_detector_comes_back_from_its_files(tmp_path, detector):
    path = write_detector(tmp_path / "d", detector)
    again = read_detector(tmp_path / "d")
    np.testing.assert_array_equal(again.normal.clips.whitening, detector.normal.clips.whitening)
    assert (again.clip_threshold, again.sha256) == (detector.clip_threshold, detector.sha256)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged or was exchanged"):
        read_detector(tmp_path / "d")
    path.with_suffix(".json").write_text("{}")
    with pytest.raises(CheckpointError, match="no anomaly detector"):
        read_detector(tmp_path / "d")


def test_too_little_and_impossible_wishes_are_refused(plain_model, detector):
    with pytest.raises(AudiodaeError, match="at least 10 s"):
        fit([np.zeros((9, 37))], plain_model)
    with pytest.raises(AudiodaeError, match="quantile is 1.5"):
        fit([np.zeros((99, 37))], plain_model, 1.5)


def test_the_commands_on_folders(tmp_path, normal, plain_model):
    learned = run("fit", normal, "-o", tmp_path / "d", "--model", plain_model.name)
    assert learned.exit_code == 0 and "24 recordings" in learned.output, learned.output
    (tmp_path / "new" / "deep").mkdir(parents=True)
    write(tmp_path / "new" / "fine.wav", machine(4.0, 7)[None])
    broken = machine(4.0, 8)
    dropout(broken)
    write(tmp_path / "new" / "deep" / "gap.wav", broken[None])
    arguments = ("score", tmp_path / "new", "-m", tmp_path / "d", "--plot", tmp_path / "png")
    table = run(*arguments)
    assert table.exit_code == 0, table.output
    first, second = table.stdout.splitlines()
    assert "gap.wav" in first and " odd " in first and " s" in first
    assert "fine.wav" in second and "normal" in second
    assert (tmp_path / "png" / "deep" / "gap.wav.png").read_bytes()[:4] == b"\x89PNG"
    (tmp_path / "new" / "text.wav").write_text("no sound")
    made = run("score", tmp_path / "new", "-m", tmp_path / "d", "--json", "-q")
    assert made.exit_code == 1 and "text.wav cannot be read" in made.stderr
    rows = {row["file"].rsplit("/", 1)[1]: row for row in json.loads(made.stdout)}
    assert rows["gap.wav"]["odd"] and not rows["fine.wav"]["odd"]
    assert len(rows["gap.wav"]["patch_scores"]) == 15


def test_other_weights_and_missing_detectors_are_refused(
    tmp_path, detector, plain_model, variational_model
):
    write(tmp_path / "x.wav", machine(1.0)[None])
    write_detector(tmp_path / "d", detector)
    made = run("score", tmp_path / "x.wav", "-m", tmp_path / "d", "--model", variational_model.name)
    assert made.exit_code == 1 and "fit it again" in made.output
    made = run("score", tmp_path / "x.wav", "-m", tmp_path / "none")
    assert made.exit_code == 1 and "anomaly fit" in made.output
