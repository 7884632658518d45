"""`--dry-run`: what would fail once files are opened, found without writing anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from audiodae.files.audio import info
from audiodae.recordings.job import Job
from audiodae.recordings.options import Options
from audiodae.recordings.report import explain


def dry_run(jobs: Sequence[Job], options: Options) -> list[Job]:
    """The plan, with the recordings refused that cannot be opened or whose format cannot hold them."""
    return [_tried(job, options) if job.action == "clean" else job for job in jobs]


def _tried(job: Job, options: Options) -> Job:
    try:
        about = info(job.source)
        for path in (job.target, job.residue):
            if path is not None:
                job.form(path, about, options)
    except Exception as error:  # whatever it is, it would be the failure of the run
        return replace(job, action="refuse", reason=explain(error, job.source))
    return job
