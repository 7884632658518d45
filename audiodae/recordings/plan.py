"""Plan before acting: which recordings are cleaned into which files, decided before any work.

`plan` changes nothing on disk. What it returns is what `--dry-run` prints and `clean` carries out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from audiodae.errors import PlanError
from audiodae.files.formats import check_subtype
from audiodae.files.place import nearest_there
from audiodae.recordings.job import Job
from audiodae.recordings.manifest import MANIFEST_NAME, Outputs
from audiodae.recordings.options import Options
from audiodae.recordings.settled import settled
from audiodae.recordings.sources import Finder, place_of
from audiodae.recordings.targets import is_one_file, job_of, names_a_file


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
    folders = target, options.residue, options.plot, options.vad
    closed = [Path(folder) for folder in folders if folder]
    finder = Finder(closed)
    found = [item for source in given for item in finder.find(source)]
    if found and all(item.action == "skip" for item in found):
        raise PlanError(
            "There is nothing to clean: all that was given are files audiodae made. To clean them "
            f"once more, copy them elsewhere or remove the {MANIFEST_NAME} in their folder."
        )
    named = names_a_file(found, target)
    alone = len(given) == 1 and os.path.isdir(given[0])
    jobs = [job_of(item, target, named, alone, options) for item in found]
    jobs = list(dict.fromkeys(jobs))  # a file named twice, or once more by a pattern, is one job
    to_clean = [job for job in jobs if job.action == "clean"]
    vad_folder = None if is_one_file(options.vad) else options.vad
    for folder in (None if named else target, options.residue, options.plot, vad_folder):
        if folder is not None:
            _refuse_no_folder(Path(folder))
    if is_one_file(options.vad) and len(to_clean) > 1:
        raise PlanError(
            f"{options.vad} is to hold the speech probabilities of {len(to_clean)} recordings, but it "
            "is the name of one file: give a folder with --vad."
        )
    _refuse_collisions(to_clean)
    outputs = Outputs()
    return [settled(job, options, fingerprint, outputs) for job in jobs]


def _refuse_no_folder(folder: Path) -> None:
    """What is there under the name of a folder for outputs, or of one above it, must be one."""
    there = nearest_there(folder)
    if not os.path.isdir(there):
        what = "a file" if os.path.lexists(there) else "not there"
        if there.is_symlink():
            what = "a link that leads to no folder"
        raise PlanError(
            f"{folder} is to be a folder for outputs, but {there} is {what}: give another name."
        )


def _refuse_collisions(jobs: list[Job]) -> None:
    recordings = {place_of(job.source): job.source for job in jobs}
    claimed: dict[str, Path] = {}
    for job in jobs:
        for output in job.outputs:
            place = place_of(output)
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
