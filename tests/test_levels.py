"""Loudness: what a level and an SNR mean."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audiodae.sound.levels import active_level, db_to_gain, gain_to_db, noise_gain_for_snr, rms

RATE = 16000


def noise(samples: int, seed: int) -> torch.Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed))


@given(st.floats(-100, 60))
def test_db_and_gain_are_inverse(db: float) -> None:
    assert float(gain_to_db(db_to_gain(torch.tensor(db)))) == pytest.approx(db, abs=1e-3)


def test_a_full_scale_sine_has_minus_3_db() -> None:
    sine = torch.sin(2 * torch.pi * 1000 * torch.arange(RATE) / RATE)
    assert float(gain_to_db(rms(sine))) == pytest.approx(-3.01, abs=0.01)


def test_pauses_do_not_change_the_active_level() -> None:
    talk = noise(RATE, 1)
    with_pause = torch.cat((talk, torch.zeros(3 * RATE)))
    assert float(active_level(with_pause, RATE)) == pytest.approx(float(rms(talk)), rel=1e-3)
    assert float(rms(with_pause)) == pytest.approx(float(rms(talk)) / 2, rel=1e-3)


@given(st.floats(-10, 30), st.floats(0.001, 10))
def test_the_snr_is_what_was_asked_for_at_any_level(snr_db: float, level: float) -> None:
    speech, other = noise(RATE, 2) * level, noise(RATE, 3)
    gain = noise_gain_for_snr(speech, other, torch.tensor(snr_db), RATE)
    measured = gain_to_db(active_level(speech, RATE)) - gain_to_db(rms(other * gain))
    assert float(measured) == pytest.approx(snr_db, abs=0.01)


def test_silence_has_no_snr_to_set() -> None:
    gain = noise_gain_for_snr(torch.zeros(RATE), noise(RATE, 4), torch.tensor(0.0), RATE)
    assert float(gain) == 1.0
