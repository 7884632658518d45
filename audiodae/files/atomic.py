"""A file that appears under its name whole, or not at all.

It grows under a hidden name in the target's folder and is renamed when done. The hidden name follows from
the target's, so what a killed run left behind is taken over by the next one instead of piling up (all but
what it was copying into a roomier container just then); a lock, which the system drops when a process dies,
tells a dead leftover from a file being written.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from audiodae.errors import AudiodaeError, AudioError, reason

TEMP_PREFIX = ".audiodae-"
TEMP_SUFFIX = ".part"
_O_BINARY = getattr(os, "O_BINARY", 0)
_O_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_SHIFTED_BYTES = 1 << 20
_held: set[int] = set()  # descriptors with a lock


class BeingWritten(AudioError):
    """Another process is writing the file."""


class AtomicFile:
    """An empty file open as `fd` at `path`, which `commit` turns into `target`.

    With `replace` False nothing that is, or meanwhile appears, under the target's name is replaced.
    What is replaced keeps its rights; of a symbolic link the link is replaced, and what it leads to stays.
    Raises AudioError where the target cannot be: no such folder, a folder itself, write-protected,
    a name too long, there already, or just being written by someone else. `discard` (also after a
    failed `commit`) leaves nothing behind. As a context manager it commits on a clean end.
    """

    def __init__(self, target: Path, salt: str = "", *, replace: bool = True) -> None:
        self.target, self.replace = target, replace
        _check_target(target)
        if not replace and os.path.lexists(target):
            raise self._appeared()
        digest = hashlib.sha256(os.fsencode(target.name) + salt.encode()).hexdigest()[:16]
        self.path = target.parent / f"{TEMP_PREFIX}{digest}{TEMP_SUFFIX}"
        self.fd = -1
        self._done = False
        try:
            self.fd = self._open_and_lock()
            os.ftruncate(self.fd, 0)
        except BlockingIOError as error:
            raise BeingWritten(
                f"{target} cannot be written: another process is writing it at this moment."
            ) from error
        except OSError as error:
            raise AudioError(f"{target} cannot be written: {reason(error)}.") from error

    def __enter__(self) -> AtomicFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.commit()
        else:
            self.discard()

    def write(self, data: bytes) -> None:
        """Append `data`. Raises AudioError where the disk is full."""
        try:
            self._write(data)
        except OSError as error:
            raise AudioError(f"{self.target} cannot be written: {reason(error)}.") from error

    def fill(self, fill: Callable[[BinaryIO], object]) -> None:
        """`fill` writes to the open stream it is given. Raises as `write`."""
        try:
            with open(self.fd, "wb", closefd=False) as stream:
                fill(stream)
        except OSError as error:
            raise AudioError(f"{self.target} cannot be written: {reason(error)}.") from error

    def put_in_front(self, head: bytes) -> None:
        """Shift all that is written to make room for `head`. Raises OSError where the disk is full."""
        end = os.lseek(self.fd, 0, os.SEEK_END)
        while end:  # from the end, where what is overwritten has already moved
            start = max(0, end - _SHIFTED_BYTES)
            os.lseek(self.fd, start, os.SEEK_SET)
            block = self._read(end - start)
            os.lseek(self.fd, start + len(head), os.SEEK_SET)
            self._write(block)
            end = start
        os.lseek(self.fd, 0, os.SEEK_SET)
        self._write(head)

    def commit(self) -> None:
        """Put the file under its final name; does nothing after the first time, or after `discard`."""
        if self._done:
            return
        try:
            # Network file systems report a full disk only when a handle closes; ours has to hold
            # the lock.
            os.close(os.dup(self.fd))
            if os.name == "nt":
                self._close()
            self._put()
            self._done = True
        except AudioError:
            self.discard()
            raise
        except OSError as error:
            self.discard()
            gone = isinstance(error, FileNotFoundError)
            why = "its folder was moved or removed meanwhile" if gone else reason(error)
            raise AudioError(f"{self.target} cannot be written: {why}.") from error
        self._close()

    def _put(self) -> None:
        if self.replace:
            with contextlib.suppress(OSError):  # nothing is there, or the file system has no rights
                mode = os.lstat(self.target).st_mode
                if stat.S_ISREG(mode):
                    os.chmod(self.path, stat.S_IMODE(mode))
            os.replace(self.path, self.target)
            return
        try:
            os.link(self.path, self.target)
        except FileExistsError as error:
            raise self._appeared() from error
        except OSError as error:  # no links there (exFAT, network shares): as good as can be
            if os.path.lexists(self.target):
                raise self._appeared() from error
            os.replace(self.path, self.target)
            return
        with contextlib.suppress(OSError):  # a leftover is known by its two names
            os.unlink(self.path)

    def _appeared(self) -> AudioError:
        return AudioError(
            f"{self.target} was not there when the work began, and is now: it stays as it is. "
            "Remove it, or use --overwrite."
        )

    def discard(self) -> None:
        """Remove the unfinished file; does nothing after `commit`."""
        if self._done:
            return
        self._done = True
        if os.name == "nt":
            self._close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        self._close()

    def supplant(self, other: AtomicFile) -> None:
        """Go on under the hidden name of `other`, which is gone: one name is found again after a kill."""
        if os.name != "nt":
            with contextlib.suppress(OSError):
                os.replace(self.path, other.path)
                self.path, other._done = other.path, True
                other._close()
        other.discard()

    def probe_disk(self) -> OSError | None:
        """What the system says to a few more bytes: the cause of a failed write, or None."""
        try:
            end = os.lseek(self.fd, 0, os.SEEK_END)
            block = bytes(16384)
            while block:
                block = block[os.write(self.fd, block) :]
            os.ftruncate(self.fd, end)
        except OSError as error:
            return error
        return None

    def _read(self, count: int) -> bytes:
        parts = []
        while count and (part := os.read(self.fd, count)):
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.fd, view) :]

    def _close(self) -> None:
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            _held.discard(fd)
            os.close(fd)

    def _open_and_lock(self) -> int:
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | _O_BINARY | _O_NOFOLLOW, 0o666)
            try:
                _lock(fd)
                # Between open and lock its writer may have renamed or removed it: then it is not
                # ours.
                with contextlib.suppress(FileNotFoundError):
                    ours = os.fstat(fd)
                    if os.path.samestat(ours, os.stat(self.path)):
                        if ours.st_nlink < 2:
                            _held.add(fd)
                            return fd
                        os.unlink(self.path)  # it got its name in a run that was killed right then
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)


def write_whole(
    target: Path, fill: Callable[[BinaryIO], object], *, salt: str = "", replace: bool = True
) -> None:
    """A small file in one go: `fill` writes it to the open stream it is given."""
    file = AtomicFile(target, salt, replace=replace)
    try:
        file.fill(fill)
        file.commit()
    finally:
        file.discard()


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Holds a folder for one process at a time; the system lets go of it when the process ends.

    Raises `AudiodaeError` where another one holds it. The file `lock` stays behind and means nothing.
    """
    with (folder / "lock").open("ab") as file:
        try:
            _lock(file.fileno())
        except BlockingIOError as error:
            raise AudiodaeError(
                f"Another process is at work in {folder}: end it or wait for it, or give another folder."
            ) from error
        _held.add(file.fileno())
        try:
            yield
        finally:
            _held.discard(file.fileno())


def _let_go() -> None:
    """In a forked child: it would go on holding the locks of a parent that was killed."""
    for fd in _held:
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, fd)  # closed it would be missed by who has it open
        os.close(nothing)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def _check_target(target: Path) -> None:
    try:
        os.stat(target.parent)
    except OSError as error:
        raise AudioError(
            f"{target} cannot be written: its folder {target.parent} is not there."
        ) from error
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise AudioError(f"{target} cannot be written: {reason(error)}.") from error
    if target.is_dir():
        raise AudioError(f"{target} cannot be written: it is a folder; give the name of a file.")
    if not mode & 0o222 or not os.access(target, os.W_OK):
        raise AudioError(
            f"{target} cannot be written: it is write-protected; remove it or choose another name."
        )


def _lock(fd: int) -> None:
    """Take the lock or raise BlockingIOError; go on where locks are unknown (Windows, networks)."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return
