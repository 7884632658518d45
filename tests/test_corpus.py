"""Folders of audio as an array: what is tried again and what is left out."""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audiodae.errors import AudioError
from audiodae.files.atomic import AtomicFile
from audiodae.training import decoding
from audiodae.training.corpus import read_corpus
from audiodae.training.folders import make_mixers
from audiodae.training.recipe import Recipe

RATE = 16000


def write(folder: Path, name: str, sound: np.ndarray, subtype: str = "FLOAT") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / name, sound, RATE, subtype)
    return folder / name


def tone(samples: int = RATE) -> np.ndarray:
    return 0.1 * np.sin(np.arange(samples))


def unreadable_for_now(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a file that wants ffmpeg is until that is installed: the file itself does not change."""
    real = decoding.Reader

    def reader(source: Path) -> decoding.Reader:
        if source == path:
            raise AudioError(f"{source} wants ffmpeg.")
        return real(source)

    monkeypatch.setattr(decoding, "Reader", reader)


def test_what_could_not_be_read_once_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cache = tmp_path / "speech", tmp_path / "cache"
    write(folder, "a.wav", tone())
    late = write(folder, "b.wav", tone(3000))
    with monkeypatch.context() as without:
        unreadable_for_now(late, without)
        for _ in range(2):
            before = read_corpus([folder], RATE, cache)
            assert [clip.name for clip in before.clips] == ["a.wav"]
            assert before.failures == (f"{late} wants ffmpeg.",)
    after = read_corpus([folder], RATE, cache)
    assert [clip.name for clip in after.clips] == ["a.wav", "b.wav"] and not after.failures
    assert len(after.audio) == RATE + 3000 and len(before.audio) == RATE


def test_where_nothing_could_be_read_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cache = tmp_path / "speech", tmp_path / "cache"
    only = write(folder, "a.wav", tone())
    with monkeypatch.context() as without:
        unreadable_for_now(only, without)
        with pytest.raises(AudioError, match="None of the 1 audio files .* wants ffmpeg"):
            read_corpus([folder], RATE, cache)
    assert not cache.exists()
    assert len(read_corpus([folder], RATE, cache).clips) == 1


def test_files_that_fail_again_leave_the_array_as_it_is(tmp_path: Path) -> None:
    folder, cache = tmp_path / "speech", tmp_path / "cache"
    write(folder, "a.wav", tone())
    (folder / "broken.wav").write_text("not audio at all")
    first = read_corpus([folder], RATE, cache)
    times = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert read_corpus([folder], RATE, cache).failures == first.failures
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == times


def test_an_array_of_another_decoding_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    folder, cache = tmp_path / "speech", tmp_path / "cache"
    write(folder, "a.wav", tone())
    read_corpus([folder], RATE, cache)
    array = next(cache.glob("*.i16"))
    array.write_bytes(array.read_bytes()[:-200])
    assert len(read_corpus([folder], RATE, cache).audio) == RATE


@pytest.mark.parametrize("peak", [3.0, 1e-3, 1e-5, 1e-12])
def test_a_room_keeps_its_tail_at_whatever_level_it_was_stored(tmp_path: Path, peak: float) -> None:
    rng = np.random.default_rng(0)
    room = rng.standard_normal(RATE) * np.exp(-np.arange(RATE) / 2500)
    room *= peak / np.abs(room).max()
    write(tmp_path / "rooms", "hall.wav", room)
    kept = read_corpus([tmp_path / "rooms"], RATE, tmp_path / "cache", full_scale=True).audio
    error = kept / 32767 - room / peak
    assert 10 * np.log10(np.square(error).sum() / np.square(room / peak).sum()) < -70


def test_trainings_bring_rooms_to_full_scale_and_keep_the_level_of_speech(tmp_path: Path) -> None:
    speech = write(tmp_path / "speech", "a.wav", tone()).parent
    rooms = write(tmp_path / "rooms", "hall.wav", 1e-3 * tone()).parent
    mixer, _ = make_mixers([speech], [], [rooms], Recipe(), tmp_path / "c", torch.device("cpu"))
    for draw, peak in ((mixer._rooms, 32767), (mixer._speech, 3277)):
        assert draw is not None
        assert np.abs(draw.corpus.audio).max() == pytest.approx(peak, abs=1)


def test_silence_is_left_out_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "noise"
    write(folder, "a.wav", tone())
    silent = write(folder, "b.wav", np.zeros(RATE))
    empty = write(folder, "c.wav", np.zeros(0))
    for full_scale in (False, True):
        found = read_corpus([folder], RATE, tmp_path / "cache", full_scale=full_scale)
        assert [clip.name for clip in found.clips] == ["a.wav"]
        assert found.failures == (
            f"{silent} is silent: at 16 bits every sample of it is 0.",
            f"{empty} holds no samples.",
        )


def test_a_folder_that_cannot_be_listed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "noise"
    write(folder, "a.wav", tone())
    write(folder / "locked", "b.wav", tone())
    listdir = os.listdir

    def locked(path: Path) -> list[str]:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", locked)
    for _ in range(2):  # decoded, and from the cache
        found = read_corpus([folder], RATE, tmp_path / "cache")
        assert [clip.name for clip in found.clips] == ["a.wav"]
        (failure,) = found.failures
        assert "noise/locked cannot be listed" in failure.replace(os.sep, "/")
    with pytest.raises(AudioError, match="No audio was found.*cannot be listed"):
        read_corpus([folder / "locked"], RATE, tmp_path / "cache")


@pytest.mark.skipif(sys.platform != "linux", reason="names are text there")
def test_a_name_that_is_no_text_has_its_place_among_the_groups(tmp_path: Path) -> None:
    for name in ("a_1.wav", "b_1.wav", "c_1.wav"):
        write(tmp_path / "in", name, tone())
    (tmp_path / "in" / "b_1.wav").rename(tmp_path / "in" / os.fsdecode(b"b\xff_1.wav"))
    whole = read_corpus([tmp_path / "in"], RATE, tmp_path / "cache")
    training, validation = whole.split(0.5)
    assert len(whole.clips) == 3 and len(training.clips) + len(validation.clips) == 3


def test_what_has_samples_that_are_no_sound_is_left_out_and_named(tmp_path: Path) -> None:
    write(tmp_path / "in", "a.wav", tone())
    holed = tone()
    holed[::2] = np.nan
    write(tmp_path / "in", "b.wav", holed)
    read = read_corpus([tmp_path / "in"], RATE, tmp_path / "cache")
    assert [clip.name for clip in read.clips] == ["a.wav"]
    assert f"has {RATE // 2} samples that are NaN" in read.failures[0]


def test_a_folder_that_is_given_twice_is_read_once(tmp_path: Path) -> None:
    write(tmp_path / "in", "a.wav", tone())
    twice = [tmp_path / "in", tmp_path / "in" / ".." / "in"]
    assert len(read_corpus(twice, RATE, tmp_path / "cache").clips) == 1


def test_what_another_training_decodes_is_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "speech", "a.wav", tone()).parent
    first = read_corpus([folder], 16000, tmp_path / "cache")
    (array,) = (tmp_path / "cache").glob("*.i16")
    array.unlink()
    other = AtomicFile(array)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(read_corpus, [folder], 16000, tmp_path / "cache")
        time.sleep(0.3)
        assert not waiting.done()
        other.discard()  # as when the other one was killed
        assert waiting.result(timeout=60).clips == first.clips
    assert capsys.readouterr().err.count("waiting for another training") == 1


def test_where_another_training_gave_up_its_folder_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cache = write(tmp_path / "speech", "a.wav", tone()).parent, tmp_path / "run" / "cache"
    read_corpus([folder], RATE, cache)
    (array,) = cache.glob("*.i16")
    for file in cache.iterdir():
        file.unlink()
    other = AtomicFile(array)

    def give_up(_: float) -> None:
        other.discard()
        cache.rmdir()
        cache.parent.rmdir()

    monkeypatch.setattr(decoding.time, "sleep", give_up)
    assert len(read_corpus([folder], RATE, cache).clips) == 1
