"""Recordings of any length as patches and latents, and patches as sound, block by block.

What embedding, compressing, scoring and generating share. A block is read with a patch more on
either side, so the patches are those of the whole recording, however long it is.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from audiodae.errors import AudioError
from audiodae.files.audio import Reader
from audiodae.nets.autoencoder import Autoencoder
from audiodae.nets.checkpoint import describe, load_autoencoder
from audiodae.sound.arrays import NO_SOUND
from audiodae.sound.resample import Resampler

Progress = Callable[[float], object]
"""Called with the seconds of audio just read."""
Listener = Callable[[npt.NDArray[np.floating], int], object]
"""Called with every block just read, `(channels, frames)`, and its sample rate."""

BLOCK_SECONDS = 20.0
_READ_FRAMES = 1 << 16


@dataclass(frozen=True)
class Trained:
    """An autoencoder with the name it was loaded by and the SHA-256 of its weights."""

    net: Autoencoder
    name: str
    sha256: str

    @classmethod
    def load(
        cls, name_or_path: str | os.PathLike[str], device: str | torch.device = "cpu"
    ) -> Trained:
        """Raises `CheckpointError` for a missing, damaged or other kind of model."""
        net = load_autoencoder(name_or_path, device)
        return cls(net, os.fspath(name_or_path), describe(name_or_path)["sha256"])


class Patches:
    """Iterates once over a recording: blocks `(n, frames, mels)` of its patches, in order.

    Channels are averaged, the rate becomes the model's. Afterwards `samples` is the length at that
    rate, `frames` that at the recording's own `sample_rate`, and `warnings` says what was wrong with
    the file. With `whole_only` a last patch that the recording only partly fills is left out, unless
    there is no other: its silence is not the recording's.
    Raises `AudioError` for what cannot be read or holds no sound.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        autoencoder: Autoencoder,
        progress: Progress | None = None,
        *,
        whole_only: bool = False,
        block_seconds: float = BLOCK_SECONDS,
        listener: Listener | None = None,
    ) -> None:
        self.path, self.autoencoder, self.progress = path, autoencoder, progress
        self.whole_only, self.listener = whole_only, listener
        self.samples = self.frames = self.sample_rate = 0
        self.warnings: list[str] = []
        self._step = autoencoder.config.patch_samples
        self._block = max(1, round(block_seconds * autoencoder.sample_rate / self._step))

    def __iter__(self) -> Iterator[Tensor]:
        lead = given = 0  # patches before the block in what is held; patches handed out
        held = torch.zeros(1, 0)
        for piece in self._resampled():
            self.samples += piece.shape[-1]
            held = torch.cat([held, piece], dim=-1)
            while held.shape[-1] >= (lead + self._block + 1) * self._step:
                yield self._patches(held)[lead : lead + self._block]
                given += self._block
                held = held[:, (lead + self._block - 1) * self._step :]
                lead = 1
        if self.samples == 0:
            raise AudioError(f"{self.path} holds no sound: its length is 0 samples.")
        rest = self._patches(held)[lead:]
        whole = self.samples // self._step
        if self.whole_only and whole:
            rest = rest[: whole - given]
        if len(rest):
            yield rest

    def _patches(self, audio: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.autoencoder.patches(audio.to(self.autoencoder.device))[0]

    def _resampled(self) -> Iterator[Tensor]:
        with Reader(self.path) as reader:
            self.sample_rate = rate = reader.info.sample_rate
            resampler = Resampler(rate, self.autoencoder.sample_rate)
            try:
                for block in reader.blocks(_READ_FRAMES):
                    mono = np.asarray(block.mean(axis=0, dtype=np.float32))[None]
                    self.frames += block.shape[1]
                    if self.listener is not None:
                        self.listener(block, rate)
                    yield torch.from_numpy(resampler.feed(mono))
                    if self.progress is not None:
                        self.progress(block.shape[1] / rate)
                yield torch.from_numpy(resampler.flush())
            finally:  # also where only a beginning is listened to
                self.warnings += reader.warnings
                if reader.nonfinite:
                    self.warnings.append(
                        f"{self.path} has {reader.nonfinite} samples that are {NO_SOUND}: they "
                        "were taken for silence."
                    )


def encode(autoencoder: Autoencoder, patches: Tensor) -> Tensor:
    """The mean latent of each patch: `(n, frames, mels)` -> `(n, latent)`."""
    with torch.inference_mode():
        return autoencoder.encode(patches).mean


def latents_of(
    path: str | os.PathLike[str],
    autoencoder: Autoencoder,
    progress: Progress | None = None,
) -> tuple[npt.NDArray[np.float32], list[str]]:
    """All latents of a recording, `(patches, latent)` float32, and warnings about the file.

    Of whole patches, as `whole_only` has it. Raises `AudioError` as `Patches`.
    """
    reader = Patches(path, autoencoder, progress, whole_only=True)
    blocks = [encode(autoencoder, block).cpu().numpy() for block in reader]
    return np.concatenate(blocks), reader.warnings


def sound(
    autoencoder: Autoencoder, blocks: Iterable[Tensor], samples: int, seed: int = 0
) -> Iterator[npt.NDArray[np.float32]]:
    """Patches as sound, `(n,)` float32 pieces that add up to `samples`.

    Phases come from Griffin and Lim's iteration, begun as `seed` says, block by block; neighbouring
    blocks share a patch, over which one fades into the other at equal power.
    """
    step, left = autoencoder.config.patch_samples, samples
    rise = np.sin(np.linspace(0.0, math.pi / 2, step, dtype=np.float32))
    shared: Tensor | None = None
    fading = np.zeros(0, np.float32)
    for block in blocks:
        whole = block if shared is None else torch.cat([shared, block])
        with torch.inference_mode():
            piece = autoencoder.waveform(whole, seed=seed).cpu().numpy().astype(np.float32)
        if shared is not None:
            piece[:step] = piece[:step] * rise + fading * rise[::-1]
        shared, fading = whole[-1:], piece[-step:].copy()
        piece = piece[:-step][:left]
        left -= len(piece)
        yield piece
    fading = fading[:left]
    yield np.pad(fading, (0, left - len(fading)))
