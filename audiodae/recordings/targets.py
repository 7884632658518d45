"""Where the outputs of a recording go, and in which format."""

from __future__ import annotations

import os
from pathlib import Path

from audiodae.errors import AudioError, PlanError
from audiodae.files.formats import (
    AUDIO_SUFFIXES,
    OUTPUT_SUFFIXES,
    container_of,
    suffix_of,
)
from audiodae.recordings.job import Job
from audiodae.recordings.options import Options
from audiodae.recordings.sources import Found

CLEAN_MARK = "-clean"  # what a name gets when no target is given
_NAMING_A_FILE = AUDIO_SUFFIXES | OUTPUT_SUFFIXES  # those only read get a sentence, not a folder
_WAVES = {"WAV", "WAVEX", "RF64"}  # all of them may be named .wav


def names_a_file(found: list[Found], target: str | Path | None) -> bool:
    """Whether `target` is the output file itself, and not a folder."""
    if target is None or os.path.isdir(target) or os.fspath(target).endswith(("/", os.sep)):
        return False
    looks_like_one = Path(target).suffix.lower() in _NAMING_A_FILE
    if len(found) == 1 and found[0].tree is None:
        return looks_like_one or os.path.lexists(target)
    if looks_like_one or os.path.lexists(target):
        raise PlanError(
            f"{target} is to hold the outputs of {len(found)} recordings, but it is the name of a "
            "file: give a folder."
        )
    return False


def is_one_file(vad: Path | None) -> bool:
    """Whether `Options.vad` is the file itself, and not a folder."""
    return vad is not None and vad.suffix.lower() == ".json" and not vad.is_dir()


def job_of(
    found: Found, target: str | Path | None, named: bool, alone: bool, options: Options
) -> Job:
    """What is to be made of a recording.

    `named` says that `target` is the output itself, `alone` that a single folder was given. Raises PlanError.
    """
    source, relative = found.source, found.relative
    if named and target is not None:
        output = Path(target)
        _refuse_two_formats(output, options)
        changed = output.suffix.lower() != source.suffix.lower()
        container = _wished(output, options) or (output.suffix if changed else None)
        return _with_extras(found, output, output.parent, Path(output.name), container, options)
    suffix, container = _format_of(source, options)
    relative = relative.with_name(relative.stem + suffix)
    if target is not None:
        if found.tree is not None and not alone:
            relative = Path(_name_of(found.tree)) / relative
        return _with_extras(
            found, Path(target) / relative, Path(target), relative, container, options
        )
    if found.tree is not None:
        tree = (
            found.tree if found.tree.name not in ("", "..") else Path(os.path.abspath(found.tree))
        )
        root = tree.parent / (_name_of(tree) + CLEAN_MARK)
        return _with_extras(found, root / relative, root, relative, container, options)
    output = source.with_name(relative.stem + CLEAN_MARK + suffix)
    return _with_extras(found, output, source.parent, relative, container, options)


def _wished(output: Path, options: Options) -> str | None:
    """The format asked for; the name's where that says the same and more: ogg is anything in .opus."""
    if options.container is None or _is_named_for(output, options):
        return options.container
    named, wished = container_of(output.suffix), container_of(options.container)
    says_more = named[0] == wished[0] and named[1] is not None and wished[1] is None
    return output.suffix if says_more else options.container


def _refuse_two_formats(output: Path, options: Options) -> None:
    if _is_named_for(output, options):
        return
    named, _ = container_of(output.suffix)  # raises for what can only be read
    if options.container is None:
        return
    wished, _ = container_of(options.container)
    if named != wished and not (named == "WAV" and wished in _WAVES):
        raise PlanError(
            f"{output} is named as {output.suffix.lstrip('.').lower()}, but the format asked for is "
            f"{options.container}: give one of the two."
        )


def _is_named_for(output: Path, options: Options) -> bool:
    """Whether the name says nothing of the format, or just what is asked for (.mat is mat4 or mat5)."""
    suffix = output.suffix.lower()
    if suffix not in _NAMING_A_FILE or options.container is None:
        return suffix not in _NAMING_A_FILE
    container, implied = container_of(options.container)
    return suffix == suffix_of(container, (options.subtype or implied or "").upper())


def _format_of(source: Path, options: Options) -> tuple[str, str | None]:
    """Suffix and container of an output; None where the container stays that of the recording."""
    if options.container is not None:
        container, implied = container_of(options.container)
        return suffix_of(container, (options.subtype or implied or "").upper()), options.container
    try:
        container_of(source.suffix)
    except AudioError:  # readable, but not to be written under such a name: video, MPEG layer II...
        suffix = ".mp3" if source.suffix.lower() in (".mp1", ".mp2") else ".wav"
        return suffix, suffix[1:]
    return source.suffix, None


def _with_extras(
    found: Found, output: Path, root: Path, relative: Path, container: str | None, options: Options
) -> Job:
    residue = options.residue and options.residue / relative
    plot = options.plot and options.plot / relative.with_name(relative.name + ".png")
    vad = options.vad
    if vad is not None and not is_one_file(vad):
        vad = vad / relative.with_name(relative.name + ".json")
    return Job(
        found.source, output, root, residue, plot, vad, container, found.action, found.reason
    )


def _name_of(folder: Path) -> str:
    name = Path(os.path.abspath(folder)).name
    if not name:
        raise PlanError(f"{folder} has no name to derive one from: say with -o where to write.")
    return name
