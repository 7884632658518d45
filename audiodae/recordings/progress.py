"""What a run says on the terminal while it works."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from audiodae.errors import AudiodaeError, printable

if TYPE_CHECKING:
    from audiodae.recordings.job import Job
    from audiodae.recordings.report import FileReport
    from audiodae.recordings.sources import Found
    from audiodae.recordings.walk import Outcome

_WITHIN = "{percentage:3.0f}%|{bar}| {n:.0f} of {total:.0f} s, {speed}, {remaining} left"
_ON_AND_ON = "{n:.0f} s, {speed}"


def bar(
    jobs: Sequence[Job | Found], quiet: bool, stopped: Callable[[], bool] = lambda: False
) -> Any:
    """A bar in seconds of audio with speed and time left; nothing where there is no terminal.

    `stopped()` is asked while lengths are looked up, and a yes raises KeyboardInterrupt.
    """
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        monitor_interval = 0  # no thread beside us: blocks come often enough

        @property
        def format_dict(self) -> dict[str, Any]:
            known: dict[str, Any] = super().format_dict
            rate = known["rate"] or (known["n"] / known["elapsed"] if known["elapsed"] else 0.0)
            # Not every recording says how long it is, and tqdm drops a total that is exceeded.
            within = known["total"] and known["n"] < known["total"] + 0.5
            shape = _WITHIN if within else _ON_AND_ON
            return known | {"bar_format": shape, "speed": f"{rate:.0f}x real time"}

    shown = sys.stderr.isatty() and not quiet
    return Bar(
        total=_seconds_of(jobs, stopped) if shown else None,
        disable=not shown,
        file=sys.stderr,
        dynamic_ncols=True,  # a window may be made narrower meanwhile
    )


def _seconds_of(jobs: Sequence[Job | Found], stopped: Callable[[], bool]) -> float:
    from audiodae.files.audio import info

    total = 0.0
    for job in jobs:
        if stopped():
            raise KeyboardInterrupt
        with suppress(AudiodaeError, OSError):
            about = info(job.source)
            known = about.frames / about.sample_rate if about.frames is not None else about.seconds
            total += known or 0.0
    return total


def show(jobs: list[Job]) -> bool:
    """Print a plan on standard output; whether all of it can be done."""
    for job in jobs:
        if job.action == "clean":
            click.echo(printable(f"{job.source} -> {job.target}"))
        else:
            click.echo(printable(f"{job.action}: {job.reason}"))
    return all(job.action != "refuse" for job in jobs)


def tell(report: FileReport, verbose: bool) -> None:
    if verbose:
        figures = f"{report.seconds:.1f} s"
        if report.real_time_factor:
            figures += f", {1 / report.real_time_factor:.0f}x real time"
        if report.attenuation_db is not None:
            figures += f", {report.attenuation_db:.1f} dB quieter"
        arrow = f"{report.source} -> {report.target} ({figures})"
        say(arrow if report.status == "done" else f"{report.status}: {report.reason}")
    for warning in report.warnings:
        say(f"Warning: {warning}")


def say(line: str) -> None:
    from tqdm import tqdm

    tqdm.write(printable(line), file=sys.stderr)  # above the bar, if there is one


def failed(outcomes: Sequence[Outcome[Any]]) -> bool:
    """Name what could not be done, at the end, where it is seen; whether there was any."""
    reasons = [outcome.reason for outcome in outcomes if outcome.reason]
    if reasons:
        say(f"{len(reasons)} of {len(outcomes)} could not be used:")
    for line in reasons:
        say(f"  {line}")
    return bool(reasons)
