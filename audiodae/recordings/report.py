"""What a run did with each file: for programs as JSON, for people in words."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from audiodae import __version__
from audiodae.errors import AudiodaeError, reason
from audiodae.files.atomic import AtomicFile
from audiodae.files.regular import read_regular
from audiodae.nets.checkpoint import DEFAULT_MODEL
from audiodae.recordings.job import Job
from audiodae.recordings.options import Options

_KEYS = ("audiodae", "model", "settings", "totals", "files")


@dataclass(frozen=True)
class FileReport:
    """What happened to one recording.

    `seconds` of audio took `elapsed_seconds` (in a batch: its share, by length). `peak` is the
    largest absolute sample of the output; `clipped` counts those limited to fit the format,
    `nonfinite` those of the source that were NaN, infinite or absurdly loud and became 0.
    `attenuation_db` is the energy of the source over that of the output, None where either is silent.
    `reason` is a sentence: why it failed, or why it was skipped. `model` is the name of the model it
    went through. `outputs` are the files made.
    """

    source: Path
    target: Path
    status: Literal["done", "skipped", "failed"]
    seconds: float = 0.0
    elapsed_seconds: float = 0.0
    peak: float = 0.0
    clipped: int = 0
    nonfinite: int = 0
    attenuation_db: float | None = None
    warnings: tuple[str, ...] = ()
    reason: str = ""
    model: str = ""
    outputs: tuple[Path, ...] = ()

    @property
    def error(self) -> str | None:
        """Why it failed; None where it did not."""
        return self.reason if self.status == "failed" else None

    @property
    def real_time_factor(self) -> float | None:
        """Time taken over length of audio; None where there was no audio."""
        return self.elapsed_seconds / self.seconds if self.seconds else None


def not_done(job: Job) -> FileReport:
    """The report of a job that is skipped or refused."""
    status: Any = "skipped" if job.action == "skip" else "failed"
    return FileReport(job.source, job.target, status, reason=job.reason)


def explain(error: BaseException, subject: object) -> str:
    """A sentence for an error that names its `subject`; of one not foreseen, how to learn more."""
    if isinstance(error, AudiodaeError):
        return _naming(str(subject), str(error))
    if isinstance(error, OSError):
        return _naming(str(subject), f"{error.filename or subject}: {reason(error)}.")
    if isinstance(error, MemoryError) or "out of memory" in str(error):
        return f"{subject}: there is not enough memory for it on this device."
    return (
        f"{subject}: unexpected {type(error).__name__} ({error}). This is a bug in audiodae; "
        "--debug shows where."
    )


def _naming(subject: str, sentence: str) -> str:
    """The sentence, with its subject in front where it only speaks of something else, such as a format."""
    # As a word of its own: a.wav is not named by out/a.wav.
    named = re.search(rf"(?<![^\s(]){re.escape(subject)}(?=[:;,.)]*(?:\s|$))", sentence)
    return sentence if named else f"{subject}: {sentence}"


def write_report(
    path: Path,
    reports: Sequence[FileReport],
    options: Options,
    model: str | None,
    elapsed_seconds: float,
) -> None:
    """Write the JSON report; it appears whole or not at all. Raises AudiodaeError or OSError."""
    values = (
        __version__,
        model or DEFAULT_MODEL,
        _plain(asdict(options)),
        totals(reports) | {"elapsed_seconds": round(elapsed_seconds, 3)},
        [_row(report) for report in reports],
    )
    document = dict(zip(_KEYS, values, strict=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    with AtomicFile(path) as file:
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        # Names on disk may be no valid text; JSON has words for their odd bytes.
        file.write(text.encode("utf-8", "backslashreplace"))


def is_report(path: Path, keys: Collection[str] = _KEYS) -> bool:
    """Whether nothing is lost when a report is written to `path`: one with these keys is there, or no
    content.
    """
    try:
        document = json.loads(read_regular(path) or b"null")
    except (OSError, ValueError, RecursionError):
        return False
    return document is None or (isinstance(document, dict) and set(keys) <= document.keys())


def totals(reports: Sequence[FileReport]) -> dict[str, Any]:
    count = {
        status: sum(report.status == status for report in reports)
        for status in ("done", "skipped", "failed")
    }
    return count | {"seconds": round(sum(report.seconds for report in reports), 6)}


def summary(reports: Sequence[FileReport], elapsed_seconds: float) -> str:
    """One line: how many files, how much audio, how fast."""
    count = totals(reports)
    parts = [f"{count['done']} cleaned"]
    parts += [f"{count[status]} {status}" for status in ("skipped", "failed") if count[status]]
    line = ", ".join(parts)
    if count["done"] and elapsed_seconds > 0:
        speed = count["seconds"] / elapsed_seconds
        line += f": {count['seconds']:.1f} s of audio in {elapsed_seconds:.1f} s"
        line += f" ({speed:.1f} times real time)"
    return line + "."


def _row(report: FileReport) -> dict[str, Any]:
    row = asdict(report) | {
        "real_time_factor": report.real_time_factor,
        "error": report.error,
    }
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 6)
    return str(value) if isinstance(value, Path) else value
