"""Autoencoders of sound: log-mel patches through a narrow code and back.

Two bodies (dense, convolutional) and two bottlenecks (plain, gaussian) make one class; what it is trained
on (`denoising`: damaged in, clean out) makes the rest of the families. Beside every body lies a straight
path, principal component analysis, so that the body need only learn what is not linear. A patch is
`(frames, mels)`, the level of each mel band in dB, shifted and scaled to about unit variance.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from audiodae.nets.autoencoder_config import AutoencoderConfig
from audiodae.nets.autoencoder_layers import conv_body, dense_body
from audiodae.nets.features import mel_matrix
from audiodae.sound.phase import griffin_lim
from audiodae.sound.stft import Stft

FLOOR_DB = -90.0  # of a mel band, against a full-scale sine; below it everything is silence
CENTRE_DB = -55.0
SCALE_DB = 15.0
_STILL_SILENT_DB = 2.0  # above the floor: silence comes back from a code within one of it
_WEIGHTED = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
_FIRST_LOGVAR = -3.0  # where the code starts as the principal components: sure enough to be of use
_LOGVAR_LIMIT = 10.0  # beyond this exp() says nothing new and starts to overflow


class Code(NamedTuple):
    """What a patch becomes: `mean` `(n, latent)`, and `logvar` of the same shape or None."""

    mean: Tensor
    logvar: Tensor | None


STRAIGHT = ("axes", "middle", "spread")
"""The buffers of the straight path: principal axes of patches, their mean, how far they spread along each."""


class Autoencoder(nn.Module):
    """Patches to a code and back; waveforms to patches and, by a guess at the phase, back."""

    to_mels: Tensor
    to_bins: Tensor
    axes: Tensor
    middle: Tensor
    spread: Tensor

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.stft = Stft(config.sample_rate, config.n_fft, config.hop_length)
        code = config.latent * (2 if config.bottleneck == "gaussian" else 1)
        body = dense_body if config.body == "dense" else conv_body
        self.encoder, self.decoder = body(config, code)
        # The straight path.
        self.register_buffer("axes", torch.zeros(config.latent, config.features))
        self.register_buffer("middle", torch.zeros(config.features))
        self.register_buffer("spread", torch.ones(config.latent))
        to_bins = torch.from_numpy(mel_matrix(config.mels, self.stft)).float()
        # Derived from the config, so not part of the weights.
        self.register_buffer("to_bins", to_bins, persistent=False)
        gather = to_bins / to_bins.sum(dim=1, keepdim=True)
        self.register_buffer("to_mels", gather.T.contiguous(), persistent=False)

    @property
    def sample_rate(self) -> int:
        return self.config.sample_rate

    @property
    def device(self) -> torch.device:
        return self.to_bins.device

    def patches(self, audio: Tensor) -> Tensor:
        """`(batch, samples)` at `sample_rate` -> `(batch, patches, frames, mels)`.

        Patches follow each other without overlap; the last one is filled up with silence. Audio shorter
        than a patch gives one.
        """
        return self._patched(self._spectrum(audio))

    def encode(self, patches: Tensor) -> Code:
        """`(n, frames, mels)` -> the code of each patch."""
        straight = (patches.flatten(1) - self.middle) @ self.axes.T / self.spread
        code = self.encoder(patches)
        if self.config.bottleneck == "plain":
            return Code(straight + code, None)
        mean, logvar = code.chunk(2, dim=-1)
        return Code(straight + mean, logvar.clamp(-_LOGVAR_LIMIT, _LOGVAR_LIMIT))

    def decode(self, latent: Tensor) -> Tensor:
        """`(n, latent)` -> `(n, frames, mels)`."""
        straight = (latent * self.spread) @ self.axes + self.middle
        return straight.view(-1, self.config.patch_frames, self.config.mels) + self.decoder(latent)

    @torch.no_grad()
    def start_from_pca(self, patches: Tensor) -> None:
        """Lay the straight path along the principal axes of `(n, frames, mels)`, and silence the body.

        So an untrained autoencoder is what the best linear one of its latent size is (Baldi and Hornik,
        1989), the code has unit variance, and training adds what a linear one cannot do. The straight
        path is not trained.
        """
        flat = patches.flatten(1).cpu().double()  # there is no float64 on every device
        middle = flat.mean(dim=0)
        powers, axes = torch.linalg.eigh((flat - middle).T @ (flat - middle) / len(flat))
        latent = self.config.latent
        self.middle.copy_(middle)
        self.axes.copy_(axes[:, -latent:].flip(1).T)
        self.spread.copy_(powers[-latent:].flip(0).clamp_min(1e-6).sqrt())
        for body in (self.encoder, self.decoder):
            last = [m for m in body.modules() if isinstance(m, _WEIGHTED)][-1]
            nn.init.zeros_(last.weight)
            assert last.bias is not None
            nn.init.zeros_(last.bias)
            if body is self.encoder and self.config.bottleneck == "gaussian":
                last.bias[latent:] = _FIRST_LOGVAR

    def sample(self, code: Code, generator: Generator | None = None) -> Tensor:
        """A draw from a gaussian code, with a gradient to mean and variance (Kingma and Welling, 2014).

        A plain code is its own and only draw. `(n, latent)`.
        """
        if code.logvar is None:
            return code.mean
        noise = torch.randn(
            code.mean.shape,
            generator=generator,
            device=code.mean.device,
            dtype=code.mean.dtype,
        )
        return code.mean + torch.exp(0.5 * code.logvar) * noise

    def forward(self, patches: Tensor, generator: Generator | None = None) -> tuple[Tensor, Code]:
        """Reconstruction `(n, frames, mels)` and code. In evaluation mode the mean is decoded."""
        code = self.encode(patches)
        latent = self.sample(code, generator) if self.training else code.mean
        return self.decode(latent), code

    def waveform(
        self,
        patches: Tensor,
        phase: Tensor | None = None,
        *,
        seed: int = 0,
    ) -> Tensor:
        """Sound of consecutive patches: `(patches, frames, mels)` -> `(samples,)` at `sample_rate`.

        Magnitudes are spread from mel bands to bins. `phase` is `(patches * frames, bins)` in radians, of
        a recording the patches came from; without it the phase is found by fast Griffin-Lim (Perraudin et
        al., 2013) from a start that `seed` decides. Raises `AudiodaeError` when librosa is not installed.
        """
        magnitude = _audible(patches.reshape(-1, self.config.mels)) @ self.to_bins
        magnitude = magnitude * self._full_scale()
        if phase is not None:
            return self._sound(torch.polar(magnitude, phase)[None])[0]
        # What is before the first hop and after the last belongs to frames that are not there.
        trim = self._lead
        sound = griffin_lim(magnitude, self.stft, seed)
        return sound[trim : trim + magnitude.shape[0] * self.config.hop_length]

    def masked(self, noisy: Tensor) -> Tensor:
        """Use the autoencoder as a denoiser: `(batch, samples)` -> `(batch, samples)`, noisy phase.

        Each bin is turned down by as much as the reconstruction is below the input in its mel band, and
        never turned up. What a code cannot hold is lost, whether it is noise or speech.
        """
        batch, samples = noisy.shape
        spectrum = self._spectrum(noisy)
        patches = self._patched(spectrum)
        rebuilt, _ = self(patches.flatten(0, 1))
        gain = _amplitude(rebuilt) / _amplitude(patches.flatten(0, 1))
        mask = gain.clamp_max(1.0).view(batch, -1, self.config.mels) @ self.to_bins
        return self._sound(spectrum * mask)[:, :samples]

    @property
    def _lead(self) -> int:
        """Zeros before the first sample: frame t is centred on the middle of the t-th hop."""
        return self.stft.tail_samples // 2

    def _full_scale(self) -> float:
        """Magnitude of a full-scale sine in its bin: the sum of the window over two."""
        return float(self.stft.window().sum()) / 2.0

    def _spectrum(self, audio: Tensor) -> Tensor:
        """`(batch, samples)` -> `(batch, frames, bins)` complex, frames a multiple of a patch's."""
        size = self.config.patch_samples
        wanted = max(1, math.ceil(audio.shape[-1] / size)) * size
        after = wanted - audio.shape[-1] + self.stft.tail_samples - self._lead
        return self.stft.analyse(F.pad(audio, (self._lead, after)))

    def _patched(self, spectrum: Tensor) -> Tensor:
        power = spectrum.real.square() + spectrum.imag.square()
        mels = (power / self._full_scale() ** 2) @ self.to_mels
        level_db = 10.0 * torch.log10(mels.clamp_min(10.0 ** (FLOOR_DB / 10.0)))
        patches = (level_db - CENTRE_DB) / SCALE_DB
        return patches.view(len(spectrum), -1, self.config.patch_frames, self.config.mels)

    def _sound(self, spectrum: Tensor) -> Tensor:
        """`(batch, frames, bins)` complex -> `(batch, frames * hop_length)`, exact up to both ends."""
        frames = spectrum.shape[1]
        samples = frames * self.config.hop_length
        ones = torch.ones(1, samples + self.stft.tail_samples, device=spectrum.device)
        overlap = self._overlap_add(self.stft.analyse(ones))  # one, but for the ends
        return (self._overlap_add(spectrum) / overlap)[:, self._lead : self._lead + samples]

    def _overlap_add(self, spectrum: Tensor) -> Tensor:
        return torch.cat(self.stft.synthesise(spectrum), dim=-1)


def _amplitude(patches: Tensor) -> Tensor:
    """Normalised level back to linear amplitude, 1 for a full-scale sine; never below the floor."""
    level_db = (patches * SCALE_DB + CENTRE_DB).clamp_min(FLOOR_DB)
    return torch.pow(10.0, level_db / 20.0)


def _audible(patches: Tensor) -> Tensor:
    """The same, but 0 in frames that are silent: at the floor all bands together would be heard as hiss."""
    silence = 10.0 ** ((FLOOR_DB + _STILL_SILENT_DB) / 20.0)
    amplitude = _amplitude(patches)
    return amplitude * (amplitude.amax(dim=-1, keepdim=True) > silence)
