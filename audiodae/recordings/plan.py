"""Plan before acting: which recordings are cleaned into which files, decided before any work.

`plan` changes nothing on disk. What it returns is what `--dry-run` prints and `clean` carries out.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from audiodae.errors import AudiodaeError, AudioError
from audiodae.files.formats import (
    AUDIO_SUFFIXES,
    OUTPUT_SUFFIXES,
    check_subtype,
    container_of,
    suffix_of,
)
from audiodae.recordings.job import Job
from audiodae.recordings.manifest import MANIFEST_NAME, Made, Outputs
from audiodae.recordings.options import Options
from audiodae.recordings.sources import Finder, Found

CLEAN_MARK = "-clean"  # what a name gets when no target is given
_NAMING_A_FILE = AUDIO_SUFFIXES | OUTPUT_SUFFIXES  # those only read get a sentence, not a folder
_WAVES = {"WAV", "WAVEX", "RF64"}  # all of them may be named .wav


class PlanError(AudiodaeError):
    """Nothing can be started: outputs would fall on each other or on a recording."""


def plan(
    sources: Iterable[str | Path],
    target: str | Path | None,
    options: Options,
    fingerprint: Callable[[Path], str] | None = None,
) -> list[Job]:
    """Jobs for files, folders and glob patterns, in a stable order.

    Without `target`, a file `talk.wav` goes to `talk-clean.wav` beside it and a folder `talks` to
    `talks-clean` beside it. A `target` with the suffix of an audio file names the output of a
    single file; any other is the folder in which the tree is mirrored (of several sources, each
    folder keeps its name there). `fingerprint` gives that of the settings and the weights for a
    recording; it is asked for `options.skip_existing` only.

    What is wrong with one recording becomes a job with the action "refuse", so the others can go
    on. Raises PlanError when only our own outputs were given, when two recordings would be written
    to one file, when an output would replace a recording, and for an empty name.
    """
    given = [os.fspath(source) for source in sources]
    if "" in given or target == "":
        what = "a source" if "" in given else "the output"
        raise PlanError(
            f"The name of {what} is empty: is a variable not set? The folder where you are is `.`."
        )
    if options.subtype is not None:
        check_subtype(options.subtype, options.container)
    closed = [Path(folder) for folder in (target, options.residue, options.plot) if folder]
    finder = Finder(closed)
    found = [item for source in given for item in finder.find(source)]
    if found and all(item.action == "skip" for item in found):
        raise PlanError(
            "There is nothing to clean: all that was given are files audiodae made. To clean them "
            f"once more, copy them elsewhere or remove the {MANIFEST_NAME} in their folder."
        )
    named = _names_a_file(found, target)
    alone = len(given) == 1 and os.path.isdir(given[0])
    jobs = [_job(item, target, named, alone, options) for item in found]
    jobs = list(dict.fromkeys(jobs))  # a file named twice, or once more by a pattern, is one job
    to_clean = [job for job in jobs if job.action == "clean"]
    vad_folder = None if _is_one_file(options.vad) else options.vad
    for folder in (None if named else target, options.residue, options.plot, vad_folder):
        if folder is not None:
            _refuse_no_folder(Path(folder))
    if _is_one_file(options.vad) and len(to_clean) > 1:
        raise PlanError(
            f"{options.vad} is to hold the speech probabilities of {len(to_clean)} recordings, but it "
            "is the name of one file: give a folder with --vad."
        )
    _refuse_collisions(to_clean)
    outputs = Outputs()
    return [_settled(job, options, fingerprint, outputs) for job in jobs]


def _names_a_file(found: list[Found], target: str | Path | None) -> bool:
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


def _is_one_file(vad: Path | None) -> bool:
    """Whether `Options.vad` is the file itself, and not a folder."""
    return vad is not None and vad.suffix.lower() == ".json" and not vad.is_dir()


def _refuse_no_folder(folder: Path) -> None:
    """What is there under the name of a folder for outputs, or of one above it, must be one."""
    there = next((place for place in (folder, *folder.parents) if os.path.lexists(place)), None)
    if there is not None and not os.path.isdir(there):
        what = "a link that leads to no folder" if there.is_symlink() else "a file"
        raise PlanError(
            f"{folder} is to be a folder for outputs, but {there} is {what}: give another name."
        )


def _job(
    found: Found, target: str | Path | None, named: bool, alone: bool, options: Options
) -> Job:
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
    if vad is not None and not _is_one_file(vad):
        vad = vad / relative.with_name(relative.name + ".json")
    return Job(
        found.source, output, root, residue, plot, vad, container, found.action, found.reason
    )


def _name_of(folder: Path) -> str:
    name = Path(os.path.abspath(folder)).name
    if not name:
        raise PlanError(f"{folder} has no name to derive one from: say with -o where to write.")
    return name


def _refuse_collisions(jobs: list[Job]) -> None:
    recordings = {_place(job.source): job.source for job in jobs}
    claimed: dict[str, Path] = {}
    for job in jobs:
        for output in job.outputs:
            place = _place(output)
            if place in recordings or _is_spelled_otherwise(output, job.source):
                raise PlanError(
                    f"{output} would replace the recording {recordings.get(place, job.source)}: "
                    "choose another place with -o."
                )
            if claimed.get(place) == job.source:
                raise PlanError(
                    f"Two outputs of {job.source} would both be {output}: give the cleaned files, the "
                    "residue, the pictures and the VAD results separate folders."
                )
            if place in claimed:
                raise PlanError(
                    f"{claimed[place]} and {job.source} would both be written to {output}: "
                    "clean them in two runs with different -o, or keep their folders apart."
                )
            claimed[place] = job.source


def _is_spelled_otherwise(output: Path, source: Path) -> bool:
    """Whether both are one file by two spellings: disks of Windows and macOS are used elsewhere too."""
    return (
        output.name.casefold() == source.name.casefold()
        and os.path.isfile(output)
        and os.path.samefile(output, source)
        and os.path.realpath(output.parent) == os.path.realpath(source.parent)
    )


def _place(path: Path) -> str:
    """What makes two paths one file: links resolved, letters compared as the system does."""
    place = os.path.join(os.path.realpath(path.parent), path.name)
    if os.path.islink(path):
        place = os.path.realpath(path)
    if sys.platform in ("darwin", "win32"):
        place = unicodedata.normalize("NFC", place).casefold()
    return place


def _settled(
    job: Job,
    options: Options,
    fingerprint: Callable[[Path], str] | None,
    outputs: Outputs,
) -> Job:
    """The job with its last word: what is already done, or what stands in the way."""
    if job.action != "clean":
        return job
    standing = [output for output in job.outputs if os.path.lexists(output)]
    for output in standing:
        if not os.path.isfile(output):
            return replace(
                job,
                action="refuse",
                reason=f"{output} exists already and is not a regular file, so {job.source} is "
                "not cleaned.",
            )
    job = replace(job, replaces=tuple(job.outputs if options.overwrite else standing))
    if options.skip_existing:
        earlier = {output: outputs.made(output) for output in job.outputs}
        mark = fingerprint(job.source) if fingerprint and any(earlier.values()) else ""
        same_recording = not any(outputs.made_from_another(o, job.source) for o in standing)
        if same_recording and _is_done(job, mark, earlier):
            return replace(
                job,
                action="skip",
                reason=f"{job.target} exists already, made with these settings.",
            )
    if options.overwrite:
        return job
    for output in standing:
        protected = _protected(output, job.source, options, outputs)
        if protected is not None:
            reason = (
                f"{output} exists already{protected}, so {job.source} is not cleaned: "
                "use --overwrite to replace it."
            )
            return replace(job, action="refuse", reason=reason)
    return job


def _protected(output: Path, source: Path, options: Options, outputs: Outputs) -> str | None:
    """What keeps a file that is there from being replaced, besides being there; None if it may be."""
    if not options.skip_existing:
        return ""
    if outputs.made(output) is None:
        return ", and no manifest says that audiodae made it"
    if outputs.changed(output):
        return ", and is not as audiodae wrote it"
    if another := outputs.made_from_another(output, source):
        return f", made from {another}"
    return None


def _is_done(job: Job, fingerprint: str, earlier: dict[Path, Made | None]) -> bool:
    """Whether every output is there as it was made, of the recording as it is and with these settings."""
    try:
        now = Made.of(job.source, fingerprint)
        return all(made == now and made.lies_at(output) for output, made in earlier.items())
    except OSError:
        return False
