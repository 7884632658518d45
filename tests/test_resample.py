"""Laws of the resampler: physics of tones, and the same bits however a stream is cut."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiodae.errors import AudioError
from audiodae.sound.arrays import Home
from audiodae.sound.resample import Resampler, resample

PAIRS = [
    (8000, 16000),
    (11025, 16000),
    (22050, 16000),
    (44100, 16000),
    (48000, 16000),
    (96000, 16000),
    (192000, 16000),
    (44100, 48000),
    (22051, 16000),  # nothing in common: no matrix
    (37813, 16000),
]
BOTH_WAYS = PAIRS + [pair[::-1] for pair in PAIRS]


def tone(hz: float, sample_rate: int, samples: int) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(samples) / sample_rate + 0.3).astype(np.float32)


def decibels(x: np.ndarray, reference: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(x)) / np.mean(np.square(reference)) + 1e-20))


def inner(x: np.ndarray, sample_rate: int) -> np.ndarray:
    edge = sample_rate // 40
    return x[edge:-edge]


def noise(rows: int, samples: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, samples)).astype(np.float32)


def zeros(rows: int, samples: int) -> np.ndarray:
    return np.zeros((rows, samples), np.float32)


def joined(parts: list) -> np.ndarray:
    return np.concatenate([np.asarray(part) for part in parts], axis=-1)


@pytest.mark.parametrize(("from_rate", "to_rate"), BOTH_WAYS)
@pytest.mark.parametrize("part_of_nyquist", [0.01, 0.3, 0.6, 0.9])
def test_a_tone_keeps_its_level_and_its_moment(from_rate, to_rate, part_of_nyquist):
    hz = part_of_nyquist * min(from_rate, to_rate) / 2
    y = resample(tone(hz, from_rate, from_rate // 2), from_rate, to_rate)
    wanted = tone(hz, to_rate, len(y))
    ripple_db = decibels(inner(y, to_rate), inner(wanted, to_rate))
    assert abs(ripple_db) < 0.05
    # Zero phase, and no image anywhere: what is left after taking the true tone away.
    assert decibels(inner(y - wanted, to_rate), inner(wanted, to_rate)) < -90


@pytest.mark.parametrize(("from_rate", "to_rate"), [p for p in PAIRS if p[0] > p[1]])
@pytest.mark.parametrize("part_of_nyquist", [1.1, 1.3, 1.37])
def test_what_the_lower_rate_cannot_hold_does_not_fold_back(from_rate, to_rate, part_of_nyquist):
    hz = part_of_nyquist * to_rate / 2
    x = tone(hz, from_rate, from_rate // 2)
    y = resample(x, from_rate, to_rate)
    assert decibels(inner(y, to_rate), x) < -90


@pytest.mark.parametrize(("from_rate", "to_rate"), BOTH_WAYS)
def test_it_agrees_with_soxr(from_rate, to_rate):
    rng = np.random.default_rng(1)
    seconds = 0.5
    low = min(from_rate, to_rate)
    spectrum = np.fft.rfft(rng.standard_normal(int(from_rate * seconds)))
    spectrum[int(0.85 * low / 2 * seconds) :] = 0  # inside both pass bands
    x = np.fft.irfft(spectrum, int(from_rate * seconds)).astype(np.float32)
    ours = resample(x, from_rate, to_rate)
    theirs = soxr.resample(x, from_rate, to_rate, "VHQ")
    shared = min(len(ours), len(theirs))
    ours, theirs = inner(ours[:shared], to_rate), inner(theirs[:shared], to_rate)
    # soxr's own pass band droops by some 0.01 dB near its edge.
    assert decibels(ours - theirs, theirs) < -70


@given(
    pair=st.sampled_from(BOTH_WAYS),
    lengths=st.lists(st.integers(0, 3000), max_size=8),
    seed=st.integers(0, 99),
    library=st.sampled_from(["numpy", "torch"]),
)
@settings(max_examples=60)
def test_any_chunking_gives_the_same_bits(pair, lengths, seed, library):
    home = Home(library)
    x = home.bring(noise(2, 6000, seed))
    resampler = Resampler(*pair, rows=2, home=home)
    whole = joined([resampler.feed(x), resampler.flush()])
    places = [0, *np.cumsum(lengths), 6000 + sum(lengths)]
    parts = [resampler.feed(x[:, a:b]) for a, b in itertools.pairwise(places)]
    assert np.array_equal(joined([*parts, resampler.flush()]), whole)


def test_single_samples_give_the_same_bits():
    x = noise(1, 700, 3)
    resampler = Resampler(48000, 16000)
    whole = joined([resampler.feed(x), resampler.flush()])
    parts = [resampler.feed(x[:, i : i + 1]) for i in range(x.shape[-1])]
    assert np.array_equal(joined([*parts, resampler.flush()]), whole)


@given(
    from_rate=st.integers(8000, 192000),
    to_rate=st.sampled_from([8000, 16000, 48000]),
    samples=st.integers(0, 2000),
)
@settings(max_examples=60)
def test_the_length_is_the_duration_rounded_up(from_rate, to_rate, samples):
    y = resample(np.zeros(samples, np.float32), from_rate, to_rate)
    assert len(y) == -(-samples * to_rate // from_rate)


@given(pair=st.sampled_from(BOTH_WAYS), lengths=st.lists(st.integers(0, 500), max_size=12))
@settings(max_examples=40)
def test_it_gives_at_every_moment_as_much_as_promised(pair, lengths):
    resampler = Resampler(*pair)
    taken = given_out = 0
    for length in lengths:
        taken += length
        given_out += resampler.feed(zeros(1, length)).shape[-1]
        assert given_out == resampler.outputs_after(taken)
    enough = resampler.inputs_for(given_out + 1)
    assert resampler.outputs_after(enough) >= given_out + 1 > resampler.outputs_after(enough - 1)


@pytest.mark.parametrize(("from_rate", "to_rate"), BOTH_WAYS)
def test_it_looks_ahead_two_milliseconds_of_the_lower_rate_of_16_khz(from_rate, to_rate):
    low = min(from_rate, to_rate)
    seconds = Resampler(from_rate, to_rate).lookahead / from_rate
    assert seconds <= 0.002 * 16000 / low + 1 / from_rate


@pytest.mark.parametrize(("from_rate", "to_rate"), BOTH_WAYS)
def test_a_constant_stays_that_constant(from_rate, to_rate):
    y = resample(np.full(from_rate // 8, 0.5, np.float32), from_rate, to_rate)
    assert np.abs(inner(y, to_rate) - 0.5).max() < 1e-5


def test_equal_rates_pass_the_very_same_bits():
    x = noise(3, 100, 7)
    resampler = Resampler(16000, 16000, rows=3)
    assert resampler.lookahead == 0
    assert np.array_equal(joined([resampler.feed(x), resampler.flush()]), x)


@pytest.mark.parametrize("pair", [(48000, 16000), (22051, 16000)])
def test_a_row_reset_forgets_and_leaves_the_others_their_bits(pair):
    x = noise(3, 3000, 5)
    plain, reset = Resampler(*pair, rows=3), Resampler(*pair, rows=3)
    plain.feed(x), reset.feed(x)
    reset.reset(rows=[1])
    after = zeros(3, 3000)
    a, b = plain.feed(after), reset.feed(after)
    assert np.array_equal(a[[0, 2]], b[[0, 2]])
    assert a[1].any()
    assert not b[1].any()


@pytest.mark.parametrize("pair", [(44100, 16000), (16000, 44100), (22051, 16000)])
def test_a_copied_state_resumes_bit_by_bit(pair):
    x = noise(2, 3000, 6)
    first, second = Resampler(*pair, rows=2), Resampler(*pair, rows=2)
    first.feed(x[:, :1234])
    state = copy.deepcopy(first.state)
    wanted = joined([first.feed(x[:, 1234:]), first.flush()])
    second.state = state
    resumed = joined([second.feed(x[:, 1234:]), second.flush()])
    assert np.array_equal(resumed, wanted)


@pytest.mark.parametrize("pair", [(44100, 16000), (16000, 44100), (22051, 16000)])
def test_what_is_remembered_does_not_grow(pair):
    resampler = Resampler(*pair)
    sizes = []
    for _ in range(60):
        resampler.feed(zeros(1, 5000))
        sizes.append(resampler.state["history"].shape[-1])
    assert max(sizes) < 15_000  # a block and the newest chunk, of 300,000 samples heard


@pytest.mark.parametrize("pair", [(44100, 16000), (16000, 44100), (22051, 16000)])
def test_numpy_and_torch_agree(pair):
    x = noise(2, 5000, 8)
    assert np.abs(resample(x, *pair) - resample(torch.from_numpy(x), *pair).numpy()).max() < 1e-5


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_the_kind_of_array_is_kept(dtype):
    x = np.zeros((2, 3, 80), dtype)
    assert resample(x, 16000, 8000).shape == (2, 3, 40)
    assert resample(x, 16000, 8000).dtype == x.dtype
    tensor = torch.zeros(80, dtype=torch.float64, requires_grad=True)
    assert resample(tensor, 8000, 16000).dtype == torch.float64


@pytest.mark.parametrize("rate", [0, -16000, 16, 44.1, 16000.5, float("nan"), 10**7, "16000", True])
def test_an_impossible_rate_is_named_in_the_error(rate):
    with pytest.raises(AudioError, match=rf"{rate}.*Hz"):
        Resampler(rate, 16000)


@pytest.mark.parametrize(
    "samples", [np.zeros(4, np.int16), np.float32(1), [0.0, 1.0], np.array(1.0)]
)
def test_what_is_no_array_of_floats_is_refused(samples):
    with pytest.raises(AudioError):
        resample(samples, 8000, 16000)
