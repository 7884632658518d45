"""What is packed comes back, and nothing else passes for it."""

import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sounds import read, write
from tasks_model import RATE, machine

from audiodae.cli.main import main
from audiodae.errors import AudiodaeError, AudioError, CheckpointError
from audiodae.latent.adae_file import Compressed, from_bytes, to_bytes
from audiodae.latent.compress import (
    compress,
    compress_file,
    decompress,
    decompress_file,
    found_compressed,
)
from audiodae.latent.latent_code import LARGEST, pack, unpack
from audiodae.latent.latents import Trained
from audiodae.recordings.sources import Found
from audiodae.recordings.walk import mirrored, recordings

pytest.importorskip("constriction", reason="the extra `families` is not installed")
pytest.importorskip("librosa", reason="the extra `families` is not installed")

SOME = Compressed("some-model", bytes(range(8)), 44100, 123456, 9, 8, 0.25, b"12345678")


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


@settings(max_examples=50)
@given(
    arrays(
        np.int32,
        st.tuples(st.integers(1, 30), st.integers(1, 9)),
        elements=st.integers(-LARGEST, LARGEST),
    )
)
def test_numbers_come_back_as_they_were(numbers):
    np.testing.assert_array_equal(unpack(pack(numbers), *numbers.shape), numbers)


def test_what_moves_slowly_costs_less_than_what_jumps():
    rng = np.random.default_rng(0)
    steps = rng.integers(-1, 2, (400, 8))
    jumps = rng.permuted(np.cumsum(steps, axis=0), axis=0)
    assert len(pack(np.cumsum(steps, axis=0))) < 0.6 * len(pack(jumps))
    # Three equally likely steps hold 1.58 bits each; the forecast is not told so beforehand.
    assert 8 * len(pack(steps)) / steps.size < 2.1


@settings(max_examples=200)
@given(position=st.integers(0, len(to_bytes(SOME)) - 1), flip=st.integers(1, 255))
def test_no_byte_can_change_unnoticed(position, flip):
    data = bytearray(to_bytes(SOME))
    data[position] ^= flip
    with pytest.raises(AudioError, match="a.adae"):
        from_bytes(bytes(data), "a.adae")


@pytest.mark.parametrize("kept", range(len(to_bytes(SOME))))
def test_no_byte_can_be_lost_unnoticed(kept):
    with pytest.raises(AudioError, match=r"a.adae (is cut short|is not a file that)"):
        from_bytes(to_bytes(SOME)[:kept], "a.adae")


@given(st.binary(max_size=200))
def test_other_bytes_are_refused_in_words(data):
    for begin in (b"", b"ADAE\x01"):
        with pytest.raises(AudioError):
            from_bytes(begin + data, "a.adae")


@pytest.mark.parametrize(
    "change", [{"step": float("nan")}, {"step": float("inf")}, {"step": -1.0}, {"payload": b""}]
)
def test_numbers_that_make_no_sense_are_refused_though_the_checksum_fits(change):
    with pytest.raises(AudioError, match="makes no sense"):
        from_bytes(to_bytes(replace(SOME, **change)), "a.adae")


@pytest.mark.parametrize("change", [{"patches": 1}, {"samples": 1 << 60}, {"latent": 31}])
def test_numbers_that_do_not_go_together_are_refused(tmp_path, plain_model, change):
    write(tmp_path / "a.wav", machine(2.0)[None])
    content, _ = compress(tmp_path / "a.wav", plain_model)
    with pytest.raises(AudioError, match="do not go together"):
        list(decompress(replace(content, **change), plain_model))


def test_a_file_holds_what_was_put_in():
    assert from_bytes(to_bytes(SOME), "") == SOME


@pytest.mark.parametrize(
    ("rate", "frames"),
    [(RATE, 1), (RATE, 4096), (RATE, 20000), (44100, 60001), (8000, 9999), (48000, 12289)],
)
def test_length_and_rate_come_back_to_the_sample(tmp_path, plain_model, rate, frames):
    write(tmp_path / "a.wav", machine(4.0)[None, :frames], rate)
    content, _ = compress(tmp_path / "a.wav", plain_model)
    sound = np.concatenate(list(decompress(content, plain_model)), axis=1)
    assert sound.shape == (1, frames) and content.sample_rate == rate
    assert np.isfinite(sound).all()


def test_level_and_hum_come_back(tmp_path, plain_model):
    sound = machine(6.0, seed=99)
    write(tmp_path / "a.wav", sound[None])
    content, _ = compress(tmp_path / "a.wav", plain_model)
    back = np.concatenate(list(decompress(content, plain_model)), axis=1)[0]
    assert 20 * np.log10(back.std() / sound.std()) == pytest.approx(0, abs=2.5)
    spectrum = np.abs(np.fft.rfft(back * np.hanning(len(back))))
    hz = np.argmax(spectrum) * RATE / len(back)
    assert hz == pytest.approx(120, abs=25)  # a bin of the model's spectrum is 31 Hz wide


@pytest.mark.parametrize("name", ["vanilla-16k", "variational-16k"])
def test_silence_comes_back_as_silence(tmp_path, name):
    """It was hiss at -70 dBFS: the floor of all bands together."""
    sound = np.zeros((1, 16_000), np.float32)
    sound[:, 8_000:] = 0.1 * np.random.default_rng(0).standard_normal(8_000)
    model = Trained.load(name)
    write(tmp_path / "a.wav", sound, 16_000)
    content, _ = compress(tmp_path / "a.wav", model)
    back = np.concatenate(list(decompress(content, model)), axis=-1)
    assert np.abs(back[:, :3_000]).max() < 1e-6  # then a patch in which the noise begins
    assert back[:, 10_000:].std() > 0.03


def test_finer_costs_more(tmp_path, plain_model):
    write(tmp_path / "a.wav", machine(8.0, seed=5)[None])
    sizes = [
        len(compress(tmp_path / "a.wav", plain_model, fineness=f)[0].payload) for f in (2, 0.5, 0.1)
    ]
    assert sizes == sorted(sizes) and sizes[0] < 0.7 * sizes[2]


def test_another_model_is_refused(tmp_path, plain_model, variational_model):
    write(tmp_path / "a.wav", machine(1.0)[None])
    content, _ = compress(tmp_path / "a.wav", plain_model)
    with pytest.raises(CheckpointError, match="give that model"):
        list(decompress(content, variational_model))


def test_folders_there_and_back(tmp_path, plain_model):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    write(tmp_path / "in" / "a.wav", machine(1.5)[None], 22050)
    write(tmp_path / "in" / "deep" / "b.flac", machine(1.0, seed=1)[None])
    (tmp_path / "in" / "broken.wav").write_text("no sound")
    words = (tmp_path / "in", "-o", tmp_path / "no", "--model", plain_model.name)
    none = run("compress", *words, "--fineness", "0")
    assert none.exit_code == 1 and "fineness is 0" in none.output
    assert none.output.count("fineness") == 1 and not (tmp_path / "no").exists()
    there = run(
        "compress",
        tmp_path / "in",
        "-o",
        tmp_path / "small",
        "--model",
        plain_model.name,
        "--json",
        "--measure",
        "-q",
    )
    assert there.exit_code == 1 and "broken.wav cannot be read" in there.output
    rows = json.loads(there.stdout)
    assert [row["file"][-6:] for row in rows] == ["/a.wav", "b.flac"]
    for row in rows:
        assert row["bits_per_second"] == pytest.approx(8 * row["bytes"] / row["seconds"])
        assert row["bits_per_second"] < 1500 and 0 < row["lsd_db"] < 30
    (tmp_path / "small" / "cut.adae").write_bytes((tmp_path / "small" / "a.adae").read_bytes()[:-3])
    back = run("decompress", tmp_path / "small", "-o", tmp_path / "large")
    assert back.exit_code == 1 and "cut.adae is cut short or was altered" in back.output
    for name, rate, frames in (("a.wav", 22050, 24000), ("deep/b.wav", RATE, 16000)):
        sound, reader = read(tmp_path / "large" / name)
        assert sound.shape == (1, frames) and reader.info.sample_rate == rate
    assert sorted(p.name for p in (tmp_path / "large").iterdir()) == ["a.wav", "deep"]


def test_what_is_given_twice_is_done_once_and_keeps_its_first_place(
    tmp_path, monkeypatch, plain_model
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rec" / "sub").mkdir(parents=True)
    write(tmp_path / "rec" / "a.wav", machine(0.5)[None])
    write(tmp_path / "rec" / "sub" / "b.wav", machine(0.5, seed=1)[None])
    sources = ["rec", "rec/sub", "rec/a.wav", tmp_path / "rec" / "*.wav"]
    places = [str(item.relative) for item in recordings(sources)]
    assert places == ["a.wav", "sub/b.wav"]
    made = run("compress", *sources, "-o", "small/", "--model", plain_model.name)
    assert made.exit_code == 0 and "2 files" in made.output
    assert sorted(os.listdir("small")) == ["a.adae", "sub"]
    assert os.listdir("small/sub") == ["b.adae"]
    back = run("decompress", "small", "small/sub", "-o", "large/")
    assert back.exit_code == 0 and os.path.isfile("large/sub/b.wav")
    assert sorted(os.listdir("large")) == ["a.wav", "sub"]


def test_what_is_done_is_told_before_the_rest_is(tmp_path, plain_model, monkeypatch):
    """All lines came at the end, and of a run that was interrupted none."""
    for name in "abc":
        write(tmp_path / f"{name}.wav", machine(1.0)[None])

    def impatient(source, *rest, **more):
        if source.name == "c.wav":
            raise KeyboardInterrupt
        return compress_file(source, *rest, **more)

    monkeypatch.setattr("audiodae.latent.compress.compress_file", impatient)
    made = run("compress", tmp_path, "-o", tmp_path / "out", "--model", plain_model.name)
    assert made.exit_code == 130
    assert [re.search(r"(\w).wav", line)[1] for line in made.stdout.splitlines()] == ["a", "b"]
    words = ["compress", tmp_path, "-o", tmp_path / "again", "--model", plain_model.name, "--json"]
    assert [Path(row["file"]).name for row in json.loads(run(*words).stdout)] == ["a.wav", "b.wav"]


def test_compressed_files_are_found_by_patterns_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # as on Windows, where no shell turns these into names
    Path("small/sub").mkdir(parents=True)
    for name in ("small/a.adae", "small/sub/b.adae", "small/c.txt", "[1].adae"):
        Path(name).touch()
    sources = ["small/*", "small/**/*.adae", "[1].adae", "none*.adae"]
    found = found_compressed(map(Path, sources))
    assert [str(item.relative) for item in found] == ["a.adae", "sub/b.adae", *sources[2:]]
    assert [item.reason for item in found] == ["", "", "", "none*.adae matches no .adae file."]


def test_two_results_of_one_name_but_for_its_case_are_refused_where_they_are_one_file(monkeypatch):
    found = [Found(Path(name), Path(name)) for name in ("talk.wav", "Talk.flac")]
    assert len(set(mirrored(found, "small/", ".adae").values())) == 2
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(AudiodaeError, match="would both become"):
        mirrored(found, "small/", ".adae", overwrite=True)


def test_nothing_is_replaced_unless_asked(tmp_path, plain_model):
    write(tmp_path / "a.wav", machine(1.0)[None])
    soundfile.write(tmp_path / "a.flac", machine(1.0), RATE)
    collide = run("compress", tmp_path / "a.wav", tmp_path / "a.flac", "--model", plain_model.name)
    assert collide.exit_code == 1 and "would both become" in collide.output
    assert "rename one" in collide.output and "two runs" in collide.output
    itself = run("decompress", tmp_path / "a.wav")
    assert itself.exit_code == 1 and "would replace it" in itself.output
    once = run("compress", tmp_path / "a.wav", "--model", plain_model.name)
    assert once.exit_code == 0 and "bit/s" in once.output
    again = run("compress", tmp_path / "a.wav", "--model", plain_model.name)
    assert again.exit_code == 1 and "--overwrite" in again.output
    onto_itself = run("decompress", tmp_path / "a.adae")
    assert onto_itself.exit_code == 1 and "a.wav exists already" in onto_itself.output
    (tmp_path / "b.wav").symlink_to(
        tmp_path / "not yet.wav"
    )  # a link that leads nowhere is there too
    onto_a_link = run("decompress", tmp_path / "a.adae", "-o", tmp_path / "b.wav")
    assert onto_a_link.exit_code == 1 and "b.wav exists already" in onto_a_link.output
    with pytest.raises(AudioError, match="and is now"):  # or appeared meanwhile
        decompress_file(tmp_path / "a.adae", tmp_path / "b.wav", plain_model, replace=False)
    with pytest.raises(AudioError, match="and is now"):
        compress_file(tmp_path / "a.wav", tmp_path / "b.wav", plain_model, replace=False)
    (tmp_path / "b.wav").unlink()
    assert run("decompress", tmp_path / "a.adae", "-o", tmp_path / "b.wav").exit_code == 0
    for wrong in ("missing.adae", "a.wav"):
        made = run("decompress", tmp_path / wrong, "-o", tmp_path / "c.wav")
        assert made.exit_code == 1 and wrong in made.output
        assert "Traceback" not in made.output


@pytest.mark.parametrize(
    "change", [{"step": 1e38}, {"payload": b"\0" * 4}, {"payload": b"\xff" * 4}, {"sample_rate": 1}]
)
def test_numbers_that_nobody_wrote_are_a_sentence(change, tmp_path, plain_model):
    content = replace(from_bytes(packed(tmp_path, plain_model), ""), **change)
    (tmp_path / "a.adae").write_bytes(to_bytes(content))
    result = run("decompress", tmp_path / "a.adae")
    assert "bug in audiodae" not in result.output and "Traceback" not in result.output
    if "payload" not in change:  # which may be one that says nothing
        assert result.exit_code == 1


def test_endings_in_capitals_are_found_in_folders(tmp_path, plain_model):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "F.ADAE").write_bytes(packed(tmp_path, plain_model))
    made = run("decompress", tmp_path / "in", "-o", tmp_path / "out")
    assert made.exit_code == 0 and (tmp_path / "out" / "F.wav").is_file(), made.output


def packed(tmp_path, model):
    write(tmp_path / "some.wav", machine(1.0)[None])
    return to_bytes(compress(tmp_path / "some.wav", model)[0])


def test_a_model_may_have_a_name_that_is_no_text(tmp_path, plain_model):
    odd = tmp_path / os.fsdecode(b"m\xff.safetensors")
    for ending in (".safetensors", ".json"):
        odd.with_suffix(ending).write_bytes(Path(plain_model.name).with_suffix(ending).read_bytes())
    write(tmp_path / "a.wav", machine(1.0)[None])
    there = run("compress", tmp_path / "a.wav", "--model", odd)
    assert there.exit_code == 0, there.output
    back = run("decompress", tmp_path / "a.adae", "-o", tmp_path / "b.wav")
    assert back.exit_code == 0 and (tmp_path / "b.wav").is_file(), back.output


@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_a_name_with_an_ending_is_a_folder_only_where_it_says_so(tmp_path, plain_model, command):
    (tmp_path / "a.adae").write_bytes(packed(tmp_path, plain_model))
    pair = ("some.wav", "some.adae") if command == "compress" else ("a.adae", "a.wav")
    source, made = tmp_path / pair[0], pair[1]
    words = (command, source, "--model", plain_model.name, "-o")
    refused = run(*words, tmp_path / "x.bin")
    assert refused.exit_code == 1 and not (tmp_path / "x.bin").exists()
    assert f"such as {(tmp_path / 'x').with_suffix(Path(made).suffix)}, or " in refused.output
    empty = run(*words, "")
    assert empty.exit_code == 2 and "is a variable not set?" in empty.output
    (tmp_path / "there").touch()
    taken = run(*words, tmp_path / "there")
    assert taken.exit_code == 1 and "is no folder" in taken.output
    (tmp_path / "z.bin").mkdir()
    for folder in ("x.bin/", "z.bin", "plain", made + "/"):
        done = run(*words, f"{tmp_path}/{folder}")
        assert done.exit_code == 0 and (tmp_path / folder / made).is_file(), done.output


def test_what_fails_leaves_no_folder(tmp_path, plain_model, variational_model):
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "a.adae").write_bytes(packed(tmp_path, plain_model))
    for command, source, model in (
        ("compress", "text.wav", plain_model),
        ("decompress", "text.wav", plain_model),
        ("decompress", "a.adae", variational_model),
    ):
        made = run(command, tmp_path / source, "-o", tmp_path / "out", "--model", model.name)
        assert made.exit_code == 1 and not (tmp_path / "out").exists(), made.output
