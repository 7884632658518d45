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
        import tty

        number = sys.stdin.fileno()
        before = termios.tcgetattr(number)
        try:
            if _in_foreground(number):
                tty.setcbreak(number)
            yield _unix_key
        finally:
            if _in_foreground(number):
                termios.tcsetattr(number, termios.TCSADRAIN, before)


def _in_foreground(terminal: int) -> bool:
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # not the one that our session is controlled by: nobody will stop us
        return True


def _none(seconds: float) -> str:
    time.sleep(seconds)
    return ""


def _unix_key(seconds: float) -> str:
    import select

    number = sys.stdin.fileno()
    if not _in_foreground(number):
        return _none(seconds)
    if select.select([number], [], [], seconds)[0] and _in_foreground(number):
        return os.read(number, 1).decode("ascii", "ignore")
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
