"""What a folder of outputs knows about itself: which file was made from what, with which settings.

One hidden file of JSON lines lies in the root of the outputs. A line is appended when work on a
file begins and when it is done, in a single write each, so a killed run loses nothing and a torn
last line is simply not read. It serves two questions: is this output still right (to resume), and
is this file one of our outputs (so that it is not cleaned again)?
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from audiodae.files.regular import open_regular, read_regular

MANIFEST_NAME = ".audiodae-manifest.jsonl"


@dataclass(frozen=True)
class Made:
    """One output: the source it came from (size in bytes, mtime in ns), its settings, and itself.

    Two are equal when source and settings are; `lies_at` compares the output. `target_bytes` is -1
    while the work is under way. `target_mtime_ns` 0, and an empty `target_sha256` or `source`, are not
    known: lines of earlier versions. `model` is the name of what cleaned it, for the reader: what decides
    is the `fingerprint`, which knows the weights. `source` is where the recording lay, seen from the
    manifest's folder.
    """

    source_bytes: int
    source_mtime_ns: int
    fingerprint: str
    target_bytes: int = field(default=-1, compare=False)
    model: str = field(default="", compare=False)
    source: str = field(default="", compare=False)
    target_mtime_ns: int = field(default=0, compare=False)
    target_sha256: str = field(default="", compare=False)

    @classmethod
    def of(cls, source: Path, fingerprint: str, target: Path | None = None) -> Made:
        """The entry for `source` as it is now; raises OSError when it cannot be looked at."""
        now = source.stat()
        made = cls(now.st_size, now.st_mtime_ns, fingerprint)
        return made if target is None else made.finished(target)

    def finished(self, target: Path, model: str = "") -> Made:
        """The entry once `target` is as it stays, under its final name; raises OSError."""
        now = target.stat()
        return replace(
            self,
            target_bytes=now.st_size,
            target_mtime_ns=now.st_mtime_ns,
            target_sha256=_sha256(target),
            model=model,
        )

    def lies_at(self, path: Path) -> bool:
        """Whether `path` is the output as it was written; raises OSError when it cannot be looked at."""
        now = path.stat()
        if now.st_size != self.target_bytes:
            return False
        if self.target_mtime_ns in (0, now.st_mtime_ns):
            return True
        # An edit often keeps the size; a copy, or a disk that rounds times, keeps the content.
        return _sha256(path) == self.target_sha256


class Manifest:
    """The outputs under `root`, read once and appended to; keys are paths relative to `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / MANIFEST_NAME
        self.made = _read(self.path)
        self._torn = _ends_inside_a_line(self.path)
        self._new_folder = not root.exists()
        self._new_file = not self.path.exists()

    def key(self, target: Path) -> str:
        return Path(os.path.relpath(target, self.root)).as_posix()

    def get(self, target: Path) -> Made | None:
        return self.made.get(self.key(target))

    def record(self, target: Path, made: Made | None, source: Path | None = None) -> None:
        """Append one line; `made` None says that `target` is not ours (the work on it failed)."""
        key = self.key(target)
        if made is not None and source is not None:
            made = replace(made, source=_seen_from(self.root, source))
        if made is None:
            self.made.pop(key, None)
        else:
            self.made[key] = made
        line = json.dumps({"target": key, "made": made and asdict(made)}) + "\n"
        self.root.mkdir(parents=True, exist_ok=True)
        if self._torn:  # by a run that was killed, or a full disk
            line = "\n" + line
        # O_APPEND and a single write: two runs into one folder cannot tear each other's lines.
        file = open_regular(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            self._torn = os.write(file, line.encode("ascii")) < len(line)
        finally:
            os.close(file)

    def get_anew(self, target: Path) -> Made | None:
        """What the file says by now: another run into this folder may have added lines."""
        return _read(self.path).get(self.key(target))

    def close(self) -> None:
        """Remove the file, and the folder, if they were made here and nothing came of it."""
        if self._new_file and not self.made and not _read(self.path):  # nor by another run
            with contextlib.suppress(OSError):  # its folder could not be
                self.path.unlink(missing_ok=True)
            if self._new_folder:
                with contextlib.suppress(OSError):  # there is something in it after all
                    self.root.rmdir()


class Outputs:
    """Tells our own outputs from recordings, by the manifests in the folders above a file."""

    def __init__(self) -> None:
        self._read: dict[str, dict[str, Made]] = {}

    def __contains__(self, path: Path) -> bool:
        return bool(self._entries(path))

    def made(self, path: Path) -> Made | None:
        """What a manifest says of it; None where none does."""
        return next((made for _, made in self._entries(path)), None)

    def made_from_another(self, path: Path, source: Path) -> Path | None:
        """The recording that `path` was made from, where that is another one, and still there."""
        for folder, made in self._entries(path):
            with contextlib.suppress(OSError, ValueError):  # it is not there any more, or cannot be
                before = os.path.realpath(folder / made.source)
                if made.source and not os.path.samefile(before, source):
                    return Path(before)
        return None

    def changed(self, path: Path) -> bool:
        """Whether what lies under the name of one of our outputs is not, or no longer, what we wrote."""
        try:
            return all(
                made.target_bytes != -1 and not made.lies_at(path)
                for _, made in self._entries(path)
            )
        except FileNotFoundError:
            return False
        except OSError:  # what cannot be read is not known to be ours
            return True

    def _entries(self, path: Path) -> list[tuple[Path, Made]]:
        """What manifests say of it; of several only those that speak of what lies there now, if any does."""
        entries = self._all_entries(path)
        if len(entries) < 2:
            return entries
        true = []
        for folder, made in entries:
            with contextlib.suppress(OSError):
                if made.lies_at(path):
                    true.append((folder, made))
        return true or entries

    def _all_entries(self, path: Path) -> list[tuple[Path, Made]]:
        spellings = {os.path.abspath(path), os.path.realpath(path)}
        return [
            (folder, made[key])
            for spelled in spellings
            for folder in Path(spelled).parents
            if (made := self._in(str(folder)))
            and (key := os.path.relpath(spelled, folder).replace(os.sep, "/")) in made
        ]

    def _in(self, folder: str) -> dict[str, Made]:
        if folder not in self._read:
            self._read[folder] = _read(Path(folder) / MANIFEST_NAME)
        return self._read[folder]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _seen_from(root: Path, source: Path) -> str:
    here, there = os.path.realpath(root), os.path.realpath(source)
    try:
        return Path(os.path.relpath(there, here)).as_posix()
    except ValueError:  # on another drive of Windows
        return there


def _read(path: Path) -> dict[str, Made]:
    """The last word on every target; lines that are not ours or were cut off are passed over."""
    made: dict[str, Made] = {}
    try:
        lines = read_regular(path).splitlines()
    except OSError:
        return made
    for line in lines:
        try:
            entry = json.loads(line)
            target, fields = entry["target"], entry["made"]
            if fields is None:
                made.pop(target, None)
            else:
                made[str(target)] = _plausible(Made(**fields))
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    return made


def _plausible(made: Made) -> Made:
    """Raise TypeError for an entry that somebody else wrote."""
    kinds = {name: type(value) for name, value in asdict(Made(0, 0, "")).items()}
    if any(type(value) is not kinds[name] for name, value in asdict(made).items()):
        raise TypeError
    return made


def _ends_inside_a_line(path: Path) -> bool:
    try:
        fd = open_regular(path, os.O_RDONLY)
        try:
            os.lseek(fd, -1, os.SEEK_END)
            return os.read(fd, 1) != b"\n"
        finally:
            os.close(fd)
    except OSError:  # none there, or an empty one
        return False
