"""Single keys from a terminal, without Enter and without waiting."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Pressed = Callable[[float], str]
"""Waits up to so many seconds for a key; "" if there was none."""


@contextmanager
def keys() -> Iterator[Pressed]:
    """A function that tells the next key while the context lasts; nothing where no terminal is.

    A job in the background (`&`, Ctrl-Z and `bg`) leaves the terminal alone: the system would stop it.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        yield _none
    elif os.name == "nt":
        yield _windows_key
    else:
        import termios

        number = sys.stdin.fileno()
        before = termios.tcgetattr(number)
        try:
            yield _UnixKeys(number)
        finally:
            if _in_foreground(number):
                termios.tcsetattr(number, termios.TCSADRAIN, before)


class _UnixKeys:
    """Reads keys of the terminal `number` while this job is in its foreground (again)."""

    def __init__(self, number: int) -> None:
        self._number, self._ours = number, False
        self._take()

    def __call__(self, seconds: float) -> str:
        import select

        if not self._take():
            return _none(seconds)
        if select.select([self._number], [], [], seconds)[0] and _in_foreground(self._number):
            return os.read(self._number, 1).decode("ascii", "ignore")
        return ""

    def _take(self) -> bool:
        """Have keys come without Enter, if they are for us; whether they are."""
        import termios
        import tty

        front = _in_foreground(self._number)
        if front and not self._ours:
            tty.setcbreak(self._number, termios.TCSADRAIN)  # what was typed already stays
        self._ours = front
        return front


def _in_foreground(terminal: int) -> bool:
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # not the one that our session is controlled by: nobody will stop us
        return True


def _none(seconds: float) -> str:
    time.sleep(seconds)
    return ""


def _windows_key(seconds: float) -> str:
    if sys.platform == "win32":
        import msvcrt

        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if msvcrt.kbhit():
                return msvcrt.getwch()
            time.sleep(0.01)
    return ""
