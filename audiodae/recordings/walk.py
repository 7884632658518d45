"""One piece of work for each recording: what fails is named, the others go on."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from audiodae.errors import AudiodaeError
from audiodae.recordings.report import explain
from audiodae.recordings.sources import Finder, Found, once, place_of

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What came of one recording: a `value`, or None and the `reason` as a sentence."""

    source: Path
    value: T | None = None
    reason: str = ""


def recordings(
    sources: Iterable[str | os.PathLike[str]], closed: Collection[Path] = ()
) -> list[Found]:
    """Everything that files, folders and glob patterns stand for, each once, in a stable order.

    What cannot be read is in it with its `reason`. Folders in `closed` are not entered from above. Raises
    `AudiodaeError` for an empty name.
    """
    given = [os.fspath(source) for source in sources]
    if "" in given:
        raise AudiodaeError("The name of a source is empty: is a variable not set?")
    finder = Finder(closed, own_outputs=True)
    return once(item for source in given for item in finder.find(source))


def each(found: Sequence[Found], work: Callable[[Found], T]) -> Iterator[Outcome[T]]:
    """`work` done for every recording, in order; an error of one does not stop the others."""
    for item in found:
        if item.action == "refuse":
            yield Outcome(item.source, reason=item.reason)
            continue
        try:
            yield Outcome(item.source, work(item))
        except Exception as error:
            yield Outcome(item.source, reason=explain(error, item.source))


def mirrored(
    found: Sequence[Found],
    target: str | os.PathLike[str] | None,
    suffix: str,
    *,
    overwrite: bool = False,
) -> dict[Path, Path]:
    """Where the result of each recording goes: the same tree below `target`, with another suffix.

    A `target` that ends in `suffix` is the file itself, for a single recording, unless it is a folder
    or ends in a slash; None is beside the source. Raises `AudiodaeError` for a single recording's
    `target` with another suffix, and when two results would be one file, or one exists already.
    """
    targets: dict[Path, Path] = {}
    taken: dict[str, Path] = {}
    named = target is not None and not means_folder(target) and _names_a_file(target, suffix, found)
    folder = None if target is None else Path(target)
    for item in found:
        if item.action == "refuse":
            continue
        if folder is None:
            goes = item.source.with_suffix(suffix)
        else:
            goes = folder if named else folder / item.relative.with_suffix(suffix)
        place = place_of(goes)
        if place == place_of(item.source):
            raise AudiodaeError(
                f"What becomes of {item.source} would replace it: give another place with -o."
            )
        if place in taken:
            raise AudiodaeError(
                f"{taken[place]} and {item.source} would both become {goes}: rename one of them, or give "
                "them in two runs with different -o."
            )
        if os.path.lexists(goes) and not overwrite:
            raise AudiodaeError(f"{goes} exists already: use --overwrite to replace it.")
        taken[place] = item.source
        targets[item.source] = goes
    return targets


def means_folder(target: str | os.PathLike[str]) -> bool:
    """Whether outputs go into it, whatever its suffix."""
    return os.path.isdir(target) or os.fspath(target).endswith(("/", os.sep))


def _names_a_file(target: str | os.PathLike[str], suffix: str, found: Sequence[Found]) -> bool:
    path = Path(target)
    if not os.fspath(target):
        raise AudiodaeError("The name of the output is empty: is a variable not set?")
    if path.suffix.lower() == suffix:
        if len(found) != 1:
            raise AudiodaeError(
                f"{target} is one file, but there are {len(found)} recordings: give a folder with -o."
            )
        return True
    single = len(found) == 1 and found[0].tree is None
    if single and path.suffix:
        raise AudiodaeError(
            f"{target} is no name for what becomes of {found[0].source}: give one such as "
            f"{path.with_suffix(suffix)}, or {target}{os.sep} where a folder is meant."
        )
    if os.path.lexists(target):
        raise AudiodaeError(f"{target} is there and is no folder: give another one with -o.")
    return False
