"""One recording under way: what is read from it, written for it and known about it."""

from __future__ import annotations

import logging
import math
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audiodae.errors import AudioError
from audiodae.files.atomic import AtomicFile
from audiodae.files.audio import Reader, Writer
from audiodae.files.formats import is_lossy
from audiodae.files.stamp import stamp
from audiodae.recordings.job import Job
from audiodae.recordings.options import Options
from audiodae.recordings.report import FileReport, explain
from audiodae.sound.arrays import LOUD, NO_SOUND
from audiodae.streaming.voice import VoiceTrack

Samples = NDArray[np.float32]

log = logging.getLogger("audiodae")


class Track:
    """One recording under way: what is read from it, written for it and known about it."""

    def __init__(self, job: Job, options: Options) -> None:
        self.job = job
        self._drawn = False
        self.failure = ""
        self.model = ""
        self.voice: VoiceTrack | None = None
        self.warnings: list[str] = []
        self._named: list[Path] = []  # what has been put under its name
        self._files = ExitStack()
        self._residue: Writer | None = None
        self._read = self.written = 0
        self._vad: AtomicFile | None = None
        self._energy_in = self._energy_out = self._peak = 0.0
        self._came = stamp(job.source)
        try:
            self.reader = self._files.enter_context(Reader(job.source))
            self.info = self.reader.info
            self._waiting: Samples = np.zeros((self.info.channels, 0), np.float32)
            self._writer = self._files.enter_context(self._create(job.target, options))
            if job.residue is not None:
                self._residue = self._files.enter_context(self._create(job.residue, options))
            if job.vad is not None:
                job.vad.parent.mkdir(parents=True, exist_ok=True)
                self._vad = self._files.enter_context(
                    AtomicFile(job.vad, replace=job.vad in job.replaces)
                )
        except Exception as error:
            self.fail(error)
        except BaseException as error:
            self.fail(error)
            raise

    def _create(self, path: Path, options: Options) -> Writer:
        about = self.info
        container, subtype = self.job.form(path, about, options)
        wished = self.job.container is not None or options.subtype is not None
        if is_lossy(subtype) and about.lossless and not wished:
            self.warnings.append(
                f"{path}: its recording loses nothing, but what is named so is {subtype} and does: give "
                "--format flac for no loss."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        return Writer(
            path,
            about.sample_rate,
            about.channels,
            container,
            subtype,
            about.tags,
            endian=about.endian if container == about.container else "FILE",
            bitrate=about.bitrate,
            frames=about.frames,
            speakers=about.speakers,
            replace=path in self.job.replaces,
        )

    @property
    def seconds(self) -> float:
        return self._read / self.info.sample_rate if self._read else 0.0

    def read(self, length: int) -> Samples:
        """The next `(channels, length)` samples, fewer at the end, none once it has failed."""
        nothing: Samples = np.zeros((self.info.channels, 0), np.float32)
        if self.failure:
            return nothing
        try:
            block: Samples = self.reader.read(length)
        except Exception as error:
            self.fail(error)
            return nothing
        self._read += block.shape[1]
        self._energy_in += _energy(block)
        if self._residue is not None:
            self._waiting = np.concatenate((self._waiting, block), axis=1)
        return block

    def write(self, cleaned: Samples) -> None:
        """Take `(channels, n)` cleaned samples; what lies beyond the end of the track is let go."""
        if self.failure:
            return
        cleaned = cleaned[:, : self._read - self.written]
        try:
            if not np.isfinite(cleaned).all():
                raise AudioError(
                    f"{self.job.source} was not cleaned: the model answered with numbers that are "
                    "not finite. Are its weights sound?"
                )
            self._writer.write(cleaned)
            if self._residue is not None:
                count = cleaned.shape[1]
                self._residue.write(self._waiting[:, :count] - cleaned)
                self._waiting = self._waiting[:, count:]
        except Exception as error:
            self.fail(error)
            return
        self.written += cleaned.shape[1]
        self._energy_out += _energy(cleaned)
        self._peak = max(self._peak, float(np.abs(cleaned).max(initial=0.0)))

    def finish(self) -> None:
        """Put the files under their names."""
        if self.failure:
            return
        try:
            if self._vad is not None:
                about = {"source": str(self.job.source), "seconds": round(self.seconds, 3)}
                voice = self.voice or VoiceTrack(self.info.sample_rate, 1.0)
                for piece in voice.as_json(about):
                    self._vad.write(piece.encode())
            for writer in (self._writer, self._residue):
                if writer is not None:
                    writer.finish()  # before any of them has its name
            if changed := self.job.changed():
                raise AudioError(
                    f"{changed} was changed while this run was going, so it stays, and {self.job.source} is "
                    "not cleaned: use --overwrite to replace it."
                )
            job = self.job
            # The target is the last: where it is, all others are.
            if job.vad is not None and self._vad is not None:
                self._vad.commit()
                self._named.append(job.vad)
            if job.residue is not None and self._residue is not None:
                self._residue.close()
                self._named.append(job.residue)
            self._writer.close()
            self._named.append(job.target)
            self._files.close()
        except Exception as error:
            self.fail(error)

    def draw(self) -> None:
        """Make the picture that was asked for; without one, the sound is no worse: only a warning."""
        if self.failure or self.job.plot is None:
            return
        try:
            from audiodae.recordings.plot import plot_files

            self.job.plot.parent.mkdir(parents=True, exist_ok=True)
            replace = self.job.plot in self.job.replaces
            plot_files(self.job.source, self.job.target, self.job.plot, replace=replace)
            self._drawn = True
        except Exception as error:
            log.debug("%s was not drawn", self.job.plot, exc_info=error)
            self.warnings.append(explain(error, self.job.plot))

    def fail(self, error: BaseException) -> None:
        """Remove what is unfinished; the first failure is the one that is told."""
        if not self.failure:
            self.failure = explain(error, self.job.source)
            log.debug("%s failed", self.job.source, exc_info=error)
        self._files.__exit__(type(error), error, error.__traceback__)

    def report(self, elapsed_seconds: float) -> FileReport:
        job = self.job
        if self.failure:
            made = tuple(self._named)  # what is there all the same is ours
            return FileReport(job.source, job.target, "failed", reason=self.failure, outputs=made)
        nonfinite = self.reader.nonfinite
        written = [(job.target, self._writer)]
        if job.residue is not None and self._residue is not None:
            written.append((job.residue, self._residue))
        warnings = [*self.reader.warnings, *(w for _, file in written for w in file.warnings)]
        warnings += self.warnings
        if nonfinite:
            warnings.append(
                f"{job.source} has {nonfinite} samples that are {NO_SOUND}: they became 0."
            )
        # Some disks give files new numbers as they like; and of what is gone there is no newer one.
        if (now := stamp(job.source)) and now[1:] != (self._came or now)[1:]:
            warnings.append(
                f"{job.source} was changed while it was cleaned, so what was made of it may be old in part: "
                "clean it again once it stays as it is."
            )
        if self._peak > LOUD:
            warnings.append(
                f"{job.source} reaches {20 * math.log10(self._peak):+.0f} dBFS: its samples seem to be whole "
                "numbers stored as floats, and such loud ones are cleaned badly. Full scale is 1."
            )
        for path, file in written:
            if file.clipped:
                warnings.append(f"{path} has {file.clipped} samples clipped at full scale.")
        attenuation = None
        if self._energy_in and self._energy_out:
            attenuation = 10.0 * math.log10(self._energy_in / self._energy_out)
        return FileReport(
            job.source,
            job.target,
            "done",
            self.seconds,
            elapsed_seconds,
            self._peak,
            self._writer.clipped,
            nonfinite,
            attenuation,
            tuple(warnings),
            model=self.model,
            outputs=tuple(path for path in job.outputs if path != job.plot or self._drawn),
        )


def _energy(samples: Samples) -> float:
    flat = samples.ravel()
    return float(np.einsum("i,i->", flat, flat, dtype=np.float64))
