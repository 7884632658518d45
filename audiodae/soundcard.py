"""Sound devices, through PortAudio by way of the package `sounddevice`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from audiodae.errors import AudiodaeError

Exchange = Callable[[npt.NDArray[np.float32], npt.NDArray[np.float32], bool], None]
"""Called with a captured block `(samples, channels)`, a block to fill, and whether one was lost."""

_ANOTHER = "choose another device: `audiodae live --list-devices` shows them"


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError as error:
        raise AudiodaeError(
            "Live sound needs the package sounddevice: pip install 'audiodae[live]'."
        ) from error
    except OSError as error:
        raise AudiodaeError(
            f"Live sound needs the PortAudio library ({error}): install it, on Debian and Ubuntu "
            "with `apt install libportaudio2`."
        ) from error
    return sounddevice


def list_devices() -> str:
    """All devices, a line each: number, name, channels; `>` and `<` mark the default ones."""
    found = str(_sounddevice().query_devices())
    if not found.strip():
        raise AudiodaeError("There is no sound device that PortAudio can see.")
    return found


def default_rate(device: str | None) -> int:
    """The sample rate in Hz an input device works at of itself (None: the default device)."""
    sounddevice = _sounddevice()
    try:
        return round(sounddevice.query_devices(_wanted(device), "input")["default_samplerate"])
    except (ValueError, sounddevice.PortAudioError) as error:
        raise AudiodaeError(
            f"The input device {device or '(default)'} cannot be used ({_first_line(error)}): {_ANOTHER}."
        ) from error


@contextmanager
def duplex(
    input_device: str | None,
    output_device: str | None,
    *,
    sample_rate: int,
    channels: int,
    block_length: int,
    exchange: Exchange,
) -> Iterator[float]:
    """Capture and play for as long as the context lasts; gives the devices' own latency in seconds.

    Devices are names, parts of names, or numbers; None is the default. Raises `AudiodaeError` for a
    device that is not there or cannot do what is asked.
    """
    sounddevice = _sounddevice()

    def callback(captured: Any, played: Any, frames: int, moment: Any, status: Any) -> None:
        exchange(captured, played, bool(status))

    try:
        stream = sounddevice.Stream(
            device=(_wanted(input_device), _wanted(output_device)),
            samplerate=sample_rate,
            channels=channels,
            blocksize=block_length,
            dtype="float32",
            latency="low",
            callback=callback,
        )
    except (ValueError, sounddevice.PortAudioError) as error:
        raise AudiodaeError(
            f"From {input_device or 'the default input'} to {output_device or 'the default output'} "
            f"at {sample_rate} Hz with {channels} channel(s) is not possible ({_first_line(error)}): "
            f"{_ANOTHER}, or try another --rate or --channels."
        ) from error
    with stream:
        yield sum(stream.latency)


def _wanted(device: str | None) -> str | int | None:
    return int(device) if device is not None and device.isdecimal() else device


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
