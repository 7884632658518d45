"""The Python API: any plausible array in, the same kind out; anything else gets a sentence."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import audiodae
from audiodae.errors import AudiodaeError, AudioError, CheckpointError


def noise(*shape: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


@pytest.mark.parametrize("shape", [(3000,), (1, 3000), (2, 3000), (3, 2, 3000), (2, 16, 600)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_an_array_comes_back_in_its_shape_and_type(denoiser, shape, dtype):
    x = noise(*shape).astype(dtype)
    clean = denoiser(x, sample_rate=48000)
    assert isinstance(clean, np.ndarray)
    assert clean.shape == shape
    assert clean.dtype == x.dtype
    tensor = denoiser(torch.from_numpy(x), sample_rate=48000)
    assert isinstance(tensor, torch.Tensor)
    assert tensor.dtype == getattr(torch, dtype)
    assert np.array_equal(tensor.numpy(), clean)


@given(
    samples=st.integers(0, 3000),
    channels=st.integers(1, 5),
    sample_rate=st.integers(8000, 192000),
)
@settings(max_examples=25)
def test_as_many_samples_come_out_as_go_in(denoiser, samples, channels, sample_rate):
    clean = denoiser(noise(channels, samples), sample_rate=sample_rate)
    assert clean.shape == (channels, samples)
    assert np.isfinite(clean).all()


def test_without_a_rate_it_is_the_model_s_own(denoiser):
    x = noise(4000)
    assert np.array_equal(denoiser(x), denoiser(x, sample_rate=denoiser.sample_rate))


def test_where_the_rate_chooses_the_model_it_must_be_told():
    """48 kHz taken for 16 kHz came out worse than it went in."""
    by_rate = audiodae.load()
    for forgetful in (
        lambda: by_rate(noise(4000)),
        lambda: by_rate.stream(),
        lambda: by_rate.sample_rate,
        lambda: audiodae.Streamer(),
    ):
        with pytest.raises(AudiodaeError, match=r"sample rate.* none was given"):
            forgetful()
    with pytest.raises(AudioError, match="sample rate -5"):
        audiodae.load("speech-16k", sample_rate=-5)


def test_integers_that_nobody_scaled_are_refused_and_a_burst_is_not(denoiser):
    with pytest.raises(AudioError, match=r"beyond \+32, and full scale is 1.* audio / 32768"):
        denoiser(32768.0 * noise(4000), 16_000)
    burst = noise(4000)
    burst[:100] = 1e4
    assert np.isfinite(denoiser(burst, 16_000)).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_numpy_may_raise_at_whatever_underflows(denoiser, dtype):
    for level in (1.0, 1e-4, 1e-39):
        with np.errstate(under="ignore"):
            x = (level * noise(4000)).astype(dtype)
        with np.errstate(all="raise"):
            denoiser(x, 16_000)


def test_loading_draws_nothing_from_the_random_numbers_of_whoever_loads(model_path):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    audiodae.load(model_path, engine="torch")
    assert torch.equal(torch.rand(2), expected)


def test_it_loads_where_modules_are_made_without_numbers(model_path):
    with torch.device("meta"):
        denoiser = audiodae.load(model_path, engine="torch")
    assert str(denoiser.device) == "cpu"
    assert np.isfinite(denoiser(noise(4000), 16_000)).all()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize(
    "made",
    [
        lambda: torch.zeros(9, device="meta"),
        lambda: torch.zeros(9).to_sparse(),
        lambda: torch.nested.nested_tensor([torch.zeros(9), torch.zeros(7)]),
    ],
)
def test_a_tensor_without_samples_is_refused(denoiser, made):
    with pytest.raises(AudioError, match="without samples of its own"):
        denoiser(made(), 16_000)


def test_the_call_is_the_stream_with_the_same_settings(denoiser):
    x = noise(2, 9000)
    chosen = {"mix": 0.7, "attenuation_limit_db": 9.0, "link": "each"}
    stream = denoiser.stream(sample_rate=44100, channels=2, **chosen)
    parts = [stream.feed(x[:, i : i + 441]) for i in range(0, x.shape[-1], 441)]
    live = np.concatenate([*parts, stream.flush()], axis=-1)
    assert np.abs(denoiser(x, 44100, **chosen) - live).max() < 1e-4


def test_items_of_a_batch_do_not_hear_each_other(denoiser):
    x = noise(3, 1, 5000)
    together = denoiser(x)
    for item in range(3):
        assert np.abs(together[item] - denoiser(x[item])).max() < 1e-5


def test_mix_zero_is_the_input(denoiser):
    x = noise(2, 5000)
    assert np.abs(denoiser(x, mix=0.0) - x).max() < 1e-6


@pytest.mark.parametrize(
    ("audio", "advice"),
    [
        (noise(16000, 2), r"swap the axes to \(2, 16000\)"),
        (noise(8, 16000, 2), r"swap the axes to \(8, 2, 16000\)"),
        (noise(100, 50), r"\(batch, 1, samples\)"),
        (noise(48, 2), r"swap the axes to \(2, 48\)"),
        (np.array(0.5), r"shape \(\)"),
        (noise(2, 2, 2, 100), r"\(batch, channels, samples\)"),
        (noise(0, 100), r"\(channels, samples\)"),
        (np.zeros(100, np.int16), r"audio\.astype\('float32'\) / 32768"),
        (torch.zeros(100, dtype=torch.int32), r"2147483648"),
        (np.zeros(100, np.uint8), r"floats between -1 and 1"),
        (np.zeros(100, complex), r"complex128"),
        ([0.0, 0.1], r"numpy\.asarray"),
        ("speech.wav", r"str"),
    ],
)
def test_what_is_no_plausible_audio_is_refused_with_advice(denoiser, audio, advice):
    with pytest.raises(AudioError, match=advice):
        denoiser(audio)


@pytest.mark.parametrize(
    ("chosen", "word"),
    [({"sample_rate": 44.1}, "Hz"), ({"mix": 2}, "mix"), ({"link": "both"}, "linked")]
    + [({"mix": value}, "mix is") for value in (None, "a", math.nan, [0.5])]
    + [({"attenuation_limit_db": value}, "attenuation limit is") for value in ("12", -1, {})],
)
def test_an_impossible_setting_is_named(denoiser, chosen, word):
    with pytest.raises(AudiodaeError, match=word):
        denoiser(noise(100), **chosen)


def test_a_model_that_is_not_there_is_named():
    with pytest.raises(CheckpointError, match="no-such-model"):
        audiodae.load("no-such-model")


@pytest.mark.parametrize("device", [None, "cpu:0", torch.device("cpu"), torch.device("cpu", 0)])
def test_the_cpu_is_the_cpu_whatever_it_is_called(device):
    denoiser = audiodae.load(device=device, engine="onnx")
    assert denoiser.device == "cpu" and denoiser.net.engine == "onnx"
    assert audiodae.load("speech-16k", device=device).net.engine == "onnx"


def test_a_device_without_numbers_is_refused(model_path):
    with pytest.raises(AudiodaeError, match="'meta' cannot be used"):
        audiodae.load(model_path, device="meta")


def test_a_masked_array_is_refused_and_what_is_far_too_loud_warns_of_nothing(denoiser):
    sound = np.ma.masked_array(noise(1, 2000)[0], mask=np.arange(2000) < 9)
    with pytest.raises(AudioError, match=r"masked array.*filled"):
        denoiser(sound, 16000)
    loud = noise(1, 2000)[0].astype("f8")
    loud[7] = 1e300
    with np.errstate(all="raise"):
        assert np.isfinite(denoiser(loud, 16000)).all()


def test_a_device_that_is_not_there_is_named(model_path):
    with pytest.raises(AudiodaeError, match=r"'abacus'.*'cpu' always works"):
        audiodae.load(model_path, device="abacus")


def test_a_loaded_denoiser_serves_several_streams_at_once(denoiser):
    x, y = noise(4000), noise(2, 4000)[1]
    first, second = denoiser.stream(), denoiser.stream()
    together = [
        (first.feed(x[i : i + 500]), second.feed(y[i : i + 500])) for i in range(0, 4000, 500)
    ]
    for signal, number in ((x, 0), (y, 1)):
        alone = denoiser.stream().feed(signal)
        assert np.array_equal(np.concatenate([pair[number] for pair in together]), alone)
