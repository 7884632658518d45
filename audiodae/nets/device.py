"""Where a net calculates: which devices are here, which one is meant, and whether it can be used."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TYPE_CHECKING

from audiodae.errors import AudiodaeError
from audiodae.installed import is_installed

if TYPE_CHECKING:
    import torch


def cleaning_device(name: str) -> str:
    """A device by its name; `auto` is a GPU where CUDA can use one, else the CPU."""
    return name if name != "auto" else "cuda" if has_cuda() else "cpu"


def has_cuda() -> bool:
    """Whether torch can use a GPU; torch, which loads slowly, is asked only where a driver is."""
    if not is_installed("torch"):
        return False
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    import torch

    return bool(torch.cuda.is_available())


def plain_device(device: str | torch.device | None) -> str:
    """A device by its name; the CPU by one name, whatever it was called."""
    name = "cpu" if device is None else str(device)
    return "cpu" if name.partition(":")[0] == "cpu" else name


def check_device(device: str | torch.device) -> None:
    """Raise `AudiodaeError` for a device that torch cannot use here."""
    import torch

    try:
        if torch.empty(0, device=device).is_meta:
            raise RuntimeError("it holds no numbers")
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise AudiodaeError(
            f"The device {str(device)!r} cannot be used ({reason}): 'cpu' always works."
        ) from error


def training_device(name: str) -> torch.device:
    """A device to train on; `auto` takes CUDA, then Apple's MPS, then the CPU.

    Raises `AudiodaeError` for what is not there.
    """
    import torch

    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, there in available.items() if there)
    kind = name.split(":")[0]
    if not available.get(kind, False):
        raise AudiodaeError(
            f"The device {name!r} is not available here: choose from "
            f"{', '.join(k for k, there in available.items() if there)} or auto."
        )
    if kind == "cuda" and "LOCAL_RANK" in os.environ and ":" not in name:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    check_device(name)
    return torch.device(name)
