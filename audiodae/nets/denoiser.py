"""Cleaning: features, a convolutional autoencoder over frequency with memory in time, a complex mask.

The autoencoder gathers the bands in strides, remembers in its bottleneck, and spreads them back with
skip connections; it is trained with noisy speech in and clean speech wanted (a denoising autoencoder,
Vincent et al., 2008). The bottleneck alternates a GRU over time shared by all bands with attention
across the bands (compare dual-path RNNs, Luo et al., 2020, and FastEnhancer, arXiv 2509.21867).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from audiodae.config import check_range, to_plain
from audiodae.nets.denoiser_layers import BandAttention, BandMemory, Down, Up
from audiodae.nets.features import FEATURE_CHANNELS, Bands, BandsConfig
from audiodae.nets.fixed_step import FixedStep
from audiodae.nets.net import State, Step, fingerprint, weights
from audiodae.sound.arrays import full_precision
from audiodae.sound.stft import Stft

_MOST_BLOCKS, _MOST_CHANNELS = 64, 4096  # more is a slip, and no memory would do
MASK_CHANNELS = 2  # real and imaginary part


@dataclass(frozen=True)
class DenoiserConfig:
    """Shape of a denoiser: what it hears and how wide and deep it thinks.

    It hears sound at `sample_rate` (Hz) in frames of `n_fft` samples, one every `hop_length`, gathered in
    `bands`. Of each convolution, from the spectrum to the bottleneck, `channels` are what comes out,
    `kernels` how many bands it sees at once, `strides` by how much it divides them. `blocks` is the number of
    memory-and-attention pairs there, `heads` that of the attention, and `dropout` the share of what that
    says which a training leaves out.
    """

    sample_rate: int = 16000
    n_fft: int = 512
    hop_length: int = 256
    bands: BandsConfig = field(default_factory=BandsConfig)
    channels: tuple[int, ...] = (32, 64)
    kernels: tuple[int, ...] = (8, 5)
    strides: tuple[int, ...] = (4, 2)
    blocks: int = 2
    heads: int = 4
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_range(self, 0.0, 1.0, "dropout", below=True)
        check_range(self, 0, _MOST_BLOCKS, "blocks")
        check_range(self, 1, math.inf, "sample_rate")
        check_range(self, 1, _MOST_CHANNELS, "heads")
        # says what is wrong with these
        stft = Stft(self.sample_rate, self.n_fft, self.hop_length)
        if self.bands.count > stft.bins:
            raise ValueError(
                f"bands.linear = {self.bands.linear} and bands.erb = {self.bands.erb} are "
                f"{self.bands.count} bands, and n_fft = {self.n_fft} has {stft.bins} bins: give no more "
                "bands than bins."
            )
        if not len(self.channels) == len(self.kernels) == len(self.strides) > 0:
            raise ValueError(
                f"channels {self.channels}, kernels {self.kernels} and strides {self.strides} describe "
                "the convolutions one by one: give each the same number of values."
            )
        for sizes in zip(self.channels, self.kernels, self.strides, strict=True):
            channels, kernel, stride = sizes
            if not self.bands.count >= kernel >= stride >= 1 or not 1 <= channels <= _MOST_CHANNELS:
                raise ValueError(
                    f"channels {self.channels}, kernels {self.kernels} and strides {self.strides}: a "
                    f"convolution has 1 to {_MOST_CHANNELS} channels, a stride of 1 or more, and a kernel "
                    f"at least as long as its stride and at most as long as there are bands "
                    f"({self.bands.count})."
                )
        if self.bands.count % math.prod(self.strides):
            raise ValueError(
                f"{self.bands.count} bands cannot be divided by strides {self.strides}: "
                "make the number of bands a multiple of their product."
            )
        if self.channels[-1] % self.heads:
            raise ValueError(
                f"{self.channels[-1]} bottleneck channels do not split into {self.heads} heads: "
                "make the last of channels a multiple of heads."
            )

    @property
    def bottleneck_bands(self) -> int:
        return self.bands.count // math.prod(self.strides)


class DenoiserNet(nn.Module):
    """Noisy spectrum in, complex mask out, frame by frame; the state carries all that is remembered."""

    engine = "torch"

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        self.stft = Stft(config.sample_rate, config.n_fft, config.hop_length)
        self.bands = Bands(config.bands, self.stft)
        inward = (FEATURE_CHANNELS, *config.channels)
        outward = (MASK_CHANNELS, *config.channels)
        depth = len(config.channels)
        code = config.channels[-1]
        self.encoder = nn.ModuleList(
            Down(inward[i], inward[i + 1], config.kernels[i], config.strides[i])
            for i in range(depth)
        )
        self.place = nn.Parameter(torch.zeros(config.bottleneck_bands, code))
        self.memory = nn.ModuleList(BandMemory(code) for _ in range(config.blocks))
        self.attention = nn.ModuleList(
            BandAttention(code, config.heads, config.dropout) for _ in range(config.blocks)
        )
        self.decoder = nn.ModuleList(
            Up(
                outward[i],
                outward[i - 1],
                config.kernels[i - 1],
                config.strides[i - 1],
                last=i == 1,
            )
            for i in range(depth, 0, -1)
        )
        self._start_by_passing_through()

    def _start_by_passing_through(self) -> None:
        """Before training the mask is close to one: a denoiser that knows nothing changes nothing."""
        last = self.decoder[-1].get_submodule("conv")
        with torch.no_grad():
            last.get_parameter("weight").mul_(0.1)
            last.get_parameter("bias").copy_(torch.tensor([0.9, 0.0]))

    @property
    def sample_rate(self) -> int:
        return self.config.sample_rate

    @property
    def device(self) -> torch.device:
        return self.place.device

    def initial_state(self, batch: int) -> State:
        """The state of `batch` streams that have heard nothing yet."""
        bands, code = self.config.bottleneck_bands, self.config.channels[-1]
        return {
            f"memory{i}": torch.zeros(
                batch, bands, code, dtype=self.place.dtype, device=self.device
            )
            for i in range(self.config.blocks)
        }

    def core(self, features: Tensor, state: State) -> tuple[Tensor, State]:
        """The net alone, real in and real out (this is what gets exported).

        `(batch, 3, frames, bands)` -> `(batch, 2, frames, bands)` and the new state.
        """
        x = features.contiguous(memory_format=torch.channels_last)
        across = []
        for down in self.encoder:
            x = down(x)
            across.append(x)
        y = x.permute(0, 2, 3, 1)
        after: State = {}
        y = y + self.place
        for i, (memory, attention) in enumerate(zip(self.memory, self.attention, strict=True)):
            y, after[f"memory{i}"] = memory(y, state[f"memory{i}"])
            y = attention(y)
        x = y.permute(0, 3, 1, 2)
        for up in self.decoder:
            x = up(x, across.pop())
        return _bounded(x), after

    def mask(self, spec: Tensor, state: State) -> tuple[Tensor, State]:
        """`(batch, frames, bins)` complex -> mask of the same shape, magnitude at most one; new state."""
        # Only the net computes in half precision where that is asked for: spectra have none.
        with full_precision(str(spec.device)):
            features = self.bands.features(spec)
        bands, state = self.core(features, state)
        with full_precision(str(spec.device)):
            return self.bands.spread(bands.float()), state

    def forward(self, noisy: Tensor) -> Tensor:
        """`(batch, samples)` -> `(batch, samples)` at the net's own rate, in one block from a fresh state."""
        batch, samples = noisy.shape
        lead = self.stft.tail_samples
        hop = self.stft.hop_length
        after = -(-(samples + lead) // hop) * hop - samples
        padded = torch.nn.functional.pad(noisy, (lead, after))
        spec = self.stft.analyse(padded)
        mask, _ = self.mask(spec, self.initial_state(batch))
        clean, tail = self.stft.synthesise(spec * mask)
        return torch.cat((clean, tail), dim=-1)[:, lead : lead + samples]

    def step(self, batch: int, frames: int) -> Step:
        """`mask` for one shape, to be called over and over: on a GPU a captured CUDA graph."""
        if self.device.type != "cuda":
            return self.mask
        shape = (batch, frames, self.stft.bins)
        spec = torch.zeros(shape, dtype=torch.complex64, device=self.device)
        return FixedStep(self.mask, spec, self.initial_state(batch))

    def fingerprint(self) -> str:
        """A hash of the shape and the weights."""
        return fingerprint(to_plain(self.config), hashlib.sha256(weights(self)).hexdigest())


def _bounded(mask: Tensor) -> Tensor:
    """Pull a complex mask `(batch, 2, ...)` back to the unit disc: what is heard is never made louder.

    Inside the disc it is the identity, so "leave it" (exactly one) can be said.
    """
    power = mask.square().sum(dim=1, keepdim=True)
    return mask * power.clamp_min(1.0).rsqrt()
