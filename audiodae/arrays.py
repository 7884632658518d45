"""Numpy or torch in, the same kind out: where callers' arrays become float32 tensors and go back.

Everything inside audiodae is float32 tensors with time last. A caller keeps what they came with:
the library (numpy or torch), the number of dimensions, the floating-point type, the device.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from audiodae.errors import AudioError

Audio = TypeVar("Audio", npt.NDArray[np.floating], Tensor)
"""A numpy array or a tensor of floating-point samples, time last."""

# The scale that turns whole-number samples into floats between -1 and 1, for the error's advice.
_INTEGER_SCALE = {"int16": "32768", "int32": "2147483648"}

_HALF = ("float16", "<f2", ">f2")
_LARGEST_HALF = 65504.0


class Form(NamedTuple):
    """What a caller's array looked like: enough to hand back the same kind. Plain values."""

    library: str
    dtype: str
    device: str
    dimensions: int


def to_tensor(audio: npt.NDArray[np.floating] | Tensor) -> tuple[Tensor, Form]:
    """A float32 tensor of the same shape, and the form to give back.

    The tensor may share memory with `audio`, so it must not be written to. Raises `AudioError` for
    anything but a floating-point array with at least one dimension.
    """
    if isinstance(audio, Tensor):
        dtype = str(audio.dtype).removeprefix("torch.")
        _check(dtype, audio.is_floating_point(), audio.ndim)
        form = Form("torch", dtype, str(audio.device), audio.ndim)
        return audio.detach().to(torch.float32), form
    if not isinstance(audio, np.ndarray):
        raise AudioError(
            f"The audio is a {type(audio).__name__}; a numpy array or a torch tensor is wanted: "
            "pass numpy.asarray(audio, dtype='float32')."
        )
    _check(audio.dtype.name, audio.dtype.kind == "f", audio.ndim)
    values = np.ascontiguousarray(audio, dtype=np.float32)
    # torch warns about memory it may not write to (a memory-mapped file, a broadcast array).
    values = values if values.flags.writeable else values.copy()
    return torch.from_numpy(values), Form("numpy", audio.dtype.str, "cpu", audio.ndim)


def like(samples: Tensor, form: Form) -> npt.NDArray[np.floating] | Tensor:
    """The samples as the caller's kind of array. Never shares memory with `samples`."""
    if form.dtype in _HALF:
        samples = samples.clamp(-_LARGEST_HALF, _LARGEST_HALF)  # or it would become infinite
    if form.library == "numpy":
        array = samples.to("cpu", copy=True).numpy()
        return cast(npt.NDArray[np.floating], array.astype(np.dtype(form.dtype), copy=False))
    # Copied outside inference mode, so that the caller may use it under autograd.
    return samples.to(form.device, getattr(torch, form.dtype), copy=True)


def _check(dtype: str, floating: bool, dimensions: int) -> None:
    if not floating:
        scale = _INTEGER_SCALE.get(dtype)
        raise AudioError(
            f"The audio has {dtype} samples; floats between -1 and 1 are wanted: "
            + (
                f"divide by {scale}, for example audio.astype('float32') / {scale}."
                if scale
                else "convert it to float32 at that scale first."
            )
        )
    if dimensions == 0:
        raise AudioError(
            "The audio is a single number; an array with time as its last axis is wanted."
        )
