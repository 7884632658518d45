"""Learning, for real and small: the loss falls, a resumed training is the same training."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from test_mixer import write_folder
from torch.utils.data import dataloader

from audiodae.cli.main import main
from audiodae.cores import can_fork
from audiodae.errors import AudiodaeError, RecipeError
from audiodae.files.atomic import claimed
from audiodae.nets.checkpoint import load_denoiser
from audiodae.nets.denoiser import DenoiserConfig, DenoiserNet
from audiodae.training.ahead import deaths_told, default_workers, mixed_ahead
from audiodae.training.averages import is_finite
from audiodae.training.corpus import read_corpus
from audiodae.training.folders import check_folders, make_mixers, train_folders
from audiodae.training.lessons import lesson_of
from audiodae.training.mixer import Mixer, Mixture
from audiodae.training.pace import Pace
from audiodae.training.recipe import Recipe, Stage, read_recipe
from audiodae.training.trainer import Diverged, Trainer

RECIPE = """
optimizer = "{optimizer}"
held_out = 0.3
validation_batches = 1
[model]
channels = [8, 8]
blocks = 1
[[stages]]
steps = 30
batch_size = 4
crop_seconds = 0.5
warmup_steps = 5
learning_rate = 5e-3
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("training")
    write_folder(root, "speech", 6, 2.0)
    write_folder(root, "noise", 6, 2.0)
    for optimizer in ("adamw", "soap"):
        (root / f"{optimizer}.toml").write_text(RECIPE.format(optimizer=optimizer))
    dropout = RECIPE.format(optimizer="adamw").replace("blocks = 1", "blocks = 1\ndropout = 0.2")
    (root / "dropout.toml").write_text(dropout)
    return root


def train(root: Path, run: str, optimizer: str = "adamw", **options: object) -> list[dict]:
    train_folders(
        [root / "speech"],
        [root / "noise"],
        [],
        root / f"{optimizer}.toml",
        root / run,
        root / "cache",
        "cpu",
        **options,
    )
    return [json.loads(line) for line in (root / run / "curve.jsonl").read_text().splitlines()]


def weights(root: Path, run: str) -> dict[str, torch.Tensor]:
    return torch.load(root / run / "state.pt", weights_only=True)["net"]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Several threads share out their sums by the load of the machine, and with it the last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("optimizer", ["adamw", "soap", "dropout"])
@pytest.mark.usefixtures("one_thread")
def test_a_resumed_training_is_bit_for_bit_the_uninterrupted_one(
    root: Path, optimizer: str
) -> None:
    torch.manual_seed(1)  # whatever the process did before
    train(root, f"whole-{optimizer}", optimizer, stop_after_steps=12)
    torch.manual_seed(2)
    train(root, f"parts-{optimizer}", optimizer, stop_after_steps=5)
    train(root, f"parts-{optimizer}", optimizer, stop_after_steps=7)
    whole, parts = weights(root, f"whole-{optimizer}"), weights(root, f"parts-{optimizer}")
    assert all(torch.equal(whole[k], parts[k]) for k in whole)


needs_fork = pytest.mark.skipif(not can_fork(), reason="mixing processes are forked")


@needs_fork
@pytest.mark.parametrize("error", [AudiodaeError("No."), RuntimeError("a bug")])
def test_what_goes_wrong_in_a_mixing_process_is_told_as_it_is(error: Exception) -> None:
    def mix(step: int) -> Mixture:
        raise error

    for workers in (0, 1):
        with pytest.raises(type(error), match=f"^{error}$"):
            list(mixed_ahead(mix, range(4), workers, torch.device("cpu")))


@needs_fork
@pytest.mark.parametrize(("megabytes", "wanted"), [(None, 0), (10, 0), (200, 3), (2000, 7)])
def test_where_shared_memory_decides_how_many_processes_mix_that_is_told(
    monkeypatch: pytest.MonkeyPatch, megabytes: int | None, wanted: int
) -> None:
    def usage(path: str) -> SimpleNamespace:
        if megabytes is None:
            raise FileNotFoundError(path)
        return SimpleNamespace(total=megabytes * 1_000_000)

    monkeypatch.setattr("audiodae.training.ahead.cores", lambda: 8)
    monkeypatch.setattr("audiodae.training.ahead.shutil.disk_usage", usage)
    said: list[str] = []
    assert default_workers(torch.device("cuda"), said.append) == wanted
    assert len(said) == (wanted < 7)
    assert all(f"room for batches of {wanted} processes" in line for line in said)
    assert all(("random numbers of its own" in line) == (wanted == 0) for line in said)
    assert default_workers(torch.device("cpu"), said.append) == 0


@needs_fork
def test_a_mixing_process_that_dies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = dataloader._MultiProcessingDataLoaderIter._try_get_data
    monkeypatch.setattr(looks, "__defaults__", (0.2,))  # for the dead: every 5 s
    with pytest.raises(AudiodaeError, match="fewer --workers"), deaths_told():
        list(mixed_ahead(lambda step: os._exit(1), range(4), 1, torch.device("cpu")))


@needs_fork
def test_a_killed_training_holds_nothing(root: Path) -> None:
    """Its mixing processes live on for seconds, but not with its lock."""
    recipe = root / "long.toml"
    recipe.write_text(RECIPE.format(optimizer="adamw").replace("steps = 30", "steps = 100000"))
    run = root / "killed"
    words = ["--speech", root / "speech", "--noise", root / "noise", "--cache", root / "cache"]
    words += ["--recipe", recipe, "--run", run, "--workers", "2", "--device", "cpu"]
    training = subprocess.Popen([sys.executable, "-m", "audiodae", "train", *words])
    try:
        began = time.monotonic()
        while len(_children(training.pid)) < 2 and time.monotonic() - began < 60.0:
            time.sleep(0.05)
        time.sleep(0.5)  # the processes have gone through their beginning
        left = _children(training.pid)
    finally:
        training.kill()
        training.wait()
    assert left
    with claimed(run):
        pass


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@needs_fork
def test_whoever_mixes_the_training_is_the_same(root: Path, one_thread: None) -> None:
    train(root, "mixed-here", stop_after_steps=6)
    train(root, "mixed-elsewhere", stop_after_steps=4, workers=2)
    train(root, "mixed-elsewhere", stop_after_steps=2, workers=3)
    here, elsewhere = weights(root, "mixed-here"), weights(root, "mixed-elsewhere")
    assert all(torch.equal(here[k], elsewhere[k]) for k in here)


def test_the_loss_falls_and_the_averaged_weights_can_be_loaded(root: Path) -> None:
    curve = train(root, "falls", stop_after_steps=2)
    curve = train(root, "falls")
    assert curve[-1]["step"] == 30
    assert curve[-1]["loss"] < 0.9 * curve[0]["loss"]
    net = load_denoiser(root / "falls")
    assert net(torch.zeros(1, 1000)).shape == (1, 1000)


def test_weights_of_another_training_are_where_it_starts(root: Path) -> None:
    train(root, "first", stop_after_steps=3)
    model = str(root / "first" / "model.safetensors")
    train(root, "second", init=model, stop_after_steps=1)
    start, after = load_denoiser(model), weights(root, "second")
    key = "encoder.1.conv.weight"
    change = (start.state_dict()[key] - after[key]).abs().max()
    assert float(change) < 0.01


def test_a_recipe_without_a_shape_takes_that_of_the_weights(root: Path) -> None:
    train(root, "shaped", stop_after_steps=1)
    recipe = root / "shapeless.toml"
    recipe.write_text("validation_batches = 1\n[[stages]]\nsteps = 1\nbatch_size = 2\n")
    folders = [root / "speech"], [root / "noise"], []
    init = str(root / "shaped")
    train_folders(*folders, recipe, root / "shapeless", root / "cache", "cpu", init)
    assert load_denoiser(root / "shapeless").config == load_denoiser(root / "shaped").config


def test_a_wider_net_with_more_bands_takes_over_what_the_narrow_one_knows(root: Path) -> None:
    train(root, "narrow", stop_after_steps=3)
    narrow = load_denoiser(root / "narrow")
    wide = replace(
        narrow.config,
        channels=(8, 16),
        bands=replace(narrow.config.bands, erb=narrow.config.bands.erb + 16),
    )
    given, taken = narrow.state_dict(), _begun_from(root, narrow, wide, "wide").state_dict()
    for name, tensor in given.items():
        into = taken[name]
        if ".gru." in name or "query_key_value" in name:  # each of the three stacked in it
            into, tensor = into.unflatten(0, (3, -1)), tensor.unflatten(0, (3, -1))
        if ".join.weight" in name:  # what comes from below, and what comes across
            into, tensor = into.unflatten(1, (2, -1)), tensor.unflatten(1, (2, -1))
        corner = tuple(slice(n) for n in tensor.shape)
        assert torch.equal(into[corner], tensor), name


def test_what_only_the_wider_net_has_begins_unheard(root: Path) -> None:
    """Without blocks, whose norms are over all channels, it says at first what the narrow one says."""
    train(root, "narrow-one", stop_after_steps=3)
    config = replace(load_denoiser(root / "narrow-one").config, blocks=0)
    narrow = DenoiserNet(config)
    narrow.load_state_dict(load_denoiser(root / "narrow-one").state_dict(), strict=False)
    wider = tuple(2 * channels for channels in config.channels)
    net = _begun_from(root, narrow, replace(config, channels=wider), "wider")
    noise = torch.randn(1, 8000, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(net.eval()(noise), narrow.eval()(noise))
    torch.nn.init.ones_(net.decoder[0].join.weight)
    assert (net(noise) - narrow(noise)).abs().max() > 0.01


def test_kernels_of_another_length_begin_by_hearing_the_same_bands(root: Path) -> None:
    train(root, "short", stop_after_steps=3)
    short = load_denoiser(root / "short")
    first, second = short.config.kernels
    long = replace(short.config, kernels=(first + 2, second + 2))
    net = _begun_from(root, short, long, "long").eval()
    noise = torch.randn(1, 8000, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(net(noise), short(noise))


def test_bands_that_lie_closer_take_the_place_of_those_they_lie_in(root: Path) -> None:
    train(root, "coarse", stop_after_steps=3)
    coarse = load_denoiser(root / "coarse")
    first, second = coarse.config.strides
    fine = replace(coarse.config, strides=(first, second // 2))
    place = _begun_from(root, coarse, fine, "fine").place
    assert len(place) == 2 * len(coarse.place)
    for i, vector in enumerate(place):
        assert torch.equal(vector, coarse.place[i // 2])


def _begun_from(root: Path, trained: DenoiserNet, config: DenoiserConfig, run: str) -> DenoiserNet:
    recipe = Recipe(stages=(Stage(steps=1),), model=config, validation_batches=1)
    mixer = Mixer(read_corpus([root / "speech"], 16000, root / "cache"), None, None, recipe.mix)
    device = torch.device("cpu")
    return Trainer(recipe, mixer, mixer, root / run, device=device, start_from=trained).learner.net


def test_a_deeper_net_begins_as_the_shallow_one_it_came_from(root: Path) -> None:
    train(root, "shallow", stop_after_steps=3)
    shallow = load_denoiser(root / "shallow")
    deep = replace(shallow.config, blocks=shallow.config.blocks + 2)
    net = _begun_from(root, shallow, deep, "deep")
    assert len(net.memory) == shallow.config.blocks + 2
    noise = torch.randn(1, 8000, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(net.eval()(noise), shallow(noise))


def test_with_shorter_hops_the_memory_lasts_as_long(root: Path) -> None:
    """A net that has learnt to wait: what its memory keeps of a frame after half a second."""
    train(root, "hops", stop_after_steps=3)
    slow = load_denoiser(root / "hops")
    with torch.no_grad():
        slow.memory[0].gru.bias_ih_l0.chunk(3)[1].fill_(3.0)
    kept = []
    for hop_length in (256, 128):
        fine = replace(slow.config, hop_length=hop_length)
        net = _begun_from(root, slow, fine, f"hop-{hop_length}")
        spec = torch.zeros(1, 8000 // hop_length, net.stft.bins, dtype=torch.complex64)
        after = []
        for level in (0.0, 1.0):
            state = {name: level + zeros for name, zeros in net.initial_state(1).items()}
            with torch.no_grad():
                after.append(net.eval().mask(spec, state)[1]["memory0"])
        kept.append(float((after[1] - after[0]).mean()))
    assert 0.1 < kept[0] < 0.5
    assert kept[1] == pytest.approx(kept[0], rel=0.1)


def test_a_run_folder_takes_one_training_at_a_time(root: Path) -> None:
    pytest.importorskip("fcntl", reason="this system has no such locks")
    train(root, "busy", stop_after_steps=1)
    with (
        claimed(root / "busy"),
        pytest.raises(AudiodaeError, match="Another process is at work in .*busy"),
    ):
        train(root, "busy", "dropout", stop_after_steps=1)
    recipe = json.loads((root / "busy" / "recipe.json").read_text())
    assert recipe["model"]["dropout"] == 0.0  # what is refused has changed nothing
    train(root, "busy", stop_after_steps=1)


def test_a_training_that_cannot_be_gone_on_with_is_told(root: Path) -> None:
    train(root, "old", stop_after_steps=1)
    with pytest.raises(AudiodaeError, match="'adamw'.*--init"):
        train(root, "old", "soap", stop_after_steps=1)
    whole = (root / "old" / "state.pt").read_bytes()
    at = len(whole) // 3
    turned = whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]
    for damaged in (b"", b"no state at all", whole[:-1000], whole[: len(whole) // 2], turned):
        (root / "old" / "state.pt").write_bytes(damaged)
        with pytest.raises(AudiodaeError, match=r"state.pt is damaged.*--init"):
            train(root, "old", stop_after_steps=1)


def test_what_a_later_stage_lacks_is_told_before_the_first_step(root: Path) -> None:
    pytest.importorskip("librosa", reason="the Whisper loss takes its mel bands from librosa")
    recipe, run, cache = root / "lacking.toml", root / "lacking", root / "cache"
    loss = f"[loss]\nwhisper_folder = '{root / 'no-whisper'}'\n"
    later = "[[stages]]\nsteps = 1\nwhisper = 0.3\n"
    recipe.write_text(RECIPE.format(optimizer="adamw") + later + loss)
    folders = [root / "speech"], [root / "noise"], []
    for lacking in (
        lambda: check_folders(*folders, recipe, run, cache),
        lambda: train_folders(*folders, recipe, run, cache, "cpu", stop_after_steps=1),
    ):
        with pytest.raises(AudiodaeError, match=r"no-whisper.* cannot be read as a Whisper model"):
            lacking()
    assert not (run / "state.pt").exists()


def test_what_only_stages_that_are_over_heard_need_not_be_there_any_more(root: Path) -> None:
    recipe = Recipe(stages=(Stage(steps=2, whisper=0.3), Stage(steps=2)))
    recipe = replace(recipe, loss=replace(recipe.loss, whisper_folder=str(root / "no-whisper")))
    lesson = lesson_of(recipe, torch.device("cpu"))
    lesson.check(2)
    lesson.check(4)
    with pytest.raises(AudiodaeError):
        lesson.check(1)


def test_a_torchaudio_of_another_torch_is_told_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("scipy", reason="the PESQ loss needs it")
    (tmp_path / "torch_pesq.py").write_text(
        "raise OSError('Could not load this library: /x/torchaudio/lib/_torchaudio.abi3.so')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch_pesq", raising=False)
    lesson = lesson_of(Recipe(stages=(Stage(steps=2, pesq=0.1),)), torch.device("cpu"))
    with pytest.raises(AudiodaeError, match=r"built for another torch than .*from one index"):
        lesson.check(0)


@pytest.mark.parametrize(("names", "told"), [("ab", "1 held out"), ("a", "1 group .none held")])
def test_a_look_says_how_many_groups_are_held_out(
    root: Path, tmp_path: Path, names: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in names:
        impulse = np.zeros(4000)
        impulse[10] = 1.0
        soundfile.write(tmp_path / f"{name}hall.wav", impulse, 16000)
    folders = [root / "speech"], [root / "noise"], [tmp_path]
    check_folders(*folders, root / "adamw.toml", tmp_path / "dry", root / "cache")
    (line,) = (x for x in capsys.readouterr().out.splitlines() if x.startswith("rooms"))
    assert re.search(told, line), line


class Spoilt(Mixer):
    """Mixes well until `from_step`, then says so or mixes no numbers."""

    from_step, error = 3, True

    def batch(self, step: int, *args: object, **options: object) -> Mixture:
        mixture = super().batch(step, *args, **options)
        if step < self.from_step:
            return mixture
        if self.error:
            raise AudiodaeError("A file has vanished.")
        return Mixture(mixture.noisy * torch.nan, mixture.clean)


@pytest.mark.parametrize("error", [True, False])
def test_what_goes_wrong_loses_no_steps_and_spoils_no_state(root: Path, error: bool) -> None:
    recipe = replace(read_recipe(root / "adamw.toml"), checkpoint_minutes=60.0 if error else 0.0)
    corpora = [read_corpus([root / name], 16000, root / "cache") for name in ("speech", "noise")]
    training, validation = (
        kind(*corpora, None, recipe.mix, seed=1, device=torch.device("cpu"))
        for kind in (Spoilt, Mixer)
    )
    training.error = error
    run = root / f"spoilt-{error}"
    trainer = Trainer(recipe, training, validation, run, device=torch.device("cpu"))
    words = "A file has vanished" if error else "not a number.*The last good state"
    with pytest.raises(AudiodaeError, match=words):
        trainer.train()
    state = torch.load(run / "state.pt", weights_only=True)
    assert state["step"] == 3
    assert all(bool(tensor.isfinite().all()) for tensor in state["ema"].values())


def test_a_training_that_another_one_went_on_with_is_not_set_back(root: Path) -> None:
    recipe = read_recipe(root / "adamw.toml")
    folders = [root / "speech"], [root / "noise"], []
    mixers = make_mixers(*folders, recipe, root / "cache", torch.device("cpu"))
    one, other = (Trainer(recipe, *mixers, root / "two", device=torch.device("cpu")) for _ in "ab")
    one.train(2)
    with pytest.raises(AudiodaeError, match="Another process has trained in .* meanwhile"):
        other.train(1)
    one.train(1)
    curve = (root / "two/curve.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in curve] == [2, 3]


def test_the_last_step_is_saved_once_and_the_mean_loss_goes_on(root: Path) -> None:
    (root / "each.toml").write_text("checkpoint_minutes = 0\n" + RECIPE.format(optimizer="adamw"))
    unbroken = train(root, "unbroken", "each", stop_after_steps=2)
    assert [line["step"] for line in unbroken] == [1, 2]
    train(root, "broken", "each", stop_after_steps=1)
    broken = train(root, "broken", "each", stop_after_steps=1)
    assert [line["step"] for line in broken] == [1, 2]
    assert broken[-1]["training_loss"] == pytest.approx(unbroken[-1]["training_loss"])


def test_noise_that_is_not_wanted_is_not_what_is_held_out(root: Path) -> None:
    for weights in ('"part0" = 0.0', '"part1" = 0.0'):
        recipe = root / "some.toml"
        recipe.write_text(RECIPE.format(optimizer="adamw") + f"[mix.category_weights]\n{weights}\n")
        train(root, f"some-{weights[5]}", "some", stop_after_steps=1)


def test_a_check_begins_as_the_training_would(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [root / "speech"], [root / "noise"], []
    check_folders(*folders, None, root / "dry", root / "cache", "speech-16k")
    assert "230,962 parameters" in capsys.readouterr().out
    with pytest.raises(AudiodaeError, match="nonsense"):
        check_folders(*folders, None, root / "dry", root / "cache", "nonsense")
    (root / "none.toml").write_text("held_out = 0.0\n")
    check_folders(*folders, root / "none.toml", root / "dry", root / "cache")
    assert capsys.readouterr().out.count("(none held out") == 2


def test_an_autoencoder_begun_from_one_of_other_patches_has_a_straight_path_of_its_own(
    root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (root / "mels.toml").write_text(
        'family = "convolutional"\npca_patches = 200\nvalidation_batches = 1\n'
        "[autoencoder]\nmels = 32\n[[stages]]\nsteps = 1\nbatch_size = 2\ncrop_seconds = 0.5\n"
    )
    (alone,), (begun,) = (
        train(root, run, "mels", **options)
        for run, options in (("alone", {}), ("begun", {"init": "convolutional-16k"}))
    )
    assert begun["error_db"] < 1.1 * alone["error_db"]
    assert capsys.readouterr().err.count("hearing 200 patches") == 2  # it may take minutes


class Holed(Mixer):
    """Mixes one batch that is no numbers."""

    def batch(self, step: int, *args: object, **options: object) -> Mixture:
        mixture = super().batch(step, *args, **options)
        return Mixture(mixture.noisy * torch.nan, mixture.clean) if step == 2 else mixture


def _trainer(root: Path, run: Path, training: type[Mixer], validation: type[Mixer]) -> Trainer:
    recipe = replace(read_recipe(root / "adamw.toml"), checkpoint_minutes=0.0)
    corpora = [read_corpus([root / name], 16000, root / "cache") for name in ("speech", "noise")]
    mixers = (
        kind(*corpora, None, recipe.mix, seed=1, device=torch.device("cpu"))
        for kind in (training, validation)
    )
    return Trainer(recipe, *mixers, run, device=torch.device("cpu"))


def test_one_bad_batch_spoils_neither_the_weights_nor_the_averages(root: Path) -> None:
    trainer = _trainer(root, root / "holed", Holed, Mixer)
    trainer.train(stop_after_steps=2)
    before = {name: value.clone() for name, value in trainer.learner.net.state_dict().items()}
    trainer.train(stop_after_steps=1)
    for name, value in trainer.learner.net.state_dict().items():
        assert not value.is_floating_point() or torch.equal(value, before[name]), name
    trainer.train(stop_after_steps=1)
    assert is_finite(trainer.learner.ema)
    assert any((v != before[k]).any() for k, v in trainer.learner.net.state_dict().items())


def test_a_validation_that_is_no_number_replaces_no_model_and_is_told(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = root / "unvalidated"
    trainer = _trainer(root, run, Mixer, Mixer)
    trainer.train(stop_after_steps=1)
    model = (run / "model.safetensors").read_bytes()
    trainer.validation = _trainer(root, root / "unused", Mixer, Holed).validation
    capsys.readouterr()
    trainer.recipe = replace(trainer.recipe, validation_batches=3)
    trainer.train(stop_after_steps=1)
    assert "validation loss at step 2 is not a number: no model" in capsys.readouterr().err
    assert (run / "model.safetensors").read_bytes() == model
    assert torch.load(run / "state.pt", weights_only=True)["step"] == 2  # the weights are good
    state = (run / "state.pt").read_bytes()
    with torch.no_grad():
        trainer.learner.ema.place.fill_(torch.nan)
    trainer.train(stop_after_steps=1)
    assert (run / "model.safetensors").read_bytes() == model
    assert (run / "state.pt").read_bytes() == state


def test_a_new_weight_decay_is_heeded_from_there_on(root: Path) -> None:
    train(root, "decay", stop_after_steps=1)
    recipe = replace(read_recipe(root / "adamw.toml"), weight_decay=0.5)
    mixers = make_mixers(
        [root / "speech"], [root / "noise"], [], recipe, root / "cache", torch.device("cpu")
    )
    trainer = Trainer(recipe, *mixers, root / "decay", device=torch.device("cpu"))
    assert trainer.step == 1
    assert [group["weight_decay"] for group in trainer.learner.optimizer.param_groups] == [0.5, 0.0]


def test_generated_noise_is_trained_with_and_not_held_out(root: Path, tmp_path: Path) -> None:
    generated = tmp_path / "generated"
    generated.mkdir()
    for i in range(3):  # as `audiodae generate` names them: one group
        sound = np.random.default_rng(i).standard_normal(16000) * 0.1
        soundfile.write(generated / f"noise-0-{i:04}.wav", sound, 16000)
    recipe = read_recipe(root / "adamw.toml")
    recipe = replace(recipe, mix=replace(recipe.mix, generated_noise=0.5))
    noise = [root / "noise", generated]
    for without in ([], [root / "noise"]):
        with pytest.raises(AudiodaeError, match="no noise folder is named 'generated'"):
            make_mixers(
                [root / "speech"], without, [], recipe, tmp_path / "cache", torch.device("cpu")
            )
    for seed_of_the_name in (0, 6, 14):
        (generated / f"of {seed_of_the_name}").mkdir()  # folders in it are no categories
        for path in list(generated.rglob("*.wav")):
            name = f"noise-{seed_of_the_name}-{path.stem[-4:]}.wav"
            path.rename(generated / f"of {seed_of_the_name}" / name)
        training, validation = make_mixers(
            [root / "speech"], noise, [], recipe, tmp_path / "cache", torch.device("cpu")
        )
        assert training.config.generated_noise == 0.5
        assert validation.config.generated_noise == 0.0
        training.batch(0, 4, 0.5)
        validation.batch(0, 4, 0.5)


def test_generated_noise_that_a_recipe_does_not_ask_for_is_left_out_and_that_is_told(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "generated").mkdir()
    for i in range(3):
        sound = np.random.default_rng(i).standard_normal(16000) * 0.1
        soundfile.write(tmp_path / "generated" / f"noise-{i}.wav", sound, 16000)
    speech, noise, recipe = [root / "speech"], [root / "noise"], read_recipe(root / "adamw.toml")
    both, device = [*noise, tmp_path / "generated"], torch.device("cpu")
    mixers = make_mixers(speech, both, [], recipe, root / "cache", device)
    words = "mix.generated_noise is 0: the noise in the folder 'generated' (3 clips) is left out"
    assert words in capsys.readouterr().err
    alike = make_mixers(speech, noise, [], recipe, root / "cache", device)
    for mixer, without in zip(mixers, alike, strict=True):
        assert torch.equal(mixer.batch(0, 8, 0.5).noisy, without.batch(0, 8, 0.5).noisy)

    check_folders(speech, both, [], root / "adamw.toml", tmp_path / "dry", root / "cache")
    told = capsys.readouterr()
    assert words in told.err and "\ngenerated" not in told.out
    asking = tmp_path / "asking.toml"
    asking.write_text("[mix]\ngenerated_noise = 0.2\n")
    check_folders(speech, both, [], asking, tmp_path / "dry", root / "cache")
    assert re.search(r"generated .* 3 clips .*\(none held out to validate", capsys.readouterr().out)


def test_the_words_for_several_processes_are_ones_that_torchrun_takes() -> None:
    run = pytest.importorskip("torch.distributed.run", reason="this torch has no torchrun")
    readme = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    words = readme[readme.index("`torchrun ") :].split("`")[1].removesuffix("...").split()
    given = run.parse_args([*words[1:], "--run", "R", "--cache", "C"])
    assert given.module and given.training_script == "audiodae"
    assert given.training_script_args == ["train", "--run", "R", "--cache", "C"]


def test_the_time_left_is_that_of_the_stages_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = (Stage(100, batch_size=2, crop_seconds=0.5), Stage(100, batch_size=36, crop_seconds=2))
    recipe = Recipe(stages=stages)
    heard, left = recipe.audio_seconds(100), recipe.audio_seconds(200) - recipe.audio_seconds(100)
    assert (heard, left, recipe.audio_seconds(0)) == (100.0, 7200.0, 0.0)
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pace = Pace(0.0)
    now = 50.0  # two seconds of audio a second
    assert pace.told(heard, left) == "2 s/s  0 % waiting for data  0.0 h heard  ETA 1:00 h"


def test_the_dry_pass_counts_and_writes_ten_mixtures(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_folders([root / "speech"], [root / "noise"], [], None, root / "dry", root / "cache")
    text = capsys.readouterr().out
    assert "6 clips" in text and "parameters" in text
    assert len(list((root / "dry" / "examples").glob("*-noisy.wav"))) == 10


def test_an_unknown_key_names_the_nearest_one(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text("[mix]\nsnr_bd = [0.0, 5.0]\n")
    with pytest.raises(RecipeError, match=r"mix\.snr_bd.*did you mean 'snr_db'"):
        read_recipe(recipe)
    recipe.write_text("[[stages]]\nsteps = 'many'\n")
    with pytest.raises(RecipeError, match=r"stages\[0\]\.steps"):
        read_recipe(recipe)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed = -1", "seed is -1"),
        ("held_out = 3.0", "held_out is 3.0"),
        ("validation_batches = 0", "validation_batches is 0"),
        ("[mix]\nclip = 7.0", "clip is 7.0"),
        ("[mix]\nspeed = [0.0, 1.0]", r"speed is \(0.0, 1.0\)"),
        ("[mix]\nsnr_db = [5.0, -5.0]", "the lower number goes first"),
        ("[mix]\nclean_only = 0.6\nnoise_only = 0.5", "clean_only is 0.6 and noise_only 0.5"),
        ("[mix]\ncategory_weights = { fan = -1.0 }", "category_weights"),
        ("[mix]\ncategory_weights = { fan = nan }", "category_weights"),
        ("[mix]\ncategory_weights = { fan = inf }", "category_weights"),
        ("[[stages]]\nsteps = 1\nbatch_size = 0", "batch_size is 0"),
        ("[[stages]]\nsteps = 1\nlearning_rate = -1.0", "learning_rate is -1.0"),
        ("[[stages]]\nsteps = 1\nstoi = 0.3\ncrop_seconds = 0.3", "stoi needs 0.5 or more"),
        ("[[stages]]\nsteps = 1\npesq = 0.3\ncrop_seconds = 0.32", "pesq needs 0.33 or more"),
        ("[[stages]]\nsteps = 1\ndnsmos = 0.3\ncrop_seconds = 0.08", "dnsmos needs 0.09 or more"),
        ("[[stages]]\nsteps = 1\nwhisper = 0.3\ncrop_seconds = 31.0", "whisper needs 30 or less"),
        ("[model.bands]\nlinear = 300\nerb = 20", "320 bands, and n_fft = 512 has 257 bins"),
        ("[model.bands]\nlinear = 127\nerb = 1", "erb is 1"),
        ("[model.bands]\nlinear = -1", "linear is -1"),
        ("[model]\nhop_length = 200", "n_fft=512 with hop_length=200"),
        ("[model]\ndropout = 1.5", "dropout is 1.5"),
        ("[model]\ndropout = 1.0", "dropout is 1.0, and not a number from 0 to below 1"),
        ("[model.bands]\ncompression = -3.0", "compression is -3.0"),
        ("[elbo]\nbeta = nan", "beta is nan, and not a number from 0"),
        ("seed = 1180591620717411303424", "seed is 1180591620717411303424"),
        ("validation_batches = 1000000", "validation_batches is 1000000"),
        ("pca_patches = 1000000000000", "pca_patches is 1000000000000"),
        ("[mix]\npitch_semitones = [-60.0, 60.0]", "pitch_semitones is"),
        ("[mix]\nearly_reflections_ms = inf", "early_reflections_ms is inf"),
        ("[mix]\ncategory_weights = { fan = 1e308 }", "category_weights"),
        ("[[stages]]\nsteps = 1\nbatch_size = 1000000", "batch_size is 1000000"),
        ("[[stages]]\nsteps = 1\ncrop_seconds = inf", "crop_seconds is inf"),
        ("[[stages]]\nsteps = 1\nlearning_rate = inf", "learning_rate is inf"),
        (
            "[[stages]]\nsteps = 1\ncrop_seconds = 0.05\n[model]\nn_fft = 1024",
            "is 0.064 s: give longer",
        ),
        ("[model]\nn_fft = 32768\nhop_length = 16384", "is a frame of 2.048 s"),
        ("[model]\nn_fft = 1099511627776", "too long a frame"),
        ("[model]\nkernels = [1000, 5]", "at most as long as there are bands"),
        ("[autoencoder]\nlatent = 2000", "latent is 2000.* only 1024 values"),
        ("[autoencoder]\nbody = 'dense'\nhidden = [1000000]", "each from 1 to 16384"),
        ("[autoencoder]\nkernel = 101", "kernel is 101"),
        ("clip_norm = 1" + 400 * "0", "clip_norm is 10.* too large a number"),
        ("[autoencoder]\npatch_frames = 1000000", "patch_frames is 1000000"),
        ("[elbo]\nwarmup_steps = 1" + 12 * "0", "warmup_steps is 1"),
        ("[stages]\nsteps = 1", r"stages is one table, .* write \[\[stages\]\]"),
        ("optimizer = 1", "optimizer is 1, which is not a text"),
        ("seed = 1.5", "seed is 1.5, which is not a whole number"),
        ("family = 'vanilla'\n[model]\nblocks = 1", "family = 'vanilla' stands beside"),
        ("[model]\nkernels = [2, 2]", "1 to 4096 channels, a stride of 1 or more, and a kernel"),
        ("[model]\nsample_rate = 8000\n[loss]\nlog_spectrum = 0.1", "below 4000 Hz"),
        ("[loss]\ncompression = 0.0", "compression is 0.0"),
        ("[loss]\nsnr = -0.1", "snr is -0.1"),
        ("[[stages]]\nsteps = 0", "steps = 0 in every stage"),
        (
            "[loss]\nmagnitude = 0\nspectrum = 0\nsnr = 0\nlost_speech = 0\n[[stages]]\nsteps = 1",
            "nothing to learn in a stage",
        ),
    ],
)
def test_a_number_that_makes_no_sense_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(RecipeError, match=words):
        read_recipe(tmp_path / "r.toml")


def test_a_recipe_may_begin_with_a_mark_of_its_encoding(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("seed = 7\n", encoding="utf-8-sig")
    assert read_recipe(tmp_path / "r.toml").seed == 7


def test_a_training_that_ends_without_a_model_says_so(root: Path) -> None:
    trainer = _trainer(root, root / "none", Mixer, Holed)
    trainer.recipe = replace(trainer.recipe, validation_batches=3)
    with pytest.raises(Diverged, match="none holds no model after 1 steps"):
        trainer.train(stop_after_steps=1)


def test_weights_of_categories_that_are_not_there_are_told(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = root / "weighted.toml"
    weights = "[mix.category_weights]\nfan = 3.0\npart0 = 2.0\n[[stages]]"
    recipe.write_text(RECIPE.format(optimizer="adamw").replace("[[stages]]", weights))
    make_mixers(
        [root / "speech"],
        [root / "noise"],
        [],
        read_recipe(recipe),
        root / "cache",
        torch.device("cpu"),
    )
    assert "the noise has no category fan, so these weights do nothing" in capsys.readouterr().err


@pytest.mark.parametrize("noise", ["speech", "speech/../speech", ""])
def test_speech_is_not_taken_for_noise(root: Path, tmp_path: Path, noise: str) -> None:
    folders = [root / "speech"], [root / "noise", root / noise], []
    with pytest.raises(AudiodaeError, match="is given as speech, and .* as noise"):
        train_folders(*folders, root / "adamw.toml", tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_link_that_goes_round_in_circles_is_no_folder(root: Path, tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to(tmp_path / "round")
    folders = [tmp_path / "round"], [root / "noise"], []
    with pytest.raises(AudiodaeError, match="round is not a folder"):
        train_folders(*folders, root / "adamw.toml", tmp_path / "run", device="cpu")


def test_a_training_that_cannot_begin_leaves_no_folder(root: Path, tmp_path: Path) -> None:
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise" / "a.wav").write_text("not audio at all")
    folders = [tmp_path / "noise"], [root / "noise"], []
    with pytest.raises(AudiodaeError, match="None of the 1 audio files"):
        train_folders(*folders, root / "adamw.toml", tmp_path / "run" / "mine", device="cpu")
    assert not (tmp_path / "run").exists()


def test_one_talker_alone_cannot_be_held_out_and_that_is_told(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(3):
        path = tmp_path / "speech" / f"anna_{i}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, 0.1 * np.sin(np.arange(16000)), 16000)
    recipe, device = read_recipe(root / "adamw.toml"), torch.device("cpu")
    make_mixers([path.parent], [root / "noise"], [], recipe, tmp_path / "cache", device)
    assert "All speech is one group (anna)" in capsys.readouterr().err


def test_files_left_out_of_a_training_are_told(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = write_folder(tmp_path, "noise", 2, 1.0)
    (noise / "broken.wav").write_text("not audio at all")
    recipe = root / "adamw.toml"
    train_folders(
        [root / "speech"], [noise], [], recipe, tmp_path / "run", None, "cpu", stop_after_steps=1
    )
    assert "1 of the noise files cannot be used" in capsys.readouterr().err


def test_a_run_folder_of_another_model_is_refused(root: Path) -> None:
    train(root, "mine", stop_after_steps=1)
    other = root / "other.toml"
    other.write_text(RECIPE.format(optimizer="adamw").replace("[8, 8]", "[8, 16]"))
    with pytest.raises(AudiodaeError, match="another model"):
        train_folders(
            [root / "speech"], [root / "noise"], [], other, root / "mine", root / "cache", "cpu"
        )


def test_a_run_goes_on_as_the_net_that_it_is_even_where_the_tensors_would_fit(root: Path) -> None:
    train(root, "heads", stop_after_steps=1)
    other = root / "heads.toml"
    plain = RECIPE.format(optimizer="adamw")
    other.write_text(plain.replace("blocks = 1", "blocks = 1\nheads = 2\nhop_length = 128"))
    folders = [root / "speech"], [root / "noise"], []
    with pytest.raises(AudiodaeError, match="heads, hop_length: not what they were"):
        train_folders(*folders, other, root / "heads", root / "cache", "cpu")


def test_the_command_trains_on_two_folders_and_says_how_it_goes(root: Path) -> None:
    speech, noise, run = root / "speech", root / "noise", root / "by-command"
    folders = ["--speech", str(speech), "--noise", str(noise), "--run", str(run)]
    extra = ["--recipe", str(root / "adamw.toml"), "--device", "cpu", "--steps", "2"]
    result = CliRunner().invoke(main, ["train", *folders, *extra])
    assert result.exit_code == 0, result.output
    assert (run / "model.safetensors").exists()
    result = CliRunner().invoke(main, ["train", *folders, *extra, "--init", "nobody"])
    assert result.exit_code == 1 and "There is no model 'nobody'" in result.output
