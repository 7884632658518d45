"""How far one spectrogram is from another: what waveform measures do not see in high bands.

A full-band denoiser must neither lose nor leave what lies above 8 kHz, where there is so little energy
that SI-SDR does not notice, and where PESQ and STOI do not listen.
"""

from __future__ import annotations

import math

import numpy as np

from audiodae.errors import AudioError
from audiodae.measure.metrics import Signal, frame_blocks, pair
from audiodae.sound.stft import Stft

_WINDOW_SECONDS = 2048 / 48_000
_FLOOR = 1e-5 / 1024  # 160 dB under a full-scale sine; 1024 is the sum of a Hann window of 2048


def log_spectral_distance_db(
    estimate: Signal, reference: Signal, sample_rate: int, above_hz: float = 0.0
) -> float:
    """Distance between two spectrograms in dB: 0 is equal, and only magnitudes count.

    Root mean square over frequency (from `above_hz` up) of the difference of the levels in dB,
    then the mean over time. Hann windows of 42.7 ms (2048 samples at 48 kHz), a quarter apart,
    levels floored 160 dB under a full-scale sine: silence below hearing is silence. Written out, with
    X and S the plain Hann-windowed FFTs at 48 kHz: mean over frames of the root of the mean over bins
    of (20 log10(|X| + 1e-5) - 20 log10(|S| + 1e-5)) squared. NaN for clips shorter than a window.
    """
    x, s = pair(estimate, reference)
    hop = max(1, round(_WINDOW_SECONDS * sample_rate / 4))
    n_fft = 4 * hop
    first = math.ceil(above_hz * n_fft / sample_rate)
    if first > n_fft // 2:
        raise AudioError(
            f"The log-spectral distance above {above_hz:g} Hz was asked of audio that ends at "
            f"{sample_rate / 2:g} Hz: choose a lower above_hz."
        )
    if s.size < n_fft:
        return math.nan
    window = np.hanning(n_fft + 1)[:-1]
    window /= window.sum()

    def level_db(signal: Signal) -> Signal:
        frames = np.lib.stride_tricks.sliding_window_view(signal, n_fft)[::hop] * window
        magnitude = np.abs(np.fft.rfft(frames)[:, first:])
        return np.asarray(20.0 * np.log10(magnitude + _FLOOR))

    differences = (
        level_db(x[part]) - level_db(s[part])
        for part in frame_blocks(Stft(sample_rate, n_fft, hop), s.size)
    )
    frames = [np.sqrt(np.square(difference).mean(axis=1)) for difference in differences]
    return float(np.concatenate(frames).mean())
