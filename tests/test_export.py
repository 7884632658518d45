"""The exported net is the net: same numbers, any batch and frames, and all one must know inside."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import audiodae
from audiodae.cli.main import main
from audiodae.errors import AudiodaeError, CheckpointError
from audiodae.measure.evaluate import enhancer
from audiodae.nets.checkpoint import (
    checkpoint_path,
    describe,
    load_denoiser,
    load_net,
    pretrained_names,
    save_checkpoint,
)
from audiodae.nets.denoiser import DenoiserConfig, DenoiserNet
from audiodae.nets.export import OPSET, export
from audiodae.nets.onnx_net import OnnxNet


@pytest.fixture(scope="module")
def pair() -> tuple[DenoiserNet, OnnxNet]:
    """The shipped net, run by each engine."""
    return load_denoiser("speech-16k"), load_net("speech-16k", engine="onnx")


@pytest.fixture
def small(model_path: Path, tmp_path: Path) -> Path:
    """A small model of one's own: weights and their description."""
    for suffix in (".safetensors", ".json"):
        shutil.copy(model_path.with_suffix(suffix), tmp_path / f"own{suffix}")
    return tmp_path / "own.safetensors"


@given(batch=st.integers(1, 5), frames=st.integers(1, 9), seed=st.integers(0, 99))
@settings(max_examples=25)
def test_the_exported_net_agrees_with_torch_for_any_batch_and_frames(pair, batch, frames, seed):
    net, exported = pair
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((batch, 3, frames, net.config.bands.count), np.float32)
    state = {
        name: rng.uniform(-1, 1, tuple(value.shape)).astype(np.float32)
        for name, value in net.initial_state(batch).items()
    }
    with torch.inference_mode():
        tensors = {name: torch.from_numpy(value) for name, value in state.items()}
        wanted, wanted_after = net.core(torch.from_numpy(features), tensors)
    mask, after = exported.core(features, state)
    assert mask.shape == (batch, 2, frames, net.config.bands.count)
    assert np.abs(mask - wanted.numpy()).max() < 1e-4
    assert set(after) == set(wanted_after)
    for name, value in after.items():
        assert np.abs(value - wanted_after[name].numpy()).max() < 1e-4


@pytest.mark.parametrize("name", pretrained_names("denoiser"))
def test_a_shipped_onnx_file_is_that_of_the_shipped_weights(name):
    weights = checkpoint_path(name)
    exported = weights.with_suffix(".onnx").read_bytes()
    assert OnnxNet(exported).card["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    card = describe(name)
    assert card["onnx_sha256"] == hashlib.sha256(exported).hexdigest(), "run `audiodae export`"


def test_the_metadata_say_all_one_must_know(small):
    net = load_denoiser(small)
    model = onnx.load(export(small, small.with_name("elsewhere.onnx")))
    known = {entry.key: entry.value for entry in model.metadata_props}
    assert [opset.version for opset in model.opset_import] == [OPSET] == [int(known["opset"])]
    assert int(known["sample_rate"]) == 16000
    assert (int(known["n_fft"]), int(known["hop_length"])) == (512, 256)
    assert int(known["latency_samples"]) == 511
    assert json.loads(known["bands"]) == {"linear": 64, "erb": 64, "compression": 0.3}
    assert json.loads(known["states"]) == {"memory0": [16, 8]}
    assert known["sha256"] == describe(small)["sha256"]
    assert known["licence"] == "unknown"  # none was given with these weights
    inputs = {value.name: value for value in model.graph.input}
    assert set(inputs) == {"features", *net.initial_state(1)}
    sizes = [d.dim_param or d.dim_value for d in inputs["features"].type.tensor_type.shape.dim]
    assert sizes == ["batch", 3, "frames", 128]


def test_the_file_alone_cleans_with_numpy_and_its_metadata(small):
    path = export(small, small.with_name("elsewhere.onnx"))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    texts = {"kind", "description", "licence", "sha256", "how_to"}
    know = {key: json.loads(value) for key, value in about.items() if key not in texts}
    n_fft, hop, window = know["n_fft"], know["hop_length"], np.array(know["window"])
    bands = np.zeros((len(know["band_matrix"]), n_fft // 2 + 1))
    for row, (first, weights) in zip(bands, know["band_matrix"], strict=True):
        row[first : first + len(weights)] = weights

    noisy = 0.1 * np.random.default_rng(0).standard_normal(20 * hop)
    padded = np.concatenate([np.zeros(n_fft - hop), noisy, np.zeros(n_fft)])
    starts = range(0, len(padded) - n_fft + 1, hop)
    spectra = np.stack([np.fft.rfft(padded[at : at + n_fft] * window) for at in starts])
    power = np.abs(spectra) ** 2 + know["floor_power"]
    gain = power ** ((know["compression"] - 1) / 2)
    seen = np.stack([np.sqrt(power) * gain, spectra.real * gain, spectra.imag * gain])
    features = seen @ (bands / bands.sum(axis=1, keepdims=True)).T
    state = {name: np.zeros((1, *shape), "f4") for name, shape in know["states"].items()}
    (mask, *_) = session.run(None, {"features": features[None].astype("f4"), **state})
    real, imaginary = mask[0] @ bands
    cleaned = np.zeros(len(padded))
    for at, frame in zip(starts, np.fft.irfft(spectra * (real + 1j * imaginary)), strict=True):
        cleaned[at : at + n_fft] += frame * window

    wanted = audiodae.load(small)(noisy, sample_rate=know["sample_rate"])
    assert np.abs(wanted).max() > 0.01
    np.testing.assert_allclose(cleaned[n_fft - hop :][: len(noisy)], wanted, rtol=0, atol=1e-4)


def test_an_export_beside_the_weights_is_taken_from_then_on(small):
    assert load_net(small).engine == "torch"
    with pytest.raises(CheckpointError, match="audiodae export"):
        load_net(small, engine="onnx")
    done = CliRunner().invoke(main, ["export", str(small)])
    assert done.exit_code == 0, done.output
    assert load_net(small).engine == "onnx"
    assert load_net(small, engine="torch").engine == "torch"
    assert load_net(small).fingerprint() == load_net(small, engine="torch").fingerprint()
    save_checkpoint(small, DenoiserNet(DenoiserConfig(channels=(8, 8), blocks=1, heads=2)))
    assert load_net(small).engine == "torch"  # trained anew: the old export is of no use


def test_an_export_alone_is_a_model(small, tmp_path):
    path = export(small, tmp_path / "alone.onnx")
    assert "onnx_sha256" not in describe(small)
    assert load_net(path).engine == "onnx"
    with pytest.raises(AudiodaeError, match="safetensors file for torch"):
        load_net(path, engine="torch")
    shouted = export(small, tmp_path / "M.ONNX")
    assert load_net(shouted).engine == "onnx"
    assert enhancer(str(shouted))(np.zeros(2000, np.float32), 16000).shape == (2000,)


def test_on_a_machine_with_a_gpu_an_export_still_cleans_on_the_cpu(small, tmp_path, monkeypatch):
    path = export(small, tmp_path / "alone.onnx")
    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    monkeypatch.setattr("audiodae.nets.device.has_cuda", lambda: True)
    words = ["clean", str(tmp_path / "a.wav"), "--model", str(path)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output


def test_a_changed_byte_of_an_export_is_noticed(small):
    path = export(small, small.with_suffix(".onnx"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match="onnx_sha256"):
        load_net(small)


@pytest.mark.parametrize("data", [b"", b"no model", pickle.dumps([1])])
def test_what_is_no_export_is_refused_in_a_sentence(tmp_path, data):
    (tmp_path / "a.onnx").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"a\.onnx"):
        load_net(tmp_path / "a.onnx")


def test_what_other_programs_add_to_the_metadata_does_no_harm(small, tmp_path):
    path = export(small, tmp_path / "small.onnx")
    model = onnx.load(path)
    entry = model.metadata_props.add()
    entry.key, entry.value = "onnx.infer", "onnxruntime.quant"  # as its quantiser does
    onnx.save(model, path)
    assert load_net(path).fingerprint() == load_net(small).fingerprint()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("states", "{}"),
        ("states", '{"other": [1, 1]}'),
        ("states", '{"memory0": [-1, 1]}'),
        ("states", '"text"'),
        ("sample_rate", "16000.5"),
        ("n_fft", "1024"),
        ("bands", '{"linear": 6400, "erb": 3}'),
    ],
)
def test_metadata_that_do_not_fit_the_graph_are_refused(small, tmp_path, key, value):
    path = export(small, tmp_path / "small.onnx")
    model = onnx.load(path)
    changed = {entry.key: entry.value for entry in model.metadata_props} | {key: value}
    onnx.helper.set_model_props(model, changed)
    onnx.save(model, path)
    with pytest.raises(CheckpointError, match="has metadata that"):
        load_net(path)


@pytest.mark.parametrize("key", ["sha256", "config", "bands"])
def test_an_export_that_lost_something_needed_is_refused_when_it_is_loaded(small, tmp_path, key):
    path = export(small, tmp_path / "small.onnx")
    model = onnx.load(path)
    kept = {entry.key: entry.value for entry in model.metadata_props if entry.key != key}
    onnx.helper.set_model_props(model, kept)
    onnx.save(model, path)
    with pytest.raises(CheckpointError, match=f"small.onnx has no {key} in its metadata"):
        load_net(path)


def test_an_export_whose_description_cannot_be_written_changes_nothing(small):
    path = export(small, small.with_suffix(".onnx"))
    save_checkpoint(small, DenoiserNet(DenoiserConfig(channels=(8, 8), blocks=1, heads=2)))
    before = path.read_bytes()
    small.with_suffix(".json").chmod(0o444)
    with pytest.raises(AudiodaeError, match=r"own\.json cannot be written"):
        export(small, path)
    assert path.read_bytes() == before
    assert not list(small.parent.glob(".*.part"))


def test_only_an_earlier_export_is_replaced(small, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"a model that somebody else made")
    with pytest.raises(AudiodaeError, match="no export of audiodae"):
        export(small, path)
    assert path.read_bytes() == b"a model that somebody else made"
    path.write_bytes(b"")
    made = export(small, path).read_bytes()
    assert made and export(small, path).read_bytes() == made


def test_a_foreign_onnx_model_is_refused(tmp_path):
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, 1, [1]) for name in "xy")
    graph = onnx.helper.make_graph([node], "g", [x], [y])
    opset = [onnx.helper.make_opsetid("", OPSET)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "a.onnx")
    with pytest.raises(CheckpointError, match="not a denoiser exported by audiodae"):
        load_net(tmp_path / "a.onnx")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "no model 'nothing'"),
        (["speech-16k", "-o", "model.bin"], r"name ending in .onnx"),
        (["speech-16k", "-o", "no/such/folder/model.onnx"], "folder is not there"),
    ],
)
def test_what_cannot_be_exported_is_a_sentence(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["export", *arguments])
    assert done.exit_code == 1
    assert words in done.output and "Traceback" not in done.output
