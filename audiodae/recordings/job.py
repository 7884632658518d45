"""One recording and what is to be made from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from audiodae.files.formats import AudioInfo, output_format
from audiodae.files.stamp import Stamp, stamp
from audiodae.recordings.options import Options
from audiodae.recordings.sources import Action


@dataclass(frozen=True)
class Job:
    """One recording and the files to be made from it.

    `root` is the folder of the outputs and holds the manifest. `container` is set where the format
    is not that of the recording (a word such as "flac" or ".flac"). `reason` says why a job is
    skipped or refused. `replaces` are outputs under whose names a file may be replaced; those in `stamps`
    only while it is the one that was there when that was planned.
    """

    source: Path
    target: Path
    root: Path
    residue: Path | None = None
    plot: Path | None = None
    vad: Path | None = None
    container: str | None = None
    action: Action = "clean"
    reason: str = ""
    replaces: tuple[Path, ...] = ()
    stamps: tuple[tuple[Path, Stamp], ...] = ()

    @property
    def outputs(self) -> list[Path]:
        every = (self.target, self.residue, self.plot, self.vad)
        return [path for path in every if path is not None]

    def recorded(self, options: Options) -> list[tuple[Path, Path]]:
        """The files made, each with the folder whose manifest lists it."""
        rows = [(self.root, self.target)]
        if options.residue is not None and self.residue is not None:
            rows.append((options.residue, self.residue))
        if options.plot is not None and self.plot is not None:
            rows.append((options.plot, self.plot))
        if options.vad is not None and self.vad is not None:
            rows.append((self.vad.parent if options.vad == self.vad else options.vad, self.vad))
        return rows

    def changed(self) -> Path | None:
        """The first output that is not what it was when that was planned."""
        # Some disks give files new numbers as they like.
        return next(
            (path for path, was in self.stamps if (stamp(path) or ())[1:] != (was or ())[1:]), None
        )

    def form(self, path: Path, about: AudioInfo, options: Options) -> tuple[str, str]:
        """Container and subtype in which `path`, the target or the residue, is written.

        `about` is what the recording turned out to be. Raises AudioError where they cannot hold it.
        """
        container, subtype, suffix = output_format(about, self.container, options.subtype)
        wished = self.container is not None  # and then the plan saw that the name fits
        if not wished and suffix.lower() != path.suffix.lower() and path.suffix:
            # Its content was not what its name said: the name is what was planned with.
            container, subtype, _ = output_format(about, path.suffix, options.subtype)
        if container == "WAV" and about.speakers:
            container = "WAVEX"  # which has a place for them
        return container, subtype
