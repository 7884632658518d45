"""Damage and disturbance as small functions of `(batch, samples)` waveforms and a `torch.Generator`.

Filters work in the frequency domain over the whole crop: exact, batched, and the same on any device.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

_EPSILON = 1e-9
# A quarter of windows of 64 ms, in which the harmonics of a deep voice are told apart.
_PITCH_HOP_SECONDS = 0.016


def uniform(rows: int, low: float, high: float, rng: Generator) -> Tensor:
    """One random number a row, `(rows,)`."""
    return torch.rand(rows, generator=rng, device=rng.device) * (high - low) + low


def chance(rows: int, probability: float, rng: Generator) -> Tensor:
    """Which rows something happens to, `(rows,)` bool."""
    return torch.rand(rows, generator=rng, device=rng.device) < probability


def filtered(x: Tensor, gain: Tensor) -> Tensor:
    """Zero-phase filter: `(batch, samples)` by a gain per bin `(batch, samples // 2 + 1)`."""
    return torch.fft.irfft(torch.fft.rfft(x) * gain, n=x.shape[-1])


def _log_frequency(samples: int, sample_rate: int, rng: Generator) -> Tensor:
    """Octaves above 50 Hz of each bin, `(bins,)`; below 50 Hz it stays at zero."""
    hz = torch.fft.rfftfreq(samples, 1.0 / sample_rate, device=rng.device)
    return (hz / 50.0).clamp_min(1.0).log2()


def equalise_gain(
    rows: int, samples: int, sample_rate: int, range_db: float, rng: Generator
) -> Tensor:
    """Random smooth frequency responses, `(rows, bins)`: other microphones, other distances.

    Three cosines over the octaves with random phase and a random tilt, within about `range_db`.
    """
    octaves = _log_frequency(samples, sample_rate, rng)
    span = float(octaves[-1])
    gain_db = (octaves / span - 0.5) * uniform(rows, -range_db, range_db, rng)[:, None]
    for cycles in (0.5, 1.0, 2.0):
        depth_db = uniform(rows, 0.0, range_db / 2, rng)[:, None]
        phase = uniform(rows, 0.0, 2 * math.pi, rng)[:, None]
        gain_db = gain_db + depth_db * torch.cos(2 * math.pi * cycles * octaves / span + phase)
    return torch.pow(10.0, gain_db / 20.0)


def band_limit_gain(rows: int, samples: int, sample_rate: int, rng: Generator) -> Tensor:
    """Random band limits, `(rows, bins)`: telephone, old recordings, narrow codecs."""
    hz = torch.fft.rfftfreq(samples, 1.0 / sample_rate, device=rng.device)
    top = uniform(rows, math.log(3000.0), math.log(sample_rate / 2.0), rng).exp()[:, None]
    bottom = uniform(rows, 20.0, 350.0, rng)[:, None]
    # Raised-cosine edges, a tenth of the top frequency and a fifth of the bottom one wide.
    fall = ((top - hz) / (0.1 * top)).clamp(0.0, 1.0)
    rise = ((hz - 0.8 * bottom) / (0.2 * bottom)).clamp(0.0, 1.0)
    return (1 - torch.cos(math.pi * fall)) / 2 * (1 - torch.cos(math.pi * rise)) / 2


def coloured_noise(rows: int, samples: int, sample_rate: int, rng: Generator) -> Tensor:
    """Steady noise with a random slope (-9 to +3 dB an octave) and response, unit RMS: fans, hiss, air."""
    white = torch.randn(rows, samples, generator=rng, device=rng.device)
    slope = uniform(rows, -9.0, 3.0, rng)[:, None]
    tilt = torch.pow(10.0, slope * _log_frequency(samples, sample_rate, rng) / 20.0)
    shaped = filtered(white, tilt * equalise_gain(rows, samples, sample_rate, 8.0, rng))
    return _unit_rms(shaped)


def hum(rows: int, samples: int, sample_rate: int, rng: Generator) -> Tensor:
    """Mains hum or a motor: a fundamental of 45 to 180 Hz with decaying harmonics, unit RMS."""
    time_s = torch.arange(samples, device=rng.device) / sample_rate
    mains = torch.where(chance(rows, 0.5, rng), 50.0, 60.0)
    fundamental = torch.where(chance(rows, 0.6, rng), mains, uniform(rows, 45.0, 180.0, rng))
    decay = uniform(rows, 0.5, 1.5, rng)
    x = torch.zeros(rows, samples, device=rng.device)
    for harmonic in range(1, 13):
        level = uniform(rows, 0.2, 1.0, rng) * harmonic**-decay
        phase = uniform(rows, 0.0, 2 * math.pi, rng)[:, None]
        angle = 2 * math.pi * harmonic * fundamental[:, None] * time_s + phase
        x += level[:, None] * torch.sin(angle)
    return _unit_rms(x)


def clicks(rows: int, samples: int, sample_rate: int, rng: Generator) -> Tensor:
    """Random clicks, about five a second, each a few milliseconds of decaying noise; unit RMS."""
    hits = torch.rand(rows, samples, generator=rng, device=rng.device) < 5.0 / sample_rate
    impulses = hits * torch.randn(rows, samples, generator=rng, device=rng.device)
    length = max(8, round(0.004 * sample_rate))
    body = torch.randn(rows, length, generator=rng, device=rng.device)
    body = body * torch.exp(-torch.linspace(0.0, 6.0, length, device=rng.device))
    return _unit_rms(convolved(impulses, body))


def slow_swell(rows: int, samples: int, sample_rate: int, rng: Generator) -> Tensor:
    """A gain that wanders by a few dB within a second or so, `(rows, samples)`."""
    knots = max(4, round(samples / sample_rate * 2) + 3)
    level_db = torch.randn(rows, 1, knots, generator=rng, device=rng.device) * 5.0
    curve = torch.nn.functional.interpolate(
        level_db, size=samples, mode="linear", align_corners=True
    )
    return torch.pow(10.0, curve[:, 0] / 20.0)


def convolved(x: Tensor, response: Tensor) -> Tensor:
    """Causal convolution per row: `(batch, samples)` by `(batch, taps)` -> `(batch, samples)`."""
    length = 1 << (x.shape[-1] + response.shape[-1] - 2).bit_length()  # a fast size
    product = torch.fft.rfft(x, n=length) * torch.fft.rfft(response, n=length)
    return torch.fft.irfft(product, n=length)[:, : x.shape[-1]]


def simulated_rooms(rows: int, taps: int, sample_rate: int, rng: Generator) -> Tensor:
    """Impulse responses of rooms there never were, `(rows, taps)`, direct sound first and at 1.

    Noise that decays by 60 dB within 0.15 to 1 s, sparse at first (single reflections) and dense from
    50 ms on, 12 dB below to 3 dB above the direct sound in all; no reflection in the first 1 to 8 ms.
    """
    time_s = torch.arange(taps, device=rng.device) / sample_rate
    rt60_s = uniform(rows, math.log(0.15), 0.0, rng).exp()[:, None]
    tail = torch.randn(rows, taps, generator=rng, device=rng.device)
    there = (0.02 + time_s / 0.05).clamp_max(1.0)
    tail = tail * (torch.rand(rows, taps, generator=rng, device=rng.device) < there)
    tail = tail * torch.exp(-math.log(1000.0) * time_s / rt60_s)
    tail = tail * (time_s >= uniform(rows, 0.001, 0.008, rng)[:, None])
    level_db = uniform(rows, -12.0, 3.0, rng)[:, None]
    energy = tail.square().sum(dim=-1, keepdim=True).clamp_min(_EPSILON)
    room = tail * torch.pow(10.0, level_db / 20.0) / energy.sqrt()
    room[:, 0] = 1.0
    return room


def early_part(rooms: Tensor, samples: int) -> Tensor:
    """Impulse responses up to so many samples after their loudest, the direct sound; zero after."""
    direct = rooms.abs().argmax(dim=-1, keepdim=True)
    return rooms * (torch.arange(rooms.shape[-1], device=rooms.device) <= direct + samples)


def pitched(x: Tensor, factor: float, sample_rate: int) -> Tensor:
    """`(samples,)`, 33 ms at least, with all frequencies multiplied by `factor`, as long and as fast.

    A phase vocoder with locked phases (Puckette, 1995) stretches time; what is longer is played faster.
    """
    hop = round(_PITCH_HOP_SECONDS * sample_rate)
    n_fft = 4 * hop
    window = torch.hann_window(n_fft, device=x.device)
    spec = torch.stft(x, n_fft, hop, window=window, return_complex=True)
    at = torch.arange(0.0, spec.shape[-1] - 1, 1.0 / factor, device=x.device)
    at = at[at < spec.shape[-1] - 1]  # rounding may add one more
    before, share = at.floor().long(), at.frac()
    loud = spec.abs()
    magnitude = loud[:, before] * (1 - share) + loud[:, before + 1] * share
    advance = 2 * math.pi * hop * torch.arange(spec.shape[0], device=x.device)[:, None] / n_fft
    turn = spec[:, 1:].angle() - spec[:, :-1].angle() - advance
    turn = turn - 2 * math.pi * torch.round(turn / (2 * math.pi)) + advance
    phase, frames = spec[:, 0].angle(), []
    for loud_now, turn_now in zip(magnitude.T, turn.T[before], strict=True):
        frame = torch.polar(loud_now, phase)
        frames.append(frame)
        # The bins of one partial keep together: each takes the phase of itself and its neighbours.
        phase = (frame - frame.roll(1) - frame.roll(-1)).angle() + turn_now
    length = round(x.shape[-1] * factor)
    made = torch.stack(frames, dim=1)
    # To where the last window has faded out; there is nothing to divide by beyond. Windows of more than
    # 1024 samples fade below what is divided by a sample or so sooner.
    reach = (made.shape[-1] - 1) * hop + n_fft // 2 - n_fft // 1025
    stretched = torch.istft(made, n_fft, hop, window=window, length=min(length, reach))
    stretched = torch.nn.functional.pad(stretched, (0, length - stretched.shape[-1]))
    return replayed_faster(stretched, x.shape[-1], 0)


def clipped(x: Tensor, drive_db: Tensor) -> Tensor:
    """Hard clipping as from a microphone turned up `drive_db` (per row) above full scale."""
    peak = x.abs().amax(dim=-1, keepdim=True).clamp_min(_EPSILON)
    ceiling = peak * torch.pow(10.0, -drive_db / 20.0)[:, None]
    return torch.maximum(torch.minimum(x, ceiling), -ceiling)


def replayed_faster(x: Tensor, samples: int, margin: int) -> Tensor:
    """The middle of `(rows, n)` stretched or squeezed to `samples` (pitch and speed change together).

    Resampled as a whole in the frequency domain; `margin` samples at each end, in output samples, take
    the wrap-around and are cut off.
    """
    wanted = samples + 2 * margin
    spec = torch.fft.rfft(x)
    resized = torch.fft.irfft(spec[..., : wanted // 2 + 1], n=wanted) * (wanted / x.shape[-1])
    return resized[..., margin : margin + samples]


def _unit_rms(x: Tensor) -> Tensor:
    return x / x.square().mean(dim=-1, keepdim=True).sqrt().clamp_min(_EPSILON)
