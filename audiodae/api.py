"""The Python API: load a denoiser and call it on arrays."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from array_api_compat import is_torch_array

from audiodae.errors import AudiodaeError, AudioError
from audiodae.limits import MOST_CHANNELS
from audiodae.nets.checkpoint import DEFAULT_MODEL, LOWER_RATE, load_net, model_for
from audiodae.nets.device import plain_device
from audiodae.nets.net import Engine, Net
from audiodae.sound.arrays import LOUD, Audio, check_dense
from audiodae.sound.resample import check_rate
from audiodae.streaming.settings import Link, Settings
from audiodae.streaming.stream import Streamer
from audiodae.streaming.whole import clean_whole

if TYPE_CHECKING:
    import torch

_LOOKED_AT, _ONE_IN = 100_000, 10  # samples: a burst of nonsense is no scale
# More channels than MOST_CHANNELS are taken for samples in the wrong place.
FEW_CHANNELS = 8
"""And more than this where there are fewer samples in a recording, or at most so many in a chunk."""


class Denoiser:
    """A trained net ready to clean audio; get one from `audiodae.load()`.

    `name` says which model it is: a shipped name or the path it was loaded from.
    """

    def __init__(self, net: Net, name: str = "") -> None:
        self.net = net
        self.name = name

    def at(self, sample_rate: int | None) -> Denoiser:
        """The denoiser for recordings of this rate in Hz: this one, unless it was left to choose."""
        return self

    @property
    def device(self) -> Any:
        """Where the net is, and so where it computes; as a text "cpu", "cuda:0"..."""
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
            sample_rate: of `audio` in Hz; None is that of a model which was loaded by its name.
            mix, attenuation_limit_db, link: as for `audiodae.Streamer`.

        Returns:
            The cleaned audio: same kind, dtype, device, shape and alignment, never renormalised.

        Raises:
            AudioError: the array is no plausible audio; its text says what to do.
            AudiodaeError: a setting makes no sense, or the model is chosen by the rate and there is none.
        """
        check_layout(audio)
        _check_scale(audio)
        return clean_whole(
            self,
            audio,
            sample_rate=sample_rate,
            link=link,
            mix=mix,
            attenuation_limit_db=attenuation_limit_db,
        )

    def stream(
        self,
        *,
        sample_rate: int | None = None,
        batch: int = 1,
        channels: int = 1,
        **settings: Unpack[Settings],
    ) -> Streamer:
        """A `Streamer` with this model: `stream(sample_rate=48000, channels=2)`."""
        return Streamer(self, sample_rate=sample_rate, batch=batch, channels=channels, **settings)


class ByRate(Denoiser):
    """The shipped models, each loaded when the first recording comes that it is for.

    It has no rate of its own, and `net` is the one for 16 kHz. Raises `AudiodaeError` where it is to clean
    and is told no rate: sound of 48 kHz taken for 16 kHz would come out worse than it went in.
    """

    def __init__(self, device: str | torch.device | None, engine: Engine) -> None:
        self.name = DEFAULT_MODEL
        self._device, self._engine = plain_device(device), engine
        self._loaded: dict[str, Denoiser] = {}

    def at(self, sample_rate: int | None) -> Denoiser:
        name = model_for(sample_rate)
        if name not in self._loaded:
            self._loaded[name] = Denoiser(load_net(name, self._device, self._engine), name)
        return self._loaded[name]

    @property
    def net(self) -> Net:  # type: ignore[override]
        return self.at(LOWER_RATE).net

    @property
    def sample_rate(self) -> int:
        return self.at(None).sample_rate

    @property
    def device(self) -> Any:
        return self._device


def load(
    name_or_path: str | os.PathLike[str] = DEFAULT_MODEL,
    device: str | torch.device | None = "cpu",
    engine: Engine = "auto",
    *,
    sample_rate: int | None = None,
) -> Denoiser:
    """Load a denoiser by the name of a shipped model or the path of a `.safetensors` file.

    Without a name the model is chosen by what it is to clean: the full-band one from 32 kHz on, the
    one for 16 kHz below; anew for every recording, or here and now for the `sample_rate` given.

    `engine` "onnx" runs it with ONNX Runtime on the CPU, without torch; the model needs an `.onnx`
    file (the shipped ones have one, `audiodae export` makes one; its path can also be given alone).
    "torch" runs it with PyTorch on any `device` torch knows, such as "cpu", "cuda" or "mps". "auto"
    takes ONNX Runtime on the CPU when it and the file are there, else torch. Their outputs agree
    within 1e-4.

    Nothing is downloaded. Raises `CheckpointError` for a missing or damaged model, `AudiodaeError`
    for a device or an engine that is not there.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise AudiodaeError(
            f"The model is {name_or_path!r}; the name of a shipped one or the path of a .safetensors file "
            "is wanted."
        )
    name = os.fspath(name_or_path)
    if sample_rate is not None:
        check_rate(sample_rate)
    if name != DEFAULT_MODEL:
        return Denoiser(load_net(name, device, engine), name)
    by_rate = ByRate(device, engine)
    # A model that is missing or damaged is known at once.
    by_rate.at(LOWER_RATE if sample_rate is None else sample_rate)
    return by_rate if sample_rate is None else by_rate.at(sample_rate)


def check_layout(audio: Any, *, whole: bool = True) -> None:
    """Raise `AudioError` for what is no array, or has its axes where they cannot be.

    A chunk (not `whole`) may well have fewer samples than channels.
    """
    if not isinstance(audio, np.ndarray) and not is_torch_array(audio):
        raise AudioError(
            f"The audio is a {type(audio).__name__}; a numpy array or a torch tensor is wanted: "
            "pass numpy.asarray(audio, dtype='float32')."
        )
    check_dense(audio)
    shape = tuple(audio.shape)
    if not 1 <= len(shape) <= 3 or 0 in shape[:-1]:
        raise AudioError(
            f"The audio has shape {shape}; (samples,), (channels, samples) or "
            "(batch, channels, samples) is wanted."
        )
    if len(shape) > 1 and shape[-2] > _most_channels(shape[-2], shape[-1], whole):
        swapped = (*shape[:-2], shape[-1], shape[-2])
        raise AudioError(
            f"The audio has shape {shape}, which would be {shape[-2]} channels of {shape[-1]} "
            f"samples: if time comes first, swap the axes to {swapped}, for example with "
            "audio.swapaxes(-1, -2); many mono recordings go in as (batch, 1, samples)."
        )


def _check_scale(audio: Any) -> None:
    """Raise `AudioError` for whole numbers that somebody made floats without dividing them."""
    if not (audio.is_floating_point() if is_torch_array(audio) else audio.dtype.kind == "f"):
        return  # refused by who converts it
    few = audio.reshape(-1)[:: max(1, math.prod(audio.shape) // _LOOKED_AT)]
    if few.shape[0] and float((abs(few) > LOUD).sum()) > few.shape[0] / _ONE_IN:
        raise AudioError(
            f"One in {_ONE_IN} of the audio's samples or more is beyond {LOUD:+.0f}, and full scale is 1: if "
            "they were 16-bit integers, pass audio / 32768."
        )


def _most_channels(channels: int, samples: int, whole: bool) -> int:
    """How many are believed where there are so many samples; where there are none, all that may be."""
    few = samples < channels if whole else samples <= FEW_CHANNELS
    return FEW_CHANNELS if samples and few else MOST_CHANNELS
