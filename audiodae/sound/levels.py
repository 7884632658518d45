"""Loudness: decibels, RMS, active speech level, and noise scaled to a wanted SNR.

All functions work on the last axis, so `(samples,)`, `(channels, samples)` and
`(batch, channels, samples)` tensors are the same to them.
"""

from __future__ import annotations

import torch
from torch import Tensor

ACTIVE_FRAME_SECONDS = 0.02
ACTIVE_RANGE_DB = 35.0
_EPSILON = 1e-12


def db_to_gain(db: Tensor) -> Tensor:
    """Amplitude gain of a level in dB."""
    return torch.pow(10.0, db / 20.0)


def gain_to_db(gain: Tensor) -> Tensor:
    """Level in dB of an amplitude gain; silence gives -240 dB, not minus infinity."""
    return 20.0 * torch.log10(gain.abs().clamp_min(_EPSILON))


def rms(x: Tensor) -> Tensor:
    """Root mean square over the last axis: `(..., samples)` -> `(...)`."""
    return x.square().mean(dim=-1).sqrt()


def active_level(x: Tensor, sample_rate: int) -> Tensor:
    """RMS of the active part of a signal: `(..., samples)` -> `(...)`, linear amplitude.

    Active are the frames of 20 ms within 35 dB of the loudest one, so pauses do not count and an SNR
    set by this level means the same for a slow and a fast talker. Silence gives 0.
    """
    frame = min(max(1, round(ACTIVE_FRAME_SECONDS * sample_rate)), x.shape[-1])
    power = x.unfold(-1, frame, frame).square().mean(dim=-1)
    floor = power.amax(dim=-1, keepdim=True) * 10.0 ** (-ACTIVE_RANGE_DB / 10.0)
    active = (power >= floor) & (power > 0)
    total = (power * active).sum(dim=-1)
    return (total / active.sum(dim=-1).clamp_min(1)).sqrt()


def noise_gain_for_snr(speech: Tensor, noise: Tensor, snr_db: Tensor, sample_rate: int) -> Tensor:
    """Gain that puts `noise` `snr_db` below the active level of `speech`.

    `(..., samples)`, `(..., samples)`, `(...)` -> `(...)`. The noise counts with its plain RMS. Where
    either is silent there is no SNR to set and the gain is 1.
    """
    wanted = active_level(speech, sample_rate) * db_to_gain(-snr_db)
    actual = rms(noise)
    gain = wanted / actual.clamp_min(_EPSILON)
    return torch.where((actual > _EPSILON) & (wanted > _EPSILON), gain, torch.ones_like(gain))
