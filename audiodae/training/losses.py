"""What training minimises: compressed spectra, waveform fidelity, and a higher price for lost speech."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from audiodae.config import check_range
from audiodae.sound.arrays import has_bfloat16
from audiodae.sound.levels import rms
from audiodae.sound.stft import Stft
from audiodae.training.dnsmos_loss import DnsmosLoss
from audiodae.training.pesq_loss import pesq_loss
from audiodae.training.stoi_loss import stoi_loss
from audiodae.training.whisper_loss import WhisperLoss

WEIGHTS = ("magnitude", "spectrum", "snr", "lost_speech", "noise_left", "log_spectrum", "clean_in")
_FLOOR_POWER = 1e-7
_FLOOR_LOG_POWER = 1e-10  # of logarithms: 100 dB below a full bin
_HIGHEST_SNR_DB = 35.0  # better than this is not worth more
_CLEAN_SNR_DB = 25.0  # from here on it is clean: DNSMOS would have it changed to its liking
_PAUSE_DB = 40.0  # frames so far below the loudest one of the clean speech are pauses
_LOUDNESS = 0.05  # RMS that examples are scaled to, so that quiet ones count as much as loud ones


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms.

    `magnitude` and `spectrum` weigh the squared errors of magnitudes and of complex spectra, both of spectra
    whose magnitudes are raised to the power `compression`, so that quiet sounds count too.
    `lost_speech` adds to the magnitude term where speech came out too weak, `noise_left` in the pauses of
    speech and where nobody speaks, where what is left is heard most. `snr` weighs the plain
    signal-to-noise ratio in dB: unlike the scale-invariant one it also holds the level, and its logarithm
    lets the small errors of nearly clean speech count (without it, clean speech came out 1.3 dB too weak).
    `log_spectrum` weighs the distance of log spectra of speech, in bels, from `log_spectrum_from_hz` up:
    there it is so faint that the other terms do not care (without it, it came out 8 dB too weak).
    `clean_in` weighs the signal-to-noise ratio in dB once more, of examples that came in clean: their errors
    are small beside those of noisy ones, but nobody forgives them. `whisper_folder` is where stages that
    listen with Whisper find it, seen from where the training is started.
    """

    magnitude: float = 0.7
    spectrum: float = 0.6
    snr: float = 0.001
    lost_speech: float = 0.3
    noise_left: float = 0.0
    log_spectrum: float = 0.0
    log_spectrum_from_hz: float = 8000.0
    clean_in: float = 0.0
    whisper_folder: str = "whisper-base"
    compression: float = 0.3

    def __post_init__(self) -> None:
        check_range(self, 0.0, 1e6, *WEIGHTS, "log_spectrum_from_hz")
        check_range(self, 0.05, 1.0, "compression")


class DenoisingLoss:
    """`(batch, samples)` estimate, clean and noisy -> scalar loss and the value of each term.

    `pesq` weighs a differentiable PESQ (the package `torch-pesq`), `stoi` a differentiable STOI (the package
    `torch-stoi`), `dnsmos` a differentiable DNSMOS, heard on the first `dnsmos_items` examples of noisy
    speech, and `whisper` what a recogniser hears of the first `whisper_items`; zero leaves them out.
    """

    def __init__(
        self,
        config: LossConfig,
        stft: Stft,
        device: torch.device,
        pesq: float = 0.0,
        dnsmos: float = 0.0,
        dnsmos_items: int = 1,
        stoi: float = 0.0,
        whisper: float = 0.0,
        whisper_items: int = 1,
    ) -> None:
        self.config = config
        self.stft = stft
        self.pesq = pesq
        self._pesq_loss = pesq_loss(stft.sample_rate, device) if pesq else None
        self.stoi = stoi
        self._stoi_loss = stoi_loss(stft.sample_rate, device) if stoi else None
        self.dnsmos, self.dnsmos_items = dnsmos, dnsmos_items
        half = has_bfloat16(str(device))
        self._dnsmos_loss = DnsmosLoss(stft.sample_rate, half).to(device) if dnsmos else None
        self.whisper, self.whisper_items = whisper, whisper_items
        folder = Path(config.whisper_folder)
        self._whisper_loss = WhisperLoss(stft.sample_rate, folder).to(device) if whisper else None

    def __call__(
        self, estimate: Tensor, clean: Tensor, noisy: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        c = self.config
        scale = _LOUDNESS / rms(noisy)[:, None].clamp_min(1e-5)
        estimate, clean = estimate * scale, clean * scale
        got, got_magnitude = self._compressed(estimate)
        want, want_magnitude = self._compressed(clean)
        error = got_magnitude - want_magnitude
        terms = {
            "magnitude": c.magnitude * error.square().mean(),
            "lost_speech": c.lost_speech * error.clamp_max(0.0).square().mean(),
            "spectrum": c.spectrum * (got - want).square().sum(dim=-1).mean(),
        }
        if c.noise_left:
            pause = _pauses(want_magnitude, c.compression)
            terms["noise_left"] = c.noise_left * (error.clamp_min(0.0) * pause).square().mean()
        spoken = rms(clean) > 1e-3 * _LOUDNESS
        if bool(spoken.any()):
            fidelity = snr_db(estimate[spoken], clean[spoken]).clamp_max(_HIGHEST_SNR_DB)
            terms["snr"] = -c.snr * fidelity.mean()
            came_clean = spoken & (snr_db(noisy * scale, clean) >= _CLEAN_SNR_DB)
            came_noisy = spoken & ~came_clean
            if c.clean_in:
                kept = snr_db(estimate[came_clean], clean[came_clean]).clamp_max(_HIGHEST_SNR_DB)
                terms["clean_in"] = -c.clean_in * kept.sum() / len(clean)
            if c.log_spectrum:
                bels = self._log_power(estimate[spoken]) - self._log_power(clean[spoken])
                distance = (bels.square().mean(dim=-1) + 1e-6).sqrt().mean()
                terms["log_spectrum"] = c.log_spectrum * distance
            if self._pesq_loss is not None:
                terms["pesq"] = self.pesq * self._pesq_loss(clean[spoken], estimate[spoken]).mean()
            if self._stoi_loss is not None:
                terms["stoi"] = self.stoi * self._stoi_loss(clean[spoken], estimate[spoken]).mean()
            if self._dnsmos_loss is not None:
                heard = estimate[came_noisy][: self.dnsmos_items]
                if len(heard):
                    terms["dnsmos"] = self.dnsmos * self._dnsmos_loss(heard).mean()
            if self._whisper_loss is not None:
                heard = estimate[came_noisy][: self.whisper_items]
                if len(heard):
                    unlike = self._whisper_loss(heard, clean[came_noisy][: self.whisper_items])
                    terms["whisper"] = self.whisper * unlike.mean()
        return torch.stack(list(terms.values())).sum(), terms

    def _compressed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        spec = torch.view_as_real(self.stft.analyse(x))
        power = spec.square().sum(dim=-1) + _FLOOR_POWER
        compression = self.config.compression
        shrunk = spec * power.pow((compression - 1.0) / 2.0)[..., None]
        return shrunk, power.pow(compression / 2.0)

    def _log_power(self, x: Tensor) -> Tensor:
        """In bels, of the bins from `log_spectrum_from_hz` up."""
        first = math.ceil(
            self.config.log_spectrum_from_hz * self.stft.n_fft / self.stft.sample_rate
        )
        spec = torch.view_as_real(self.stft.analyse(x))[..., first:, :]
        return (spec.square().sum(dim=-1) + _FLOOR_LOG_POWER).log10()


def _pauses(magnitude: Tensor, compression: float) -> Tensor:
    """One where a frame of compressed `(batch, frames, bins)` is a pause, else zero: `(batch, frames, 1)`."""
    power = magnitude.pow(2.0 / compression).mean(dim=-1)
    loudest = power.amax(dim=-1, keepdim=True)
    return (power <= loudest * 10.0 ** (-_PAUSE_DB / 10.0) + 2 * _FLOOR_POWER)[..., None].float()


def snr_db(estimate: Tensor, clean: Tensor) -> Tensor:
    """Signal-to-noise ratio of an estimate, level included: `(..., samples)` -> `(...)`."""
    error = (estimate - clean).square().sum(dim=-1).clamp_min(1e-8)
    return 10.0 * torch.log10(clean.square().sum(dim=-1).clamp_min(1e-8) / error)


def si_sdr_db(estimate: Tensor, clean: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio (Le Roux et al., 2019): `(..., samples)` -> `(...)`."""
    clean = clean - clean.mean(dim=-1, keepdim=True)
    estimate = estimate - estimate.mean(dim=-1, keepdim=True)
    energy = clean.square().sum(dim=-1, keepdim=True).clamp_min(1e-8)
    target = (estimate * clean).sum(dim=-1, keepdim=True) / energy * clean
    distortion = (estimate - target).square().sum(dim=-1).clamp_min(1e-8)
    return 10.0 * torch.log10(target.square().sum(dim=-1).clamp_min(1e-8) / distortion)
