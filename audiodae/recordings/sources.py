"""Finding recordings: files, folders, globs; walked safely and without our own outputs."""

from __future__ import annotations

import glob
import os
import stat
import sys
import unicodedata
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

from audiodae.errors import reason
from audiodae.files.formats import AUDIO_SUFFIXES
from audiodae.recordings.manifest import Outputs

Action = Literal["clean", "skip", "refuse"]


@dataclass(frozen=True)
class Found:
    """A recording (or what should have been one) and its place in the tree to be mirrored.

    `tree` is the folder whose tree that is; None for a file named by itself. `reason` is a sentence
    about whatever is not to be cleaned.
    """

    source: Path
    relative: Path
    tree: Path | None = None
    action: Action = "clean"
    reason: str = ""


class Finder:
    """Looks for recordings; folders in `closed` (where outputs go) are not entered from above.

    With `own_outputs` what audiodae cleaned is found like any other recording.
    """

    def __init__(self, closed: Collection[Path], *, own_outputs: bool = False) -> None:
        self._closed = {os.path.realpath(folder) for folder in closed}
        self._outputs: Outputs | frozenset[Path] = frozenset() if own_outputs else Outputs()

    def find(self, source: str) -> list[Found]:
        """All that `source`, as the user wrote it, stands for; never empty."""
        path = Path(source)
        if os.path.isdir(path):
            return self._tree(path)
        if not is_pattern(source):
            return [self._file(path, Path(path.name))]
        base, matches, found = self.matches(source)
        for match in matches:
            if os.path.isdir(match):
                # Folders of other things, and of outputs, fit a pattern too.
                if os.path.realpath(match) not in self._closed:
                    found += self._below(match)[0]
            elif _is_audio(match):
                found.append(self._file(match, Path(os.path.relpath(match, base))))
        return found or [_refused(path, "matches no audio file.")]

    def _tree(self, folder: Path) -> list[Found]:
        found, ours = self._below(folder)
        if found:
            return found
        if ours:
            note = f"{folder} holds only files that audiodae made ({ours})."
            return [Found(folder, Path(folder.name), folder, "skip", note)]
        kinds = " ".join(sorted(AUDIO_SUFFIXES))
        return [_refused(folder, f"holds no audio file; looked for {kinds}.")]

    def _below(self, folder: Path) -> tuple[list[Found], int]:
        """What is found below a folder, and how many outputs of ours there are."""
        found: list[Found] = []
        ours = 0
        for path, problem in walk(folder, self._closed):
            relative = path.relative_to(folder)
            if problem:
                found.append(Found(path, relative, folder, "refuse", f"{path} {problem}"))
            elif _is_audio(path) and path in self._outputs:
                if self._changed(path):
                    found.append(self._file(path, relative, folder))
                ours += 1
            elif _is_audio(path):
                found.append(self._file(path, relative, folder))
        return found, ours

    def _file(self, path: Path, relative: Path, tree: Path | None = None) -> Found:
        if os.path.isfile(path):
            if path in self._outputs:
                note = f"{path} was made by audiodae"
                if self._changed(path):
                    note += ", but is not as it was written: to clean it, give it another name"
                return Found(path, relative, tree, "skip", note + ".")
            return Found(path, relative, tree)
        if os.path.exists(path):
            what = f"is {_kind(path)}, not a regular file: pipe it into `audiodae clean -`."
            return _refused(path, what)
        if os.path.islink(path):
            return _refused(path, "is a link that leads nowhere.")
        return _refused(path, "does not exist: give a file, a folder or a quoted glob pattern.")

    def _changed(self, path: Path) -> bool:
        return isinstance(self._outputs, Outputs) and self._outputs.changed(path)

    def matches(self, pattern: str) -> tuple[str, list[Path], list[Found]]:
        """The folder before the first wildcard, what the pattern matches below it, sorted, and what
        could not be looked into.
        """
        parts = Path(pattern).parts
        fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
        base = os.path.join(*parts[:fixed]) if fixed else "."
        if "**" not in parts:
            return base, [Path(match) for match in sorted(glob.glob(pattern))], []
        # The standard library follows loops of links under "**"; our own walk does not.
        fitting, closed = [], []
        for path, problem in walk(Path(base), self._closed):
            if problem:
                closed.append(_refused(path, problem))
            elif _fits(path.relative_to(base).parts, parts[fixed:]):
                fitting.append(path)
        return base, sorted(fitting), closed


def is_pattern(source: str) -> bool:
    """Whether what the user wrote is a glob, and not the name of something that is there."""
    return glob.has_magic(source) and not os.path.lexists(source)


def once(found: Iterable[Found]) -> list[Found]:
    """Each recording in its first place only, by whatever way it was come to.

    A link to a recording is one of its own, with a name that something may be made under.
    """
    first: dict[str, Found] = {}
    for item in found:
        place = os.path.join(os.path.realpath(item.source.parent), item.source.name)
        first.setdefault(place, item)
    return list(first.values())


def place_of(path: Path) -> str:
    """What makes two paths one file: links resolved, letters compared as the system does."""
    place = os.path.join(os.path.realpath(path.parent), path.name)
    if os.path.islink(path):
        place = os.path.realpath(path)
    if sys.platform in ("darwin", "win32"):
        place = unicodedata.normalize("NFC", place).casefold()
    return place


def walk(folder: Path, closed: Collection[str] = ()) -> Iterator[tuple[Path, str]]:
    """Files below `folder` with "", and folders that cannot be listed with the reason.

    Each real folder is entered once, so loops of links end, and those reached directly come first, so
    that they keep their own name. Hidden entries are left out: temporary files, macOS's "._talk.wav".
    So are pipes and devices, also by a link, and the folders whose real paths are in `closed`.
    """
    entered: set[str] = set()
    waiting, linked = deque([folder]), deque[Path]()
    while waiting or linked:
        here = (waiting or linked).popleft()
        real = os.path.realpath(here)
        if real in entered or (real in closed and here != folder):
            continue
        entered.add(real)
        try:
            names = sorted(os.listdir(here))
        except OSError as error:
            yield here, f"cannot be listed: {reason(error)}."
            continue
        for path in (here / name for name in names if not name.startswith(".")):
            try:
                is_link = stat.S_ISLNK(os.lstat(path).st_mode)
            except FileNotFoundError:  # removed meanwhile
                continue
            except PermissionError as error:  # and so it is with all others
                yield here, f"cannot be looked into: {reason(error)}."
                break
            except OSError as error:
                yield path, f"cannot be looked at: {reason(error)}."
                continue
            if os.path.isdir(path):
                (linked if is_link else waiting).append(path)
            elif os.path.isfile(path) or (is_link and not os.path.exists(path)):
                yield path, ""


def _fits(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a path fits a glob, part by part, as the system compares names; `**` is any folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[i:], pattern[1:] or ("*",)) for i in range(len(parts) + 1))
    return bool(parts) and fnmatch(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _is_audio(path: Path) -> bool:
    return path.suffix.lower() in AUDIO_SUFFIXES


def _kind(path: Path) -> str:
    """What it is that lies there and is neither a regular file nor a folder."""
    mode = os.stat(path).st_mode
    what = "a named pipe" if stat.S_ISFIFO(mode) else "a device"
    if stat.S_ISSOCK(mode):
        what = "a socket"
    return f"a link to {what}" if os.path.islink(path) else what


def _refused(path: Path, problem: str) -> Found:
    name = Path(os.path.abspath(path)).name or "root"
    return Found(path, Path(name), None, "refuse", f"{path} {problem}")
