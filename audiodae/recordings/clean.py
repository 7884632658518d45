"""Clean files and folders: plan, carry out, report."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from audiodae.errors import AudiodaeError, AudioError, PlanError, reason
from audiodae.files.audio import info
from audiodae.files.stamp import Stamp, stamp
from audiodae.nets.checkpoint import LOWER_RATE
from audiodae.recordings.blockwise import Progress, clean_together
from audiodae.recordings.job import Job
from audiodae.recordings.manifest import Made, Manifest
from audiodae.recordings.options import PRESETS, Options, Strength
from audiodae.recordings.plan import plan
from audiodae.recordings.report import FileReport, not_done
from audiodae.streaming.net_of import net_of

__all__ = [
    "PRESETS",
    "FileReport",
    "Job",
    "Options",
    "PlanError",
    "Strength",
    "carry_out",
    "clean_file",
    "clean_folder",
    "plan",
]

GPU_BATCH = 16  # files side by side


def clean_file(
    source: str | Path,
    target: str | Path | None,
    denoiser: Any,
    options: Options | None = None,
) -> FileReport:
    """Clean one file of any length into another of the same rate, channels, format and length.

    `target` None is `NAME-clean.EXT` beside the source; in a folder, the file keeps its name.
    `denoiser` is what `audiodae.load()` returns, or a model's name; `options` are those of the command, such
    as `audiodae.Options(overwrite=True, mix=0.9)`. Raises AudiodaeError when it cannot be done, and then
    nothing is left under the target's name.
    """
    if os.path.isdir(source):
        raise AudioError(f"{source} is a folder, and one file is wanted: use clean_folder.")
    options, denoiser = options or Options(), _loaded(denoiser)
    planned = plan([source], target, options, fingerprints(denoiser, options))
    if len(planned) > 1:  # of which only one could be told
        raise AudioError(
            f"{source} stands for {len(planned)} recordings, and one is wanted: clean them one by one, or "
            "their folder with clean_folder."
        )
    reports = list(carry_out(planned, denoiser, options))
    for report in reports:
        if report.status == "failed":
            raise AudioError(report.reason)
    return reports[0]


def clean_folder(
    source: str | Path,
    target: str | Path | None,
    denoiser: Any,
    options: Options | None = None,
    *,
    jobs: int = 1,
) -> Iterator[FileReport]:
    """Clean all audio below a folder into a mirrored tree; a report as each file is finished.

    `target` None is `NAME-clean` beside the folder. A file that fails is reported and the others go
    on. `denoiser` and `options` are as for `clean_file`. Raises AudiodaeError at once, before any work, when
    the folder is missing or holds no audio, or when outputs would fall on each other. On a CPU `jobs`
    processes share the files.
    """
    if not os.path.isdir(source):
        raise AudioError(f"{source} is not a folder: give the path of one, or use clean_file.")
    if jobs < 1:
        raise AudiodaeError(f"jobs is {jobs}: give 1 or more processes.")
    options, denoiser = options or Options(), _loaded(denoiser)
    planned = plan([source], target, options, fingerprints(denoiser, options))
    if len(planned) == 1 and planned[0].action == "refuse" and planned[0].source == Path(source):
        raise AudioError(planned[0].reason)
    return carry_out(planned, denoiser, options, workers=jobs)


def carry_out(
    jobs: Sequence[Job],
    denoiser: Any,
    options: Options,
    *,
    workers: int = 1,
    progress: Progress | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Generator[FileReport]:
    """Do what was planned; a report for every job, in the order of finishing.

    On a CPU, `workers` processes share the files. On a GPU, files of one rate and channel count go
    through the net side by side, in one process. When `stopped()` says yes, KeyboardInterrupt is
    raised between two blocks.
    """
    for job in jobs:
        if job.action != "clean":
            yield not_done(job)
    todo = [job for job in jobs if job.action == "clean"]
    if not todo:
        return
    with contextlib.closing(_Ledger(options, fingerprints(denoiser, options))) as ledger:
        if str(denoiser.device) != "cpu":
            batches = _batches(todo)
        elif min(workers, len(todo)) == 1:
            batches = iter([job] for job in todo)
        else:
            from audiodae.recordings.workers import spread

            workers = min(workers, len(todo))
            begin, end = ledger.begin, ledger.end
            yield from spread(todo, denoiser, options, workers, begin, end, progress, stopped)
            return
        for batch in batches:
            for job in batch:
                ledger.begin(job)
            reports = clean_together(batch, denoiser, options, progress, stopped)
            # All entered before the first is handed out: whoever receives them may stop there.
            pairs = zip(batch, reports, strict=True)
            yield from [ledger.end(job, report) for job, report in pairs]


def fingerprints(denoiser: Any, options: Options) -> Callable[[Path], str]:
    """For each recording, the fingerprint of the options and of the model that is to clean it."""
    at = getattr(denoiser, "at", None)
    known: dict[Any, str] = {}

    def of(source: Path) -> str:
        chosen = denoiser
        if at is not None and at(LOWER_RATE) is not denoiser:  # it depends on the recording's rate
            try:
                chosen = at(info(source).sample_rate)
            except (AudiodaeError, OSError):
                return ""  # it will not be cleaned either
        if chosen not in known:
            known[chosen] = fingerprint(chosen, options)
        return known[chosen]

    return of


def fingerprint(denoiser: Any, options: Options) -> str:
    """A hash of all that makes an output what it is: the options and the weights."""
    return options.fingerprint(_net(denoiser).fingerprint())


def _loaded(denoiser: Any) -> Any:
    if not isinstance(denoiser, str | os.PathLike):
        net_of(denoiser, "auto", LOWER_RATE)  # or a sentence
        return denoiser
    from audiodae.api import load

    return load(denoiser)


def _net(denoiser: Any) -> Any:
    return getattr(denoiser, "net", denoiser)


def _batches(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Jobs whose recordings can go side by side; alike in length, so that little is waited for."""
    alike: dict[tuple[int, int], list[tuple[float, int]]] = defaultdict(list)
    for i, job in enumerate(jobs):
        try:
            about = info(job.source)
            alike[about.sample_rate, about.channels].append((about.seconds or 0.0, i))
        except (AudiodaeError, OSError):
            alike[0, -i].append((0.0, i))  # fails alone, with its own sentence
    for rows in alike.values():
        order = [jobs[i] for _, i in sorted(rows)]
        for start in range(0, len(order), GPU_BATCH):
            yield order[start : start + GPU_BATCH]


@dataclass(frozen=True)
class _Begun:
    """What was known of an output, and what lay there, when the work on it began."""

    before: Made | None
    made: Made
    there: Stamp


class _Ledger:
    """Keeps the manifests: what was begun is ours, what is done need not be done again."""

    def __init__(self, options: Options, fingerprint: Callable[[Path], str]) -> None:
        self._options = options
        self._fingerprint = fingerprint
        self._manifests: dict[Path, Manifest] = {}
        self._begun: dict[tuple[Path, Path], _Begun] = {}

    def begin(self, job: Job) -> None:
        try:
            # As it is now: it may change meanwhile.
            made = Made.of(job.source, self._fingerprint(job.source))
        except OSError:
            return  # and the job itself will say why
        for root, output in job.recorded(self._options):
            if root not in self._manifests:
                self._manifests[root] = Manifest(root)
            manifest = self._manifests[root]
            before, there = manifest.get(output), stamp(output)
            if there is not None and before is None:
                before = manifest.get_anew(output)
            self._begun[root, output] = _Begun(before, made, there)
            # What cannot be entered here cannot be written either, or `end` tells it.
            with contextlib.suppress(OSError):
                manifest.record(output, made, job.source)

    def end(self, job: Job, report: FileReport) -> FileReport:
        for root, output in job.recorded(self._options):
            begun = self._begun.pop((root, output), None)
            if begun is None:
                continue
            manifest = self._manifests[root]
            try:
                self._enter(manifest, output, begun, job.source, report)
            except OSError as error:
                if output not in report.outputs:
                    continue  # there is nothing that should be known
                lost = (
                    f"{output}: --skip-existing will not know of it "
                    f"({error.filename or manifest.path}: {reason(error)})."
                )
                report = replace(report, warnings=(*report.warnings, lost))
        return report

    def _enter(
        self, manifest: Manifest, output: Path, begun: _Begun, source: Path, report: FileReport
    ) -> None:
        if output in report.outputs:
            manifest.record(output, begun.made.finished(output, report.model), source)
            return
        self._put_back(manifest, output, begun.before)

    def _put_back(self, manifest: Manifest, output: Path, before: Made | None) -> None:
        """What was known before; but another run may have made the output and entered it meanwhile."""
        if stamp(output) is not None:
            latest = manifest.get_anew(output)
            if latest is not None and latest.lies_at(output):
                return
        manifest.record(output, before)

    def close(self) -> None:
        """Forget what was begun and came to nothing; leave no empty manifest or folder behind."""
        for (root, output), begun in self._begun.items():
            # Of what was interrupted or lost nobody says how it ended: it may just have been made.
            if stamp(output) == begun.there:
                with contextlib.suppress(OSError):
                    self._put_back(self._manifests[root], output, begun.before)
        # A folder in another first, or the other were not empty yet.
        for root in sorted(self._manifests, key=lambda root: -len(root.absolute().parts)):
            self._manifests[root].close()
