"""Building blocks of an autoencoder: layers that halve, double and connect fully, and bodies of them."""

from __future__ import annotations

import itertools
import math

import torch.nn.functional as F
from torch import Tensor, nn

from audiodae.nets.autoencoder_config import AutoencoderConfig


class Halve(nn.Module):
    """A convolution that halves frames and mels of a patch, with a stride or by pooling.

    `down` is "stride", "max" or "average"; `kernel` is odd.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, down: str, dropout: float) -> None:
        super().__init__()
        stride = 2 if down == "stride" else 1
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        pools = {"stride": nn.Identity(), "max": nn.MaxPool2d(2), "average": nn.AvgPool2d(2)}
        self.pool = pools[down]
        self.norm = nn.BatchNorm2d(outputs)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """`(n, inputs, frames, mels)` -> `(n, outputs, frames / 2, mels / 2)`."""
        return self.dropout(F.silu(self.norm(self.pool(self.conv(x)))))


class Double(nn.Module):
    """The way back: doubles frames and mels, by a transposed convolution or by repeating, then convolving.

    `up` is "transposed" or "upsample". The last one has no norm, activation or dropout: its output is the
    patch.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, up: str, dropout: float, last: bool
    ) -> None:
        super().__init__()
        pad = kernel // 2
        self.conv: nn.Module
        if up == "transposed":
            self.conv = nn.ConvTranspose2d(inputs, outputs, kernel, 2, pad, 1, bias=last)
        else:
            self.conv = nn.Sequential(
                nn.Upsample(scale_factor=2.0, mode="nearest"),
                nn.Conv2d(inputs, outputs, kernel, 1, pad, bias=last),
            )
        self.norm = nn.Identity() if last else nn.BatchNorm2d(outputs)
        self.dropout = nn.Identity() if last else nn.Dropout2d(dropout)
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        """`(n, inputs, frames, mels)` -> `(n, outputs, 2 * frames, 2 * mels)`."""
        y = self.norm(self.conv(x))
        return y if self.last else self.dropout(F.silu(y))


class Dense(nn.Module):
    """A fully connected layer with norm, activation and dropout."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.norm = nn.BatchNorm1d(outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """`(n, inputs)` -> `(n, outputs)`."""
        return self.dropout(F.silu(self.norm(self.linear(x))))


def dense_body(config: AutoencoderConfig, code: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Encoder and decoder of fully connected layers; `code` values come out of the first."""
    widths = (config.features, *config.hidden)
    encoder: list[nn.Module] = [nn.Flatten()]
    decoder: list[nn.Module] = []
    for wide, narrow in itertools.pairwise(widths):
        encoder.append(Dense(wide, narrow, config.dropout))
        decoder.insert(0, Dense(narrow, wide, config.dropout))
    encoder.append(nn.Linear(widths[-1], code))
    decoder[-1] = nn.Linear(widths[1], config.features)  # the patch itself: no norm, no activation
    decoder.insert(0, Dense(config.latent, widths[-1], config.dropout))
    decoder.append(nn.Unflatten(1, (config.patch_frames, config.mels)))
    return nn.Sequential(*encoder), nn.Sequential(*decoder)


def conv_body(config: AutoencoderConfig, code: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Encoder and decoder of convolutions that halve and double, around fully connected layers."""
    channels = (1, *config.channels)
    depth = len(config.channels)
    inner = (channels[-1], config.patch_frames >> depth, config.mels >> depth)
    size = math.prod(inner)
    encoder: list[nn.Module] = [nn.Unflatten(1, (1, config.patch_frames))]
    decoder: list[nn.Module] = [Dense(config.latent, size, 0.0), nn.Unflatten(1, inner)]
    for i in range(depth):
        encoder.append(
            Halve(channels[i], channels[i + 1], config.kernel, config.down, config.dropout)
        )
    for i in range(depth, 0, -1):
        decoder.append(
            Double(channels[i], channels[i - 1], config.kernel, config.up, config.dropout, i == 1)
        )
    encoder += [nn.Flatten(), nn.Linear(size, code)]
    decoder.append(nn.Flatten(1, 2))
    return nn.Sequential(*encoder), nn.Sequential(*decoder)
