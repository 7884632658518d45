"""Sound devices, through PortAudio by way of the package `sounddevice`."""

from __future__ import annotations

from collections.abc import Callable
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


class Duplex:
    """Captures and plays for as long as its context lasts.

    Devices are names, parts of names, or numbers; None is the default. `exchange` is called from
    PortAudio's own thread. Entering raises `AudiodaeError` for a device that is not there or cannot
    do what is asked.
    """

    def __init__(
        self,
        input_device: str | None,
        output_device: str | None,
        *,
        sample_rate: int,
        channels: int,
        block_length: int,
        exchange: Exchange,
    ) -> None:
        self._sounddevice = _sounddevice()
        self._devices = input_device, output_device
        self._sample_rate, self._channels = sample_rate, channels
        self._block_length = block_length
        self._exchange = exchange
        self._stream: Any = None

    @property
    def latency_seconds(self) -> float:
        """What the devices add to the delay, as they tell it."""
        return float(sum(self._stream.latency))

    @property
    def running(self) -> bool:
        """False once PortAudio has given up, as it does after some underruns."""
        return bool(self._stream.active)

    def restart(self) -> None:
        """Open the devices anew, for when they have stopped."""
        self._close()
        self._open()

    def __enter__(self) -> Duplex:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _open(self) -> None:
        source, target = self._devices
        try:
            self._stream = self._sounddevice.Stream(
                device=(_wanted(source), _wanted(target)),
                samplerate=self._sample_rate,
                channels=self._channels,
                blocksize=self._block_length,
                dtype="float32",
                latency="low",
                callback=self._callback,
            )
            self._stream.start()
        except (ValueError, self._sounddevice.PortAudioError) as error:
            raise AudiodaeError(
                f"From {source or 'the default input'} to {target or 'the default output'} at "
                f"{self._sample_rate} Hz with {self._channels} channel(s) is not possible "
                f"({_first_line(error)}): {_ANOTHER}, or try another --rate or --channels."
            ) from error

    def _close(self) -> None:
        self._stream.abort(ignore_errors=True)
        self._stream.close(ignore_errors=True)

    def _callback(self, captured: Any, played: Any, frames: int, moment: Any, status: Any) -> None:
        self._exchange(captured, played, bool(status))


def _wanted(device: str | None) -> str | int | None:
    return int(device) if device is not None and device.isdecimal() else device


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
