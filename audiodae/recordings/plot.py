"""A picture of what cleaning did: two spectrograms, before above after, on one scale.

A recording goes through block by block and is thinned out in time as it grows, so a three-hour one
takes no more memory than a minute does. matplotlib is imported when a picture is drawn; it comes
with `pip install "audiodae[plot]"`.
"""

from __future__ import annotations

import importlib
import io
import math
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from audiodae.errors import AudiodaeError, AudioError, printable
from audiodae.files.atomic import write_whole
from audiodae.files.audio import Reader

Samples = npt.NDArray[np.floating]

WINDOW_SECONDS = 0.032
RANGE_DB = 80.0
_MAX_SECONDS = 60.0  # up to here every frame is drawn
_FRAMES_A_WINDOW = 4
_FRAMES_AT_ONCE = 256
_READ_FRAMES = 1 << 16
_FLOOR = 1e-7  # -140 dB
_FIGURE_INCHES = (10.0, 6.0)
_DOTS_PER_INCH = 120
_CLOCK_STEPS = (15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)


class Spectrogram(NamedTuple):
    """`level_db`: `(bins, columns)`, bins from 0 Hz to half the rate; 0 dB is a full-scale sine."""

    level_db: npt.NDArray[np.float32]
    sample_rate: int
    seconds: float


def spectrogram(
    blocks: Iterable[Samples], sample_rate: int, max_seconds: float = _MAX_SECONDS
) -> Spectrogram:
    """The spectrogram of blocks `(channels, n)` one after the other; channels' powers are averaged.

    Beyond `max_seconds` only every second frame is kept, beyond twice that every fourth, and so on.
    Audio shorter than a frame gives one column.
    """
    hop = max(1, round(WINDOW_SECONDS * sample_rate / _FRAMES_A_WINDOW))
    n_fft = _FRAMES_A_WINDOW * hop
    window = np.hanning(n_fft + 1)[:-1].astype(np.float32)
    window *= 2.0 / window.sum()
    most = max(2, math.ceil(max_seconds * sample_rate / hop) + 1)
    columns: list[npt.NDArray[np.float32]] = []
    stride = 1
    buffered: Samples | None = None
    skip = 0  # samples from the start of `buffered` to the next frame; may lie beyond its end
    total = 0
    for block in blocks:
        total += block.shape[1]
        buffered = block if buffered is None else np.concatenate((buffered, block), axis=1)
        while buffered.shape[1] - skip >= n_fft:
            if len(columns) == most:
                columns = columns[::2]
                # The next frame kept is the next even one.
                skip += stride * hop * (most % 2)
                stride *= 2
                continue
            frames = np.lib.stride_tricks.sliding_window_view(buffered[:, skip:], n_fft, axis=1)
            frames = frames[:, :: stride * hop][:, : min(most - len(columns), _FRAMES_AT_ONCE)]
            power = np.square(np.abs(np.fft.rfft(frames * window))).mean(axis=0)
            columns.extend(power.astype(np.float32))
            skip += frames.shape[1] * stride * hop
        dropped = min(skip, buffered.shape[1])
        buffered, skip = buffered[:, dropped:], skip - dropped
    if not columns:
        short = np.zeros((1, 0)) if buffered is None else buffered
        frame = np.pad(short, ((0, 0), (0, n_fft - short.shape[1])))
        columns = [np.square(np.abs(np.fft.rfft(frame * window))).mean(axis=0)]
    level_db = 20.0 * np.log10(np.sqrt(np.stack(columns)) + _FLOOR)
    return Spectrogram(level_db.T.astype(np.float32), sample_rate, total / sample_rate)


def plot_before_after(
    before: Samples,
    after: Samples,
    sample_rate: int,
    path: str | os.PathLike[str],
    title: str | None = None,
) -> None:
    """Draw two signals, `(samples,)` or `(channels, samples)`, as a PNG at `path`.

    Both share one colour range, the 80 dB below the loudest moment of the two. Raises `AudioError`
    for arrays of another shape and for a place that cannot be written, `AudiodaeError` without
    matplotlib.
    """
    pictures = [
        spectrogram(_in_blocks(_channels_first(signal)), sample_rate) for signal in (before, after)
    ]
    _draw(pictures[0], pictures[1], Path(path), title)


def plot_files(
    before_path: str | os.PathLike[str],
    after_path: str | os.PathLike[str],
    png_path: str | os.PathLike[str],
    max_seconds: float = _MAX_SECONDS,
    title: str | None = None,
    *,
    replace: bool = True,
) -> None:
    """Draw two recordings as a PNG, in bounded memory whatever their length.

    Recordings longer than `max_seconds` are drawn whole, from fewer frames. `title` is the name of
    the first file if left out; with `replace` False a file that is there stays. Raises `AudioError`
    for what cannot be read or written, `AudiodaeError` without matplotlib.
    """
    pictures = []
    for path in (before_path, after_path):
        with Reader(path) as reader:
            blocks = reader.blocks(_READ_FRAMES)
            pictures.append(spectrogram(blocks, reader.info.sample_rate, max_seconds))
    name = Path(before_path).name if title is None else title
    _draw(pictures[0], pictures[1], Path(png_path), name, replace)


def _draw(
    before: Spectrogram, after: Spectrogram, path: Path, title: str | None, replace: bool = True
) -> None:
    image = _png(before, after, title)
    write_whole(path, lambda stream: stream.write(image), replace=replace)


def draw_spectrogram(axis: Any, picture: Spectrogram, top_db: float) -> Any:
    """Draw a picture on matplotlib axes, in seconds and kHz, from `top_db` down; returns the image."""
    axis.set_ylabel("frequency (kHz)")
    return axis.imshow(
        picture.level_db,
        extent=(0.0, picture.seconds or 1.0, 0.0, picture.sample_rate / 2000.0),
        vmin=top_db - RANGE_DB,
        vmax=top_db,
        cmap="magma",
        origin="lower",
        aspect="auto",
        interpolation="antialiased",
    )


def _png(before: Spectrogram, after: Spectrogram, title: str | None) -> bytes:
    figure_module, ticker = matplotlib_part("figure"), matplotlib_part("ticker")
    # A Figure of its own draws with Agg and leaves pyplot, windows and the user's settings alone.
    figure = figure_module.Figure(_FIGURE_INCHES, _DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(2, 1, sharex=True, sharey=True)
    top_db = float(max(before.level_db.max(), after.level_db.max()))
    seconds = max(before.seconds, after.seconds)
    for axis, picture, name in zip(axes, (before, after), ("before", "after"), strict=True):
        image = draw_spectrogram(axis, picture, top_db)
        axis.set_title(name, loc="left", fontsize=11)
        axis.set_facecolor("black")
    axes[1].set_xlim(0.0, seconds or 1.0)
    axes[1].set_ylim(0.0, max(before.sample_rate, after.sample_rate) / 2000.0)
    axes[1].set_xlabel("time (s)")
    if seconds > 2 * _MAX_SECONDS:
        axes[1].set_xlabel("time (h:min:s)")
        step = next((step for step in _CLOCK_STEPS if seconds <= 10 * step), seconds / 10)
        axes[1].xaxis.set_major_locator(ticker.MultipleLocator(step))
        axes[1].xaxis.set_major_formatter(ticker.FuncFormatter(_clock))
    bar = figure.colorbar(image, ax=axes, pad=0.015, aspect=40)
    bar.set_label("level (dB, 0 is full scale)")
    if title:
        figure.suptitle(printable(title).replace("$", r"\$"), fontsize=12)
    return png(figure)


def png(figure: Any) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():  # a letter that no font has is drawn as a box
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _clock(seconds: float, _: object = None) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _in_blocks(x: Samples) -> Iterator[Samples]:
    for start in range(0, x.shape[1], _READ_FRAMES):
        yield x[:, start : start + _READ_FRAMES]


def _channels_first(x: Samples) -> Samples:
    x = np.asarray(x)
    if x.ndim not in (1, 2):
        raise AudioError(
            f"The audio to draw has shape {x.shape}; (samples,) or (channels, samples) is wanted."
        )
    return x[None] if x.ndim == 1 else x


def matplotlib_part(part: str) -> Any:
    """A module of matplotlib, such as "figure". Raises `AudiodaeError` where it is not installed."""
    try:
        return importlib.import_module(f"matplotlib.{part}")
    except ImportError as error:
        raise AudiodaeError(
            "Drawing needs the package `matplotlib`, which is not installed: "
            'run pip install "audiodae[plot]".'
        ) from error
