"""Who is who among files: by a table, by their names, by their folders."""

import sys
from argparse import Namespace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import soundfile

from audiodae.errors import AudioError
from audiodae.training.corpus import read_corpus
from audiodae.training.folders import check_folders
from audiodae.training.groups import groups_of

RATE = 16000
THREE = ["anna/001.wav", "bob/001.wav", "carl/001.wav"]


def groups(folder: Path, names: list[str], talkers_in_folders: bool = True) -> list[str]:
    return groups_of(folder, [PurePosixPath(name) for name in names], talkers_in_folders)


def write(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, 0.1 * np.sin(np.arange(RATE)), RATE)
    return folder


@pytest.mark.parametrize("where", ["", "speech/", "./", "speech\\"])
@pytest.mark.parametrize("column", ["talker", "speaker", "group", "room", "Speaker"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_a_table_tells_files_of_one_name_apart_by_their_paths(
    tmp_path: Path, where: str, column: str, start: str
) -> None:
    rows = [f"{where}{name}\tt{i}" for i, name in enumerate(THREE)]
    text = "\n".join([f"{start}file\t{column}", *rows])
    (tmp_path / "speech.tsv").write_text(text, encoding="utf-8")
    assert groups(tmp_path / "speech", THREE) == ["t0", "t1", "t2"]


def test_a_table_inside_the_folder_is_heeded_too(tmp_path: Path) -> None:
    (tmp_path / "speech").mkdir()
    (tmp_path / "speech" / "speech.tsv").write_text("file\ttalker\nbob/001.wav\tROBERT\n")
    assert groups(tmp_path / "speech", THREE) == ["anna", "ROBERT", "carl"]


def test_a_bare_name_counts_where_one_file_has_it_and_else_is_told(tmp_path: Path) -> None:
    table = tmp_path / "speech.tsv"
    table.write_text("file\ttalker\nSA1.wav\teve\n/elsewhere/001.wav\tdan\n")
    assert groups(tmp_path / "speech", ["x/SA1.wav", *THREE]) == ["eve", "anna", "bob", "carl"]
    table.write_text("file\ttalker\n001.wav\tdan\n")
    with pytest.raises(AudioError, match=r"3 files have that name: .* such as anna/001\.wav"):
        groups(tmp_path / "speech", THREE)


def test_a_table_with_holes_is_used(tmp_path: Path) -> None:
    (tmp_path / "speech.tsv").write_text("file\ttalker\nx\n\ta\nanna/001.wav\t\nbob/001.wav\tz\n")
    assert groups(tmp_path / "speech", THREE) == ["anna", "z", "carl"]


@pytest.mark.parametrize("name", ["anna/001.wav", "SA1.wav"])
def test_a_file_in_two_groups_is_told_and_the_same_row_twice_is_not(
    tmp_path: Path, name: str
) -> None:
    names = ["anna/001.wav", "bob/001.wav", "x/SA1.wav"]
    table = tmp_path / "speech.tsv"
    table.write_text(f"file\ttalker\n{name}\teve\n{name}\tdan\n")
    with pytest.raises(AudioError, match=rf"speech\.tsv has {name} in two groups, eve and dan"):
        groups(tmp_path / "speech", names)
    table.write_text(f"file\ttalker\n{name}\teve\n{name}\teve\n")
    assert "eve" in groups(tmp_path / "speech", names)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (b"file\ttalker\n\xff\xfe", "cannot be read"),
        (b"", r"has the columns \(none\)"),
        (b"file\tperson\nanna/001.wav\ta\n", "columns file, person: it wants .* talker, speaker"),
        (b"file,talker\nanna/001.wav,a\n", "separated by tabs"),
        (b"file\ttalker\nanna/1.wav\ta\n", r"none of the 3 files .* such as anna/001\.wav"),
    ],
)
def test_a_table_that_says_nothing_is_told(tmp_path: Path, table: bytes, words: str) -> None:
    (tmp_path / "speech.tsv").write_bytes(table)
    with pytest.raises(AudioError, match=rf"speech\.tsv.*{words}"):
        groups(tmp_path / "speech", THREE)


@pytest.mark.parametrize(
    ("name", "of_speech", "of_noise"),
    [
        ("anna_01.wav", "anna", "anna"),
        ("carl/007.wav", "carl", "007"),
        ("007.wav", "007", "007"),
        ("p225/p225_001_mic1.wav", "p225", "p225_001_mic"),
        ("wav48/p225/p225_001.wav", "p225", "p225"),
        ("84/121123/84-121123-0001.flac", "84", "84-121123"),
        ("ann/anna_01.wav", "anna", "anna"),
        ("fan/fan_kitchen_01.wav", "fan", "fan_kitchen"),  # of noise a folder is a category
    ],
)
def test_names_and_folders_say_who_is_who(
    tmp_path: Path, name: str, of_speech: str, of_noise: str
) -> None:
    assert groups(tmp_path / "speech", [name], True) == [of_speech]
    assert groups(tmp_path / "noise", [name], False) == [of_noise]


def test_the_dry_pass_shows_the_first_groups(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speech = write(tmp_path / "speech", [f"p{i}/p{i}_{j}_mic1.wav" for i in range(7) for j in "ab"])
    noise = write(tmp_path / "noise", ["hum-1.wav"])
    check_folders([speech], [noise], [], None, tmp_path / "run")
    text = capsys.readouterr().out
    assert (
        "groups: p0 (2 clips), p1 (2 clips), p2 (2 clips), p3 (2 clips), p4 (2 clips), ..." in text
    )
    assert "groups: hum (1 clip)\n" in text


def test_the_figures_split_as_the_trainings_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "scripts" / "figures")
    monkeypatch.delitem(sys.modules, "data", raising=False)
    import data

    speech, noise = write(tmp_path / "speech", THREE), write(tmp_path / "noise", ["hum-1.wav"])
    parts = data.corpora(Namespace(speech=speech, noise=noise, cache=tmp_path / "cache"))
    whole = read_corpus([speech], RATE, tmp_path / "cache", talkers_in_folders=True)
    assert [part.groups for part in parts["speech"]] == [
        part.groups for part in whole.split(data.HELD_OUT)
    ]
