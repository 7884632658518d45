"""A denoiser that its worker does not survive; in a file of its own, which is all that the worker reads."""

from __future__ import annotations

import multiprocessing
import os
import signal

from audiodae.api import Denoiser


class Deadly:
    """A denoiser whose worker is killed by recordings of 8 kHz, as for want of memory."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser, self.device = denoiser, denoiser.device

    def at(self, sample_rate: int | None) -> Denoiser:
        if sample_rate == 8000 and multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.denoiser
