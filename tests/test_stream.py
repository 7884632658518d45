"""Laws of the stream: alignment, lengths, bits, rows, settings, and what never comes out."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from audiodae.errors import AudiodaeError
from audiodae.nets.checkpoint import save_checkpoint
from audiodae.nets.denoiser import DenoiserConfig, DenoiserNet
from audiodae.nets.export import export
from audiodae.nets.net import Net
from audiodae.nets.onnx_net import OnnxNet
from audiodae.streaming.gain import limit_attenuation, shared
from audiodae.streaming.stream import Streamer
from audiodae.streaming.whole import clean_whole

RATES = [8000, 11025, 16000, 22050, 22051, 32000, 44100, 48000, 96000, 192000]


@pytest.fixture(scope="module")
def torch_net() -> DenoiserNet:
    """A real net, untrained, whose masks are far from one and differ from frame to frame."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        net = DenoiserNet(DenoiserConfig(channels=(8, 16), blocks=1)).eval()
        last = net.decoder[-1].conv
        with torch.no_grad():
            last.weight.mul_(60.0)
            last.bias.copy_(torch.tensor([0.3, 0.1]))
    return net


@pytest.fixture(scope="module", params=["torch", "onnx"])
def net(request, torch_net, tmp_path_factory) -> Net:
    """The same net run by either engine: the laws hold for both."""
    if request.param == "torch":
        return torch_net
    path = tmp_path_factory.mktemp("net") / "net.safetensors"
    save_checkpoint(path, torch_net)
    return OnnxNet(export(path, path.with_suffix(".onnx")).read_bytes())


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def run(streamer: Streamer, x: np.ndarray, lengths: list[int] | None = None) -> np.ndarray:
    chunks = np.split(x, np.cumsum(lengths or []), axis=-1)
    return np.concatenate([*(streamer.feed(chunk) for chunk in chunks), streamer.flush()], axis=-1)


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_a_net_without_memory_streams_like_any_other(engine, tmp_path):
    net = DenoiserNet(DenoiserConfig(channels=(8, 16), blocks=0)).eval()
    save_checkpoint(tmp_path / "net.safetensors", net)
    if engine == "onnx":
        export(tmp_path / "net.safetensors", tmp_path / "net.onnx")
    streamer = Streamer(tmp_path / "net.safetensors", engine=engine)
    x = noise(9000)
    assert np.isfinite(run(streamer, x, [100, 8000])).all()
    streamer.reset()
    assert run(streamer, x).shape == x.shape


def decibels(x: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(x, dtype=np.float64)) + 1e-20))


def low_passed(shape: tuple[int, ...], sample_rate: int, hz: float) -> np.ndarray:
    spectrum = np.fft.rfft(noise(*shape))
    spectrum[..., int(hz / sample_rate * shape[-1]) :] = 0
    return np.fft.irfft(spectrum, shape[-1]).astype(np.float32)


def test_the_net_of_these_tests_does_something(net):
    x = noise(8000)
    assert -40 < decibels(run(Streamer(net), x)) - decibels(x) < -3


# Time


@given(
    sample_rate=st.sampled_from([16000, 44100, 48000, 22051, 8000]),
    block_frames=st.sampled_from([1, 3]),
    link=st.sampled_from(["linked", "each", "mid"]),
    lengths=st.lists(st.integers(0, 2500), max_size=7),
)
@settings(max_examples=30)
def test_any_chunking_gives_the_same_bits(net, sample_rate, block_frames, link, lengths):
    x = noise(2, 2, 5000)
    streamer = Streamer(
        net, sample_rate=sample_rate, batch=2, channels=2, link=link, block_frames=block_frames
    )
    whole = run(streamer, x)
    assert np.array_equal(run(streamer, x, lengths), whole)


def test_single_samples_give_the_same_bits(net):
    x = noise(900)
    streamer = Streamer(net, sample_rate=48000)
    assert np.array_equal(run(streamer, x, [1] * 899), run(streamer, x))


@pytest.mark.parametrize("length", [1, 7, 64])
def test_the_mean_of_many_channels_is_the_same_bits_in_small_chunks(net, length):
    x = noise(8, 448)
    streamer = Streamer(net, channels=8, link="mid", mix=0.0)
    assert np.array_equal(run(streamer, x, [length] * (448 // length - 1)), run(streamer, x))


@given(
    sample_rate=st.sampled_from(RATES) | st.integers(8000, 192000),
    block_frames=st.integers(1, 5),
    lengths=st.lists(st.integers(0, 4000), max_size=10),
)
@settings(max_examples=40)
def test_at_every_moment_all_but_the_latency_is_out(net, sample_rate, block_frames, lengths):
    streamer = Streamer(net, sample_rate=sample_rate, block_frames=block_frames)
    latency = streamer.latency
    taken = given_out = 0
    for length in lengths:
        taken += length
        given_out += len(streamer.feed(np.zeros(length, np.float32)))
        assert given_out == max(0, taken - latency)
        assert streamer.latency == latency
    assert given_out + len(streamer.flush()) == taken


@pytest.mark.parametrize("sample_rate", RATES)
@pytest.mark.parametrize("block_frames", [1, 4])
def test_the_latency_is_reached_and_never_exceeded(net, sample_rate, block_frames):
    """Sample by sample around the blocks' edges, where the wait is longest."""
    streamer = Streamer(net, sample_rate=sample_rate, block_frames=block_frames)
    waits = []
    taken = given_out = 0
    while taken < 3 * streamer.latency:
        step = 1 if taken % 512 > 480 else 31
        taken += step
        given_out += len(streamer.feed(np.zeros(step, np.float32)))
        assert given_out == max(0, taken - streamer.latency)
        waits.append(taken - given_out - streamer.state["ready"].shape[-1])
    # Not padded either: at some moment less than two samples are held back for the promise's sake.
    assert max(waits) >= streamer.latency - 33


def test_latency_is_a_window_and_two_short_resamplers(net):
    assert Streamer(net).latency == 511
    assert Streamer(net, block_frames=4).latency == 511 + 3 * 256
    for sample_rate in [44100, 48000, 96000]:
        seconds = Streamer(net, sample_rate=sample_rate).latency / sample_rate
        assert seconds < 0.0361


@given(
    sample_rate=st.sampled_from(RATES),
    channels=st.integers(1, 4),
    samples=st.integers(0, 3000),
    link=st.sampled_from(["linked", "each", "mid"]),
)
@settings(max_examples=40)
def test_as_many_samples_come_out_as_go_in(net, sample_rate, channels, samples, link):
    streamer = Streamer(net, sample_rate=sample_rate, channels=channels, link=link)
    assert run(streamer, noise(channels, samples)).shape == (channels, samples)


@pytest.mark.parametrize("samples", [0, 1, 2, 255, 256, 257, 511, 512, 513])
def test_every_short_length_comes_out_as_it_went_in(net, samples):
    x = noise(samples)
    out = run(Streamer(net, mix=0.0), x)
    assert out.shape == x.shape
    assert np.allclose(out, x, atol=1e-6)


@pytest.mark.parametrize("setting", [{"mix": 0.0}, {"attenuation_limit_db": 0.0}])
@pytest.mark.parametrize("link", ["linked", "each"])
@pytest.mark.parametrize("block_frames", [1, 5])
def test_no_cleaning_gives_the_input_itself(net, setting, link, block_frames):
    x = noise(3, 4321)
    streamer = Streamer(net, channels=3, link=link, block_frames=block_frames, **setting)
    assert np.abs(run(streamer, x) - x).max() < 1e-6


@pytest.mark.parametrize("sample_rate", RATES)
def test_no_cleaning_at_another_rate_keeps_all_the_model_can_hear(net, sample_rate):
    band_hz = 0.89 * min(sample_rate, net.sample_rate) / 2
    x = low_passed((sample_rate // 2,), sample_rate, band_hz)
    out = run(Streamer(net, sample_rate=sample_rate, mix=0.0), x)
    edge = sample_rate // 50  # the signal begins and ends with a step, which has no band
    assert decibels((out - x)[edge:-edge]) - decibels(x) < -80


def test_offline_is_the_stream(net):
    for sample_rate in [16000, 44100]:
        x = noise(2, 30000)
        live = run(Streamer(net, sample_rate=sample_rate, channels=2), x, [441] * 60)
        assert np.abs(clean_whole(net, x, sample_rate=sample_rate) - live).max() < 1e-4


def test_a_long_recording_is_fed_in_slices_without_a_seam(net, monkeypatch):
    x = noise(2, 50000)
    whole = clean_whole(net, x)
    monkeypatch.setattr("audiodae.streaming.whole._SLICE_SAMPLES", 1)
    assert np.array_equal(clean_whole(net, x), whole)


def test_a_large_batch_takes_no_more_memory_at_once_and_sounds_the_same(net, monkeypatch):
    """Of 400 short recordings blocks of 64 frames took 1.7 GB."""
    blocks, step = [], type(net).step

    def noted(self, batch, frames):
        blocks.append(batch * frames)
        return step(self, batch, frames)

    monkeypatch.setattr(type(net), "step", noted)
    x = noise(400, 1, 300)
    together = clean_whole(net, x)
    assert np.abs(together[::80] - clean_whole(net, x[::80])).max() < 1e-6
    clean_whole(net, noise(30, 20, 10), link="each")
    assert max(blocks) <= 600 and blocks[1] == 5 * 64


def test_what_is_remembered_does_not_grow(net):
    streamer = Streamer(net, sample_rate=44100)
    sizes = []
    for _ in range(50):
        streamer.feed(noise(3001))
        state = streamer.state
        remembered = (np.asarray(state[name]) for name in ["pending", "tail", "ready"])
        sizes.append(sum(array.size for array in remembered))
    assert max(sizes) < 6000


# Rows


def test_a_row_of_a_batch_is_that_signal_alone(net):
    x = noise(3, 2, 6000)
    together = run(Streamer(net, sample_rate=44100, batch=3, channels=2), x)
    for row in range(3):
        alone = run(Streamer(net, sample_rate=44100, channels=2), x[row])
        assert np.abs(together[row] - alone).max() < 1e-5


@pytest.mark.parametrize("sample_rate", [16000, 48000])
@pytest.mark.parametrize("link", ["linked", "each", "mid"])
def test_a_reset_leaves_the_other_rows_their_bits(net, sample_rate, link):
    x, more = noise(3, 2, 5000), noise(3, 2, 5000, seed=1)
    plain = Streamer(net, sample_rate=sample_rate, batch=3, channels=2, link=link)
    reset = Streamer(net, sample_rate=sample_rate, batch=3, channels=2, link=link)
    plain.feed(x), reset.feed(x)
    reset.reset(rows=[1])
    a = np.concatenate([plain.feed(more), plain.flush()], axis=-1)
    b = np.concatenate([reset.feed(more), reset.flush()], axis=-1)
    assert np.array_equal(a[[0, 2]], b[[0, 2]])
    assert not np.allclose(a[1], b[1])


@pytest.mark.parametrize(
    "rows",
    [
        [False, True],
        np.array([False, True]),
        torch.tensor([False, True]),
        1,
        [1.0],
        [2],
        [-1],
        ["1"],
    ],
    ids=repr,
)
def test_rows_that_are_none_are_refused_and_nothing_is_forgotten(net, rows):
    x, more = noise(2, 1, 5000), noise(2, 1, 500, seed=1)
    plain, refused = Streamer(net, batch=2), Streamer(net, batch=2)
    plain.feed(x), refused.feed(x)
    with pytest.raises(AudiodaeError, match=r"(?i)rows? "):
        refused.reset(rows=rows)
    assert np.array_equal(refused.feed(more), plain.feed(more))


def test_rows_may_come_from_a_generator(net):
    x, more = noise(2, 1, 5000), noise(2, 1, 500, seed=1)
    listed, generated = Streamer(net, batch=2), Streamer(net, batch=2)
    listed.feed(x), generated.feed(x)
    listed.reset(rows=[1]), generated.reset(rows=(row for row in [1]))
    assert np.array_equal(generated.feed(more), listed.feed(more))


def test_a_reset_row_is_like_a_new_stream(net):
    hops = 8 * net.stft.hop_length  # at a block's edge, where a new stream begins too
    x, more = noise(2, 1, hops), noise(2, 1, 5000, seed=1)
    streamer, fresh = Streamer(net, batch=2), Streamer(net, batch=2)
    streamer.feed(x)
    streamer.reset(rows=[0])
    after = np.concatenate([streamer.feed(more), streamer.flush()], axis=-1)[0]
    # What was in flight became silence (a window's onset apart); then comes a new stream's output.
    assert not after[:, : streamer.latency - net.stft.tail_samples].any()
    assert np.array_equal(after[:, streamer.latency :], run(fresh, more)[0])


def test_nothing_of_the_old_signal_is_heard_after_a_reset(net):
    streamer = Streamer(net, sample_rate=44100, batch=2, channels=2)
    streamer.feed(noise(2, 2, 7777))
    streamer.reset(rows=[1])
    out = np.concatenate([streamer.feed(np.zeros((2, 2, 7777), np.float32)), streamer.flush()], -1)
    assert out[0].any()
    assert not out[1].any()


def test_after_a_flush_or_a_reset_the_stream_is_new(net):
    x = noise(3000)
    streamer = Streamer(net, sample_rate=48000)
    first = run(streamer, x)
    assert np.array_equal(run(streamer, x), first)
    streamer.feed(noise(1234, seed=9))
    streamer.reset()
    assert np.array_equal(run(streamer, x), first)


# State


@given(
    sample_rate=st.sampled_from([16000, 44100, 22051]),
    at=st.integers(0, 6000),
    block_frames=st.sampled_from([1, 4]),
)
@settings(max_examples=20)
def test_a_copied_state_resumes_bit_by_bit(net, sample_rate, at, block_frames):
    x = noise(2, 6000)
    setup = {"sample_rate": sample_rate, "channels": 2, "block_frames": block_frames}
    streamer, other = Streamer(net, **setup), Streamer(net, **setup)
    streamer.feed(x[:, :at])
    state = copy.deepcopy(streamer.state)
    wanted = run(streamer, x[:, at:])
    for _ in range(2):  # also the same value twice: setting it must not tie it to the stream
        other.state = state
        assert np.array_equal(run(other, x[:, at:]), wanted)


def test_the_state_of_a_stream_that_has_heard_nothing_begins_another_anew(net):
    x = noise(3000)
    streamer, other = Streamer(net), Streamer(net)
    beginning = streamer.state
    wanted = run(streamer, x)
    other.feed(noise(2000, seed=1))
    other.state = beginning
    assert np.array_equal(run(other, x), wanted)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copied_stream_goes_on_by_itself(net, copied):
    x, other = noise(6000), noise(3000, seed=1)
    streamer, alone = (Streamer(net, sample_rate=44100) for _ in range(2))
    streamer.feed(x[:3000]), alone.feed(x[:3000])
    beside = copied(streamer)
    beside.feed(other)
    assert np.array_equal(run(streamer, x[3000:]), run(alone, x[3000:]))


@pytest.mark.parametrize("name", ["sample_rate", "batch", "channels", "link", "block_frames"])
def test_what_a_stream_was_made_for_cannot_be_changed(net, name):
    streamer = Streamer(net)
    with pytest.raises(AttributeError):
        setattr(streamer, name, getattr(streamer, name))


def test_a_state_can_be_saved_as_plain_data(torch_net):
    net = torch_net
    streamer, other = Streamer(net, sample_rate=44100), Streamer(net, sample_rate=44100)
    streamer.feed(noise(3000))
    file = io.BytesIO()
    torch.save(streamer.state, file)
    file.seek(0)
    other.state = torch.load(file, weights_only=True)
    assert np.array_equal(other.flush(), streamer.flush())


def test_a_state_taken_earlier_is_not_changed_by_what_follows(net):
    streamer = Streamer(net, batch=2)
    streamer.feed(noise(2, 1, 3000))
    state = streamer.state
    before = copy.deepcopy(state)
    streamer.feed(noise(2, 1, 3000))
    streamer.reset(rows=[0])
    for name in ["pending", "tail", "ready"]:
        assert np.array_equal(state[name], before[name])
    for name, tensor in state["net"].items():
        assert np.array_equal(tensor, before["net"][name])


def test_the_state_of_another_setup_is_refused(net):
    with pytest.raises(AudiodaeError, match=r"channels=2.*channels=1"):
        Streamer(net).state = Streamer(net, channels=2).state


# Settings


def test_settings_act_while_running(net):
    x = noise(16000)
    streamer = Streamer(net)
    cleaned = streamer.feed(x[:8000])
    streamer.mix = 0.0
    dry = np.concatenate([streamer.feed(x[8000:]), streamer.flush()])
    settled = 8000 + streamer.latency
    out = np.concatenate([cleaned, dry])
    assert np.abs(out - x)[settled:].max() < 1e-6
    assert decibels(out[:7000]) < decibels(x[:7000]) - 3


@given(mix=st.floats(0, 1))
@settings(max_examples=10)
def test_mix_is_a_straight_line_from_input_to_cleaned(net, mix):
    x = noise(3000)
    wanted = (1 - mix) * x + mix * run(Streamer(net), x)
    assert np.abs(run(Streamer(net, mix=mix), x) - wanted).max() < 1e-6


@given(
    magnitude=st.floats(0, 1, width=32),
    angle=st.floats(-3.125, 3.125, width=32),
    limit_db=st.floats(0, 60),
)
@example(magnitude=1.0, angle=1.0, limit_db=1e-9)
@settings(max_examples=200)
def test_a_limited_mask_keeps_the_limit_of_the_input_and_makes_nothing_louder(
    magnitude, angle, limit_db
):
    floor = 10 ** (-limit_db / 20)
    mask = torch.polar(torch.tensor([magnitude]), torch.tensor([angle]))
    limited = limit_attenuation(mask, floor)
    assert limited.real.item() >= np.float32(floor) - 1e-6
    assert limited.abs().item() <= 1 + 1e-6
    # Its phase is between that of the mask and that of the input.
    assert abs(limited.angle().item()) <= abs(mask.angle().item()) + 1e-3
    if mask.real.item() >= floor:
        assert (limited - mask).abs().item() < 1e-3  # float32 knows the disc so well


@pytest.mark.parametrize("limit_db", [6.0, 12.0, 20.0, 40.0])
def test_no_signal_is_turned_down_by_more_than_the_limit(net, limit_db):
    seconds = np.arange(8000) / 16000
    tones = [0.1 * np.sin(2 * np.pi * hz * seconds) for hz in (90.0, 330.0, 1000.0, 2100.0, 5300.0)]
    x = np.stack([*tones, noise(8000)]).astype(np.float32)
    y = run(Streamer(net, channels=6, link="each", attenuation_limit_db=limit_db), x)
    turned_down_db = [decibels(came) - decibels(left) for came, left in zip(x, y, strict=True)]
    assert max(turned_down_db) <= limit_db + 0.01


@pytest.mark.parametrize("limit_db", [3.0, 12.0, 40.0])
def test_a_limited_mask_has_no_jump_at_the_limit(limit_db):
    floor = 10 ** (-limit_db / 20)
    around = torch.linspace(floor * 0.999, floor * 1.001, 21)
    limited = limit_attenuation(torch.polar(around, torch.full_like(around, 2.0)), floor)
    assert limited.diff().abs().max() < 0.01 * floor


def test_a_limit_near_zero_leaves_the_input_nearly_as_it_is():
    masks = torch.polar(torch.linspace(0, 0.8, 9), torch.linspace(-3, 3, 9))
    assert (limit_attenuation(masks, 0.9998) - 1).abs().max() <= 0.02
    assert torch.equal(limit_attenuation(masks, 1.0), torch.ones_like(masks))


def test_less_is_removed_with_a_limit(net):
    x = noise(8000)
    levels = [
        decibels(run(Streamer(net, attenuation_limit_db=db), x)) for db in (0, 3, 6, 12, None)
    ]
    assert levels == sorted(levels, reverse=True)
    assert levels[2] >= decibels(x) - 6.1


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ({"mix": 1.5}, "mix"),
        ({"mix": float("nan")}, "mix"),
        ({"attenuation_limit_db": -6.0}, "attenuation limit"),
        ({"attenuation_limit_db": float("nan")}, "attenuation limit"),
        ({"link": "stereo"}, "linked"),
        ({"channels": 0}, "channels"),
        ({"batch": 1.5}, "batch"),
        ({"block_frames": 0}, "block_frames"),
        ({"sample_rate": 44.1}, "Hz"),
    ],
)
def test_an_impossible_setting_is_named_in_the_error(net, setting, word):
    with pytest.raises(AudiodaeError, match=word):
        Streamer(net, **setting)


def test_a_net_in_training_is_refused(torch_net):
    with pytest.raises(AudiodaeError, match="eval"):
        Streamer(copy.deepcopy(torch_net).train())


@pytest.mark.parametrize("shape", [(100,), (2, 100), (3, 100), (1, 2, 100), (100, 2), (2, 3, 1, 9)])
def test_a_chunk_of_another_layout_is_refused(net, shape):
    streamer = Streamer(net, batch=2, channels=3)
    with pytest.raises(AudiodaeError, match="batch=2 and channels=3"):
        streamer.feed(np.zeros(shape, np.float32))
    assert streamer.feed(np.zeros((2, 3, 600), np.float32)).shape == (2, 3, 600 - streamer.latency)


# Channels


def test_linked_channels_keep_their_levels_to_each_other(net):
    left = noise(8000)
    out = run(Streamer(net, channels=2), np.stack([left, 0.25 * left]))
    assert np.abs(out[1] - 0.25 * out[0]).max() < 1e-6


def test_linked_cleaning_of_equal_channels_is_that_of_one(net):
    x = noise(8000)
    out = run(Streamer(net, channels=2), np.stack([x, x]))
    assert np.abs(out - run(Streamer(net), x)).max() < 1e-5


def test_channels_out_of_phase_are_heard(net):
    """Their sum is silence, but they are not: the net hears their level, and the first one's phase."""
    x = noise(8000)
    spec = net.stft.analyse(np.stack([x, -x]))
    assert np.allclose(shared(spec[None]), spec[:1], atol=1e-6)
    out = run(Streamer(net, channels=2), np.stack([x, -x]))
    assert np.abs(out[0] + out[1]).max() < 1e-6
    assert decibels(out) > -60


def test_each_channel_alone_is_cleaned_as_a_mono_signal(net):
    x = noise(3, 5000)
    out = run(Streamer(net, channels=3, link="each"), x)
    for channel in range(3):
        assert np.abs(out[channel] - run(Streamer(net), x[channel])).max() < 1e-5


def test_mid_is_the_cleaned_mean_on_every_channel(net):
    x = noise(3, 5000)
    out = run(Streamer(net, channels=3, link="mid"), x)
    assert np.array_equal(out[0], out[1])
    assert np.abs(out[0] - run(Streamer(net), x.mean(axis=0))).max() < 1e-5


# What never comes out


@pytest.mark.parametrize("sample_rate", [16000, 48000])
def test_silence_stays_silence(net, sample_rate):
    assert not run(Streamer(net, sample_rate=sample_rate), np.zeros(9000, np.float32)).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("link", ["linked", "each", "mid"])
def test_what_is_no_sound_never_comes_out_and_is_counted(net, bad, link):
    x = noise(2, 20000)
    holed, zeroed = x.copy(), x.copy()
    holed[1, 5000:5100] = bad
    zeroed[1, 5000:5100] = 0.0
    streamer = Streamer(net, sample_rate=44100, channels=2, link=link)
    out = run(streamer, holed, [777] * 20)
    assert streamer.nonfinite == 100
    assert np.array_equal(out, run(Streamer(net, sample_rate=44100, channels=2, link=link), zeroed))


@pytest.mark.parametrize("level", [1e-30, 1e-9, 1.0, 32768.0, 1e8])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_any_level_gives_finite_sound_not_louder_than_it_came(net, level, dtype):
    x = np.clip(np.sign(noise(9000)) * level, -6e4 if dtype == np.float16 else -1e8, 1e8)
    with np.errstate(over="ignore"):
        x = np.nan_to_num(x.astype(dtype), posinf=65504.0)
    out = run(Streamer(net), x)
    assert out.dtype == dtype
    assert np.isfinite(out).all()
    assert np.sqrt(np.mean(np.square(out.astype(float)))) <= 1.13 * np.abs(x.astype(float)).max()


@given(seed=st.integers(0, 1000), level_db=st.integers(-60, 0), hz=st.integers(20, 7900))
@settings(max_examples=20)
def test_what_comes_out_is_never_louder_than_what_went_in(net, seed, level_db, hz):
    tone = np.sin(2 * np.pi * hz * np.arange(8000) / 16000).astype(np.float32)
    x = 10 ** (level_db / 20) * (tone + noise(8000, seed=seed))
    out = run(Streamer(net), x.astype(np.float32))
    assert decibels(out) <= decibels(x) + 1.0


# Arrays


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_come_back_as_tensors(net, dtype):
    streamer = Streamer(net, channels=2)
    x = torch.zeros(2, 1000, dtype=dtype, requires_grad=True)
    out = streamer.feed(x)
    assert out.shape == (2, 489)
    assert out.dtype == streamer.flush().dtype == dtype
    out.requires_grad_().sum().backward()  # an ordinary tensor, of use under autograd


def test_the_caller_s_array_is_left_alone(net):
    x = noise(2000)
    x[5] = np.nan
    before = x.copy()
    out = Streamer(net).feed(x)
    out[:] = 7.0
    assert np.array_equal(x, before, equal_nan=True)


def test_odd_views_and_read_only_arrays_are_fine(net, recwarn):
    x = noise(2, 3000)
    x.flags.writeable = False
    streamer = Streamer(net)
    reversed_view = streamer.feed(x[0, ::-1])
    streamer.reset()
    assert np.array_equal(streamer.feed(x[0, ::-1].copy()), reversed_view)
    assert not recwarn.list


def test_a_flush_before_anything_is_empty_in_the_stream_s_layout(net):
    assert Streamer(net).flush().shape == (0,)
    assert Streamer(net, channels=2).flush().shape == (2, 0)
    assert Streamer(net, batch=2).flush().shape == (2, 1, 0)


@pytest.mark.parametrize(
    "path",
    [("samples_out",), ("ready",), ("net",), ("tail",), ("down", "history"), ("voice", "power")],
)
def test_a_state_that_lost_something_is_refused_and_leaves_the_stream_as_it_was(net, path):
    x = noise(6000)
    streamer, other = (Streamer(net, sample_rate=44100) for _ in range(2))
    streamer.feed(x)
    part = state = streamer.state
    for name in path[:-1]:
        part = part[name]
    del part[path[-1]]
    with pytest.raises(AudiodaeError, match="no state"):
        other.state = state
    assert np.array_equal(run(other, x), run(Streamer(net, sample_rate=44100), x))


@pytest.mark.parametrize(
    ("name", "value"), [("tail", np.zeros((7, 3))), ("ready", np.zeros(4)), ("samples_in", "x")]
)
def test_a_state_with_something_of_another_shape_is_refused(net, name, value):
    streamer = Streamer(net)
    state = {**streamer.state, name: value}
    with pytest.raises(AudiodaeError, match="no state"):
        streamer.state = state


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("form", ("numpy", "<f4")),
        ("form", ("nonsense", "<f4", "cpu", 1)),
        ("form", ("torch", "<f4", "cpu", 1)),
        ("pending", np.zeros((1, 400), np.complex64)),
        ("net", {}),
        ("pending", [[0.0]]),
        ("tail", None),
    ],
)
def test_a_damaged_state_is_refused_before_any_of_it_is_set(net, name, value):
    streamer, other = Streamer(net), Streamer(net)
    other.feed(noise(1000))
    with pytest.raises(AudiodaeError, match="no state"):
        streamer.state = {**other.state, name: value}
    assert streamer.state["samples_in"] == 0


def test_a_state_whose_memory_has_another_shape_is_refused(net):
    streamer = Streamer(net)
    state = streamer.state
    state["net"] = {name: np.zeros((*a.shape[:-1], 1)) for name, a in state["net"].items()}
    with pytest.raises(AudiodaeError, match="no state"):
        streamer.state = state


def test_a_state_that_numpy_has_saved_is_one(net):
    """Numbers come back as arrays without axes, which would be counted on in place."""
    x = noise(9000)
    one, other = (Streamer(net, sample_rate=44100) for _ in range(2))
    one.feed(x)
    state = one.state

    def saved(value):
        if isinstance(value, dict):
            return {name: saved(inside) for name, inside in value.items()}
        return np.array(value) if isinstance(value, int) else value

    state = {"setup": state.pop("setup"), **saved(state)}
    other.state = state
    assert np.array_equal(run(other, x), run(one, x))
    assert int(state["samples_in"]) == 9000


def test_a_state_whose_numbers_do_not_fit_its_arrays_does_not_hang(net):
    streamer = Streamer(net)
    streamer.feed(noise(3000))
    state = streamer.state
    streamer.state = {**state, "pending": state["pending"][:, :-3]}
    with pytest.raises(AudiodaeError, match="no state"):
        streamer.flush()


def test_a_state_of_other_weights_is_refused():
    one, other = (DenoiserNet(DenoiserConfig()).eval() for _ in range(2))
    with pytest.raises(AudiodaeError, match="same settings and model"):
        Streamer(one).state = Streamer(other).state


def test_channels_that_cancel_each_other_are_cleaned_like_one(net):
    x = noise(16000)
    alone = run(Streamer(net), x)
    for signs in ((1, -1), (1, -1, 1, -1), (1, 1, -1, -1)):
        together = run(Streamer(net, channels=len(signs)), np.outer(signs, x).astype(np.float32))
        np.testing.assert_allclose(together, np.outer(signs, alone), atol=2e-4)


@pytest.mark.parametrize("limit_db", [1e-4, 0.01, 1000.0])
def test_whoever_wants_all_numerical_errors_raised_gets_none(net, limit_db):
    with np.errstate(all="raise"):
        streamer = Streamer(net, attenuation_limit_db=limit_db)
        for level in (0.1, 2.0**-23, 1e-8):
            streamer.feed((level * noise(4000)).astype(np.float32))
        streamer.flush()


@pytest.mark.parametrize("chunk", [torch.zeros(9, device="meta"), torch.zeros(9).to_sparse()])
def test_tensors_without_samples_are_no_chunks(torch_net, chunk):
    with pytest.raises(AudiodaeError, match="meta, sparse or nested"):
        Streamer(torch_net).feed(chunk)


@pytest.mark.parametrize("state", [{}, None, {"setup": 3}, {"samples_in": 3}])
def test_what_is_no_state_is_refused_in_a_sentence(net, state):
    with pytest.raises(AudiodaeError, match="no state"):
        Streamer(net).state = state
