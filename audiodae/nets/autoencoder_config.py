"""The shape of an autoencoder of patches: all that its family, its size and its training leave open."""

from __future__ import annotations

import math
from dataclasses import dataclass

from audiodae.config import check_range
from audiodae.sound.stft import Stft

_MOST = 16_384  # frames, latent values and widths: more is a slip, and no memory would do
_CHOICES = {
    "body": ("dense", "conv"),
    "bottleneck": ("plain", "gaussian"),
    "down": ("stride", "max", "average"),
    "up": ("transposed", "upsample"),
}


@dataclass(frozen=True)
class AutoencoderConfig:
    """Shape of an autoencoder.

    A patch is `patch_frames` frames of `mels` bands, of sound at `sample_rate` (Hz) in frames of `n_fft`
    samples, one every `hop_length`. The `body` is "dense" or "conv", the `bottleneck` "plain" or "gaussian".
    `hidden` are the widths of a dense body, `channels` and `kernel` (odd) the convolutions of the other,
    each of which halves frames and mels by `down` ("stride", "max" or "average" pooling) and has a mirror
    image that doubles them by `up` ("transposed" or "upsample"). `latent` is the number of values a patch
    becomes; a "gaussian" bottleneck gives each a mean and a variance. `dropout` is the share of
    values (of channels, in convolutions) that a training leaves out. `denoising` says that the input is
    damaged and the clean patch is wanted.
    """

    sample_rate: int = 16000
    n_fft: int = 512
    hop_length: int = 256
    mels: int = 64
    patch_frames: int = 16
    body: str = "conv"
    bottleneck: str = "plain"
    latent: int = 32
    hidden: tuple[int, ...] = (192, 128)
    channels: tuple[int, ...] = (24, 48, 64)
    kernel: int = 3
    down: str = "stride"
    up: str = "transposed"
    dropout: float = 0.0
    denoising: bool = False

    def __post_init__(self) -> None:
        check_range(self, 1, math.inf, "sample_rate")
        check_range(self, 1, _MOST, "patch_frames", "latent")
        check_range(self, 0.0, 1.0, "dropout", below=True)
        # says what is wrong with these
        stft = Stft(self.sample_rate, self.n_fft, self.hop_length)
        if not 2 <= self.mels <= stft.bins:
            raise ValueError(
                f"mels is {self.mels}: choose from 2 to the {stft.bins} bins of n_fft = {self.n_fft}."
            )
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}: choose from {', '.join(choices)}."
                )
        layers = self.hidden if self.body == "dense" else self.channels
        if not layers or not 1 <= min(layers) <= max(layers) <= _MOST:
            name = "hidden" if self.body == "dense" else "channels"
            raise ValueError(
                f"{name} is {layers}: give the width of at least one layer, each from 1 to {_MOST}."
            )
        if self.body == "conv":
            if not 1 <= self.kernel <= self.mels or self.kernel % 2 == 0:
                raise ValueError(
                    f"kernel is {self.kernel}: an odd number is wanted, of {self.mels} mels at most."
                )
            halvings = 2 ** len(self.channels)
            if self.patch_frames % halvings or self.mels % halvings:
                raise ValueError(
                    f"{self.patch_frames} patch_frames and {self.mels} mels cannot be halved "
                    f"{len(self.channels)} times: make both multiples of {halvings}, or give fewer "
                    "channels."
                )

    @property
    def features(self) -> int:
        """Values of a patch."""
        return self.patch_frames * self.mels

    @property
    def patch_samples(self) -> int:
        return self.patch_frames * self.hop_length
