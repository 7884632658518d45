"""Whole numbers in few bits: a range coder that learns their statistics as it goes.

Encoder and decoder both hold a `_Forecast` that has seen the same numbers, so no statistics are
sent. It is calculated with additions, multiplications and divisions of float64 only, which give the
same bits on every machine. The range coder is the package `constriction` (Bamler, 2022).
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import numpy.typing as npt

from audiodae.errors import AudiodaeError, AudioError

LARGEST = 511  # of a number; larger ones are coded as this
Numbers = npt.NDArray[np.int32]

_FIRST_DEVIATION = 3.0
_MEMORY = 0.98  # weight a patch keeps with the next


class _Forecast:
    """What is expected of the next numbers, one of each of `size` series: mean and deviation.

    Each series is taken for a first-order autoregression around its mean, with Laplacian steps.
    """

    def __init__(self, size: int) -> None:
        self._before = np.zeros(size)
        self._count = 0.5
        self._sum = np.zeros(size)
        self._product = np.zeros(size)
        self._square = np.full(size, 0.5)
        self._error = np.full(size, _FIRST_DEVIATION)
        self._errors = 1.0

    def expect(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        mean = self._sum / self._count
        follow = np.clip(self._product / self._square, -0.99, 0.99)
        return mean + follow * (self._before - mean), np.maximum(self._error / self._errors, 0.1)

    def learn(self, numbers: Numbers) -> None:
        now = numbers.astype(np.float64)
        expected, _ = self.expect()
        self._error = self._error * _MEMORY + np.abs(now - expected)
        self._errors = self._errors * _MEMORY + 1.0
        mean = self._sum / self._count
        self._product = self._product * _MEMORY + (now - mean) * (self._before - mean)
        self._square = self._square * _MEMORY + (self._before - mean) * (self._before - mean)
        self._sum = self._sum * _MEMORY + now
        self._count = self._count * _MEMORY + 1.0
        self._before = now


def pack(numbers: Numbers) -> bytes:
    """`(rows, size)` whole numbers from -511 to 511 as bytes. Raises `AudiodaeError` for others."""
    if numbers.size and np.abs(numbers).max() > LARGEST:
        raise AudiodaeError(f"Numbers to pack go from {-LARGEST} to {LARGEST}.")
    stream = _constriction()
    encoder = stream.queue.RangeEncoder()
    forecast = _Forecast(numbers.shape[1])
    model = stream.model.QuantizedLaplace(-LARGEST, LARGEST)
    for row in np.ascontiguousarray(numbers, dtype=np.int32):
        encoder.encode(row, model, *forecast.expect())
        forecast.learn(row)
    return bytes(encoder.get_compressed().astype("<u4").tobytes())


def unpack(data: bytes, rows: int, size: int) -> Numbers:
    """What `pack` was given. Other bytes than it made give other numbers, or raise `AudioError`."""
    stream = _constriction()
    words = np.frombuffer(data, dtype="<u4").astype(np.uint32)
    decoder = stream.queue.RangeDecoder(words)
    forecast = _Forecast(size)
    model = stream.model.QuantizedLaplace(-LARGEST, LARGEST)
    numbers = np.zeros((rows, size), np.int32)
    for row in numbers:
        try:
            row[:] = decoder.decode(model, *forecast.expect())
        except AssertionError as error:  # of what no encoder has made
            raise AudioError(
                "Its numbers make no sense: it was not written by audiodae."
            ) from error
        forecast.learn(row)
    return numbers


def _constriction() -> Any:
    try:
        return importlib.import_module("constriction").stream
    except ImportError as error:
        raise AudiodaeError(
            "Compressing needs the package `constriction`, which is not installed: "
            'run pip install "audiodae[families]".'
        ) from error
