"""Vectors are those of the whole recording, whatever its length, rate or company."""

import json
import os

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import noise, write
from tasks_model import RATE, machine

from audiodae.cli.main import main
from audiodae.errors import AudiodaeError, AudioError
from audiodae.latent.embed import embed
from audiodae.latent.embed import write as write_embeddings
from audiodae.latent.latents import Patches

STEP = 16 * 256


def run(*arguments):
    return CliRunner().invoke(main, ["embed", *map(str, arguments)])


@settings(max_examples=25)
@given(samples=st.integers(1, 9 * STEP), block_patches=st.integers(1, 4))
def test_blocks_of_any_size_give_the_patches_of_the_whole(
    tmp_path_factory, plain_model, samples, block_patches
):
    path = tmp_path_factory.mktemp("block") / "a.wav"
    sound = machine(samples / RATE + 0.01)[:samples]
    write(path, sound[None], RATE, subtype="FLOAT")
    net = plain_model.net
    reader = Patches(path, net, block_seconds=block_patches * STEP / RATE)
    blocks = list(reader)
    assert all(len(block) <= block_patches + 2 for block in blocks)
    whole = net.patches(torch.from_numpy(sound)[None])[0]
    torch.testing.assert_close(torch.cat(blocks), whole, atol=1e-4, rtol=0)
    assert reader.samples == samples


@pytest.mark.parametrize(("samples", "rows"), [(1, 1), (STEP, 1), (2 * STEP - 1, 1), (3 * STEP, 3)])
def test_a_patch_that_is_only_begun_counts_only_when_there_is_no_other(
    tmp_path, plain_model, samples, rows
):
    write(tmp_path / "a.wav", machine(2.0)[None, :samples])
    assert len(embed(tmp_path / "a.wav", plain_model.net, per="patch").vectors) == rows


def test_memory_is_that_of_a_block(tmp_path, plain_model):
    write(tmp_path / "long.wav", np.tile(machine(10.0), 12)[None])
    largest = max(len(b) for b in Patches(tmp_path / "long.wav", plain_model.net, block_seconds=5))
    assert largest <= 5 * RATE // STEP + 2


def test_a_clip_is_the_mean_and_the_deviation_of_its_patches(tmp_path, plain_model):
    write(tmp_path / "a.wav", machine(3.0)[None])
    patches = embed(tmp_path / "a.wav", plain_model.net, per="patch")
    clip = embed(tmp_path / "a.wav", plain_model.net)
    assert clip.vectors.shape == (1, 16) and patches.vectors.shape == (11, 8)
    expected = [*patches.vectors.mean(axis=0), *patches.vectors.std(axis=0)]
    np.testing.assert_allclose(clip.vectors[0], expected, rtol=1e-5)
    np.testing.assert_allclose(patches.seconds, np.arange(11) * 0.256)


def test_a_patch_is_called_so_and_known_by_its_earlier_name(tmp_path, plain_model):
    write(tmp_path / "a.wav", machine(1.0)[None])
    made = {}
    for word in ("patch", "frame"):
        target = tmp_path / f"{word}.npz"
        done = run(
            tmp_path / "a.wav",
            "-o",
            target,
            "--per",
            word,
            "--model",
            plain_model.name,
            "--device",
            "auto",
        )
        assert done.exit_code == 0, done.output
        made[word] = np.load(target)
        assert json.loads(str(made[word]["facts"]))["per"] == "patch"
    assert np.array_equal(made["patch"]["vectors"], made["frame"]["vectors"])
    assert "[clip|patch]" in run("--help").output
    with pytest.raises(AudiodaeError, match="per is 'clips': give clip, or patch"):
        embed(tmp_path / "a.wav", plain_model.net, per="clips")


def test_rate_channels_and_format_change_little(tmp_path, plain_model):
    sound = machine(3.0)
    write(tmp_path / "a.wav", sound[None])
    there = np.repeat(sound, 3)  # at 48 kHz, and images above 8 kHz that resampling removes
    write(tmp_path / "b.flac", np.stack([there, there]), 48000)
    a, b = (embed(tmp_path / name, plain_model.net).vectors for name in ("a.wav", "b.flac"))
    assert np.linalg.norm(a - b) < 0.25 * np.linalg.norm(a)


def test_npz_and_parquet_hold_the_same(tmp_path, plain_model):
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra `families` is not installed")
    (tmp_path / "in" / "deep").mkdir(parents=True)
    write(tmp_path / "in" / "a.wav", machine(2.0)[None])
    write(tmp_path / "in" / "deep" / "b.flac", machine(1.0, seed=1)[None])
    for suffix in ("npz", "parquet"):
        made = run(
            tmp_path / "in",
            "-o",
            tmp_path / f"x.{suffix}",
            "--per",
            "patch",
            "--model",
            plain_model.name,
        )
        assert made.exit_code == 0, made.output
    arrays = np.load(tmp_path / "x.npz")
    table = parquet.read_table(tmp_path / "x.parquet")
    assert table["name"].to_pylist() == arrays["names"].tolist()
    assert [name[-5:] for name in arrays["names"]] == ["a.wav"] * 7 + [".flac"] * 3
    np.testing.assert_array_equal(np.array(table["vector"].to_pylist()), arrays["vectors"])
    np.testing.assert_array_equal(table["seconds"].to_numpy(), arrays["seconds"])
    facts = json.loads(str(arrays["facts"]))
    assert facts == json.loads(table.schema.metadata[b"audiodae"])
    assert facts["sha256"] == plain_model.sha256


def test_a_name_that_is_no_text_costs_no_vectors(tmp_path, plain_model):
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra `families` is not installed")
    odd = tmp_path / os.fsdecode(b"caf\xe9.wav")
    write(odd, machine(1.0)[None])
    write_embeddings(tmp_path / "x.parquet", [embed(odd, plain_model.net)], {})
    (name,) = parquet.read_table(tmp_path / "x.parquet")["name"].to_pylist()
    assert "caf" in name


def test_what_is_no_sound_is_named_and_the_rest_is_done(tmp_path, plain_model):
    write(tmp_path / "good.wav", machine(1.0)[None])
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("no sound")
    soundfile.write(tmp_path / "none.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "nan.wav", np.full(9000, np.nan), RATE, subtype="FLOAT")
    made = run(
        tmp_path, tmp_path / "missing.wav", "-o", tmp_path / "x.npz", "--model", plain_model.name
    )
    assert made.exit_code == 1
    for name in ("empty.wav", "text.wav", "none.wav", "missing.wav", "4 of 6"):
        assert name in made.output
    assert "9000 samples that are NaN, infinite or absurdly loud" in made.output
    assert "Traceback" not in made.output
    assert len(np.load(tmp_path / "x.npz")["names"]) == 2


def test_a_wrong_target_is_said_before_any_work(tmp_path, plain_model):
    write(tmp_path / "a.wav", noise(1, 4000))
    for target, sentence in (
        ("x.csv", ".npz or .parquet"),
        ("nowhere/x.npz", "nowhere is not there"),
    ):
        made = run(tmp_path, "-o", tmp_path / target, "--model", plain_model.name)
        assert made.exit_code == 1 and sentence in made.output
    made = run(tmp_path, "-o", tmp_path / "x.npz", "--model", "no-such-model")
    assert made.exit_code == 1 and "There is no model" in made.output
    assert not (tmp_path / "x.npz").exists()


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_nothing_but_embeddings_is_replaced_unless_asked(tmp_path, plain_model, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow", reason="the extra `families` is not installed")
    write(tmp_path / "a.wav", machine(1.0)[None])
    target, model = tmp_path / f"x.{suffix}", ("--model", plain_model.name)
    foreign = [b"notes", b""]
    if suffix == "npz":
        np.savez(target, mine=np.zeros(3))
        foreign.append(target.read_bytes())
    for data in foreign:
        target.write_bytes(data)
        # No recording is listened to first: there is none.
        refused = run(tmp_path / "no.wav", "-o", target)
        assert refused.exit_code == 1 and "use --overwrite to replace it" in refused.output
        assert "no.wav" not in refused.output and target.read_bytes() == data
    asked = run(tmp_path / "a.wav", "-o", target, "--overwrite", *model)
    assert asked.exit_code == 0, asked.output
    again = run(tmp_path / "a.wav", "-o", target, "--per", "patch", *model)
    assert again.exit_code == 0 and "3 vectors" in again.output, again.output
    target.chmod(0o444)
    protected = run(tmp_path / "no.wav", "-o", target, *model)
    assert protected.exit_code == 1 and "write-protected" in protected.output
    assert "no.wav" not in protected.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.wav", target.name]


def test_a_device_that_is_not_there_is_told(tmp_path, plain_model):
    write(tmp_path / "a.wav", machine(1.0)[None])
    words = (tmp_path / "a.wav", "-o", tmp_path / "x.npz", "--device", "abacus")
    refused = run(*words, "--model", plain_model.name)
    assert refused.exit_code == 1 and "cannot be used" in refused.output


def test_no_sound_at_all_is_an_error(tmp_path, plain_model):
    soundfile.write(tmp_path / "none.wav", np.zeros(0), RATE)
    with pytest.raises(AudioError, match="0 samples"):
        embed(tmp_path / "none.wav", plain_model.net)


def test_a_name_that_is_no_file_is_refused_before_any_recording_is_heard(tmp_path):
    """It was said that it had not been there when the work began."""
    (tmp_path / "device.npz").symlink_to(os.devnull)
    made = run(tmp_path / "no.wav", "-o", tmp_path / "device.npz")
    assert made.exit_code == 1 and "holds no embeddings of audiodae" in made.output
    assert "no.wav" not in made.output
