"""What is read beside sound: pipes are not waited for, devices not read for ever, nonsense is told."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from safetensors.numpy import load, save

from audiodae.cli.main import main
from audiodae.files.regular import read_regular
from audiodae.nets.checkpoint import pretrained_folder
from audiodae.recordings.manifest import MANIFEST_NAME

RATE = 16_000
Make = Callable[[Path], None]


def run(*words: object) -> Result:
    result = CliRunner().invoke(main, [*map(str, words)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    sound = 0.1 * np.random.default_rng(0).standard_normal(RATE // 2)
    for name in ("a", "b"):
        soundfile.write(tmp_path / "in" / f"{name}.wav", sound, RATE)
    return tmp_path


def zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


needs_devices = pytest.mark.skipif(
    not hasattr(os, "mkfifo") or not Path("/dev/zero").exists(), reason="there are none here"
)
never_ending = [pytest.param(os.mkfifo, id="pipe"), pytest.param(zero, id="device")]
never_ending = never_ending if hasattr(os, "mkfifo") else []


def test_a_file_is_read_whole_and_the_null_device_is_empty(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert read_regular(tmp_path / "x") == b"abc" and read_regular(Path(os.devnull)) == b""


def test_a_file_larger_than_any_of_its_kind_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        file.truncate((1 << 30) + 1)  # a hole: no byte of it is on the disk
    with pytest.raises(OSError, match="over 1 GB"):
        read_regular(tmp_path / "x")


@needs_devices
@pytest.mark.parametrize("make", never_ending)
@pytest.mark.parametrize("more", [(), ("--skip-existing",), ("--overwrite",)])
def test_a_manifest_without_end_hinders_no_cleaning(
    folder: Path, make: Make, more: tuple[str, ...], model_path: Path
) -> None:
    (folder / "out").mkdir()
    make(folder / "out" / MANIFEST_NAME)
    result = run("clean", folder / "in", "-o", folder / "out", "--model", model_path, *more)
    assert result.exit_code == 0 and "--skip-existing will not know of it" in result.output
    assert {path.name for path in (folder / "out").glob("*.wav")} == {"a.wav", "b.wav"}


@needs_devices
@pytest.mark.parametrize("make", never_ending)
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x.onnx", ("clean", "in/a.wav", "-o", "out.wav", "--model")),
        ("x.adae", ("decompress", "-o", "out.wav")),
        (
            "x.toml",
            ("train", "--speech", "in", "--noise", "in", "--run", "r", "--check", "--recipe"),
        ),
    ],
)
def test_models_and_recipes_without_end_are_refused(
    folder: Path, make: Make, name: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    make(folder / name)
    result = run(*words, name)
    assert result.exit_code != 0 and name in result.output
    assert "no file" in result.output and not (folder / "out.wav").exists()


@pytest.mark.parametrize("source", [None, 3, ["x"], "a\0b", "\ud800"])
def test_a_manifest_s_line_that_is_none_of_ours_is_passed_over(
    folder: Path, source: object, model_path: Path
) -> None:
    words = ("clean", folder / "in", "-o", folder / "out", "--model", model_path, "--skip-existing")
    assert run(*words).exit_code == 0
    manifest = folder / "out" / MANIFEST_NAME
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    for line in lines:
        line["made"] = line["made"] and line["made"] | {"source": source}
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    before = {path: path.read_bytes() for path in (folder / "out").glob("*.wav")}
    result = run(*words)  # what is not known to be ours is not replaced
    assert result.exit_code == 0 or "already" in result.output
    assert {path: path.read_bytes() for path in (folder / "out").glob("*.wav")} == before
    assert run(*words, "--overwrite").exit_code == 0


@pytest.mark.parametrize("content", ["", "[]", '{"clips": [{"name": 3}]}', "[" * 99_999, "\xff"])
def test_a_cache_whose_index_is_damaged_is_made_anew(folder: Path, content: str) -> None:
    shutil.copytree(folder / "in", folder / "rain")
    words = ("train", "--speech", folder / "in", "--noise", folder / "rain", "--run", folder / "r")
    words = (*words, "--device", "cpu", "--check")
    first = run(*words)
    assert first.exit_code == 0, first.output
    for index in (folder / "r" / "cache").glob("*.json"):
        index.write_text(content, "latin-1")
    assert run(*words).output == first.output


def test_lists_in_lists_without_end_are_sentences(folder: Path, model_path: Path) -> None:
    (folder / "deep.toml").write_text("a=" + "[" * 99_999)
    recipe = run(
        "train", "--speech", folder / "in", "--run", folder / "r", "--recipe", folder / "deep.toml"
    )
    assert recipe.exit_code == 1 and "lists within lists" in recipe.output
    shutil.copy(model_path, folder / "m.safetensors")
    (folder / "m.json").write_text("[" * 200_000)
    model = run("clean", folder / "in/a.wav", "-o", folder / "x.wav", "--model", folder / "m")
    assert model.exit_code == 1 and "m.json is not valid JSON" in model.output


@pytest.mark.parametrize("size", ["blocks = 1000000000", "channels = [1000000000, 8]"])
def test_a_net_that_no_memory_could_hold_is_refused(folder: Path, size: str) -> None:
    (folder / "b.toml").write_text(f"[model]\n{size}\n")
    words = ("--speech", folder / "in", "--run", folder / "r", "--check")
    result = run("train", *words, "--recipe", folder / "b.toml")
    assert result.exit_code == 1 and size.split()[0] in result.output


@pytest.mark.parametrize(
    "words", [("embed", "in", "-o", "e.npz"), ("compress", "in/a.wav", "-o", "a.adae")]
)
def test_weights_that_are_no_numbers_are_refused_with_their_file_s_name(
    folder: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    shipped = pretrained_folder() / "vanilla-16k.safetensors"
    tensors = load(shipped.read_bytes())
    data = save(
        {
            name: np.nan * value if value.dtype.kind == "f" else value
            for name, value in tensors.items()
        }
    )
    (folder / "nan.safetensors").write_bytes(data)
    card: dict[str, Any] = json.loads(shipped.with_suffix(".json").read_text())
    (folder / "nan.json").write_text(
        json.dumps(card | {"sha256": hashlib.sha256(data).hexdigest()})
    )
    result = run(*words, "--model", "nan.safetensors")
    assert (
        result.exit_code == 1 and "nan.safetensors has weights that are not finite" in result.output
    )


@needs_devices
def test_a_report_that_is_a_pipe_is_refused_and_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "report.json")
    words = ("--report", folder / "report.json")
    result = run("clean", folder / "in", "-o", folder / "out", *words)
    assert result.exit_code == 1 and "report.json" in result.output
    result = run("evaluate", folder / "in", folder / "in", "--json", folder / "report.json")
    assert result.exit_code == 1 and "report.json" in result.output


@pytest.mark.parametrize(
    "words",
    [
        ("clean", "in/a.wav", "-o", "x.wav", "--model"),
        ("embed", "in/a.wav", "-o", "x.npz", "--model"),
        ("evaluate", "in", "in", "--model"),
        ("train", "--speech", "in", "--run", "x", "--check", "--family"),
        ("train", "--speech", "in", "--run", "x", "--init"),
    ],
    ids=" ".join,
)
def test_an_unset_variable_is_not_the_model_that_lies_here(
    folder: Path, words: tuple[str, ...], model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for suffix in (".safetensors", ".json"):
        shutil.copy(model_path.with_suffix(suffix), folder / f"model{suffix}")
    monkeypatch.chdir(folder)
    assert run(*words, "").exit_code != 0
    assert sorted(os.listdir(folder)) == ["in", "model.json", "model.safetensors"]


@pytest.mark.parametrize(
    "option", ["--residue", "--plot", "--vad", "--report", "--model", "--subtype"]
)
def test_an_unset_variable_is_no_folder_and_no_model(
    folder: Path, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert run("clean", "in/a.wav", "-o", "x.wav", option, "").exit_code != 0
    assert sorted(os.listdir(folder)) == ["in"]


def test_more_processes_than_there_are_clips_are_not_started(
    folder: Path, model_path: Path
) -> None:
    words = ("--model", model_path, "--dnsmos-every", 0, "--jobs", 2**31)
    assert run("evaluate", folder / "in", folder / "in", *words).exit_code == 0


def test_more_sounds_than_anybody_wants_are_refused(folder: Path) -> None:
    assert run("generate", "-o", folder / "g", "-n", 2**31).exit_code == 2
