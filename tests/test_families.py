"""The four families learn: loss, codes, recipes and the one trainer that serves them all."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from test_mixer import write_folder

from audiodae.cli.main import main
from audiodae.errors import AudiodaeError, RecipeError
from audiodae.files.audio import Reader
from audiodae.measure.evaluate import enhancer
from audiodae.nets.autoencoder import Code
from audiodae.nets.checkpoint import checkpoint_path, describe, load_autoencoder, pretrained_folder
from audiodae.nets.families import FAMILIES, family
from audiodae.training.elbo import ElboConfig, elbo_loss, kl_per_unit
from audiodae.training.folders import check_folders, family_recipe, train_folders
from audiodae.training.recipe import read_recipe

RECIPE = """
family = "{family}"
pca_patches = 0
held_out = 0.3
validation_batches = 1
[autoencoder]
hidden = [32, 24]
channels = [8, 8]
latent = 6
mels = 32
patch_frames = 8
[mix]
{mix}
[elbo]
beta = 0.02
warmup_steps = 10
[[stages]]
steps = {steps}
batch_size = 4
crop_seconds = 1.1
warmup_steps = 5
learning_rate = 1e-2
"""
NOISE_ONLY = "noise_only = 1.0\nbabble = 0.0"
STEPS = dict.fromkeys(FAMILIES, 40) | {"variational": 100}  # it learns more slowly at first


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("families")
    write_folder(root, "speech", 6, 2.0)
    write_folder(root, "noise", 6, 2.0)
    for name in FAMILIES:
        mix = NOISE_ONLY if name == "variational" else ""
        (root / f"{name}.toml").write_text(RECIPE.format(family=name, mix=mix, steps=STEPS[name]))
    return root


def train(root: Path, name: str, run: str, **options: object) -> list[dict]:
    speech = [] if name == "variational" else [root / "speech"]
    recipe = root / f"{name}.toml"
    train_folders(
        speech, [root / "noise"], [], recipe, root / run, root / "cache", "cpu", **options
    )
    return [json.loads(line) for line in (root / run / "curve.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_learns_with_the_one_trainer(root: Path, name: str) -> None:
    train(root, name, f"learns-{name}", stop_after_steps=1)
    curve = train(root, name, f"learns-{name}")
    first, last = curve[0], curve[-1]
    assert last["step"] == STEPS[name]
    assert last["error_db"] < 0.9 * first["error_db"]
    assert last["explained"] > first["explained"]
    assert ("error_of_the_input_db" in last) == (name == "denoising")
    assert ("kl_nats_per_unit" in last) == (name == "variational")
    if name == "variational":
        assert len(last["kl_nats_per_unit"]) == 6 and 0 <= last["active_units"] <= 6
        assert sum(last["kl_nats_per_unit"]) == pytest.approx(last["kl_nats"], abs=0.01)
    net = load_autoencoder(root / f"learns-{name}")
    assert net.config == family(
        name, hidden=(32, 24), channels=(8, 8), latent=6, mels=32, patch_frames=8
    )


def test_a_resumed_variational_training_is_bit_for_bit_the_uninterrupted_one(root: Path) -> None:
    train(root, "variational", "whole", stop_after_steps=7)
    train(root, "variational", "parts", stop_after_steps=3)
    train(root, "variational", "parts", stop_after_steps=4)
    whole, parts = (
        torch.load(root / run / "state.pt", weights_only=True)["net"] for run in ("whole", "parts")
    )
    assert all(torch.equal(whole[k], parts[k]) for k in whole)


def test_weights_of_another_training_are_where_a_family_starts(root: Path) -> None:
    train(root, "vanilla", "first", stop_after_steps=2)
    start = load_autoencoder(root / "first").state_dict()
    train(root, "vanilla", "second", init=str(root / "first"), stop_after_steps=1)
    after = load_autoencoder(root / "second").state_dict()
    key = "encoder.1.linear.weight"
    assert 0 < float((start[key] - after[key]).abs().max()) < 0.03


@settings(max_examples=30)
@given(mean=st.floats(-3, 3), logvar=st.floats(-4, 3))
def test_the_divergence_is_the_one_torch_computes(mean: float, logvar: float) -> None:
    code = Code(torch.full((4, 2), mean), torch.full((4, 2), logvar))
    given = torch.distributions.Normal(mean, math.exp(0.5 * logvar))
    wanted = torch.distributions.kl_divergence(given, torch.distributions.Normal(0.0, 1.0))
    assert kl_per_unit(code).tolist() == pytest.approx([float(wanted)] * 2, rel=1e-4, abs=1e-5)


def test_sums_are_over_features_and_means_over_the_batch() -> None:
    wanted, rebuilt = torch.zeros(3, 4, 5), torch.ones(3, 4, 5)
    code = Code(torch.full((3, 2), 2.0), torch.zeros(3, 2))  # costs 2 nats a unit
    config = ElboConfig(beta=0.5, warmup_steps=0)
    loss, terms = elbo_loss(rebuilt, wanted, code, config, 0)
    assert float(terms["reconstruction"]) * 20 == pytest.approx(0.5 * 20)
    assert float(terms["kl"]) * 20 == pytest.approx(0.5 * 2 * 2.0)
    assert float(loss) == pytest.approx(float(terms["reconstruction"] + terms["kl"]))
    twice = Code(code.mean.repeat(2, 1), torch.zeros(6, 2))
    again, _ = elbo_loss(rebuilt.repeat(2, 1, 1), wanted.repeat(2, 1, 1), twice, config, 0)
    assert float(again) == pytest.approx(float(loss))


def test_a_plain_code_costs_nothing() -> None:
    patches = torch.randn(3, 4, 5)
    loss, terms = elbo_loss(patches, patches, Code(torch.ones(3, 2), None), ElboConfig(), 10_000)
    assert float(loss) == 0.0 and "kl" not in terms


def test_bits_that_are_free_are_not_pressed_further() -> None:
    logvar = torch.zeros(3, 2, requires_grad=True)
    mean = torch.tensor([[0.1, 2.0]]).repeat(3, 1).requires_grad_()
    patches = torch.zeros(3, 4, 5)
    config = ElboConfig(warmup_steps=0, free_bits=1.0)  # 0.69 nats; the units cost 0.005 and 2
    _, terms = elbo_loss(patches, patches, Code(mean, logvar), config, 0)
    assert float(terms["kl"].detach()) * 20 == pytest.approx(math.log(2) + 2.0, rel=1e-4)
    terms["kl"].backward()
    assert mean.grad is not None
    assert float(mean.grad[:, 0].abs().sum()) == 0.0 and float(mean.grad[:, 1].abs().sum()) > 0.0


def test_beta_rises_in_a_straight_line_and_stays() -> None:
    config = ElboConfig(beta=0.8, warmup_steps=100)
    assert config.beta_at(0) == 0.0
    assert config.beta_at(50) == pytest.approx(0.4)
    assert config.beta_at(100) == config.beta_at(10**6) == 0.8
    assert ElboConfig(beta=0.8, warmup_steps=0).beta_at(0) == 0.8


@pytest.mark.parametrize("name", FAMILIES)
def test_the_recipe_of_every_family_is_shipped(name: str) -> None:
    recipe = read_recipe(family_recipe(name))
    assert recipe.family == name and recipe.licence
    assert recipe.autoencoder == FAMILIES[name]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('family = "variatonal"', "did you mean 'variational'"),
        ('family = "vanilla"\n[autoencoder]\nlatnet = 3', r"autoencoder\.latnet.*'latent'"),
        ('family = "vanilla"\n[model]\nblocks = 1', "a denoiser's"),
        ("[autoencoder]\nkernel = 4", "odd"),
        ("[autoencoder]\nmels = 400", "mels is 400: choose from 2 to the 257 bins"),
        ("[autoencoder]\nhop_length = 200", "n_fft=512 with hop_length=200"),
        ("[autoencoder]\npatch_frames = 0", "patch_frames is 0"),
        (
            'family = "vanilla"\n[[stages]]\nsteps = 1\nbatch_size = 1\ncrop_seconds = 0.5',
            r"one patch of 0\.256 s .*crop_seconds to 0\.512 or more",
        ),
        ("[elbo]\nbeta = -1.0", "a number from 0"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_in_a_sentence(
    tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(RecipeError, match=words):
        read_recipe(tmp_path / "r.toml")


def test_a_recipe_about_speech_asks_for_speech(root: Path) -> None:
    with pytest.raises(AudiodaeError, match="give a folder of it with --speech"):
        train_folders(
            [], [root / "noise"], [], root / "vanilla.toml", root / "x", root / "cache", "cpu"
        )


def test_a_family_of_noises_is_checked_without_speech(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = root / "variational.toml"
    check_folders([], [root / "noise"], [], recipe, root / "dry", root / "cache")
    assert "parameters at 16000 Hz" in capsys.readouterr().out
    assert len(list((root / "dry" / "examples").glob("*-noisy.wav"))) == 10


def test_the_command_trains_a_family_by_its_name(root: Path) -> None:
    run = root / "by-name"
    arguments = ["train", "--noise", str(root / "noise"), "--run", str(run), "--device", "cpu"]
    extra = ["--cache", str(root / "cache"), "--check"]
    result = CliRunner().invoke(main, [*arguments, "--family", "variational", *extra])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(main, [*arguments, "--family", "variatonal", *extra])
    assert result.exit_code != 0 and "did you mean 'variational'" in result.output
    both = ["--family", "vanilla", "--recipe", str(root / "vanilla.toml")]
    result = CliRunner().invoke(main, [*arguments, *both])
    assert result.exit_code == 2 and "not both" in result.output


def test_an_autoencoder_can_be_measured_as_a_denoiser_at_any_rate(root: Path) -> None:
    train(root, "denoising", "measured", stop_after_steps=1)
    masked = enhancer(str(root / "measured"))
    for sample_rate in (16000, 44100):
        noisy = np.random.default_rng(0).normal(0, 0.1, 20_001).astype(np.float32)
        cleaned = masked(noisy, sample_rate)
        assert cleaned.shape == noisy.shape
        assert 0 < np.square(cleaned).sum() < 1.01 * np.square(noisy).sum()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_shipped_weights_are_of_the_family_and_small(name: str) -> None:
    net = load_autoencoder(f"{name}-16k")
    assert net.config == FAMILIES[name]
    assert checkpoint_path(f"{name}-16k").stat().st_size < 1_500_000
    assert describe(f"{name}-16k")["licence"] == "MIT"


@pytest.mark.parametrize("name", ["vanilla", "convolutional"])
def test_shipped_weights_rebuild_the_demo_better_than_the_best_linear_code(name: str) -> None:
    net = load_autoencoder(f"{name}-16k")
    patches = net.patches(demo("noisy"))[0]
    straight = (patches.flatten(1) - net.middle) @ net.axes.T @ net.axes + net.middle
    linear = (straight.view_as(patches) - patches).square().mean()
    assert float((net(patches)[0] - patches).square().mean()) < float(linear)


def test_the_shipped_denoising_weights_bring_the_demo_closer_to_clean() -> None:
    net = load_autoencoder("denoising-16k")
    noisy, clean = net.patches(demo("noisy"))[0], net.patches(demo("clean"))[0]
    before, after = (noisy - clean).square().mean(), (net(noisy)[0] - clean).square().mean()
    assert float(after) < 0.5 * float(before)


def test_every_value_of_the_shipped_variational_code_is_used() -> None:
    training = describe("variational-16k")["training"]
    assert training["active_units"] == FAMILIES["variational"].latent
    assert training["kl_nats"] == pytest.approx(sum(training["kl_nats_per_unit"]), abs=0.01)


def test_the_example_of_the_card_runs() -> None:
    card = (pretrained_folder() / "FAMILIES.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", card, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(code, "FAMILIES.md", "exec"), names)
    assert names["rebuilt"].shape == (4, 16, 64) and names["code"].mean.shape == (4, 32)


def demo(kind: str) -> torch.Tensor:
    data = Path(__file__).parent / "data" / f"{kind}-speech.flac"
    with Reader(data) as reader:
        sound = np.concatenate([block.mean(axis=0) for block in reader.blocks(1 << 16)])
    return torch.from_numpy(sound)[None]


def test_the_script_that_draws_them_refuses_a_file_for_its_folder(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    script = Path(__file__).parent.parent / "scripts" / "families"
    (tmp_path / "file").touch()
    words = [arg for name in ("speech", "noise", "cache") for arg in (f"--{name}", str(tmp_path))]
    command = [sys.executable, str(script), *words, "--out", str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "give a folder" in done.stderr
