"""What has been done already of a planned recording, and what stands in its way."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from audiodae.files.stamp import stamp
from audiodae.recordings.job import Job
from audiodae.recordings.manifest import Made, Outputs
from audiodae.recordings.options import Options


def settled(
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
    return replace(job, stamps=tuple((output, stamp(output)) for output in standing))


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
