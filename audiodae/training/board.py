"""What a training looks and sounds like: figures, audio and spectrograms for TensorBoard.

`tensorboard --logdir RUN` shows them. Without the package a training runs the same and writes none.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audiodae.errors import reason
from audiodae.installed import is_installed
from audiodae.nets.denoiser import DenoiserNet
from audiodae.training.mixer import Mixer

_FOLDER = "board"
_SECONDS = 4.0
_ROWS = 2  # mixtures shown
_DYING_SECONDS = 1.0
_DEEPEST_DB = 80.0  # below the loudest bin it is black


class Board:
    """The pages of a run, `RUN/board`; does nothing where `tensorboard` is not installed.

    Where they cannot be written that is said once, and nothing is written any more.
    """

    def __init__(self, run: Path, step: int, say: Callable[[str], None]) -> None:
        """`step` is where the training goes on: what an earlier one wrote beyond it is struck out."""
        self._folder, self._say = run / _FOLDER, say
        self._writer: Any = None
        self._begun = False
        if is_installed("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            with self._optional():
                self._writer = SummaryWriter(str(self._folder), purge_step=step + 1)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def show(
        self, step: int, figures: Mapping[str, object], net: nn.Module, validation: Mixer
    ) -> None:
        """Write the figures, and of a denoiser what it makes of the same few held-out mixtures."""
        if self._writer is None:
            return
        sides: dict[str, Tensor] = {}
        if isinstance(net, DenoiserNet):
            mixture = validation.batch(0, _ROWS, _SECONDS).to(net.device)
            sides["denoised"] = net(mixture.noisy)
            if not self._begun:  # these stay the same
                sides |= {"noisy": mixture.noisy, "clean": mixture.clean}
                self._begun = True
        with self._optional():
            for name, value in figures.items():
                if isinstance(value, float | int) and name != "step":
                    self._writer.add_scalar(name, value, step)
            for side, waveforms in sides.items():
                assert isinstance(net, DenoiserNet)
                for row, waveform in enumerate(waveforms):
                    self._sound(f"{row}/{side}", waveform, net, step)
            self._writer.flush()

    def close(self) -> None:
        """Nothing more is to come."""
        if self._writer is not None:
            with self._optional():
                self._writer.close()
        self._writer = None

    def _sound(self, name: str, waveform: Tensor, net: DenoiserNet, step: int) -> None:
        waveform = waveform / waveform.abs().max().clamp_min(1e-4)
        self._writer.add_audio(name, waveform[None].cpu(), step, net.sample_rate)
        image = picture(net.stft.analyse(waveform[None])[0]).cpu()
        self._writer.add_image(name, image, step, dataformats="HW")

    @contextlib.contextmanager
    def _optional(self) -> Iterator[None]:
        """A training is not to end for want of its pages."""
        try:
            with _writer_threads_silent():
                yield
        except Exception as error:  # with TensorFlow installed, a full disk is no OSError
            self._writer = None
            why = reason(error) if isinstance(error, OSError) else str(error)
            self._say(
                f"The pages for TensorBoard in {self._folder} cannot be written ({why}): the training goes "
                "on without them."
            )


@contextlib.contextmanager
def _writer_threads_silent() -> Iterator[None]:
    """What a thread of TensorBoard's writer raises comes to its caller too: no traceback beside it."""
    before = threading.excepthook

    def told(raised: threading.ExceptHookArgs) -> None:
        if not _is_writer(raised.thread):
            before(raised)

    threading.excepthook = told
    try:
        yield
    except Exception:
        for thread in filter(_is_writer, threading.enumerate()):
            thread.join(_DYING_SECONDS)  # it raises a moment later than its caller
        raise
    finally:
        threading.excepthook = before


def _is_writer(thread: threading.Thread | None) -> bool:
    return type(thread).__module__.startswith("tensorboard.")


def picture(spec: Tensor) -> Tensor:
    """`(frames, bins)` complex -> `(bins, frames)` grey from 0 to 1, low frequencies at the bottom."""
    level_db = 20.0 * spec.abs().clamp_min(1e-8).log10()
    loudest_db = level_db.max().clamp_min(-_DEEPEST_DB)  # or silence would be as loud as can be
    return (1.0 + (level_db - loudest_db) / _DEEPEST_DB).clamp(0.0, 1.0).T.flip(0)
