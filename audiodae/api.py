"""The Python API: load a denoiser and call it on arrays."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from audiodae.arrays import Audio
from audiodae.checkpoint import DEFAULT_MODEL, load_denoiser, model_for
from audiodae.denoiser import DenoiserNet
from audiodae.errors import AudiodaeError, AudioError
from audiodae.resample import check_rate
from audiodae.stream import Link, Streamer, clean_whole

MOST_CHANNELS = 64
"""More channels than this are taken for samples in the wrong place."""


class Denoiser:
    """A trained net ready to clean audio; get one from `audiodae.load()`.

    `name` says which model it is: a shipped name or the path it was loaded from.
    """

    def __init__(self, net: DenoiserNet, name: str = "") -> None:
        self.net = net
        self.name = name

    def at(self, sample_rate: int | None) -> Denoiser:
        """The denoiser for recordings of this rate in Hz: this one, unless it was left to choose."""
        return self

    @property
    def device(self) -> torch.device:
        """Where the net is, and so where it computes."""
        return self.net.device

    @property
    def sample_rate(self) -> int:
        """The model's own rate in Hz. Other rates work too; above half of this nothing is kept."""
        return self.net.sample_rate

    def __call__(
        self,
        audio: Audio,
        sample_rate: int | None = None,
        *,
        mix: float = 1.0,
        attenuation_limit_db: float | None = None,
        link: Link = "linked",
    ) -> Audio:
        """Clean a whole recording.

        Args:
            audio: `(samples,)`, `(channels, samples)` or `(batch, channels, samples)`, numpy or
                torch, floating-point, full scale at 1.
            sample_rate: of `audio` in Hz; None is the model's own.
            mix, attenuation_limit_db, link: as for `audiodae.Streamer`.

        Returns:
            The cleaned audio: same kind, dtype, device, shape and alignment, never renormalised.

        Raises:
            AudioError: the array is no plausible audio; its text says what to do.
        """
        _check_layout(audio)
        return clean_whole(
            self,
            audio,
            sample_rate=sample_rate,
            link=link,
            mix=mix,
            attenuation_limit_db=attenuation_limit_db,
        )

    def stream(self, **settings: Any) -> Streamer:
        """A `Streamer` with this model: `stream(sample_rate=48000, channels=2)`."""
        return Streamer(self, **settings)


class ByRate(Denoiser):
    """The shipped models, each loaded when the first recording comes that it is for.

    Where no rate is given it is the model for 16 kHz: `net`, `sample_rate`, `denoiser(audio)`.
    """

    def __init__(self, device: torch.device) -> None:
        self.name = DEFAULT_MODEL
        self._device = device
        self._loaded: dict[str, Denoiser] = {}

    def at(self, sample_rate: int | None) -> Denoiser:
        name = model_for(check_rate(16_000 if sample_rate is None else sample_rate))
        if name not in self._loaded:
            self._loaded[name] = Denoiser(load_denoiser(name, self._device), name)
        return self._loaded[name]

    @property
    def net(self) -> DenoiserNet:  # type: ignore[override]
        return self.at(None).net

    @property
    def device(self) -> torch.device:
        return self._device


def load(
    name_or_path: str | os.PathLike[str] = DEFAULT_MODEL,
    device: str | torch.device = "cpu",
    *,
    sample_rate: int | None = None,
) -> Denoiser:
    """Load a denoiser by the name of a shipped model or the path of a `.safetensors` file.

    Without a name the model is chosen by what it is to clean: the full-band one from 32 kHz on, the
    one for 16 kHz below; anew for every recording, or here and now for the `sample_rate` given.
    `device` is anything torch knows, such as "cpu", "cuda" or "mps". Nothing is downloaded.
    Raises `CheckpointError` for a missing or damaged model, `AudiodaeError` for a device that is
    not there.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise AudiodaeError(
            f"The device {str(device)!r} cannot be used ({reason}): 'cpu' always works."
        ) from error
    name = os.fspath(name_or_path)
    if name != DEFAULT_MODEL:
        return Denoiser(load_denoiser(name, device), name)
    by_rate = ByRate(torch.device(device))
    by_rate.at(sample_rate)  # a model that is missing or damaged is known at once
    return by_rate if sample_rate is None else by_rate.at(sample_rate)


def _check_layout(audio: Any) -> None:
    if not isinstance(audio, np.ndarray | torch.Tensor):
        raise AudioError(
            f"The audio is a {type(audio).__name__}; a numpy array or a torch tensor is wanted: "
            "pass numpy.asarray(audio, dtype='float32')."
        )
    shape = tuple(audio.shape)
    if not 1 <= len(shape) <= 3 or 0 in shape[:-1]:
        raise AudioError(
            f"The audio has shape {shape}; (samples,), (channels, samples) or "
            "(batch, channels, samples) is wanted."
        )
    if len(shape) > 1 and shape[-2] > MOST_CHANNELS:
        swapped = (*shape[:-2], shape[-1], shape[-2])
        raise AudioError(
            f"The audio has shape {shape}, which would be {shape[-2]} channels of {shape[-1]} "
            f"samples: if time comes first, swap the axes to {swapped}, for example with "
            "audio.swapaxes(-1, -2); many mono recordings go in as (batch, 1, samples)."
        )
