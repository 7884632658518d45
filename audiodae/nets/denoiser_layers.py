"""Building blocks of a denoiser: convolutions over frequency, memory in time, attention across the bands.

Convolutions see one frame at a time; all memory lives in the recurrent bottleneck, whose state is passed in
and out. So a block of frames and the same frames one by one give the same result, and causality needs no
proof. Tensors are `(batch, channels, frames, bands)`, kept in the channels-last memory format, which trains
a third faster on a CPU and makes the bottleneck's `(batch, frames, bands, channels)` a mere view.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Down(nn.Module):
    """Strided convolution over frequency."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        padding = (kernel - stride + 1) // 2
        self.conv = nn.Conv2d(inputs, outputs, (1, kernel), (1, stride), (0, padding), bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, inputs, frames, bands)` -> `(batch, outputs, frames, bands / stride)`."""
        return F.relu(self.norm(self.conv(x)))


class Up(nn.Module):
    """Transposed convolution over frequency: what comes from below, joined by what comes across.

    The last one has no norm and no activation: its output is the mask itself.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, last: bool) -> None:
        super().__init__()
        padding = (kernel - stride + 1) // 2
        extra = stride + 2 * padding - kernel
        self.join = nn.Conv2d(2 * inputs, inputs, 1)
        self.conv = nn.ConvTranspose2d(
            inputs, outputs, (1, kernel), (1, stride), (0, padding), (0, extra), bias=last
        )
        self.norm = None if last else nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor, across: Tensor) -> Tensor:
        """`x` and `across` `(batch, inputs, frames, bands)` -> `(batch, outputs, frames, bands * stride)`."""
        y = self.conv(F.relu(self.join(torch.cat((x, across), dim=1))))
        return y if self.norm is None else F.relu(self.norm(y))


class BandMemory(nn.Module):
    """A GRU over time, the same one for every band: `(batch, frames, bands, channels)`, residual.

    Its state is `(batch, bands, channels)`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.norm = nn.LayerNorm(channels)
        self.gru = nn.GRU(channels, channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """`x` and its state -> the same shapes: what is passed on, and the state after the last frame."""
        batch, frames = x.shape[:2]
        rows = self.norm(x).transpose(0, 1).reshape(frames, -1, self.channels)
        rows, hidden = self.gru(rows, state.reshape(1, -1, self.channels))
        y = self.out(rows).view(frames, batch, -1, self.channels).transpose(0, 1)
        return x + y, hidden.view(batch, -1, self.channels)


class BandAttention(nn.Module):
    """Self-attention between the bands of one frame: `(batch, frames, bands, channels)`, residual.

    It does along frequency what a second recurrent net would do, without a loop over the bands.
    """

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.channels, self.heads, self.width = channels, heads, channels // heads
        self.norm = nn.LayerNorm(channels)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, frames, bands, channels)` -> the same shape; frames do not see each other."""
        batch, frames, bands = x.shape[:3]
        split = self.query_key_value(self.norm(x)).view(-1, bands, 3, self.heads, self.width)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(query, key, value, scale=self.width**-0.5)
        y = y.transpose(1, 2).reshape(batch, frames, bands, self.channels)
        return x + self.dropout(self.out(y))
