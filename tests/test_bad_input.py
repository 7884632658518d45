"""Bad input: a clear sentence, nothing lost, and no number that is none in any output."""

from __future__ import annotations

import ctypes
import json
import os
import pickle
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from audiodae.api import Denoiser
from audiodae.cli.main import main
from audiodae.files.audio import TEMP_PREFIX
from audiodae.recordings.clean import clean_file
from audiodae.recordings.manifest import MANIFEST_NAME
from audiodae.recordings.options import Options

RATE = 16_000


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(model_path: Path) -> Any:
    def clean(*words: str | Path, model: Path = model_path) -> Result:
        return CliRunner().invoke(main, ["clean", *map(str, words), "--model", str(model)])

    return clean


def noise(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal((samples, channels))


def put(name: str, sound: np.ndarray, rate: int = RATE, subtype: str = "FLOAT") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate, subtype=subtype)
    return path


def cleaned(name: str = "a-clean.wav") -> np.ndarray:
    """An output `(samples, channels)`, which must be finite."""
    sound: np.ndarray = soundfile.read(name, always_2d=True)[0]
    assert np.isfinite(sound).all()
    return sound


def assert_sentence(result: Result, *said: str, code: int = 1) -> None:
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output and "bug in audiodae" not in result.output
    for words in said:
        assert words in result.output


def assert_nothing_unfinished() -> None:
    assert not list(Path().rglob(f"{TEMP_PREFIX}*.part"))


# ------------------------------------------------------------------------------- odd but readable


@pytest.mark.parametrize("samples", [0, 1, 2, 255, 256, 257, 511, 512, 513])
def test_shorter_than_a_window_stays_as_long_as_it_was(samples: int, run: Any) -> None:
    put("a.wav", noise(samples))
    assert_sentence(run("a.wav"), code=0)
    assert len(cleaned()) == samples


def test_an_empty_recording_in_a_format_that_cannot_hold_one_is_told(run: Any) -> None:
    put("a.wav", noise(0))
    beside = ("--vad", "voice", "--residue", "removed")  # no half of what was asked for
    result = run("a.wav", "-o", "out/a.flac", *beside)
    assert_sentence(result, "0 samples", "choose wav")
    assert not [path for path in Path().rglob("*") if path.is_file() and path.name != "a.wav"]


@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-6])
def test_silence_stays_silent(level: float, run: Any) -> None:
    put("a.wav", np.full((20_000, 2), level))
    assert_sentence(run("a.wav"), code=0)
    assert np.abs(cleaned()).max() <= 1.01 * level + 1e-12


def test_dc_makes_no_noise(run: Any) -> None:
    put("a.wav", np.full((32_000, 1), 0.5))
    assert_sentence(run("a.wav"), code=0)
    assert np.abs(cleaned()).max() <= 0.56  # 1 dB


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -1e30])
@pytest.mark.parametrize("count", [1, 20_000])
def test_what_is_no_sound_becomes_silence_is_told_and_poisons_nothing(
    value: float, count: int, run: Any
) -> None:
    sound = noise(60_000)
    sound[10_000 : 10_000 + count] = value
    put("a.wav", sound)
    result = run("a.wav", "--residue", "removed", "--report", "r.json")
    assert_sentence(result, f"{count} samples that are NaN, infinite or absurdly loud", code=0)
    after = cleaned()
    assert np.abs(after[40_000:]).max() > 0.01  # what follows is heard
    assert np.isfinite(soundfile.read("removed/a.wav")[0]).all()
    (row,) = json.loads(Path("r.json").read_text())["files"]
    assert row["nonfinite"] == count


@settings(max_examples=15)
@given(
    sound=st.lists(st.floats(width=32), min_size=1, max_size=600),
    subtype=st.sampled_from(["FLOAT", "PCM_16", "PCM_24"]),
)
def test_no_float_there_is_makes_an_output_that_is_not_finite(
    sound: list[float],
    subtype: str,
    denoiser: Denoiser,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("floats")
    source = put(f"{folder}/a.wav", np.array(sound, np.float32).reshape(-1, 1))
    options = Options(subtype=subtype, residue=folder / "removed")
    report = clean_file(source, None, denoiser, options)
    assert len(cleaned(str(report.target))) == len(sound)
    assert len(cleaned(f"{folder}/removed/a.wav")) == len(sound)


def test_clipped_sound_is_cleaned_without_wrapping(run: Any) -> None:
    sound = np.clip(30 * noise(32_000), -1, 1)
    put("a.wav", sound, subtype="PCM_16")
    assert_sentence(run("a.wav", "--mix", "0.5"), code=0)
    after = cleaned()
    # A wrapped sample would sit on the other side of zero by nearly full scale.
    loud = np.abs(sound) == np.abs(sound).max()
    assert (np.sign(after[loud]) == np.sign(sound[loud])).mean() > 0.99


@pytest.mark.parametrize("rate", [8000, 11_025, 12_345, 22_050, 32_000, 96_000, 192_000])
def test_any_rate_from_8_to_192_khz_stays_as_it_is(rate: int, run: Any) -> None:
    put("a.wav", noise(rate // 2 + 1), rate, "PCM_24")
    assert_sentence(run("a.wav"), code=0)
    after = soundfile.info("a-clean.wav")
    assert (after.samplerate, after.frames, after.subtype) == (rate, rate // 2 + 1, "PCM_24")


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 16])
def test_any_number_of_channels_from_1_to_16_stays(channels: int, run: Any) -> None:
    put("a.wav", noise(5000, channels))
    assert_sentence(run("a.wav"), code=0)
    assert cleaned().shape == (5000, channels)


def test_what_is_left_of_a_truncated_file_is_cleaned_and_told(run: Any) -> None:
    whole = put("a.wav", noise(20_000), subtype="PCM_16").read_bytes()
    Path("a.wav").write_bytes(whole[: 44 + 2 * 5000])
    assert_sentence(run("a.wav"), "cut short", code=0)
    assert len(cleaned()) == 5000


# -------------------------------------------------------------------------------------- not sound


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.wav", b"Dear Sir or Madam,\nthis is a letter.\n", "text"),
        ("a.wav", b"", "empty"),
        ("a.wav", b"RIFF\xff\xff\xff\xffWAVE", "cannot be read"),
        ("a.wav", bytes(range(256)) * 20, "cannot be read"),
        ("a.flac", b"fLaC" + bytes(500), "cannot be read"),
        ("a.m4a", bytes(4) + b"ftypM4A " + bytes(500), "be read"),
    ],
)
def test_what_is_not_sound_is_named_and_the_others_are_done(
    name: str, content: bytes, said: str, run: Any
) -> None:
    put("rec/good.wav", noise(1000))
    Path("rec", name).write_bytes(content)
    result = run("rec", "-o", "out")
    assert_sentence(result, f"rec/{name}", said, "1 of 2 could not be cleaned")
    assert [path.name for path in Path("out").glob("[!.]*")] == ["good.wav"]


def test_a_missing_folder_and_one_without_audio_are_told(run: Any) -> None:
    Path("empty").mkdir()
    assert_sentence(run("nowhere/"), "nowhere does not exist")
    assert_sentence(run("empty"), "empty holds no audio file")
    assert_sentence(run("*.wav"), "matches no audio file")
    assert sorted(os.listdir()) == ["empty"]


# ------------------------------------------------------------------------------------------ places


@contextmanager
def no_special_rights() -> Iterator[None]:
    """Tests may run as root, who can read and write everything: without capabilities he cannot."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("=Ii", 0x20080522, 0)  # version 3, this thread
    before = ctypes.create_string_buffer(24)
    assert libc.capget(header, before) == 0
    words = list(struct.unpack("=6I", before.raw))
    words[0] = words[3] = 0  # nothing effective; what is permitted can be taken up again
    assert libc.capset(header, struct.pack("=6I", *words)) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before.raw) == 0


linux = pytest.mark.skipif(
    sys.platform != "linux", reason="takes root's rights away by Linux capabilities"
)


@linux
def test_a_folder_whose_entries_may_not_be_looked_at_stops_nobody(run: Any) -> None:
    put("rec/good.wav", noise(1000))
    put("rec/sub/x.wav", noise(1000))
    Path("rec/sub").chmod(0o444)
    with no_special_rights():
        result = run("rec", "-o", "out")
        assert_sentence(result, "rec/sub cannot be looked into: permission is denied")
        assert_sentence(run("rec/**/*.wav", "-o", "o"), "rec/sub cannot be looked into")
    Path("rec/sub").chmod(0o755)
    assert cleaned("out/good.wav").shape == (1000, 1)
    assert cleaned("o/good.wav").shape == (1000, 1)


def test_a_name_commands_no_terminal(run: Any) -> None:
    put("x\x1b]0;pwn\x07.wav", noise(1000))
    for words in (["--dry-run"], ["-v"]):
        output = run("x\x1b]0;pwn\x07.wav", *words).output
        assert "\x1b" not in output and r"x\x1b]0;pwn\x07.wav" in output
    Path("x\x1b]0;pwn\x07.wav").unlink()
    put("two\nlines.wav", noise(1000))
    for words in (["--dry-run"], ["-v"]):
        assert (
            r"two\nlines.wav -> out/two\nlines.wav"
            in run("two\nlines.wav", "-o", "out", *words).output
        )


@linux
def test_unreadable_files_and_folders_are_named_and_the_others_are_done(run: Any) -> None:
    put("rec/good.wav", noise(1000))
    put("rec/secret.wav", noise(1000)).chmod(0)
    put("rec/locked/a.wav", noise(1000))
    Path("rec/locked").chmod(0)
    with no_special_rights():
        result = run("rec", "-o", "out")
    Path("rec/locked").chmod(0o700)
    assert_sentence(result, "rec/secret.wav", "rec/locked", "permission", "2 of 3")
    assert len(cleaned("out/good.wav")) == 1000


@linux
@pytest.mark.parametrize("target", ["locked/out", "locked", "locked/b.wav"])
def test_a_write_protected_place_is_told_and_nothing_is_lost(target: str, run: Any) -> None:
    put("a.wav", noise(1000))
    Path("locked").mkdir()
    Path("locked").chmod(0o500)
    with no_special_rights():
        result = run("a.wav", "-o", target)
    assert_sentence(result, "locked", "permission")
    assert not os.listdir("locked")


def test_a_place_below_a_file_is_told(run: Any) -> None:
    put("a.wav", noise(1000))
    Path("file").touch()
    result = run("a.wav", "-o", "file/out/b.wav")
    assert_sentence(result, "file")
    assert Path("file").read_bytes() == b""


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg"])
def test_a_full_disk_is_told_and_leaves_nothing(name: str, run: Any) -> None:
    """A limit on the size of files fails writes as a full disk does, without filling one."""
    resource = pytest.importorskip("resource", reason="Unix only")
    if name.endswith(".ogg"):
        put(name, noise(20 * RATE), subtype="VORBIS")
    else:
        put(name, noise(20 * RATE), subtype="PCM_16")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        result = run(name, "-o", "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_sentence(result, name, "could not be written", "limit")
    assert not Path("out", name).exists()
    assert_nothing_unfinished()
    assert_sentence(run(name, "-o", "out", "--skip-existing"), code=0)
    assert len(cleaned(f"out/{name}")) == 20 * RATE


@pytest.mark.parametrize(
    "name",
    [
        "größe/Ünïcödé 日本語 🎤.wav",
        "-rf.wav",
        "a\nb.wav",
        "talk[1]*?.wav",
        "%s {x}.wav",
        "x" * 245 + ".wav",
    ],
)
def test_any_name_is_cleaned_under_the_same_name(name: str, run: Any) -> None:
    put(f"rec/{name}", noise(1000))
    assert_sentence(run("rec", "-o", "out"), code=0)
    assert len(cleaned(f"out/{name}")) == 1000


def test_a_name_that_is_no_text_is_cleaned(run: Any) -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    put("a.wav", noise(1000))
    Path("rec").mkdir()
    os.rename("a.wav", f"rec/{name}")
    assert_sentence(run("rec", "-o", "out", "-v", "--report", "r.json"), code=0)
    assert (Path("out") / name).exists()


def test_a_name_too_long_to_be_written_is_told(run: Any) -> None:
    name = "x" * 250 + ".wav"
    put(name, noise(1000))
    assert_sentence(run(name), "too long")
    assert_sentence(run("y" * 5000 + ".wav"), "does not exist")


def test_a_path_too_deep_to_be_written_is_told(run: Any) -> None:
    put("rec/a.wav", noise(1000))
    assert_sentence(run("rec", "-o", "/".join(["d" * 200] * 30)), "too long")


def test_loops_of_links_end(run: Any) -> None:
    put("rec/a.wav", noise(1000))
    Path("rec/loop").symlink_to(".")
    Path("rec/self.wav").symlink_to("self.wav")
    assert_sentence(run("rec", "-o", "out"), "rec/self.wav is a link that leads nowhere")
    assert [path.name for path in Path("out").rglob("[!.]*")] == ["a.wav"]


# ------------------------------------------------------------------------------------ weight files


def tampered(model_path: Path, change: Any) -> Path:
    """A copy of the model with its tensors' bytes changed; `change` may also edit the card."""
    card = json.loads(model_path.with_suffix(".json").read_text())
    data = change(model_path.read_bytes(), card)
    Path("bad.safetensors").write_bytes(data)
    Path("bad.json").write_text(json.dumps(card))
    return Path("bad.safetensors")


class Bomb:
    """What a pickled weight file can do: anything."""

    def __reduce__(self) -> Any:
        return os.system, ("touch exploded",)


def sign(data: bytes, card: dict[str, Any]) -> bytes:
    import hashlib

    card["sha256"] = hashlib.sha256(data).hexdigest()
    return data


def with_header(data: bytes, **tensors: Any) -> bytes:
    """Safetensors with entries of the header replaced (None: removed)."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    for name, entry in tensors.items():
        key = next(iter(header)) if name == "first" else name
        if entry is None:
            del header[key]
        else:
            header[key] = entry
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


CORRUPT = {
    "a pickle, signed": lambda data, card: sign(pickle.dumps(Bomb()), card),
    "one bit turned": lambda data, card: data[:-3] + bytes([data[-3] ^ 1]) + data[-2:],
    "cut short": lambda data, card: data[: len(data) // 2],
    "cut short, signed": lambda data, card: sign(data[: len(data) // 2], card),
    "empty, signed": lambda data, card: sign(b"", card),
    "a header of exabytes, signed": lambda data, card: sign(b"\xff" * 8 + data[8:], card),
    "text in the header, signed": lambda data, card: sign(data[:8] + b"x" * 64 + data[72:], card),
    "a tensor missing, signed": lambda data, card: sign(with_header(data, first=None), card),
    "a wrong shape, signed": lambda data, card: sign(
        with_header(data, first={"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}), card
    ),
    "another kind": lambda data, card: card.update(kind="image") or data,
    "no card at all": lambda data, card: card.clear() or data,
    "a config of nonsense": lambda data, card: card.update(config={"channels": "many"}) or data,
    "a gigantic config": lambda data, card: card["config"].update(channels=[10**9, 10**9]) or data,
}


@pytest.mark.parametrize("what", CORRUPT)
def test_a_corrupt_or_hostile_weight_file_is_refused(what: str, run: Any, model_path: Path) -> None:
    put("a.wav", noise(1000))
    bad = tampered(model_path, CORRUPT[what])
    assert_sentence(run("a.wav", model=bad), "Error: ", "bad")
    assert not Path("exploded").exists() and not Path("a-clean.wav").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_write_no_file(
    value: float, run: Any, model_path: Path
) -> None:
    def poison(data: bytes, card: dict[str, Any]) -> bytes:
        (length,) = struct.unpack("<Q", data[:8])
        numbers = np.frombuffer(data[8 + length :], "<f4").copy()
        numbers[:] = value
        return sign(data[: 8 + length] + numbers.tobytes(), card)

    put("a.wav", noise(1000))
    result = run("a.wav", model=tampered(model_path, poison))
    assert_sentence(result, "not finite")
    assert not Path("a-clean.wav").exists() and not Path(MANIFEST_NAME).exists()


def test_a_missing_model_names_those_there_are(run: Any) -> None:
    put("a.wav", noise(1000))
    assert_sentence(run("a.wav", model=Path("no-such-model")), "no-such-model")
