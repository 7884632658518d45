"""Ctrl-C, SIGTERM and a closed terminal end a work between two blocks, nothing half done; twice, at once."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import FrameType

# What a terminal sends to all processes of a command; Windows has no second.
OF_TERMINALS = (signal.SIGINT, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))


class Stop:
    """Says, when called, whether a signal to stop came; see `heeding_signals`."""

    def __init__(self, patience_seconds: float = math.inf) -> None:
        self._came: list[int] = []
        self._waiting = False
        self._patience_seconds = patience_seconds
        self._second: threading.Timer | None = None

    def __call__(self) -> bool:
        return bool(self._came)

    @property
    def exit_code(self) -> int:
        """The one that the first signal stands for in a shell."""
        return 128 + self._came[0]

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """For what may take for ever: a signal, also an earlier one, raises KeyboardInterrupt at once."""
        self._waiting = True
        try:
            if self._came:
                raise KeyboardInterrupt
            yield
        finally:
            self._waiting = False

    def note(self, number: int, _: FrameType | None) -> None:
        """The handler of the signals."""
        self._came.append(number)
        if self._waiting or len(self._came) > 1:
            raise KeyboardInterrupt
        if math.isfinite(self._patience_seconds):
            self._second = threading.Timer(self._patience_seconds, os.kill, (os.getpid(), number))
            self._second.daemon = True
            self._second.start()

    def over(self) -> None:
        """The work has ended: no second signal is needed."""
        if self._second is not None:
            self._second.cancel()


def leave_to_the_parent() -> None:
    """In a child process: what a terminal sends is the parent's to heed, who tells this one."""
    for number in OF_TERMINALS:
        signal.signal(number, signal.SIG_IGN)


def end_with_the_parent() -> None:
    """In a spawned process: it would wait for ever for work of a parent that was killed."""

    def watch(parent: BaseProcess) -> None:
        parent.join()
        os._exit(1)

    if parent := multiprocessing.parent_process():
        threading.Thread(target=watch, args=(parent,), daemon=True).start()


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Processes started inside never see Ctrl-C: this one gets it a moment later and tells them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, OF_TERMINALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def heeding_signals(patience_seconds: float = math.inf) -> Iterator[Stop]:
    """Notes SIGINT, SIGTERM and SIGHUP while it is entered; the second one raises KeyboardInterrupt at once.

    When KeyboardInterrupt comes out of it, the others leave with the exit code they stand for. What was
    ignored at the start stays so: a script's `audiodae clean ... &` is not meant by Ctrl-C. Where the work
    has not ended `patience_seconds` after the first signal (it may be stuck in a write), a second is sent.
    """
    stop = Stop(patience_seconds)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {
        number: signal.signal(number, stop.note)
        for number in (*OF_TERMINALS, signal.SIGTERM)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield stop
    except KeyboardInterrupt:
        if stop() and stop.exit_code != 128 + signal.SIGINT:
            sys.exit(stop.exit_code)
        raise
    finally:
        stop.over()
        for number, handler in before.items():
            signal.signal(number, handler)
