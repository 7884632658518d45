"""What a training looks and sounds like: figures, audio and spectrograms for TensorBoard.

`tensorboard --logdir RUN` shows them. Without the package a training runs the same and writes none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from audiodae.denoiser import DenoiserNet
from audiodae.installed import is_installed
from audiodae.mixer import Mixer

_FOLDER = "board"
_SECONDS = 4.0
_ROWS = 2  # mixtures shown
_DEEPEST_DB = 80.0  # below the loudest bin it is black


class Board:
    """The pages of a run, `RUN/board`; does nothing where `tensorboard` is not installed."""

    def __init__(self, run: Path, step: int) -> None:
        """`step` is where the training goes on: what an earlier one wrote beyond it is struck out."""
        self._writer = None
        self._begun = False
        if is_installed("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(run / _FOLDER), purge_step=step + 1)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def show(
        self, step: int, figures: Mapping[str, object], net: nn.Module, validation: Mixer
    ) -> None:
        """Write the figures, and of a denoiser what it makes of the same few held-out mixtures."""
        writer = self._writer
        if writer is None:
            return
        for name, value in figures.items():
            if isinstance(value, float | int) and name != "step":
                writer.add_scalar(name, value, step)  # type: ignore[no-untyped-call]
        if isinstance(net, DenoiserNet):
            mixture = validation.batch(0, _ROWS, _SECONDS).to(net.device)
            sides = {"denoised": net(mixture.noisy)}
            if not self._begun:  # these stay the same
                sides |= {"noisy": mixture.noisy, "clean": mixture.clean}
                self._begun = True
            for side, waveforms in sides.items():
                for row, waveform in enumerate(waveforms):
                    self._sound(f"{row}/{side}", waveform, net, step)
        writer.flush()  # type: ignore[no-untyped-call]

    def _sound(self, name: str, waveform: Tensor, net: DenoiserNet, step: int) -> None:
        assert self._writer is not None
        waveform = waveform / waveform.abs().max().clamp_min(1e-4)
        rate = net.sample_rate
        self._writer.add_audio(name, waveform[None].cpu(), step, rate)  # type: ignore[no-untyped-call]
        image = picture(net.stft.analyse(waveform[None])[0]).cpu()
        self._writer.add_image(name, image, step, dataformats="HW")  # type: ignore[no-untyped-call]


def picture(spec: Tensor) -> Tensor:
    """`(frames, bins)` complex -> `(bins, frames)` grey from 0 to 1, low frequencies at the bottom."""
    level_db = 20.0 * spec.abs().clamp_min(1e-8).log10()
    return (1.0 + (level_db - level_db.max()) / _DEEPEST_DB).clamp(0.0, 1.0).T.flip(0)
