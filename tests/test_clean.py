"""Files and folders through the cleaner: as many samples out as in, in the form they came."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from deadly import Deadly
from hypothesis import given, settings
from hypothesis import strategies as st

from audiodae.api import Denoiser
from audiodae.errors import AudiodaeError, AudioError
from audiodae.files.audio import TEMP_PREFIX, Reader, Writer, info
from audiodae.nets.denoiser import DenoiserConfig, DenoiserNet
from audiodae.recordings.blockwise import clean_together
from audiodae.recordings.clean import (
    GPU_BATCH,
    _batches,
    carry_out,
    clean_file,
    clean_folder,
    fingerprint,
    fingerprints,
    plan,
)
from audiodae.recordings.manifest import MANIFEST_NAME, Made, Manifest
from audiodae.recordings.options import PRESETS, Options
from audiodae.recordings.report import FileReport, write_report

RATE = 16_000


def noise(channels: int, samples: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal((channels, samples))).astype(np.float32)


def put(path: Path, sound: np.ndarray, rate: int = RATE, **form: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with Writer(path, rate, sound.shape[0], **form) as writer:
        writer.write(sound)
    return path


def sound_of(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="float32", always_2d=True)[0].T


def files_below(folder: Path) -> list[str]:
    """Everything but manifests, as paths relative to the folder."""
    below = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in below if path.name != MANIFEST_NAME)


# ---------------------------------------------------------------------------------------- one file


@settings(max_examples=25)
@given(
    samples=st.one_of(st.integers(0, 3), st.integers(4, 20_000)),
    channels=st.integers(1, 4),
    rate=st.sampled_from([8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000]),
    link=st.sampled_from(["linked", "each", "mid"]),
)
def test_as_many_samples_out_as_in(
    samples: int,
    channels: int,
    rate: int,
    link: Any,
    denoiser: Denoiser,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    source = put(tmp_path_factory.mktemp("n") / "a.wav", noise(channels, samples), rate)
    report = clean_file(source, None, denoiser, Options(link=link))
    after = soundfile.info(report.target)
    assert (after.frames, after.channels, after.samplerate) == (samples, channels, rate)
    assert report.seconds == samples / rate


@pytest.mark.parametrize("link", ["linked", "each", "mid"])
def test_a_file_gets_the_same_bits_as_an_array(
    link: Any, denoiser: Denoiser, tmp_path: Path
) -> None:
    source = put(tmp_path / "a.wav", noise(2, 150_000), 44_100, subtype="FLOAT")
    report = clean_file(source, tmp_path / "b.wav", denoiser, Options(link=link))
    expected = denoiser(sound_of(source), 44_100, link=link)
    assert np.array_equal(sound_of(report.target), expected)


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [
        (".wav", "PCM_16"),
        (".wav", "PCM_24"),
        (".wav", "FLOAT"),
        (".wav", "DOUBLE"),
        (".flac", "PCM_24"),
        (".aiff", "PCM_16"),
        (".caf", "PCM_24"),
        (".w64", "PCM_16"),
        (".rf64", "PCM_16"),
        (".ogg", "VORBIS"),
        (".opus", "OPUS"),
        (".mp3", "MPEG_LAYER_III"),
    ],
)
def test_the_format_and_the_tags_stay(
    suffix: str, subtype: str, denoiser: Denoiser, tmp_path: Path
) -> None:
    tags = {"title": "Über allen Gipfeln", "artist": "J. W. G."}
    source = put(tmp_path / f"a{suffix}", noise(2, 48_000), 48_000, subtype=subtype, tags=tags)
    before, after = info(source), info(clean_file(source, None, denoiser).target)
    assert after.path.suffix == suffix
    for name in ("container", "subtype", "sample_rate", "channels", "frames", "tags", "endian"):
        assert getattr(after, name) == getattr(before, name), name


def test_surround_stays_with_its_speakers(denoiser: Denoiser, tmp_path: Path) -> None:
    surround = (2, 3, 4, 11, 14, 15)  # 5.1, surrounds at the sides
    form = {"container": "WAVEX", "speakers": surround}
    before = put(tmp_path / "a.wav", noise(6, 4000), 48_000, **form)
    report = clean_file(before, None, denoiser, Options(residue=tmp_path / "removed"))
    for made in (report.target, tmp_path / "removed/a.wav"):
        assert info(made).container == "WAVEX" and info(made).speakers == surround
    report = clean_file(before, tmp_path / "b.wav", denoiser, Options(container="wav"))
    assert info(report.target).speakers == surround


def test_a_wrong_suffix_keeps_what_is_inside(denoiser: Denoiser, tmp_path: Path) -> None:
    put(tmp_path / "a.flac", noise(1, 8000)).rename(tmp_path / "a.wav")
    after = info(clean_file(tmp_path / "a.wav", None, denoiser).target)
    assert (after.path.name, after.container) == ("a-clean.wav", "FLAC")


def test_another_format_is_written_when_asked_for(denoiser: Denoiser, tmp_path: Path) -> None:
    source = put(tmp_path / "a.wav", noise(1, 8000), subtype="PCM_24")
    target = clean_file(source, None, denoiser, Options(container="flac")).target
    assert (target.name, info(target).subtype) == ("a-clean.flac", "PCM_24")
    target = clean_file(source, tmp_path / "b.aiff", denoiser, Options(subtype="PCM_16")).target
    assert (info(target).container, info(target).subtype) == ("AIFF", "PCM_16")


@pytest.mark.parametrize(
    ("name", "wish", "form"),
    [
        *(("b.wav", wish, (wish.upper(), "PCM_16")) for wish in ("wav", "wavex", "rf64")),
        *(("b.ogg", "opus", ("OGG", "OPUS")), ("b.aif", "aiff", ("AIFF", "PCM_16"))),
        ("b.opus", "ogg", ("OGG", "OPUS")),
        ("b.data", "flac", ("FLAC", "PCM_16")),
    ],
)
def test_a_format_that_the_name_leaves_open_is_the_one_asked_for(
    name: str, wish: str, form: tuple[str, str], denoiser: Denoiser, tmp_path: Path
) -> None:
    source = put(tmp_path / "a.wav", noise(1, 8000))
    (tmp_path / "b.data").touch()  # a name that says nothing is a file's only where there is one
    options = Options(container=wish, residue=tmp_path / "removed", overwrite=True)
    report = clean_file(source, tmp_path / name, denoiser, options)
    for made in (report.target, tmp_path / "removed" / name):
        assert (info(made).container, info(made).subtype) == form


def test_what_was_removed_and_what_is_left_are_the_recording(
    denoiser: Denoiser, tmp_path: Path
) -> None:
    source = put(tmp_path / "a.wav", noise(2, 200_000), 44_100, subtype="FLOAT")
    options = Options(residue=tmp_path / "removed", attenuation_limit_db=6.0, mix=0.7)
    report = clean_file(source, tmp_path / "out/a.wav", denoiser, options)
    removed = sound_of(tmp_path / "removed/a.wav")
    assert np.abs(removed).max() > 1e-3
    np.testing.assert_allclose(
        removed + sound_of(report.target), sound_of(source), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("options", [Options(mix=0.0), Options(attenuation_limit_db=0.0)])
def test_nothing_removed_is_the_recording_itself(
    options: Options, denoiser: Denoiser, tmp_path: Path
) -> None:
    source = put(tmp_path / "a.wav", noise(2, 30_000), subtype="FLOAT")
    report = clean_file(source, None, denoiser, options)
    np.testing.assert_allclose(sound_of(report.target), sound_of(source), rtol=0, atol=1e-6)
    assert report.attenuation_db == pytest.approx(0.0, abs=1e-3)


def test_a_report_says_what_was_measured(denoiser: Denoiser, tmp_path: Path) -> None:
    source = put(tmp_path / "a.wav", noise(1, 32_000), subtype="FLOAT")
    report = clean_file(source, None, denoiser)
    before, after = sound_of(source), sound_of(report.target)
    assert report.peak == pytest.approx(float(np.abs(after).max()))
    ratio = float((before.astype(float) ** 2).sum() / (after.astype(float) ** 2).sum())
    assert report.attenuation_db == pytest.approx(10 * np.log10(ratio), abs=1e-4)
    assert report.seconds == 2.0 and report.elapsed_seconds > 0
    assert report.real_time_factor == pytest.approx(report.elapsed_seconds / 2.0)


def test_the_asr_preset_leaves_more_than_the_voice_preset() -> None:
    voice, asr = PRESETS["voice"], PRESETS["asr"]
    assert voice.mix == 1.0 and voice.attenuation_limit_db is None
    floor_db = -20 * np.log10(1 - asr.mix)  # no part of the sound is turned down by more
    assert 6 < floor_db < 20


def test_memory_does_not_grow_with_the_recording(denoiser: Denoiser, tmp_path: Path) -> None:
    peaks = []
    for seconds in (20, 100):
        with Writer(tmp_path / f"{seconds}.wav", 8000, 1) as writer:
            for second in range(seconds):
                writer.write(noise(1, 8000, second))
        options = Options(residue=tmp_path / "removed")
        tracemalloc.start()
        clean_file(tmp_path / f"{seconds}.wav", None, denoiser, options)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] < 8e6


def test_a_missing_file_and_a_taken_name_are_errors(denoiser: Denoiser, tmp_path: Path) -> None:
    source = put(tmp_path / "a.wav", noise(1, 100))
    with pytest.raises(AudiodaeError, match="does not exist"):
        clean_file(tmp_path / "b.wav", None, denoiser)
    with pytest.raises(AudiodaeError, match="use clean_folder"):
        clean_file(tmp_path, None, denoiser)
    clean_file(source, None, denoiser)
    with pytest.raises(AudiodaeError, match="exists already"):
        clean_file(source, None, denoiser)
    assert clean_file(source, None, denoiser, Options(skip_existing=True)).status == "skipped"


def test_a_name_of_a_model_and_names_of_folders_do(model_path: Path, tmp_path: Path) -> None:
    source = put(tmp_path / "a.wav", noise(1, 2000))
    options = Options(residue=str(tmp_path / "res"), vad=str(tmp_path / "a.json"))  # type: ignore[arg-type]
    assert clean_file(source, tmp_path / "b.wav", str(model_path), options).status == "done"
    assert (tmp_path / "res/b.wav").is_file() and (tmp_path / "a.json").is_file()


def test_what_is_clipped_of_the_residue_is_told(tmp_path: Path) -> None:
    """By a net that turns the sound over, so that nearly twice the sound is what it removed."""
    net = DenoiserNet(DenoiserConfig(channels=(8, 8), blocks=1, heads=2)).eval()
    torch.nn.init.zeros_(net.decoder[-1].conv.weight)
    net.decoder[-1].conv.bias.data = torch.tensor([-1.0, 0.0])
    source = put(tmp_path / "a.wav", 0.9 * np.sin(np.arange(16_000))[None])
    options = Options(residue=tmp_path / "res")
    report = clean_file(source, tmp_path / "b.wav", Denoiser(net), options)
    assert report.clipped == 0
    assert any("res/b.wav has" in told and "clipped" in told for told in report.warnings)


def test_a_picture_is_drawn(denoiser: Denoiser, tmp_path: Path) -> None:
    source = put(tmp_path / "a.wav", noise(1, 16_000))
    clean_file(source, None, denoiser, Options(plot=tmp_path / "png"))
    assert (tmp_path / "png/a.wav.png").read_bytes().startswith(b"\x89PNG")


# --------------------------------------------------------------------------------------- folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five recordings, one of which is none."""
    for i, name in enumerate(["a.wav", "b.wav", "x/c.flac", "x/y/d.wav"]):
        put(tmp_path / "rec" / name, noise(1 + i % 2, 20_000 + 5000 * i, i))
    (tmp_path / "rec/x/bad.wav").write_text("this is a letter")
    return tmp_path / "rec"


def by_name(reports: Iterator[FileReport]) -> dict[str, FileReport]:
    return {report.source.name: report for report in reports}


def test_one_bad_file_does_not_stop_the_others(
    folder: Path, denoiser: Denoiser, tmp_path: Path
) -> None:
    reports = by_name(clean_folder(folder, tmp_path / "out", denoiser))
    assert files_below(tmp_path / "out") == ["a.wav", "b.wav", "x/c.flac", "x/y/d.wav"]
    assert {name for name, report in reports.items() if report.status == "failed"} == {"bad.wav"}
    assert "text" in reports["bad.wav"].reason


@pytest.mark.parametrize("engine", ["denoiser", "exported"])
def test_several_processes_give_the_same_bits_as_one(
    engine: str, folder: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    denoiser = request.getfixturevalue(engine)
    one = by_name(clean_folder(folder, tmp_path / "one", denoiser))
    heard: list[float] = []
    jobs = plan([folder], tmp_path / "two", Options())
    two = by_name(carry_out(jobs, denoiser, Options(), workers=2, progress=heard.append))
    assert {name: report.status for name, report in one.items()} == {
        name: report.status for name, report in two.items()
    }
    for name in files_below(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert sum(heard) == pytest.approx(sum(report.seconds for report in two.values()))


def test_files_side_by_side_come_out_as_alone(denoiser: Denoiser, tmp_path: Path) -> None:
    """What a GPU does with a batch, here on the CPU: only the rounding of the sums may differ."""
    for i, samples in enumerate([30_000, 0, 7, 90_000, 1]):
        put(tmp_path / f"rec/{i}.wav", noise(2, samples, i), 22_050, subtype="FLOAT")
    (tmp_path / "rec/bad.wav").write_bytes(b"RIFF")
    options = Options(residue=tmp_path / "removed", vad=tmp_path / "voice")
    jobs = plan([tmp_path / "rec"], tmp_path / "out", options)
    reports = clean_together(jobs, denoiser, options)
    assert [report.source.name for report in reports if report.status == "failed"] == ["bad.wav"]
    for report in reports:
        if report.status == "done":
            name = report.source.name
            single = Options(vad=tmp_path / "voice-alone")
            alone = clean_file(report.source, tmp_path / f"alone-{name}", denoiser, single)
            heard = json.loads((tmp_path / f"voice/{name}.json").read_text())
            expected = json.loads((tmp_path / f"voice-alone/alone-{name}.json").read_text())
            assert len(heard["probability"]) == len(expected["probability"])
            assert report.seconds == alone.seconds
            np.testing.assert_allclose(
                sound_of(report.target), sound_of(alone.target), rtol=0, atol=1e-5
            )


def test_only_recordings_alike_go_side_by_side_and_none_is_left_out(tmp_path: Path) -> None:
    for i in range(GPU_BATCH + 3):
        put(tmp_path / f"rec/{i:02}.wav", noise(1, 10 * (i % 7)), 8000)
        put(tmp_path / f"rec/stereo/{i:02}.wav", noise(2, 10), 8000)
        put(tmp_path / f"rec/fast/{i:02}.wav", noise(1, 10), 48_000)
    (tmp_path / "rec/bad.wav").write_text("a letter")
    (tmp_path / "rec/worse.wav").write_text("a letter")
    jobs = plan([tmp_path / "rec"], None, Options())
    batches = list(_batches(jobs))
    assert sorted(id(job) for batch in batches for job in batch) == sorted(map(id, jobs))
    assert max(map(len, batches)) == GPU_BATCH
    for batch in batches:
        kinds = {job.source.parent for job in batch}
        assert len(kinds) == 1 and (len(batch) == 1 or "bad" not in str(batch))


def test_a_second_run_does_only_what_is_left(
    folder: Path, denoiser: Denoiser, tmp_path: Path
) -> None:
    resume = Options(skip_existing=True)
    list(clean_folder(folder, tmp_path / "out", denoiser))
    (tmp_path / "out/x/c.flac").unlink()
    put(folder / "b.wav", noise(1, 100))
    put(folder / "new.wav", noise(1, 100))
    reports = by_name(clean_folder(folder, tmp_path / "out", denoiser, resume))
    assert {name: report.status for name, report in reports.items()} == {
        "a.wav": "skipped",
        "b.wav": "done",
        "c.flac": "done",
        "d.wav": "skipped",
        "new.wav": "done",
        "bad.wav": "failed",
    }
    other = Options(skip_existing=True, mix=0.5)
    reports = by_name(clean_folder(folder, tmp_path / "out", denoiser, other))
    assert {report.status for report in reports.values()} == {"done", "failed"}


@pytest.mark.parametrize("replaced", [False, True])
def test_a_second_run_leaves_an_output_whose_sound_somebody_changed(
    replaced: bool, denoiser: Denoiser, tmp_path: Path
) -> None:
    source = put(tmp_path / "rec/a.wav", noise(1, 8000))
    target = tmp_path / "out/a.wav"
    resume = Options(skip_existing=True, vad=tmp_path / "voice", plot=tmp_path / "pictures")
    list(clean_folder(tmp_path / "rec", tmp_path / "out", denoiser, resume))
    if replaced:
        again = Options(overwrite=True, vad=resume.vad, plot=resume.plot)
        list(clean_folder(tmp_path / "rec", tmp_path / "out", denoiser, again))
    (report,) = clean_folder(tmp_path / "rec", tmp_path / "out", denoiser, resume)
    assert report.status == "skipped"
    put(target, 0.5 * sound_of(target))  # as many bytes as before
    louder = target.read_bytes()
    os.utime(source, ns=(1, 1))
    (report,) = clean_folder(tmp_path / "rec", tmp_path / "out", denoiser, resume)
    assert report.status == "failed" and "not as audiodae wrote it" in report.reason
    assert target.read_bytes() == louder


def test_workers_that_die_between_two_results_cost_only_what_they_had(
    exported: Denoiser, tmp_path: Path
) -> None:
    for i in range(8):
        put(tmp_path / f"rec/{i}.wav", noise(1, RATE))
    jobs = plan([tmp_path / "rec"], tmp_path / "out", Options())
    reports = []
    for report in carry_out(jobs, exported, Options(), workers=2):
        reports.append(report)
        if len(reports) == 1:
            for worker in multiprocessing.active_children():
                worker.kill()
                worker.join()
            time.sleep(0.5)  # the pool notices
    assert sorted(report.source.name for report in reports) == [f"{i}.wav" for i in range(8)]
    lost = [report for report in reports if report.status == "failed"]
    assert len(lost) <= 3 and all("without an error message" in report.reason for report in lost)


@pytest.mark.skipif(os.name == "nt", reason="no process of Windows is killed so")
def test_a_worker_that_is_killed_costs_only_the_recording_it_was_at(
    exported: Denoiser, tmp_path: Path
) -> None:
    for name in ("a", "c", "d", "e"):
        put(tmp_path / f"rec/{name}.wav", noise(1, 20 * RATE))
    put(tmp_path / "rec/b.wav", noise(1, 8000), 8000)
    heard = 0.0

    def hear(seconds: float) -> None:
        nonlocal heard
        heard += seconds

    jobs = plan([tmp_path / "rec"], tmp_path / "out", Options())
    reports = by_name(carry_out(jobs, Deadly(exported), Options(), workers=2, progress=hear))
    lost = [name for name, report in reports.items() if report.status == "failed"]
    assert lost == ["b.wav"] and "without an error message" in reports["b.wav"].reason
    assert files_below(tmp_path / "out") == ["a.wav", "c.wav", "d.wav", "e.wav"]
    assert heard == pytest.approx(80.0)  # what is done twice is counted once
    made = Manifest(tmp_path / "out").made
    assert all(made[f"{name}.wav"].target_bytes for name in "acde")


def test_a_script_that_every_worker_would_run_again_is_told_so(tmp_path: Path) -> None:
    """And does not wait for ever for workers that end before they begin."""
    for name in ("a", "b"):
        put(tmp_path / f"rec/{name}.wav", noise(1, RATE))
    script = tmp_path / "script.py"
    script.write_text(
        "from audiodae import clean_folder\n"
        "list(clean_folder('rec', 'out', 'speech-16k', jobs=2))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    # What the workers say, and Python of what they leave, comes before it or after.
    said = "AudiodaeError: No worker process could be started: a script that cleans with several"
    assert done.returncode == 1 and said in done.stderr, done.stderr
    assert "do so under `if __name__ == '__main__':`" in done.stderr
    assert not any(path.is_file() for path in (tmp_path / "out").rglob("*"))


@pytest.mark.skipif(os.name == "nt", reason="no process of Windows can heed SIGTERM")
def test_workers_told_to_end_at_any_moment_leave_nothing_half_done(
    exported: Denoiser, tmp_path: Path
) -> None:
    """Told more than once: by `timeout`, and by the pool when another worker has ended."""
    for i in range(6):
        put(tmp_path / f"rec/{i:02}.wav", noise(1, RATE))
    for start in range(0, 6, 3):  # a second or so each, most of it the start of the processes
        jobs = plan([tmp_path / "rec"], tmp_path / "out", Options(skip_existing=True))[start:]
        told = False

        def tell(_: float) -> None:
            nonlocal told
            for worker in [] if told else multiprocessing.active_children():
                for _ in range(5):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(worker.pid or 0, signal.SIGTERM)
                    time.sleep(0.001)
            told = True

        reports = list(carry_out(jobs, exported, Options(), workers=2, progress=tell))
        assert told and len(reports) == 6 - start
        lost = [report for report in reports if report.status == "failed"]
        assert all("without an error message" in report.reason for report in lost)
        whole = files_below(tmp_path / "out")
        assert not any(TEMP_PREFIX in name for name in whole)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_leaves_nothing_half_done_and_a_second_run_finishes(
    workers: int, exported: Denoiser, tmp_path: Path
) -> None:
    for name in "abc":
        put(tmp_path / f"rec/{name}.wav", noise(1, 40 * RATE))
    heard = 0.0

    def interrupt(seconds: float) -> None:
        nonlocal heard
        heard += seconds
        if heard > 50:
            raise KeyboardInterrupt

    jobs = plan([tmp_path / "rec"], tmp_path / "out", Options())
    done = []
    with pytest.raises(KeyboardInterrupt):
        for report in carry_out(jobs, exported, Options(), workers=workers, progress=interrupt):
            done.append(report)
    assert len(done) < 3
    whole = files_below(tmp_path / "out")
    assert len(whole) >= len(done) and not any(TEMP_PREFIX in name for name in whole)
    assert all(info(tmp_path / "out" / name).frames == 40 * RATE for name in whole)
    again = by_name(
        clean_folder(tmp_path / "rec", tmp_path / "out", exported, Options(skip_existing=True))
    )
    assert sum(report.status == "skipped" for report in again.values()) == len(whole)
    assert files_below(tmp_path / "out") == ["a.wav", "b.wav", "c.wav"]


def test_leaving_the_loop_early_leaves_nothing_half_done(
    folder: Path, denoiser: Denoiser, tmp_path: Path
) -> None:
    run = clean_folder(folder, tmp_path / "out", denoiser)
    first = next(run)
    run.close()  # type: ignore[attr-defined]
    assert files_below(tmp_path / "out") == [first.target.name]


def test_a_folder_that_is_none_is_an_error_at_once(denoiser: Denoiser, tmp_path: Path) -> None:
    with pytest.raises(AudiodaeError, match="not a folder"):
        clean_folder(tmp_path / "no", None, denoiser)
    (tmp_path / "empty").mkdir()
    with pytest.raises(AudiodaeError, match="holds no audio file"):
        clean_folder(tmp_path / "empty", None, denoiser)


def test_a_run_that_makes_nothing_leaves_nothing(denoiser: Denoiser, tmp_path: Path) -> None:
    (tmp_path / "rec").mkdir()
    (tmp_path / "rec/bad.wav").write_text("a letter")
    (report,) = clean_folder(tmp_path / "rec", tmp_path / "out", denoiser)
    assert report.status == "failed" and not (tmp_path / "out").exists()


def test_a_failed_second_try_keeps_the_first_result(denoiser: Denoiser, tmp_path: Path) -> None:
    source = put(tmp_path / "rec/a.wav", noise(1, 8000))
    list(clean_folder(tmp_path / "rec", tmp_path / "out", denoiser))
    kept = (tmp_path / "out/a.wav").read_bytes()
    source.write_text("overwritten by accident")
    (report,) = clean_folder(tmp_path / "rec", tmp_path / "out", denoiser, Options(overwrite=True))
    assert report.status == "failed" and (tmp_path / "out/a.wav").read_bytes() == kept
    put(source, noise(1, 9000))  # and it is still known to be ours
    (report,) = clean_folder(
        tmp_path / "rec", tmp_path / "out", denoiser, Options(skip_existing=True)
    )
    assert report.status == "done" and info(tmp_path / "out/a.wav").frames == 9000


def test_a_manifest_that_cannot_be_written_is_told_and_costs_nothing(
    denoiser: Denoiser, tmp_path: Path
) -> None:
    source = put(tmp_path / "a.wav", noise(1, 8000))
    (tmp_path / MANIFEST_NAME).mkdir()
    report = clean_file(source, None, denoiser)
    assert report.status == "done" and info(report.target).frames == 8000
    assert any("--skip-existing will not know" in warning for warning in report.warnings)


def test_of_several_manifests_the_one_that_cannot_be_written_is_told(
    denoiser: Denoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Manifest.record

    def on_a_full_disk(self: Manifest, *args: Any) -> None:
        if self.root.name == "voice":
            raise OSError(errno.ENOSPC, "No space left on device")  # as of a write: without a name
        record(self, *args)

    monkeypatch.setattr(Manifest, "record", on_a_full_disk)
    put(tmp_path / "rec/a.wav", noise(1, 8000))
    options = Options(vad=tmp_path / "voice", plot=tmp_path / "pictures")
    (report,) = clean_folder(tmp_path / "rec", tmp_path / "out", denoiser, options)
    made = tmp_path / "voice/a.wav.json"
    assert report.warnings == (
        f"{made}: --skip-existing will not know of it ({tmp_path / 'voice' / MANIFEST_NAME}: "
        "the disk is full; free some space or choose another folder).",
    )
    assert Manifest(tmp_path / "out").made["a.wav"].lies_at(report.target)
    assert Manifest(tmp_path / "pictures").made["a.wav.png"].target_bytes > 0


def test_a_full_disk_for_pictures_is_told_of_the_picture_and_of_nothing_else(
    denoiser: Denoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Manifest.record
    full = OSError(errno.ENOSPC, "No space left on device")

    def on_a_full_disk(self: Manifest, *args: Any) -> None:
        if self.root.name == "pictures":
            raise full
        record(self, *args)

    def draw(*_: Any, **__: Any) -> None:
        raise full

    monkeypatch.setattr(Manifest, "record", on_a_full_disk)
    monkeypatch.setattr("audiodae.recordings.plot.plot_files", draw)
    source = put(tmp_path / "a.wav", noise(1, 8000))
    report = clean_file(source, None, denoiser, Options(plot=tmp_path / "pictures"))
    (warning,) = report.warnings
    assert warning.startswith(f"{tmp_path / 'pictures/a.wav.png'}: the disk is full")
    (job,) = plan([source], None, Options(skip_existing=True), fingerprints(denoiser, Options()))
    assert job.action == "skip"


def test_a_folder_that_cannot_be_is_named_and_nothing_else(
    denoiser: Denoiser, tmp_path: Path
) -> None:
    source, occupied = (
        put(tmp_path / "a.wav", noise(1, 8000)),
        put(tmp_path / "b.wav", noise(1, 10)),
    )
    with pytest.raises(AudioError, match=re.escape(f"{occupied}: ")):
        clean_file(source, occupied / "x.wav", denoiser)


def test_an_interrupted_work_leaves_no_empty_folder(denoiser: Denoiser, tmp_path: Path) -> None:
    source = put(tmp_path / "a.wav", noise(1, RATE))

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    options = Options(residue=tmp_path / "out" / "residue")
    jobs = plan([source], tmp_path / "out" / "a.wav", options)
    with pytest.raises(KeyboardInterrupt):
        list(carry_out(jobs, denoiser, options, progress=interrupt))
    assert list(tmp_path.iterdir()) == [source]


def test_an_interrupted_work_leaves_no_claim_on_a_name(denoiser: Denoiser, tmp_path: Path) -> None:
    source = put(tmp_path / "rec/talk.wav", noise(1, 40 * RATE))

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(carry_out(plan([source], None, Options()), denoiser, Options(), progress=interrupt))
    assert files_below(tmp_path / "rec") == ["talk.wav"]
    assert not (tmp_path / "rec" / MANIFEST_NAME).exists()
    theirs = put(tmp_path / "rec/talk-clean.wav", noise(1, 100))
    assert {job.source for job in plan([tmp_path / "rec"], None, Options())} == {source, theirs}
    (job,) = plan([source], None, Options(skip_existing=True))
    assert job.action == "refuse"


def test_two_recordings_of_one_name_cannot_become_one_file(
    denoiser: Denoiser, tmp_path: Path
) -> None:
    resume = Options(skip_existing=True, vad=tmp_path / "voice", residue=tmp_path / "removed")
    for day, seed in (("monday", 1), ("tuesday", 2)):
        put(tmp_path / day / "REC001.wav", noise(1, 4000, seed))
    (first,) = clean_folder(tmp_path / "monday", tmp_path / "out", denoiser, resume)
    kept = {
        name: (tmp_path / name).read_bytes()
        for name in ("out/REC001.wav", "removed/REC001.wav", "voice/REC001.wav.json")
    }
    (second,) = clean_folder(tmp_path / "tuesday", tmp_path / "out", denoiser, resume)
    assert (first.status, second.status) == ("done", "failed")
    assert all((tmp_path / name).read_bytes() == data for name, data in kept.items())
    (again,) = clean_folder(tmp_path / "monday", tmp_path / "out", denoiser, resume)
    assert again.status == "skipped"


def test_what_is_put_in_place_while_its_recording_is_cleaned_stays(
    denoiser: Denoiser, tmp_path: Path
) -> None:
    source, target = put(tmp_path / "a.wav", noise(1, 40 * RATE)), tmp_path / "a-clean.wav"
    picture = tmp_path / "p/a.wav.png"

    def meanwhile(_: float) -> None:
        target.write_bytes(b"precious")
        picture.parent.mkdir(exist_ok=True)
        picture.write_bytes(b"too")

    jobs = plan([source], None, Options())
    (report,) = carry_out(jobs, denoiser, Options(), progress=meanwhile)
    assert report.status == "failed" and "--overwrite" in report.reason
    resume = Options(skip_existing=True)
    assert [job.action for job in plan([source], None, resume)] == ["refuse"]
    assert target.read_bytes() == b"precious"
    target.unlink()
    picture.unlink()
    drawn = Options(plot=tmp_path / "p")
    jobs = plan([source], tmp_path / "b.wav", drawn)
    picture = tmp_path / "p/b.wav.png"
    (report,) = carry_out(jobs, denoiser, drawn, progress=meanwhile)
    assert report.status == "done" and "--overwrite" in report.warnings[-1]
    assert picture.read_bytes() == b"too"
    again = Options(plot=tmp_path / "p", skip_existing=True)
    assert [job.action for job in plan([source], tmp_path / "b.wav", again)] == ["refuse"]


def test_a_recording_that_grows_while_it_is_cleaned_is_told(
    denoiser: Denoiser, tmp_path: Path
) -> None:
    source = put(tmp_path / "a.wav", noise(1, RATE))

    def grow(_: float) -> None:
        with source.open("ab") as file:
            file.write(bytes(1000))

    jobs = plan([source], None, Options(overwrite=True))
    (report,) = carry_out(jobs, denoiser, Options(), progress=grow)
    assert "a.wav was changed while it was cleaned" in report.warnings[-1]
    (report,) = carry_out(jobs, denoiser, Options(), progress=lambda _: source.unlink())
    assert report.status == "done" and "changed" not in str(report.warnings)


def test_an_output_that_is_changed_while_the_run_is_going_stays(
    denoiser: Denoiser, tmp_path: Path
) -> None:
    put(tmp_path / "rec/a.wav", noise(1, RATE))
    list(clean_folder(tmp_path / "rec", tmp_path / "out", denoiser))
    put(tmp_path / "rec/a.wav", noise(1, RATE, 7))
    resume = Options(skip_existing=True)
    jobs = plan([tmp_path / "rec"], tmp_path / "out", resume, lambda _: "")

    def meanwhile(_: float) -> None:
        (tmp_path / "out/a.wav").write_bytes(b"precious")

    (report,) = carry_out(jobs, denoiser, resume, progress=meanwhile)
    assert report.status == "failed" and "was changed while this run was going" in report.reason
    assert (tmp_path / "out/a.wav").read_bytes() == b"precious"


def test_what_was_made_beside_a_target_that_failed_is_ours_and_in_nobodys_way(
    denoiser: Denoiser, tmp_path: Path
) -> None:
    put(tmp_path / "rec/a.wav", noise(1, RATE))
    resume = Options(skip_existing=True, residue=tmp_path / "rest", vad=tmp_path / "voice")
    jobs = plan([tmp_path / "rec"], tmp_path / "out", resume)
    target = tmp_path / "out/a.wav"
    (report,) = carry_out(jobs, denoiser, resume, progress=lambda _: target.write_bytes(b"x"))
    assert report.status == "failed", report
    assert set(report.outputs) == {
        tmp_path / "rest/a.wav",
        tmp_path / "voice/a.wav.json",
    }
    target.unlink()
    (report,) = clean_folder(tmp_path / "rec", tmp_path / "out", denoiser, resume)
    assert report.status == "done"


def test_two_runs_into_one_folder_forget_nothing(denoiser: Denoiser, tmp_path: Path) -> None:
    source = put(tmp_path / "rec/a.wav", noise(1, 10 * RATE))
    put(tmp_path / "rec/b.wav", noise(1, RATE))
    jobs = plan([tmp_path / "rec"], tmp_path / "out", Options())

    def other(_: float) -> None:
        if not (tmp_path / "out/a.wav").exists():
            list(carry_out(jobs[1:], denoiser, Options()))
            shutil.copy(source, tmp_path / "out/a.wav")
            made = Made.of(source, "", tmp_path / "out/a.wav")
            Manifest(tmp_path / "out").record(tmp_path / "out/a.wav", made, source)

    reports = list(carry_out(jobs, denoiser, Options(), progress=other))
    assert [report.status for report in reports] == ["failed", "failed"]
    made = Manifest(tmp_path / "out").made
    assert made["a.wav"].target_bytes > 0 and made["b.wav"].target_bytes > 0


@pytest.mark.skipif(os.name == "nt", reason="no process of Windows can heed SIGTERM")
def test_a_second_signal_while_the_workers_end_leaves_none_behind_and_forgets_nothing(
    exported: Denoiser, tmp_path: Path
) -> None:
    for name, seconds in {"a": 1, "b": 40, "c": 40}.items():
        put(tmp_path / f"rec/{name}.wav", noise(1, seconds * RATE))
    over, came = threading.Event(), list[int]()

    def hear(number: int, _: object) -> None:
        came.append(number)
        if len(came) == 1:
            raise KeyboardInterrupt

    def insist() -> None:
        while not over.wait(0.01):
            os.kill(os.getpid(), signal.SIGTERM)

    def stopped() -> bool:
        if not (tmp_path / "out/a.wav").exists():
            return False
        insisting.start()
        return True

    insisting = threading.Thread(target=insist)
    before = signal.signal(signal.SIGTERM, hear)
    try:
        jobs = plan([tmp_path / "rec"], tmp_path / "out", Options())
        with pytest.raises(KeyboardInterrupt):
            list(carry_out(jobs, exported, Options(), workers=2, stopped=stopped))
        assert came and not multiprocessing.active_children()
    finally:
        over.set()
        insisting.join()  # or its last signal would end the tests
        signal.signal(signal.SIGTERM, before)
    assert Manifest(tmp_path / "out").made["a.wav"].target_bytes > 0


def test_workers_end_where_no_more_threads_can_be_started(
    exported: Denoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refused(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    class Threading:
        Thread, Event = Refused, threading.Event

    monkeypatch.setattr("audiodae.recordings.workers.threading", Threading)
    for name in "ab":
        put(tmp_path / f"rec/{name}.wav", noise(1, 1000))
    jobs = plan([tmp_path / "rec"], tmp_path / "out", Options())
    reports = list(carry_out(jobs, exported, Options(), workers=2))
    assert [report.status for report in reports] == ["done", "done"]
    assert not multiprocessing.active_children()


@pytest.mark.skipif(os.name == "nt", reason="no process of Windows can heed SIGTERM")
def test_a_second_signal_ends_a_worker_that_is_stuck(
    exported: Denoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiodae.recordings.workers._PATIENCE_SECONDS", 0.1)
    for name in "ab":
        put(tmp_path / f"rec/{name}.wav", noise(1, 300 * RATE))
    stuck: list[multiprocessing.process.BaseProcess] = []

    def signal_all(number: int) -> None:
        for worker in stuck:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid or 0, number)

    def interrupt(_: float) -> None:
        stuck.extend(multiprocessing.active_children())
        signal_all(signal.SIGSTOP)
        insisting.start()
        in_vain.start()
        raise KeyboardInterrupt

    insisting = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM))
    in_vain = threading.Timer(10, signal_all, (signal.SIGCONT,))
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        jobs = plan([tmp_path / "rec"], tmp_path / "out", Options())
        with pytest.raises(KeyboardInterrupt):
            list(carry_out(jobs, exported, Options(), workers=2, progress=interrupt))
        in_vain.cancel()
    finally:
        insisting.join()
        signal.signal(signal.SIGTERM, before)
    ended = {worker.exitcode for worker in stuck}
    # Where one is killed, the pool itself tells the others to end.
    assert -signal.SIGKILL in ended and ended <= {-signal.SIGKILL, -signal.SIGTERM}
    assert files_below(tmp_path) == ["rec/a.wav", "rec/b.wav"]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_another_run_had_named_and_enters_a_moment_later_stays_entered(
    error: type[BaseException], denoiser: Denoiser, tmp_path: Path
) -> None:
    source = put(tmp_path / "a.wav", noise(1, RATE))
    target = put(tmp_path / "out/a.wav", noise(1, RATE))
    Manifest(tmp_path / "out").record(target, Made.of(source, ""), source)

    def other(_: float) -> None:
        Manifest(tmp_path / "out").record(target, Made.of(source, "", target), source)
        raise error

    jobs = plan([source], tmp_path / "out", Options(overwrite=True))
    with contextlib.suppress(KeyboardInterrupt):
        (report,) = carry_out(jobs, denoiser, Options(), progress=other)
        assert report.status == "failed"
    assert Manifest(tmp_path / "out").made["a.wav"].target_bytes > 0


def test_a_pattern_of_several_recordings_is_not_one_file(
    folder: Path, denoiser: Denoiser, tmp_path: Path
) -> None:
    with pytest.raises(AudioError, match=r"\*\.wav stands for 2 recordings, and one is wanted"):
        clean_file(folder / "*.wav", None, denoiser)
    assert sorted(os.listdir(folder)) == ["a.wav", "b.wav", "x"]
    assert clean_file(folder / "a*.wav", tmp_path / "out.wav", denoiser).status == "done"


def test_other_settings_and_other_weights_are_told_apart(
    denoiser: Denoiser, model_path: Path
) -> None:
    from audiodae.api import load

    other = load(model_path)
    assert fingerprint(other, Options()) == fingerprint(denoiser, Options())
    with torch.no_grad():
        next(iter(other.net.state_dict().values())).view(-1)[0] += 1e-3
    settings = [Options(), Options(mix=0.9), Options(link="mid"), Options(subtype="PCM_24")]
    marks = {fingerprint(net, options) for net in (denoiser, other) for options in settings}
    assert len(marks) == 8
    assert fingerprint(denoiser, Options(overwrite=True)) == fingerprint(denoiser, Options())


def test_the_json_report_holds_every_file(folder: Path, denoiser: Denoiser, tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9.wav")
    put(folder / odd, noise(1, 100))
    reports = list(clean_folder(folder, tmp_path / "out", denoiser))
    write_report(tmp_path / "r.json", reports, Options(), None, 1.5)
    document = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert document["totals"]["done"] == 5 and document["totals"]["failed"] == 1
    rows = {Path(row["source"]).name: row for row in document["files"]}
    assert set(rows) == {"a.wav", "b.wav", "c.flac", "d.wav", "bad.wav", odd}
    assert rows["a.wav"]["error"] is None and rows["bad.wav"]["error"]
    assert not list(tmp_path.glob(f"{TEMP_PREFIX}*"))


def test_reading_stops_where_a_reader_breaks(
    denoiser: Denoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails in the middle of a file."""
    source = put(tmp_path / "a.wav", noise(1, 30 * RATE))
    read = Reader.read

    def failing(self: Reader, n: int) -> np.ndarray:
        block = read(self, n)
        if self._position > 10 * RATE:
            raise OSError(5, "Input/output error", str(source))
        return block

    monkeypatch.setattr(Reader, "read", failing)
    with pytest.raises(AudiodaeError, match="Input/output error"):
        clean_file(source, None, denoiser)
    assert files_below(tmp_path) == ["a.wav"]
