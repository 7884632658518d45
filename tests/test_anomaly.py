"""What was damaged stands out, where it was damaged; what was not, does not."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save
from sounds import write
from tasks_model import RATE, machine

from audiodae.cli.main import main
from audiodae.errors import AudiodaeError, CheckpointError
from audiodae.latent.anomaly import Gaussian, describe_file, fit, score
from audiodae.latent.detector_file import detector_files, read_detector, write_detector
from audiodae.latent.standing import Standing
from audiodae.sound.flat_tops import FlatTops, flat_share


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


def clipping_turned_down(x):
    top = np.abs(x).max() * 10 ** (-10 / 20)
    x[:] = 0.37 * np.clip(x, -top, top)


def stranger(x):
    x[24000:40000] += 0.1 * np.sin(np.arange(16000) * 2 * np.pi * 3300 / RATE)


@pytest.mark.parametrize("damage", [dropout, clicks, clipping, clipping_turned_down, stranger])
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


def test_clipping_is_found_where_it_is_whatever_the_level_rate_and_channel(
    tmp_path, detector, plain_model
):
    sound = machine(4.0, seed=9)
    for rate, gain in ((RATE, 1.0), (44_100, 0.2)):
        wanted = machine(
            4.0 * rate / RATE, seed=9
        )  # at 44.1 kHz another machine, which is no matter
        both = gain * np.stack([wanted, wanted])
        part = both[1, 2 * rate : 3 * rate]
        part[:] = np.clip(part, -0.3 * np.abs(part).max(), 0.3 * np.abs(part).max())
        write(tmp_path / "x.wav", both, rate)
        flat = describe_file(tmp_path / "x.wav", plain_model.net)[0][:, -1]
        seconds = np.arange(len(flat)) * 0.256
        inside = (seconds > 2.0) & (seconds < 2.7)
        assert flat[inside].min() > 0.05 > 1e-3 > flat[(seconds < 1.7) | (seconds > 3.1)].max()
    before = scores_of(sound, tmp_path, detector, plain_model)
    sound[32_000:48_000] = np.clip(sound[32_000:48_000], -0.03, 0.03)
    after = scores_of(sound, tmp_path, detector, plain_model)
    assert after.clip > 1.5 * before.clip and after.odd_spans[0] == pytest.approx((2, 3), abs=0.35)


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(0, 5000), max_size=6), rate=st.sampled_from((8000, 11_025)))
def test_flat_peaks_do_not_depend_on_how_a_recording_is_read(cuts, rate):
    sound = np.clip(np.random.default_rng(0).standard_normal((2, 5000)), -0.5, 0.5)
    whole, parts = FlatTops(0.1), FlatTops(0.1)
    whole.feed(sound, rate)
    for part in np.split(sound, sorted(cuts), axis=1):
        parts.feed(part, rate)
    np.testing.assert_array_equal(whole.shares(9), parts.shares(9))
    first = flat_share(sound[:, : round(0.1 * rate)])
    assert whole.shares(9)[0] == first > 0.03


def test_silence_hiss_and_the_steps_of_16_bits_are_not_flat_peaks():
    rng = np.random.default_rng(0)
    assert flat_share(np.zeros((1, 1000))) == flat_share(np.zeros((1, 2))) == 0.0
    assert flat_share(rng.standard_normal((1, 4000))) == 0.0
    assert flat_share(np.round(rng.standard_normal((1, 4000))) / 32768) == 0.0
    speech_like = np.round(20_000 * np.sin(np.arange(4000) * 0.2) * np.hanning(4000)) / 32768
    assert flat_share(speech_like[None]) == 0.0
    assert flat_share(np.clip(speech_like, -0.2, 0.2)[None]) > 0.1


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
    np.testing.assert_array_equal(
        again.normal.clips[1].whitening, detector.normal.clips[1].whitening
    )
    np.testing.assert_array_equal(again.standing.thresholds, detector.standing.thresholds)
    assert (again.standing.growth, again.sha256) == (detector.standing.growth, detector.sha256)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged or was exchanged"):
        read_detector(tmp_path / "d")
    card = path.with_suffix(".json").read_text()
    path.with_suffix(".json").write_text(card.replace('"format": 4', '"format": 2'))
    with pytest.raises(CheckpointError, match=r"of format 2.*format 4: fit it again"):
        read_detector(tmp_path / "d")
    path.with_suffix(".json").write_text("{}")
    with pytest.raises(CheckpointError, match="no anomaly detector"):
        read_detector(tmp_path / "d")


def process(patches, seed, shift=0.0):
    """Descriptions of a stretch of a random process that never changes; `shift` makes it another."""
    rng = np.random.default_rng(seed)
    rows = np.abs(0.3 * rng.standard_normal((patches, 70)) + 1.0)
    rows[:, :16] += shift
    rows[:, 16:32] = rows[:, :16] ** 2 + 0.1 * rows[:, 16:32]
    rows[:, -1] = 0.0
    return rows


@pytest.mark.parametrize("clips", [[2400], [60] * 40, [20, 40, 80, 160] * 10])
def test_what_is_normal_is_seldom_odd_and_what_is_not_is_odd_at_any_length(clips, plain_model):
    learned = fit([process(n, i) for i, n in enumerate(clips)], plain_model)
    for patches in (1, 2, 4, 8, 23, 60, 240, 2400):
        few = 40 if patches < 1000 else 8
        odd = [score(process(patches, 1000 + i), learned, 0.256).odd for i in range(few)]
        assert np.mean(odd) <= 0.25, patches  # and not all, as without lengths
        other = [score(process(patches, 2000 + i, 0.7), learned, 0.256).odd for i in range(10)]
        assert np.mean(other) > 0.8, patches


@pytest.mark.parametrize(("clips", "most"), [(12, 0.05), (40, 0.03), (1000, 0.015)])
def test_normal_clips_stay_under_the_threshold_also_where_few_were_learned_from(clips, most):
    rng = np.random.default_rng(0)
    over = []
    for _ in range(100 if clips < 1000 else 10):
        standing = Standing.fit([rng.standard_normal((clips, 5))], [8], 0.99)
        for row in rng.standard_normal((50, 5)):
            over.append(standing.score(np.zeros((8, 1)), lambda *_, row=row: row) > 1.0)
    assert np.mean(over) <= most  # asked was 0.01; by the highest of 12 alone it would be 0.10


@pytest.mark.parametrize("clips", [3, 12])
def test_recordings_that_are_all_the_same_are_normal_to_what_learned_from_them(clips, plain_model):
    learned = fit([process(39, 1)] * clips, plain_model)
    found = score(process(39, 1), learned, 0.256)
    assert found.clip <= 1.0 and np.mean(found.patches > 1.0) <= 0.01


@pytest.mark.parametrize("quantile", [0.9, 0.5])
def test_so_many_normal_patches_are_under_the_threshold_as_asked(quantile, plain_model):
    def recording(seed):
        rows = process(60, seed)
        rows[:, -1] = np.random.default_rng(seed).exponential(0.02, 60)  # peaks flat at times
        return rows

    learned = fit([recording(i) for i in range(40)], plain_model, quantile)
    found = [score(recording(1000 + i), learned, 0.256) for i in range(40)]
    over = np.concatenate([scores.patches for scores in found]) > 1.0
    assert over.mean() == pytest.approx(1 - quantile, abs=0.03)


@pytest.mark.parametrize("field", ["centre", "spread", "thresholds"])
def test_a_detector_of_what_are_no_numbers_is_refused(field, tmp_path, detector):
    for spoilt in (np.nan, 0.0):
        if field == "centre" and not spoilt:
            continue
        standing = replace(detector.standing, **{field: spoilt * getattr(detector.standing, field)})
        write_detector(tmp_path / "d", replace(detector, standing=standing))
        with pytest.raises(CheckpointError, match="does not fit its description"):
            read_detector(tmp_path / "d")


def test_a_detector_of_an_earlier_version_scores_as_it_did(tmp_path, plain_model):
    learned = fit([process(60, i) for i in range(40)], plain_model)
    standing = learned.standing
    path = write_detector(tmp_path / "d", learned)
    arrays = load(path.read_bytes()) | {n: getattr(standing, n)[-1] for n in ("centre", "spread")}
    last = len(standing.patches) - 1
    arrays = {name.replace(f"clips.{last}.", "clips."): a for name, a in arrays.items()}
    others = [n for n in arrays if n.startswith(tuple(f"clips.{i}." for i in range(last)))]
    for name in ("patches", "thresholds", *others):
        del arrays[name]
    data = save(arrays)
    path.write_bytes(data)
    card = json.loads(path.with_suffix(".json").read_text())
    card |= {"format": 3, "clip_threshold": standing.thresholds[-1]}
    card["sha256"] = hashlib.sha256(data).hexdigest()
    del card["growth"]
    path.with_suffix(".json").write_text(json.dumps(card))
    for patches in (3, 60, 600):
        rows = process(patches, 99)
        found = (learned.normal.statistics(rows, last) - standing.centre[-1]) / standing.spread[-1]
        wanted = np.logaddexp.reduce([0.0, *found]) / standing.thresholds[-1]
        assert score(rows, read_detector(path), 0.256).clip == pytest.approx(wanted)


def test_too_little_and_impossible_wishes_are_refused(plain_model, detector):
    with pytest.raises(AudiodaeError, match="at least 10 s"):
        fit([np.zeros((9, 70))], plain_model)
    with pytest.raises(AudiodaeError, match="quantile is 1.5"):
        fit([np.zeros((99, 70))], plain_model, 1.5)


def test_a_detector_replaces_nothing_but_a_detector(tmp_path, normal, detector, plain_model):
    for ending in (".safetensors", ".json"):
        (tmp_path / "net").with_suffix(ending).write_bytes(
            Path(plain_model.name).with_suffix(ending).read_bytes()
        )
    (tmp_path / "fans.json").write_text('{"fans": 3}')
    (tmp_path / "alone.safetensors").write_text("weights")
    (tmp_path / "folder.json").mkdir()
    write_detector(tmp_path / "ours", detector)
    protected = write_detector(tmp_path / "protected", detector)
    protected.chmod(0o444)
    before = {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    for name, why in (
        ("net", r"net\.safetensors exists already and belongs to no detector"),
        ("net.safetensors", r"another name with -o"),
        ("fans", r"fans\.json exists already"),
        ("alone", r"alone\.safetensors exists already"),
        ("folder", r"folder\.json cannot be written: it is a folder"),
        ("protected", r"write-protected"),
        ("nowhere/d", r"folder .*nowhere is not there"),
        ("", r"give the name of a detector"),
    ):
        # No recording is listened to first: there is none.
        made = run("fit", tmp_path / "no.wav", "-o", tmp_path / name if name else ".")
        assert made.exit_code == 1 and re.search(why, made.output), made.output
        assert "no.wav" not in made.output
    assert {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before
    again = run("fit", normal, "-o", tmp_path / "ours", "--model", plain_model.name)
    assert again.exit_code == 0, again.output


def test_what_appears_while_a_detector_learns_is_not_replaced(tmp_path, detector):
    with detector_files(tmp_path / "d") as write_it:
        (tmp_path / "d.json").write_text("{}")
        with pytest.raises(AudiodaeError, match="belongs to no detector"):
            write_it(detector)
    assert [p.name for p in tmp_path.iterdir()] == ["d.json"]


@pytest.mark.parametrize("quantile", ["7", "0", "nan"])
def test_an_impossible_quantile_is_refused_before_any_work(tmp_path, quantile):
    made = run("fit", tmp_path / "no.wav", "-o", tmp_path / "d", "--quantile", quantile)
    assert made.exit_code and "uantile" in made.output and "no.wav" not in made.output
    assert not list(tmp_path.iterdir())


def test_what_was_scored_is_told_though_the_rest_is_not(tmp_path, normal, plain_model, monkeypatch):
    assert run("fit", normal, "-o", tmp_path / "d", "--model", plain_model.name).exit_code == 0
    (tmp_path / "new").mkdir()
    for name in "abc":
        write(tmp_path / "new" / f"{name}.wav", machine(2.0)[None])

    def impatient(source, *rest, **more):
        if source.name == "c.wav":
            raise KeyboardInterrupt
        return describe_file(source, *rest, **more)

    monkeypatch.setattr("audiodae.latent.anomaly.describe_file", impatient)
    made = run("score", tmp_path / "new", "-m", tmp_path / "d")
    assert made.exit_code == 130
    assert "a.wav" in made.stdout and "b.wav" in made.stdout and "c.wav" not in made.stdout


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


def test_a_picture_that_cannot_be_drawn_costs_no_score(tmp_path, detector, plain_model):
    write_detector(tmp_path / "d", detector)
    (tmp_path / "in").mkdir()
    long = "x" * 250 + ".wav"  # with .png no file system has it
    for name in (long, "a.wav"):
        write(tmp_path / "a.wav", machine(1.0)[None])
        (tmp_path / "a.wav").rename(tmp_path / "in" / name)
    made = run("score", tmp_path / "in", "-m", tmp_path / "d", "--plot", tmp_path / "p")
    assert made.exit_code == 1 and len(made.stdout.splitlines()) == 2 and long in made.stdout
    assert "1 of 2 could not be drawn:" in made.stderr and f"{long}.png cannot" in made.stderr
    assert "could not be used" not in made.stderr
    assert [p.name for p in (tmp_path / "p").iterdir()] == ["a.wav.png"]


def test_quiet_scores_are_scores(tmp_path, detector):
    write_detector(tmp_path / "d", detector)
    write(tmp_path / "a.wav", machine(1.0)[None])
    made = run("score", "-q", tmp_path / "a.wav", "-m", tmp_path / "d")
    assert made.exit_code == 0 and "a.wav" in made.stdout and not made.stderr
    told = run("score", "--help").output
    assert "the scores are the result" in " ".join(told.split()) and "Say only" not in told


def test_of_silence_alone_a_detector_still_gives_numbers(plain_model, tmp_path):
    silence = np.zeros(16000 * 4, np.float32)
    for i in range(9):
        write(tmp_path / f"{i}.wav", silence[None])
    clips = [describe_file(path, plain_model.net)[0] for path in sorted(tmp_path.glob("*.wav"))]
    learned = fit(clips, plain_model)
    assert not scores_of(silence, tmp_path, learned, plain_model).odd
    odd = scores_of(machine(4.0, 1), tmp_path, learned, plain_model)
    assert odd.odd and np.isfinite(odd.patches).all() and np.isfinite(odd.clip)


def test_two_recordings_are_never_drawn_into_one_picture(tmp_path, detector, plain_model):
    write_detector(tmp_path / "d", detector)
    sources = [tmp_path / folder / "x.wav" for folder in ("a", "b")]
    for source in sources:
        source.parent.mkdir()
        write(source, machine(1.0, 1)[None])
    made = run("score", *sources, "-m", tmp_path / "d", "--plot", tmp_path / "p")
    assert made.exit_code == 1 and "would both be drawn" in made.output


def test_other_weights_and_missing_detectors_are_refused(
    tmp_path, detector, plain_model, variational_model
):
    write(tmp_path / "x.wav", machine(1.0)[None])
    write_detector(tmp_path / "d", detector)
    made = run("score", tmp_path / "x.wav", "-m", tmp_path / "d", "--model", variational_model.name)
    assert made.exit_code == 1 and "fit it again" in made.output
    made = run("score", tmp_path / "x.wav", "-m", tmp_path / "none")
    assert made.exit_code == 1 and "anomaly fit" in made.output
