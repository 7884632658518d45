"""Building blocks: convolutions over frequency, and memory in time.

Convolutions see one frame at a time; all memory lives in the recurrent bottleneck, whose state is passed
in and out. So a block of frames and the same frames one by one give the same result, and causality needs
no proof. Tensors are `(batch, channels, frames, bands)`, kept in the channels-last memory format, which
trains a third faster on a CPU and makes the bottleneck's `(batch, frames, bands, channels)` a mere view.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Down(nn.Module):
    """Strided convolution over frequency: `bands` -> `bands / stride`."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        padding = (kernel - stride + 1) // 2
        self.conv = nn.Conv2d(inputs, outputs, (1, kernel), (1, stride), (0, padding), bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
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
        y = self.conv(F.relu(self.join(torch.cat((x, across), dim=1))))
        return y if self.norm is None else F.relu(self.norm(y))


class BandMemory(nn.Module):
    """A GRU over time, the same one for every band: `(batch, frames, bands, channels)`, residual.

    Its state is `(batch, bands, channels)`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.gru = nn.GRU(channels, channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        batch, frames, bands, channels = x.shape
        rows = self.norm(x).transpose(0, 1).reshape(frames, batch * bands, channels)
        hidden = state.reshape(1, batch * bands, channels)
        rows, hidden = self.gru(rows, hidden)
        y = self.out(rows).view(frames, batch, bands, channels).transpose(0, 1)
        return x + y, hidden.view(batch, bands, channels)


class BandAttention(nn.Module):
    """Self-attention between the bands of one frame: `(batch, frames, bands, channels)`, residual.

    It does along frequency what a second recurrent net would do, without a loop over the bands.
    """

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        batch, frames, bands, channels = x.shape
        split = self.query_key_value(self.norm(x)).view(
            batch * frames, bands, 3, self.heads, channels // self.heads
        )
        query, key, value = split.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(query, key, value)
        y = y.transpose(1, 2).reshape(batch, frames, bands, channels)
        return x + self.dropout(self.out(y))
