"""Write a sound file block by block; it appears under its name when complete, or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import soundfile

from audiodae.errors import AudioError, reason
from audiodae.files import formats, id3
from audiodae.files.atomic import AtomicFile
from audiodae.files.codec_options import codec_options
from audiodae.files.samples import quantise, silence_nonfinite
from audiodae.files.sndfile import SequentialFile, open_file, tags_that_fit, unsigned
from audiodae.sound.channel_order import to_ogg

_COPY_FRAMES = 65536


class Writer:
    """Writes float32 blocks `(channels, n)` to a file that appears as `path` only on a clean end.

    `container` and `subtype` are libsndfile's names, by default those of the suffix;
    `output_format` chooses them for a source. `tags` are libsndfile's strings ("title", "artist",
    "comment", "date"...); `endian`, `bitrate` (bit/s, codecs only) come from the source's
    `AudioInfo`, as do `speakers` and `frames`, the expected length. A WAV that outgrows 4 GiB becomes RF64.

    With `replace` False a file that is there, or appears meanwhile, is an error and stays.

    `clipped` counts samples clamped to [-1, 1 - lsb] in integer subtypes, `nonfinite` those written
    as 0 for being NaN, infinite or absurdly loud, `frames` what was written; `warnings` names
    tags the container cannot hold or has changed. As a context manager it commits on a clean
    end and leaves nothing behind on an exception. Raises AudioError for a format that cannot be, a
    place that cannot be written, or a full disk.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        sample_rate: int,
        channels: int,
        container: str | None = None,
        subtype: str | None = None,
        tags: dict[str, str] | None = None,
        *,
        endian: str = "FILE",
        bitrate: int | None = None,
        frames: int | None = None,
        speakers: tuple[int, ...] = (),
        replace: bool = True,
    ) -> None:
        self.path = Path(path)
        implied, implied_subtype = formats.container_of(container or self.path)
        self.container = implied
        self.subtype = (subtype or implied_subtype or formats.default_subtype(implied)).upper()
        self.sample_rate, self.channels = sample_rate, channels
        self.clipped = self.nonfinite = self.frames = 0
        self.warnings: list[str] = []
        formats.check_format(self.container, self.subtype, sample_rate, channels)
        fits = soundfile.check_format(self.container, self.subtype, endian)
        self._speakers = speakers
        self._tags, self._endian, self._bitrate = tags or {}, endian if fits else "FILE", bitrate
        if formats.outgrows(self.container, self.subtype, channels, frames or 0):
            self.container = self._roomier()
        self._bits = formats.integer_bits(self.subtype)
        self._temporary = AtomicFile(self.path, replace=replace)
        try:
            self._file = self._open(self._temporary)
        except BaseException:
            self._temporary.discard()
            raise

    def write(self, block: np.ndarray) -> None:
        """Append `(channels, n)` samples; raises AudioError for another shape or a full disk."""
        if block.ndim != 2 or block.shape[0] != self.channels:
            raise AudioError(
                f"A block of shape {block.shape} was given; ({self.channels}, n) was wanted."
            )
        if self._file.closed:
            raise ValueError(f"The writer of {self.path} is closed; nothing can be added.")
        count = block.shape[1]
        if formats.outgrows(self.container, self.subtype, self.channels, self.frames + count):
            self._move_to(self._roomier())
        frames = to_ogg(np.ascontiguousarray(block.T, np.float32), self.subtype)
        samples, nonfinite = silence_nonfinite(frames)
        self.nonfinite += nonfinite
        if self._bits is not None:
            # Integers are made here: libsndfile rounds down, half a step of offset on average.
            samples, clipped = quantise(samples, self._bits)
            samples <<= 32 - self._bits
            self.clipped += clipped
        try:
            self._file.write(samples)
        except (soundfile.SoundFileError, AssertionError) as error:
            raise self._failure(error) from error
        self.frames += count

    def close(self) -> None:
        """Finish the file and put it under its name; nothing after the first time."""
        self.finish()
        self._temporary.commit()

    def finish(self) -> None:
        """Write what is left and check the file: all that can fail but for its name."""
        if self._file.closed:
            return
        try:
            self._file.close()
            self._put_tag()
            self._verify()
        except soundfile.SoundFileError as error:
            failure = self._failure(error)
            self.abort()
            raise failure from error
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Give up: the unfinished file is removed and what was under the name stays."""
        try:
            if not self._file.closed:
                self._file.close()
        except soundfile.LibsndfileError:
            pass
        finally:
            self._temporary.discard()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self.abort()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _open(self, temporary: AtomicFile) -> SequentialFile:
        try:
            file = open_file(
                temporary.fd,
                temporary.path,
                "w",
                samplerate=self.sample_rate,
                channels=self.channels,
                format=self.container,
                subtype=self.subtype,
                endian=self._endian,
                **codec_options(self.subtype, self.sample_rate, self.channels, self._bitrate),
            )
        except (soundfile.SoundFileError, OSError) as error:
            raise self._failure(error) from error
        file.leave_out_peak()
        if self._speakers:
            file.speakers = self._speakers
        if self.container == "MP3":
            return file  # `_put_tag` writes them
        for name, text in tags_that_fit(self._tags, self.container, self.subtype).items():
            # Containers without tags refuse them; `_verify` names those that are not there.
            with contextlib.suppress(soundfile.LibsndfileError):
                setattr(file, name, text)
        return file

    def _roomier(self) -> str:
        if self.container in ("WAV", "WAVEX") and self._endian != "BIG":
            return "RF64"
        raise AudioError(
            f"{self.path} would grow beyond the 4 GiB that {self.container} can hold; choose rf64,"
            " w64, caf or flac as the format."
        )

    def _move_to(self, container: str) -> None:
        """Go on in another container, with what was written so far copied bit by bit."""
        dtype = "float64" if self._bits is None else "int32"
        old, self.container = self._temporary, container
        try:
            self._file.close()
            self._temporary = AtomicFile(self.path, container, replace=old.replace)
            self._file = self._open(self._temporary)
            with open_file(old.fd, old.path, "r") as written:
                while len(block := written.read(_COPY_FRAMES, dtype=dtype, always_2d=True)):
                    self._file.write(block)
            self._temporary.supplant(old)
        except (soundfile.SoundFileError, AssertionError) as error:
            raise self._failure(error) from error
        finally:
            old.discard()

    def _put_tag(self) -> None:
        if self.container != "MP3" or not (tag := id3.tag(self._tags)):
            return
        try:
            self._temporary.put_in_front(tag)
        except OSError as error:
            raise self._unwritten(reason(error)) from error

    def _failure(self, error: BaseException) -> AudioError:
        """libsndfile only says that a write failed; the system says why."""
        cause = self._temporary.probe_disk()
        return self._unwritten(reason(cause) if cause else str(error).rstrip("."))

    def _unwritten(self, why: str) -> AudioError:
        return AudioError(f"{self.path} could not be written as {self.container}: {why}.")

    def _verify(self) -> None:
        """Check what codecs wrote while closing, when libsndfile no longer reports a full disk."""
        if cause := self._temporary.probe_disk():
            raise self._unwritten(reason(cause))
        wanted = (self.frames, self.sample_rate, self.channels)
        try:
            with open_file(self._temporary.fd, self._temporary.path, "r") as file:
                found, tags = (file.frames, file.samplerate, file.channels), file.text_tags
        except soundfile.LibsndfileError as error:
            if self.frames == 0:
                raise AudioError(
                    f"{self.path} was not written: {self.container} cannot hold a recording of 0"
                    " samples; choose wav as the format."
                ) from error
            raise AudioError(f"{self.path} was written but cannot be read back: {error}") from error
        if found != wanted:
            raise AudioError(
                f"{self.path} was not written: of {wanted} frames, Hz and channels {found} came"
                f" back from {self.container} with {self.subtype}; choose wav as the format."
            )
        self._compare(tags)

    def _compare(self, tags: dict[str, str]) -> None:
        """Name the tags that are not in the file, and those that are there as another text."""
        given = {name: text for name, text in self._tags.items() if text}
        if lost := sorted(given.keys() - tags.keys()):
            self.warnings.append(
                f"{self.container} does not keep the tags {', '.join(lost)} in {self.path}."
            )
        both = given.keys() & tags.keys()
        # Spaces around a text are no part of it, nor is the signature that is added to the software.
        if changed := sorted(n for n in both if _bare(given[n]) != _bare(tags[n])):
            self.warnings.append(
                f"{self.container} keeps the tags {', '.join(changed)} in {self.path} with another"
                " text than they had."
            )


def _bare(text: str) -> str:
    return unsigned(text).strip()
