"""Files read in one go: only real ones, and none that is larger than it can be.

A pipe would be waited for, and a device may have no end.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_LARGEST_BYTES = 1 << 30
_WITHOUT_WAITING = getattr(os, "O_NONBLOCK", 0)


def read_regular(path: Path) -> bytes:
    """The whole of a file; of the null device, nothing. Raises OSError, also for what is no file."""
    if os.fspath(path) == os.devnull:
        return b""
    with open(path, "rb", opener=_open) as file:
        if check_regular(file.fileno(), path) > _LARGEST_BYTES:
            raise OSError(errno.EINVAL, "it is over 1 GB, which no file of that kind is", str(path))
        return file.read()


def check_regular(fd: int, path: Path) -> int:
    """The size in bytes. Raises OSError where what is open is no file."""
    about = os.fstat(fd)
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "it is no file, but a pipe or a device", str(path))
    return about.st_size


def open_regular(path: Path, flags: int) -> int:
    """A descriptor of a file that is one. Raises OSError."""
    fd = os.open(path, flags | _WITHOUT_WAITING, 0o666)
    try:
        check_regular(fd, path)
    except OSError:
        os.close(fd)
        raise
    return fd


def _open(name: str, flags: int) -> int:
    return os.open(name, flags | _WITHOUT_WAITING)
