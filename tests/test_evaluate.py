"""Tables that can be trusted: pairs that pair, a baseline always there, time fairly taken."""

import json
import math
import multiprocessing
import os
import shutil
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from audiodae.api import load
from audiodae.errors import AudiodaeError
from audiodae.measure import evaluate as module
from audiodae.measure.evaluate import enhancer, evaluate, run
from audiodae.measure.executors import measuring
from audiodae.measure.pairs import Pair, find_pairs
from audiodae.measure.scores import COLUMNS, Evaluation, Row
from audiodae.nets.checkpoint import pretrained_folder

DATA = Path(__file__).parent / "data"
RATE = 16_000
CLEAN, _ = soundfile.read(DATA / "clean-speech.flac", dtype="float32")
NOISY, _ = soundfile.read(DATA / "noisy-speech.flac", dtype="float32")


def write(path, samples, sample_rate=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, sample_rate, subtype="FLOAT" if path.suffix == ".wav" else None)


@pytest.fixture
def folders(tmp_path):
    """Two pairs of 2 s: `talk_+5dB`, and `deep/talk_-5dB` with four times the noise."""
    for index, (name, louder) in enumerate({"talk_+5dB": 1.0, "deep/talk_-5dB": 4.0}.items()):
        part = slice(index * 2 * RATE, (index + 1) * 2 * RATE)
        clean, noise = CLEAN[part], NOISY[part] - CLEAN[part]
        write(tmp_path / "clean" / f"{name}.flac", clean / 4)
        write(tmp_path / "noisy" / f"{name}.wav", (clean + louder * noise) / 4)
    return tmp_path / "noisy", tmp_path / "clean"


def same(samples, sample_rate):
    return samples


def halved(samples, sample_rate):
    return samples / 2


def broken_in_place(samples, sample_rate):
    samples *= 0.0
    return samples


def test_the_noisy_baseline_is_always_the_first_row(folders):
    assert evaluate(*folders, dnsmos_every=0).systems == ["noisy"]
    result = evaluate(*folders, enhancers={"same": same}, dnsmos_every=0)
    assert result.systems == ["noisy", "same"]
    unchanged = result.mean("same")
    del unchanged["real_time_factor"]
    assert unchanged == result.mean("noisy")
    assert result.mean("noisy")["noise_attenuation_db"] == 0.0


def test_halving_everything_loses_six_decibels_of_both_and_nothing_else(folders):
    result = evaluate(*folders, enhancers={"halved": halved}, dnsmos_every=0)
    before, after = result.mean("noisy"), result.mean("halved")
    for name in ("speech_attenuation_db", "noise_attenuation_db"):
        assert after[name] - before[name] == pytest.approx(6.02, abs=0.2)
    assert after["si_sdr_db"] == pytest.approx(before["si_sdr_db"])
    assert after["pesq_wb"] == pytest.approx(before["pesq_wb"], abs=0.02)


def test_a_folder_of_results_scores_as_the_model_that_made_them(folders, tmp_path):
    for name in ("talk_+5dB", "deep/talk_-5dB"):
        noisy, _ = soundfile.read(folders[0] / f"{name}.wav", dtype="float32")
        write(tmp_path / "made" / f"{name}.wav", noisy / 2)
    result = evaluate(
        *folders,
        enhancers={"halved": halved},
        enhanced={"made": tmp_path / "made"},
        dnsmos_every=0,
    )
    of_model = result.mean("halved")
    assert of_model.pop("real_time_factor") >= 0
    assert result.mean("made") == pytest.approx(of_model)


def test_one_enhancer_cannot_spoil_the_input_of_another(folders):
    result = evaluate(*folders, enhancers={"broken": broken_in_place, "same": same}, dnsmos_every=0)
    assert result.mean("same")["stoi"] == result.mean("noisy")["stoi"]


@pytest.mark.skipif(os.name == "nt", reason="Windows sends signals in another way")
def test_two_processes_measure_what_one_does_and_leave_ctrl_c_to_the_one_that_asked(folders):
    def interrupting(samples, sample_rate):
        for child in multiprocessing.active_children():  # as a terminal does
            os.kill(child.pid, signal.SIGINT)
        return samples

    one = evaluate(*folders, dnsmos_every=0)
    two = evaluate(*folders, enhancers={"it": interrupting}, dnsmos_every=0, jobs=2)
    two = Evaluation([row for row in two.rows if row.system == "noisy"])
    assert [(row.system, row.clip) for row in two.rows] == [(r.system, r.clip) for r in one.rows]
    for row, same in zip(two.rows, one.rows, strict=True):
        # Not to the bit: the order of sums depends on the number of threads.
        assert row.values == pytest.approx(same.values, rel=1e-6, abs=1e-9)


@pytest.mark.skipif(os.name == "nt", reason="Windows sends signals in another way")
def test_ctrl_c_while_a_process_is_started_ends_it_too(monkeypatch):
    submit = ProcessPoolExecutor.submit

    def interrupted(*args):
        future = submit(*args)
        signal.raise_signal(signal.SIGINT)
        return future

    monkeypatch.setattr(ProcessPoolExecutor, "submit", interrupted)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), measuring(2) as executor:
        executor.submit(time.sleep, 20)
    assert time.monotonic() - began < 10


def test_a_measuring_process_that_is_killed_is_told_of(folders):
    def deadly(samples, sample_rate):
        for child in multiprocessing.active_children():
            child.kill()
        return samples

    refused(folders, "was killed.*fewer jobs", enhancers={"deadly": deadly}, jobs=2)


def test_first_calls_are_not_timed_and_later_ones_are(folders):
    calls = []

    def slow_to_wake(samples, sample_rate):
        calls.append(len(samples))
        until = time.process_time() + (0.6 if len(calls) == 1 else 0.04)
        while time.process_time() < until:
            pass
        return samples

    result = evaluate(*folders, enhancers={"slow": slow_to_wake}, dnsmos_every=0)
    assert len(calls) == 3
    # 0.04 s for each 2 s; with the first call it would be 0.17.
    assert 0.02 <= result.mean("slow")["real_time_factor"] < 0.1


def test_reading_names_for_snr():
    def snr_of(name):
        return Pair(name, Path(), Path()).snr_db

    assert snr_of("d000_babble_cafe_-5dB") == -5
    assert snr_of("x/d001_+10dB") == 10
    assert snr_of("d001_2.5db") == 2.5
    assert snr_of("d001_10dB_again") is None
    assert snr_of("d001") is None


def test_the_table_groups_by_snr_when_names_tell_it(folders):
    result = evaluate(*folders, dnsmos_every=0)
    assert result.snrs_db == [-5, 5]
    assert result.mean("noisy", -5)["si_sdr_db"] < result.mean("noisy", 5)["si_sdr_db"] - 8
    overall, by_snr = result.table().split("\n\n")[:2]
    for table in (overall, by_snr):
        assert len({len(line) for line in table.splitlines()}) == 1
    assert [line.split("|")[1].strip() for line in by_snr.splitlines()[2:]] == ["-5", "5"]
    assert "SNR dB" not in overall


def test_a_clip_without_a_score_is_counted_and_left_out(folders):
    quiet = np.zeros(RATE, np.float32)
    for folder in folders:
        write(folder / "nobody.flac", quiet)
    result = evaluate(*folders, dnsmos_every=0)
    assert result.missing("noisy")["pesq_wb"] == 1
    assert math.isfinite(result.mean("noisy")["pesq_wb"])
    assert "noisy: no PESQ for 1 of 3 clips" in result.table()
    rows = json.loads(result.to_json())["rows"]
    assert {row["clip"]: row["pesq_wb"] for row in rows}["nobody"] is None


def test_full_band_pairs_are_judged_above_8_khz(tmp_path):
    rng = np.random.default_rng(0)
    clean = 0.1 * rng.standard_normal(48_000)
    write(tmp_path / "clean" / "a.wav", clean, 48_000)
    write(tmp_path / "noisy" / "a.wav", clean * 2, 48_000)
    result = evaluate(tmp_path / "noisy", tmp_path / "clean", dnsmos_every=0)
    assert result.mean("noisy")["lsd_above_8k_db"] == pytest.approx(6.02, abs=0.01)


def test_channels_are_measured_as_their_mean(tmp_path):
    left, right = NOISY[:RATE], CLEAN[:RATE]
    write(tmp_path / "clean" / "a.wav", CLEAN[:RATE])
    write(tmp_path / "noisy" / "a.wav", np.stack((left, right), axis=1))
    stereo = evaluate(tmp_path / "noisy", tmp_path / "clean", dnsmos_every=0)
    write(tmp_path / "noisy" / "a.wav", (left + right) / 2)
    mono = evaluate(tmp_path / "noisy", tmp_path / "clean", dnsmos_every=0)
    assert stereo.mean("noisy") == pytest.approx(mono.mean("noisy"), abs=1e-4)


def refused(folders, sentence, **settings):
    with pytest.raises(AudiodaeError, match=sentence):
        evaluate(*folders, dnsmos_every=0, **settings)


def test_a_missing_partner_is_named(folders, tmp_path):
    refused(folders, "is not a folder", enhanced={"x": tmp_path / "nowhere"})
    refused(folders, r"2 of 2 recordings of .*noisy are not in .*data", enhanced={"x": DATA})
    (folders[1] / "deep" / "talk_-5dB.flac").unlink()
    refused(folders, r"1 of 2 recordings of .*noisy are not in .*clean \(deep/talk_-5dB\)")


def test_clean_files_that_nothing_asks_for_are_left_alone(folders):
    write(folders[1] / "more.wav", CLEAN)
    assert len(find_pairs(*folders)) == 2


def test_no_pairs_at_all_is_an_error(tmp_path):
    for name in ("noisy", "clean"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("no sound")
    refused((tmp_path / "noisy", tmp_path / "clean"), "no audio in .*noisy")


def test_names_that_differ_only_in_their_suffix_are_refused(folders):
    write(folders[0] / "talk_+5dB.flac", NOISY[: 2 * RATE] / 4)
    refused(folders, "differ only in their suffix")


@pytest.mark.parametrize(
    ("samples", "sample_rate", "sentence"),
    [
        (CLEAN[: 2 * RATE - 1], RATE, r"31999.*32000.*equally long"),
        (CLEAN[: 2 * RATE], 8_000, "8000 Hz but .* at 16000 Hz"),
    ],
)
def test_pairs_of_different_length_or_rate_are_refused(folders, samples, sample_rate, sentence):
    write(folders[1] / "talk_+5dB.flac", samples, sample_rate)
    refused(folders, sentence)


def test_a_later_pair_that_does_not_fit_is_known_before_any_work(folders):
    write(folders[1] / "talk_+5dB.flac", CLEAN[: 2 * RATE - 1])
    called = []
    refused(folders, "equally long", enhancers={"it": lambda x, rate: called.append(x) or x})
    assert not called


def test_samples_that_are_no_sound_are_not_measured_as_silence(folders, tmp_path):
    enhanced = tmp_path / "enhanced"
    shutil.copytree(folders[0], enhanced)
    sound = NOISY[: 2 * RATE].copy()
    sound[100:103] = np.nan, np.inf, 1e9
    (enhanced / "talk_+5dB.wav").unlink()
    soundfile.write(enhanced / "talk_+5dB.wav", sound, RATE, "FLOAT")
    refused(
        folders,
        r"talk_\+5dB.wav has 3 samples that are NaN, infinite or absurdly loud",
        enhanced={"it": enhanced},
    )


def test_a_recording_cut_short_is_not_measured(folders):
    for folder in folders:
        (folder / "talk_+5dB.flac").unlink(missing_ok=True)
        write(folder / "talk_+5dB.wav", CLEAN[: 2 * RATE])
        whole = (folder / "talk_+5dB.wav").read_bytes()
        (folder / "talk_+5dB.wav").write_bytes(whole[:-2000])
    refused(folders, "cut short.*whole recordings")


def test_a_folder_that_cannot_be_listed_is_named(folders, monkeypatch):
    list_folder = os.listdir

    def listed(folder):
        if str(folder).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(folder))
        return list_folder(folder)

    monkeypatch.setattr(os, "listdir", listed)
    refused(folders, "deep cannot be listed")


def test_the_folder_one_is_in_has_a_name_too(folders, monkeypatch):
    shutil.copytree(folders[0], folders[0].parent / "cleaned")
    monkeypatch.chdir(folders[0].parent / "cleaned")
    assert run(*folders, enhanced=["."], dnsmos_every=0, limit=1).systems == ["noisy", "cleaned"]


def test_an_exported_model_is_measured_like_its_weights():
    exported = enhancer(str(pretrained_folder() / "speech-16k.onnx"))
    noisy = np.random.default_rng(0).standard_normal((1, 4000)).astype(np.float32) * 0.1
    expected = enhancer("speech-16k")(noisy, 16000)
    np.testing.assert_allclose(exported(noisy, 16000), expected, rtol=0, atol=1e-4)


def test_the_model_that_is_chosen_by_rate_is_measured_by_its_name():
    noisy = np.random.default_rng(0).standard_normal(4000).astype(np.float32) * 0.1
    for rate in (16000, 48000):
        expected = load(sample_rate=rate)(noisy, rate)
        np.testing.assert_array_equal(enhancer("auto")(noisy, rate), expected)


@pytest.mark.parametrize(
    ("enhancer", "sentence"),
    [
        (lambda x, sample_rate: x[:-1], "What it made of deep/talk_-5dB .*equally long"),
        (lambda x, sample_rate: np.full_like(x, np.nan), "NaN"),
    ],
)
def test_results_that_do_not_fit_are_refused(folders, enhancer, sentence):
    refused(folders, sentence, enhancers={"it": enhancer})


def test_settings_without_sense_are_refused(folders):
    refused(folders, "limit is 0", limit=0)
    refused(folders, "jobs is 0", jobs=0)
    refused(folders, "every name may occur only once", enhancers={"noisy": same})


def test_limit_takes_the_first_pairs(folders):
    result = evaluate(*folders, limit=1, dnsmos_every=0)
    assert [row.clip for row in result.rows] == ["deep/talk_-5dB"]


def test_dnsmos_is_taken_of_every_nth_clip(folders):
    pytest.importorskip("onnxruntime", reason="the optional extra `dnsmos` is not installed")
    result = evaluate(*folders, dnsmos_every=2)
    assert ["dnsmos_ovrl" in row.values for row in result.rows] == [True, False]
    assert result.missing("noisy") == {}
    assert "one clip in 2" in result.table()


def test_without_the_dnsmos_model_the_table_says_so(folders, monkeypatch):
    monkeypatch.setattr(module, "is_installed", lambda name: False)
    result = evaluate(*folders)
    assert "dnsmos_ovrl" not in result.mean("noisy")
    assert 'pip install "audiodae[dnsmos]"' in result.table()


def test_run_writes_a_report_any_json_reader_takes(folders, tmp_path, capfd):
    report = tmp_path / "report.json"
    result = run(*folders, models={"halved": halved}, json_file=report, dnsmos_every=0)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    data = json.loads(report.read_text(), parse_constant=refuse)
    assert data["systems"]["halved"]["mean"] == result.mean("halved")
    assert data["systems"]["noisy"]["by_snr_db"]["-5"] == result.mean("noisy", -5)
    assert len(data["rows"]) == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clean", "noisy", "report.json"]
    # No progress bar where nobody looks.
    assert capfd.readouterr() == ("", "")


def test_run_refuses_a_place_for_the_report_before_any_work(folders, tmp_path):
    def never(samples, sample_rate):
        raise AssertionError("work had begun")

    (tmp_path / "folder.json").mkdir()
    for place in (tmp_path / "nowhere" / "report.json", tmp_path / "folder.json"):
        with pytest.raises(AudiodaeError, match="cannot be written"):
            run(*folders, models={"never": never}, json_file=place)


def test_figures_replace_nothing_but_figures(folders, tmp_path):
    recording, weights = folders[0] / "talk_+5dB.wav", tmp_path / "my-16k.json"
    weights.write_text('{"config": {}}')
    for place in (recording, weights, tmp_path / "new.txt"):
        before = place.read_bytes() if place.exists() else None
        with pytest.raises(AudiodaeError, match=r"choose another name, one that ends in \.json"):
            run(*folders, json_file=place, dnsmos_every=0)
        assert (place.read_bytes() if place.exists() else None) == before
    for _ in range(2):
        run(*folders, json_file=tmp_path / "new.json", dnsmos_every=0)


def test_a_run_that_fails_leaves_older_figures_alone(folders, tmp_path):
    report = tmp_path / "report.json"
    run(*folders, json_file=report, dnsmos_every=0)
    before = report.read_bytes()
    with pytest.raises(AudiodaeError, match="nowhere"):
        run(*folders, enhanced=[tmp_path / "nowhere"], json_file=report)
    assert report.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clean", "noisy", "report.json"]


def test_folders_of_one_name_are_told_apart(folders):
    result = run(*folders, enhanced=[folders[0], folders[1]], dnsmos_every=0, limit=1)
    assert result.systems == ["noisy", str(folders[0]), str(folders[1])]


@given(st.lists(st.tuples(st.floats(0, 5), st.sampled_from([1.0, 30.0])), min_size=1, max_size=9))
def test_scores_count_by_clip_and_time_by_second(clips):
    rows = [
        Row("it", str(index), None, seconds, {"pesq_wb": value, "real_time_factor": value})
        for index, (value, seconds) in enumerate(clips)
    ]
    mean = Evaluation(rows).mean("it")
    assert mean["pesq_wb"] == pytest.approx(sum(v for v, _ in clips) / len(clips))
    total = sum(seconds for _, seconds in clips)
    assert mean["real_time_factor"] == pytest.approx(sum(v * s for v, s in clips) / total)


def test_a_name_of_two_lines_is_one_row_of_the_table():
    rows = [Row("two\nlines", "a", None, 1.0, {"snr_db": 1.0, "pesq_wb": math.nan})]
    *table, _, remark = Evaluation(rows).table().splitlines()
    assert len({len(line) for line in table}) == 1 and len(table) == 3
    assert r"two\nlines: no PESQ" in remark


def test_every_column_fits_the_table_and_tiny_losses_have_no_sign():
    values = dict.fromkeys(COLUMNS, -1e-9)
    table = Evaluation([Row("noisy", "a", None, 1.0, values)]).table()
    header, rule, line = table.splitlines()
    assert len(header) == len(rule) == len(line)
    assert line.count("|") == len(COLUMNS) + 3
    assert "-" not in line
