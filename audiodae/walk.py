"""One piece of work for each recording: what fails is named, the others go on."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from audiodae.errors import AudiodaeError
from audiodae.report import explain
from audiodae.sources import Finder, Found

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
    found = [item for source in given for item in finder.find(source)]
    return list(dict.fromkeys(found))


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
    target: Path | None,
    suffix: str,
    *,
    overwrite: bool = False,
) -> dict[Path, Path]:
    """Where the result of each recording goes: the same tree below `target`, with another suffix.

    A `target` that ends in `suffix` is the file itself, for a single recording; None is beside the
    source. Raises `AudiodaeError` when two results would be one file, or one is there already.
    """
    targets: dict[Path, Path] = {}
    taken: dict[str, Path] = {}
    named = target is not None and target.suffix.lower() == suffix and not target.is_dir()
    if named and len(found) != 1:
        raise AudiodaeError(
            f"{target} is one file, but there are {len(found)} recordings: give a folder with -o."
        )
    for item in found:
        if item.action == "refuse":
            continue
        if target is None:
            goes = item.source.with_suffix(suffix)
        else:
            goes = target if named else target / item.relative.with_suffix(suffix)
        place = os.path.realpath(goes)
        if place in taken or place == os.path.realpath(item.source):
            other = taken.get(place, item.source)
            raise AudiodaeError(
                f"{other} and {item.source} would both become {goes}: keep them apart with -o."
            )
        if goes.exists() and not overwrite:
            raise AudiodaeError(f"{goes} is there already: --overwrite replaces it.")
        taken[place] = item.source
        targets[item.source] = goes
    return targets
