"""New noise: as long as asked, the same for the same seed, like what it was to be like."""

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from sounds import read, write
from tasks_model import RATE, machine

from audiodae.cli.main import main
from audiodae.errors import AudiodaeError
from audiodae.latent.embed import embed
from audiodae.latent.generate import generate, interpolate, texture_of
from audiodae.latent.texture import Texture
from audiodae.nets.families import build

pytest.importorskip("librosa", reason="the extra `families` is not installed")


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def autoregression(n, follow, seed=0):
    rng = np.random.default_rng(seed)
    rows = np.zeros((n, 3))
    for i in range(1, n):
        rows[i] = follow * rows[i - 1] + rng.standard_normal(3)
    return rows @ [[2, 0, 0], [1, 1, 0], [0, 0, 0.1]] + [3, -1, 0]


@pytest.mark.parametrize("follow", [0.0, 0.6, 0.9])
def test_a_walk_moves_as_what_it_was_fitted_to(follow):
    rows = autoregression(20_000, follow)
    texture = Texture.fit(rows, np.zeros(4))
    walk = texture.walk(40_000, np.random.default_rng(1))[::2]  # whole patches
    np.testing.assert_allclose(walk.mean(axis=0), rows.mean(axis=0), atol=0.5)
    np.testing.assert_allclose(np.cov(walk.T), np.cov(rows.T), rtol=0.25, atol=0.05)
    for axis in range(2):
        correlation = np.corrcoef(walk[1:, axis], walk[:-1, axis])[0, 1]
        assert correlation == pytest.approx(follow, abs=0.05)


def test_one_patch_is_enough_for_a_texture():
    walk = Texture.fit(np.ones((1, 3)), np.zeros(4)).walk(10, np.random.default_rng(0))
    np.testing.assert_allclose(walk, 1.0, atol=0.05)


@pytest.mark.parametrize("patch_frames", [1, 3, 7, 16])
def test_a_sound_lasts_to_its_end_whatever_the_patches_are(patch_frames):
    net = build("vanilla", bottleneck="gaussian", latent=4, hidden=(8,), patch_frames=patch_frames)
    (sound,) = generate(net.eval(), 1, 1.0)
    assert len(sound) == RATE
    assert np.abs(sound[-RATE // 20 :]).max() > 0.01 * np.abs(sound).max()


def test_the_same_seed_gives_the_same_noise(variational_model):
    net = variational_model.net
    a, again = (list(generate(net, 2, 0.7, seed=3)) for _ in range(2))
    np.testing.assert_array_equal(a, again)
    (other,) = generate(net, 1, 0.7, seed=4)
    assert np.abs(a[0] - other).max() > 1e-4
    assert np.abs(a[0] - a[1]).max() > 1e-4
    assert len(a[0]) == round(0.7 * RATE) and a[0].dtype == np.float32


def test_noise_like_a_recording_is_nearer_to_it_than_to_another(tmp_path, variational_model):
    net = variational_model.net
    level = {"quiet": 0.05, "loud": 1.0}
    for name, gain in level.items():
        write(tmp_path / f"{name}.wav", gain * machine(6.0, 3)[None])
    vectors = {name: embed(tmp_path / f"{name}.wav", net).vectors[0, :8] for name in level}
    for name in level:
        like = [texture_of(tmp_path / f"{name}.wav", net)]
        (made,) = generate(net, 1, 6.0, like=like)
        write(tmp_path / "made.wav", made[None])
        mine = embed(tmp_path / "made.wav", net).vectors[0, :8]
        distance = {other: np.linalg.norm(mine - vector) for other, vector in vectors.items()}
        assert min(distance, key=distance.get) == name


def test_a_way_begins_and_ends_at_the_recordings(tmp_path, variational_model):
    for name, gain in (("a", 0.1), ("b", 1.0)):
        write(tmp_path / f"{name}.wav", gain * machine(3.0, 3)[None])
    way = list(interpolate(tmp_path / "a.wav", tmp_path / "b.wav", variational_model.net, 4))
    levels = [float(x.std()) for x in way]
    assert levels == sorted(levels)
    assert {len(x) for x in way} == {11 * 4096}


def test_only_a_variational_model_generates(plain_model, variational_model):
    with pytest.raises(AudiodaeError, match="variational"):
        next(generate(plain_model.net, 1, 1.0))
    with pytest.raises(AudiodaeError, match=r"0\.1 s to an hour"):
        next(generate(variational_model.net, 1, 0.0))
    with pytest.raises(AudiodaeError, match="at least two"):
        next(interpolate("a", "b", variational_model.net, 1))


def test_the_commands(tmp_path, variational_model):
    (tmp_path / "like").mkdir()
    write(tmp_path / "like" / "a.wav", machine(3.0)[None])
    (tmp_path / "like" / "text.wav").write_text("no sound")
    model = ("--model", variational_model.name)
    out = tmp_path / "out"
    made = run(
        "generate", "-n", 2, "-o", out, "--like", tmp_path / "like", "--seconds", 1.5, *model
    )
    assert made.exit_code == 1 and "text.wav cannot be read" in made.output
    assert sorted(p.name for p in out.iterdir()) == ["noise-0-0000.wav", "noise-0-0001.wav"]
    sound, reader = read(out / "noise-0-0001.wav")
    assert sound.shape == (1, 24000) and reader.info.sample_rate == RATE and sound.std() > 1e-3
    again = run("generate", "-n", 1, "-o", out, "--seconds", 1, *model)
    assert again.exit_code == 1 and "--overwrite" in again.output
    a, b = out / "noise-0-0000.wav", out / "noise-0-0001.wav"
    way = run("interpolate", a, b, "-o", tmp_path / "way", "--steps", 3, *model)
    assert way.exit_code == 0 and len(list((tmp_path / "way").iterdir())) == 3
    missing = run("interpolate", a, tmp_path / "no.wav", "-o", tmp_path / "way2", *model)
    assert missing.exit_code == 1 and "no.wav cannot be read" in missing.output
    assert not list((tmp_path / "way2").glob("*"))


def test_what_is_wrong_with_a_recording_is_said(tmp_path, variational_model):
    sound = machine(70.0)[None]  # more than is listened to
    sound[0, :100] = np.nan
    soundfile.write(tmp_path / "nan.wav", sound[0], RATE, subtype="FLOAT")
    write(tmp_path / "cut.wav", machine(2.0)[None])
    whole = (tmp_path / "cut.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[:-9000])
    model = ("--model", variational_model.name)
    sources = (tmp_path / "nan.wav", tmp_path / "cut.wav")
    like = [word for source in sources for word in ("--like", source)]
    made = run("generate", "-n", 1, "-o", tmp_path / "out", "--seconds", 1, *like, *model)
    way = run("interpolate", *sources, "-o", tmp_path / "way", "--steps", 2, *model)
    for result in (made, way):
        assert result.exit_code == 0, result.output
        assert "nan.wav has 100 samples that are NaN, infinite or absurdly loud" in result.stderr
        assert result.stderr.count("Warning: ") == 2 and "cut.wav is cut short" in result.stderr


def test_what_cannot_be_is_said_before_any_recording_is_heard(tmp_path, plain_model):
    out = tmp_path / "out"
    out.mkdir()
    (out / "noise-0-0000.wav").write_text("mine")
    like = ("--like", tmp_path / "no.wav")
    again = run("generate", "-n", 1, "-o", out, *like)
    assert again.exit_code == 1 and "--overwrite" in again.output
    other = run("generate", "-n", 1, "-o", tmp_path / "a", *like, "--model", plain_model.name)
    assert other.exit_code == 1 and "variational" in other.output
    for result in (again, other):
        assert "no.wav" not in result.output


def test_what_fails_leaves_no_folder(tmp_path, plain_model, variational_model):
    write(tmp_path / "a.wav", machine(1.0)[None])
    model = ("--model", variational_model.name)
    for words in (
        ("interpolate", tmp_path / "no.wav", tmp_path / "a.wav", *model),
        ("generate", "-n", 1, "--model", plain_model.name),
        ("generate", "-n", 1, "--seconds", 0, *model),
    ):
        made = run(*words, "-o", tmp_path / "out" / "deep")
        assert made.exit_code == 1 and "Error: " in made.output
        assert not (tmp_path / "out").exists()
