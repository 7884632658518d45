"""Speech, noise and rooms to training examples, mixed on the fly and batched on the device.

Crops come out of the memory-mapped corpora; everything after that is batched tensor work. A batch depends
only on the seed and the step, so a resumed training sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from audiodae.errors import AudiodaeError
from audiodae.sound.levels import active_level, db_to_gain, noise_gain_for_snr, rms
from audiodae.training import corrupt
from audiodae.training.codecs import CODECS, coded
from audiodae.training.corpus import Corpus
from audiodae.training.draw import Draw, parted
from audiodae.training.mix_config import MixConfig

_SPEED_MARGIN = 192  # samples at each end that take the wrap-around of a speed change
_FFT_GRAIN = 512  # crop lengths are multiples of this, which keeps their transforms fast
_BABBLE_TALKERS = 4


@dataclass(frozen=True)
class Mixture:
    """A batch: `noisy` and `clean`, both `(batch, samples)` float32."""

    noisy: Tensor
    clean: Tensor

    def to(self, device: torch.device) -> Mixture:
        return Mixture(self.noisy.to(device), self.clean.to(device))


class Mixer:
    """Draws batches. `noise` or `rooms` may be None: noise is then synthetic, speech stays dry.

    `speech` may be None where `noise_only` is 1, as for an autoencoder of noises.
    """

    def __init__(
        self,
        speech: Corpus | None,
        noise: Corpus | None,
        rooms: Corpus | None,
        config: MixConfig,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        heard = speech or noise
        if heard is None or (speech is None and config.noise_only < 1.0):
            raise AudiodaeError(
                "There is no speech to mix: give a folder of speech, or set mix.noise_only to 1 and give "
                "a folder of noise."
            )
        self.sample_rate = heard.sample_rate
        self.seed = seed
        self.device = torch.device(device)
        self._speech = Draw(speech, by_group=True, weights={}) if speech else None
        weights = config.category_weights
        generated: Corpus | None = None
        if noise:
            noise, generated = parted(noise, config.generated_noise)
        drawn = generated if config.generated_noise else None
        self._generated = Draw(drawn, by_group=True, weights={}) if drawn else None
        self._noise = Draw(noise, by_group=False, weights=weights) if noise else None
        self._rooms = Draw(rooms, by_group=True, weights={}) if rooms else None

    def fingerprints(self) -> dict[str, str]:
        """Of each kind of what it draws from; of generated noise, which is never held out, none."""
        kinds = {"talkers": self._speech, "noises": self._noise, "rooms": self._rooms}
        return {name: draw.corpus.fingerprint() if draw else "" for name, draw in kinds.items()}

    def batch(self, step: int, size: int, seconds: float, rank: int = 0) -> Mixture:
        """The `step`-th batch of `size` examples of `seconds` each; `rank` tells processes apart."""
        numbers = np.random.default_rng((self.seed, step, rank))
        rng = torch.Generator(self.device).manual_seed(int(numbers.integers(2**62)))
        samples = round(seconds * self.sample_rate)
        if self._speech is None or self.config.noise_only >= 1.0:
            voice = wanted = torch.zeros(size, samples, device=self.device)
        else:
            voice, wanted = self._voices(self._speech, size, samples, numbers, rng)
        noise = self._noises(size, samples, numbers, rng)
        return self._mixed(voice, wanted, noise, rng)

    def _voices(
        self,
        speech: Draw,
        size: int,
        samples: int,
        numbers: np.random.Generator,
        rng: Generator,
    ) -> tuple[Tensor, Tensor]:
        """Speech as it is heard, and as it is wanted: another only where reverberation is to go."""
        c = self.config
        clean = self._crops(speech, size, samples, numbers, active=True)
        if c.pitch:
            for row in corrupt.chance(size, c.pitch, rng).nonzero().flatten().tolist():
                semitones = float(corrupt.uniform(1, *c.pitch_semitones, rng))
                clean[row] = corrupt.pitched(
                    clean[row], 2.0 ** (semitones / 12.0), self.sample_rate
                )
        if c.equalise_speech:
            gain = corrupt.equalise_gain(size, samples, self.sample_rate, c.equalise_db, rng)
            chosen = corrupt.chance(size, c.equalise_speech, rng)[:, None]
            clean = torch.where(chosen, corrupt.filtered(clean, gain), clean)
        inside = corrupt.chance(size, c.room, rng)
        rows = int(inside.sum())
        if not rows or not self._has_rooms:
            return clean, clean
        rooms = self._impulse_responses(rows, samples, numbers, rng)
        dry = clean[inside]
        clean[inside] = corrupt.convolved(dry, rooms)
        if not c.early_reflections_ms:
            return clean, clean
        early = corrupt.early_part(rooms, round(c.early_reflections_ms / 1000 * self.sample_rate))
        wanted = clean.clone()
        wanted[inside] = corrupt.convolved(dry, early)
        return clean, wanted

    @property
    def _has_rooms(self) -> bool:
        return self._rooms is not None or self.config.simulated_room > 0

    def _impulse_responses(
        self, rows: int, samples: int, numbers: np.random.Generator, rng: Generator
    ) -> Tensor:
        """Rooms to be in, `(rows, taps)`, real and made up."""
        c = self.config
        taps = min(samples, self.sample_rate)
        if self._rooms is not None:
            rooms = self._crops(self._rooms, rows, taps, numbers, from_start=True)
        if c.simulated_room:
            made = corrupt.simulated_rooms(rows, taps, self.sample_rate, rng)
            chosen = corrupt.chance(rows, c.simulated_room, rng)[:, None]
            rooms = made if self._rooms is None else torch.where(chosen, made, rooms)
        # Unit energy: a room must not change the level, and so the SNR, of what is heard in it.
        return rooms / rooms.square().sum(dim=-1, keepdim=True).sqrt().clamp_min(1e-6)

    def _noises(
        self, size: int, samples: int, numbers: np.random.Generator, rng: Generator
    ) -> Tensor:
        c, rate = self.config, self.sample_rate
        made = c.synthetic_noise > 0 or self._noise is None
        synthetic = self._synthetic(size, samples, rng) if made else None
        if self._noise is None:
            assert synthetic is not None
            noise = synthetic
        else:
            speed = c.noise_speed or c.speed
            noise = _levelled(self._crops(self._noise, size, samples, numbers, speed=speed))
            if c.noise_backwards:
                turned = corrupt.chance(size, c.noise_backwards, rng)[:, None]
                noise = torch.where(turned, noise.flip(-1), noise)
            joined = corrupt.chance(size, c.second_noise, rng)
            rows = int(joined.sum())
            if rows:
                second = _levelled(self._crops(self._noise, rows, samples, numbers, speed=speed))
                level = db_to_gain(corrupt.uniform(rows, -15.0, 0.0, rng))[:, None]
                noise[joined] += second * level
            if synthetic is not None:
                noise = torch.where(
                    corrupt.chance(size, c.synthetic_noise, rng)[:, None],
                    synthetic + noise * corrupt.chance(size, 0.3, rng)[:, None],
                    noise,
                )
        if self._generated is not None:
            drawn = corrupt.chance(size, c.generated_noise, rng)
            rows = int(drawn.sum())
            if rows:
                noise[drawn] = _levelled(self._crops(self._generated, rows, samples, numbers))
        crowded = corrupt.chance(size, c.babble, rng)
        rows = int(crowded.sum())
        if self._speech is not None and rows:
            voices = self._crops(self._speech, rows * _BABBLE_TALKERS, samples, numbers)
            crowd = _levelled(voices).view(rows, _BABBLE_TALKERS, samples).sum(dim=1)
            noise[crowded] = _levelled(crowd) + 0.3 * noise[crowded]
        if c.noise_room and self._has_rooms:
            inside = corrupt.chance(size, c.noise_room, rng)
            rows = int(inside.sum())
            if rows:
                rooms = self._impulse_responses(rows, samples, numbers, rng)
                noise[inside] = corrupt.convolved(noise[inside], rooms)
        if c.equalise_noise:
            gain = corrupt.equalise_gain(size, samples, rate, c.equalise_noise_db, rng)
            chosen = corrupt.chance(size, c.equalise_noise, rng)[:, None]
            noise = torch.where(chosen, corrupt.filtered(noise, gain), noise)
        if not c.swell:
            return noise
        swelling = corrupt.chance(size, c.swell, rng)[:, None]
        return torch.where(swelling, noise * corrupt.slow_swell(size, samples, rate, rng), noise)

    def _synthetic(self, size: int, samples: int, rng: Generator) -> Tensor:
        rate = self.sample_rate
        kind = corrupt.uniform(size, 0.0, 1.0, rng)[:, None]
        steady = corrupt.coloured_noise(size, samples, rate, rng)
        hum = corrupt.hum(size, samples, rate, rng) + 0.3 * steady
        clicks = corrupt.clicks(size, samples, rate, rng) + 0.2 * steady
        return torch.where(kind < 0.6, steady, torch.where(kind < 0.85, hum, clicks))

    def _mixed(self, voice: Tensor, wanted: Tensor, noise: Tensor, rng: Generator) -> Mixture:
        c, rate = self.config, self.sample_rate
        size, samples = voice.shape
        snr_db = corrupt.uniform(size, *c.snr_db, rng)
        noise = noise * noise_gain_for_snr(voice, noise, snr_db, rate)[:, None]
        kind = corrupt.uniform(size, 0.0, 1.0, rng)[:, None]
        if c.noise_only < 1.0:  # or nothing at all would be heard
            noise = torch.where(kind < c.clean_only, torch.zeros_like(noise), noise)
        silent = kind > 1.0 - c.noise_only
        noisy = torch.where(silent, torch.zeros_like(voice), voice) + noise
        clean = torch.where(silent, torch.zeros_like(wanted), wanted)

        limits = corrupt.band_limit_gain(size, samples, rate, rng)
        limited = corrupt.chance(size, c.band_limit, rng)[:, None]
        if bool(limited.any()):
            clean = torch.where(limited, corrupt.filtered(clean, limits), clean)
            noisy = torch.where(limited, corrupt.filtered(noisy, limits), noisy)

        level = torch.maximum(active_level(clean, rate), rms(noisy)).clamp_min(1e-6)
        gain = db_to_gain(corrupt.uniform(size, *c.level_dbfs, rng)) / level
        # Full scale is the loudest a recording gets.
        gain = torch.minimum(gain, 1.0 / noisy.abs().amax(dim=-1).clamp_min(1e-6))[:, None]
        clean, noisy = clean * gain, noisy * gain
        broken = corrupt.chance(size, c.clip, rng)[:, None]
        drive_db = corrupt.uniform(size, 1.0, 12.0, rng)
        noisy = torch.where(broken, corrupt.clipped(noisy, drive_db), noisy)
        if c.codec:
            for row in corrupt.chance(size, c.codec, rng).nonzero().flatten().tolist():
                which, effort = corrupt.uniform(2, 0.0, 1.0, rng).tolist()
                codec = CODECS[min(int(which * len(CODECS)), len(CODECS) - 1)]
                heard = coded(noisy[row].cpu().numpy(), rate, codec, effort)
                noisy[row] = torch.from_numpy(heard).to(noisy.device)
        return Mixture(noisy, clean)

    def _crops(
        self,
        draw: Draw,
        size: int,
        samples: int,
        numbers: np.random.Generator,
        *,
        active: bool = False,
        from_start: bool = False,
        speed: tuple[float, float] | None = None,
    ) -> Tensor:
        speed = speed or self.config.speed
        rows = []
        for _ in range(size):
            if from_start:
                rows.append(torch.from_numpy(draw.crop(numbers, samples, from_start=True)))
                continue
            if speed == (1.0, 1.0):
                crop = draw.crop(numbers, samples, active=active)
                rows.append(torch.from_numpy(crop))
                continue
            faster = float(numbers.uniform(*speed))
            grains = max(1, round((samples + 2 * _SPEED_MARGIN) * faster / _FFT_GRAIN))
            length = grains * _FFT_GRAIN
            piece = torch.from_numpy(draw.crop(numbers, length, active=active)).to(self.device)
            rows.append(corrupt.replayed_faster(piece, samples, _SPEED_MARGIN))
        return torch.stack(rows).to(self.device)


def _levelled(x: Tensor) -> Tensor:
    """Each row to unit RMS; silence stays silence."""
    return x / rms(x)[..., None].clamp_min(1e-5)
