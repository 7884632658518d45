"""Where arrays of two libraries meet: numpy (light, always there) and torch (GPUs, training).

The signal path is written once, in the array API's words (https://data-apis.org/array-api), for
arrays of either library; what the two say differently stands here. Inside audiodae everything is
float32 with time last. A caller keeps what they came with: the library, the number of dimensions,
the floating-point type, the device.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from array_api_compat import is_torch_array

from audiodae.errors import AudioError

if TYPE_CHECKING:
    from torch import Tensor

Array: TypeAlias = Any
"""A numpy array or a tensor; in one calculation all are of one library and device."""

Audio = TypeVar("Audio", bound="npt.NDArray[np.floating] | Tensor")
"""A numpy array or a tensor of floating-point samples, time last."""

# The scale that turns whole-number samples into floats between -1 and 1, for the error's advice.
_INTEGER_SCALE = {"int16": "32768", "int32": "2147483648"}

LOUD = 32.0  # +30 dBFS: floats beyond it are most often integers that nobody scaled
LOUDEST = 1e8  # +160 dBFS: beyond it a number is not sound, and its power may overflow
NO_SOUND = "NaN, infinite or absurdly loud"
"""What samples are that count as 0, in words."""

_HALF = ("float16", "<f2", ">f2")
_LARGEST_HALF = 65504.0


def array_namespace(x: Array) -> Any:
    """The library of an array, by the array API's names."""
    if is_torch_array(x):
        import array_api_compat.torch

        return array_api_compat.torch
    return np  # speaks the array API by itself; the compatibility layer would load all of numpy


class Form(NamedTuple):
    """What a caller's array looked like: enough to hand back the same kind. Plain values."""

    library: str
    dtype: str
    device: str
    dimensions: int


@dataclass(frozen=True)
class Home:
    """Where a calculation lives: the library and the device of its arrays."""

    library: str = "numpy"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.library == "torch":
            _outlive_forks()

    @classmethod
    def of(cls, array: Array) -> Home:
        return cls("torch" if is_torch_array(array) else "numpy", str(array.device))

    def zeros(self, *shape: int) -> Array:
        """Float32 zeros."""
        if self.library == "numpy":
            return np.zeros(shape, np.float32)
        import torch

        return torch.zeros(shape, dtype=torch.float32, device=self.device)

    def bring(self, array: Array) -> Array:
        """The same numbers in float32 here; may share memory with `array`."""
        if self.library == "numpy":
            array = array.cpu() if is_torch_array(array) else array
            return np.asarray(array, np.float32)
        import torch

        if not is_torch_array(array):
            # torch warns about memory it may not write to (a memory-mapped file, a broadcast array).
            array = torch.from_numpy(array if array.flags.writeable else array.copy())
        return array.to(self.device, torch.float32)

    @contextmanager
    def without_gradients(self) -> Iterator[None]:
        """Nothing calculated inside is remembered for a backward pass, or in half precision by autocast."""
        if self.library == "numpy":
            with np.errstate(under="ignore"):  # whatever the caller has asked to be raised
                yield
            return
        import torch

        with torch.inference_mode(), full_precision(self.device):
            yield


@functools.cache
def _outlive_forks() -> None:
    """See to it that a process forked from this one can use torch, with one thread.

    The threads torch has once worked with do not live on in a forked process (as those of
    `multiprocessing` often are, on Linux), which then waits for them for ever.
    """
    import torch

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def full_precision(device: str) -> AbstractContextManager[object]:
    """No autocast of torch inside, whatever is around."""
    import torch

    kind = device.split(":")[0]
    if kind == "mps":  # autocast does not know it in every version of torch
        return nullcontext()
    return torch.autocast(kind, enabled=False)


def has_bfloat16(device: str) -> bool:
    """Whether torch's device computes in bfloat16 by itself; where it is only imitated it is slow.

    (`torch.cuda.is_bf16_supported()` says yes to both, and not every torch can be asked for one.)
    """
    import torch

    kind = device.split(":")[0]
    if kind == "cuda":
        if torch.version.hip:  # all of AMD's that torch knows
            return torch.cuda.is_bf16_supported()
        return torch.cuda.get_device_capability(device)[0] >= 8
    known = getattr(torch.cpu, "get_capabilities", dict[str, bool])  # not in every torch
    return kind == "cpu" and bool(known().get("avx512_bf16", False))


class Constant:
    """Numbers worked out once in numpy, given out in the library, type and device of who asks."""

    def __init__(self, values: npt.NDArray[np.float64]) -> None:
        self.values = values
        self._copies: dict[tuple[Any, str], Array] = {}

    def like(self, x: Array) -> Array:
        """The numbers as an array that can be calculated with `x` (real)."""
        key = x.dtype, str(x.device)
        if key not in self._copies:
            self._copies[key] = self._copy(x)
        return self._copies[key]

    def _copy(self, x: Array) -> Array:
        if not is_torch_array(x):
            return self.values.astype(x.dtype)
        import torch

        with torch.inference_mode(False):  # kept for all, so also for those who train
            return torch.from_numpy(self.values).to(x.dtype).to(x.device)


def check_dense(audio: Any) -> None:
    """Raise `AudioError` for a tensor of torch that is not one number beside the other."""
    if is_torch_array(audio) and (
        audio.is_meta or audio.is_nested or str(audio.layout) != "torch.strided"
    ):
        raise AudioError(
            "The audio is a tensor without samples of its own, side by side (it is meta, sparse or nested): "
            "pass a dense one."
        )


def plain(audio: npt.NDArray[np.floating] | Tensor) -> tuple[Array, Form]:
    """A float32 array of the same library and shape, and the form to give back.

    It may share memory with `audio`, so it must not be written to. Raises `AudioError` for anything
    but a floating-point array with at least one dimension.
    """
    if is_torch_array(audio):
        tensor: Tensor = audio
        check_dense(tensor)
        dtype = str(tensor.dtype).removeprefix("torch.")
        _check(dtype, tensor.is_floating_point(), tensor.ndim)
        form = Form("torch", dtype, str(tensor.device), tensor.ndim)
        return tensor.detach().float(), form
    if not isinstance(audio, np.ndarray):
        raise AudioError(
            f"The audio is a {type(audio).__name__}; a numpy array or a torch tensor is wanted: "
            "pass numpy.asarray(audio, dtype='float32')."
        )
    if isinstance(audio, np.ma.MaskedArray):
        raise AudioError(
            "The audio is a masked array, and what is under the mask is no sound: pass audio.filled(0.0)."
        )
    if audio.dtype.kind != "f" or not audio.ndim:  # its name takes numpy long to make
        _check(audio.dtype.name, audio.dtype.kind == "f", audio.ndim)
    form = Form("numpy", audio.dtype.str, "cpu", audio.ndim)
    with np.errstate(over="ignore", under="ignore"):  # what becomes infinite is counted as such
        return np.ascontiguousarray(audio, dtype=np.float32), form


def like(samples: Array, form: Form) -> Any:
    """The samples as the caller's kind of array. Never shares memory with `samples`."""
    if form.dtype in _HALF:  # or it would become infinite
        samples = array_namespace(samples).clip(samples, -_LARGEST_HALF, _LARGEST_HALF)
    if form.library == "numpy":
        array = samples if isinstance(samples, np.ndarray) else samples.cpu().numpy()
        with np.errstate(under="ignore"):
            return array.astype(np.dtype(form.dtype))
    import torch

    # Copied outside inference mode, so that the caller may use it under autograd.
    tensor = samples if is_torch_array(samples) else Home("torch").bring(samples)
    return tensor.to(form.device, getattr(torch, form.dtype), copy=True)


def windows(x: Array, length: int, step: int) -> Array:
    """Overlapping stretches of the last axis, as a view: `(..., n)` -> `(..., windows, length)`."""
    if is_torch_array(x):
        return x.unfold(-1, length, step)
    every = np.lib.stride_tricks.sliding_window_view(x, length, axis=-1)
    return every[..., ::step, :]


def copy(x: Array) -> Array:
    """The same numbers in memory of their own."""
    return x.clone() if is_torch_array(x) else x.copy()


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
