"""How the chunks of a stream lie in memory, and what in them is no sound."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

from audiodae.errors import AudiodaeError, AudioError
from audiodae.sound.arrays import LOUDEST, Array, array_namespace

# -200 dBFS: below it is silence. Fading sounds would end in denormal numbers, and those take a
# processor many times as long.
_QUIETEST = 1e-10


@dataclass(frozen=True)
class Layout:
    """Chunks `(batch, channels, n)`, or with fewer dimensions where there is one of something.

    With `mid` the mean of the channels is the one signal, and goes back onto all of them.
    """

    batch: int
    channels: int
    mid: bool

    @property
    def signals(self) -> int:
        """Signals side by side."""
        return self.batch * (1 if self.mid else self.channels)

    @property
    def fewest_dimensions(self) -> int:
        """Of a chunk."""
        return 3 if self.batch > 1 else 2 if self.channels > 1 else 1

    def check(self, chunk: Array) -> None:
        """Raise `AudioError` for a chunk of another layout."""
        shape = tuple(chunk.shape)
        wanted = (self.batch, self.channels)
        if len(shape) >= self.fewest_dimensions and shape[:-1] == wanted[3 - len(shape) :]:
            return
        layouts = [f"({self.batch}, {self.channels}, n)"]
        layouts += [f"({self.channels}, n)"] if self.batch == 1 else []
        layouts += ["(n,)"] if wanted == (1, 1) else []
        raise AudioError(
            f"The chunk has shape {shape}, but this stream has batch={self.batch} and "
            f"channels={self.channels}: feed {' or '.join(layouts)}, time last."
        )

    def to_signals(self, chunk: Array) -> Array:
        """A chunk -> `(signals, n)`."""
        if self.mid:
            chunk = chunk.reshape(self.batch, self.channels, chunk.shape[-1])
            # One by one: in which order `mean` adds depends on the shape, and so would the last bits.
            return sum(chunk[:, i] for i in range(self.channels)) / self.channels
        return chunk.reshape(self.signals, chunk.shape[-1])

    def to_chunk(self, signals: Array, dimensions: int) -> Array:
        """`(signals, n)` -> a chunk of so many dimensions."""
        samples = signals.shape[-1]
        chunk = signals.reshape(self.batch, self.signals // self.batch, samples)
        if self.mid:
            shape = (self.batch, self.channels, samples)
            chunk = array_namespace(chunk).broadcast_to(chunk, shape)
        return chunk.reshape(chunk.shape[3 - dimensions :])


def sound(samples: Array) -> tuple[Array, int]:
    """The samples with 0 for what is no sound; how many were NaN, infinite or absurdly loud."""
    xp = array_namespace(samples)
    level = xp.abs(samples)
    finite = level <= LOUDEST  # a NaN is not
    wrong = 0 if xp.all(finite) else int(xp.sum(~finite))
    return xp.where(finite & (level >= _QUIETEST), samples, 0.0), wrong


def rows_of(batch: int, rows: Any) -> list[int]:
    """Numbers of rows of a batch as whole numbers. Raises `AudiodaeError` for what is none.

    A mask of yes and no would be taken for rows 0 and 1.
    """
    try:
        rows = list(rows)  # an iterator is gone through once
        if any(isinstance(row, bool) or "bool" in str(getattr(row, "dtype", "")) for row in rows):
            raise TypeError
        numbers = [operator.index(row) for row in rows]
    except TypeError:
        raise AudiodaeError(
            f"rows is {rows!r}; a list of whole numbers, such as [{batch - 1}], is wanted."
        ) from None
    for row in numbers:
        if not 0 <= row < batch:
            raise AudiodaeError(
                f"Row {row} cannot be reset: this stream has rows 0 to {batch - 1}."
            )
    return numbers


def members_of(rows: list[int], size: int) -> list[int]:
    """Numbers of the signals (or masks) of these rows, `size` of them in each."""
    return [row * size + i for row in rows for i in range(size)]
