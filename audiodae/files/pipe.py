"""Sound through pipes: WAV or raw PCM on binary streams that cannot seek, live.

A read returns as soon as whole frames are there, so that a microphone upstream is heard at once;
what arrived of a frame that is not yet whole is held back for the next read. A broken pipe is the
caller's to handle.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from audiodae.errors import AudioError
from audiodae.files.samples import silence_nonfinite
from audiodae.files.wav import ENCODINGS, UNKNOWN_BYTES, PcmLayout, is_placeholder, parse_fmt
from audiodae.signals import Stop

_HEADER_CHUNK_BYTES = 65536


class PipeReader:
    """Reads a WAV stream, or raw little-endian PCM where `encoding` says which.

    `stream` is a binary stream such as `sys.stdin.buffer`; it is read, never sought, not closed.
    Raw PCM ("s16", "s24", "s32", "f32") needs `sample_rate` and `channels`; a WAV header brings
    its own. After construction `sample_rate`, `channels`, `encoding` and `frames` (None: until the
    stream ends) are known; `nonfinite` counts samples that are NaN, infinite or absurdly loud
    and were read as 0, `truncated` and `warnings` tell of sound that broke off early.
    Raises AudioError for a stream that is not WAV, or a WAV that is neither PCM nor float.
    """

    def __init__(
        self,
        stream: BinaryIO,
        encoding: str | None = None,
        sample_rate: int | None = None,
        channels: int = 1,
    ) -> None:
        self._stream = stream
        # A non-blocking stream says "nothing yet" in the same way as "the end".
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.set_blocking(stream.fileno(), True)
        self._held = b""
        self._position = 0
        self._left: int | None = None
        self._behind = 0  # bytes announced after the sound
        self.frames: int | None = None
        self.data_bytes, self.byte_order = 0, "<"  # as a WAV header says
        self.nonfinite = 0
        self.truncated = False
        self.warnings: list[str] = []
        if encoding is None:
            self._layout = self._parse_header()
        elif sample_rate is None:
            raise AudioError("Raw PCM does not say its sample rate; give it (--rate 48000).")
        else:
            self._layout = PcmLayout(_known(encoding), sample_rate, channels)
        self.encoding = self._layout.encoding
        self.sample_rate, self.channels = self._layout.sample_rate, self._layout.channels
        self.frame_bytes = self._layout.frame_bytes

    def read(self, n: int) -> np.ndarray:
        """The next 1 to `n` frames, `(channels, m)` float32, as soon as any are whole.

        At the end of the stream `(channels, 0)`.
        """
        if n < 1:
            raise ValueError(f"read({n}) was asked for; a block has at least one frame.")
        frame_bytes = self.frame_bytes
        data = self._held
        while len(data) < frame_bytes:
            want = n * frame_bytes - len(data)
            if self._left is not None:
                want = min(want, self._left)
            chunk = self._some(want) if want else b""
            if not chunk:
                self._end(len(data))
                return np.zeros((self.channels, 0), np.float32)
            if self._left is not None:
                self._left -= len(chunk)
            data += chunk
        whole = len(data) // frame_bytes * frame_bytes
        self._held = data[whole:]
        samples, nonfinite = silence_nonfinite(self._layout.decode(data[:whole]))
        self.nonfinite += nonfinite
        return np.ascontiguousarray(samples.T)

    def read_on(self, frames: int) -> None:
        """Before the first read: there are so many frames, whatever the header said."""
        self.frames, self._left, self._behind = frames, frames * self.frame_bytes, 0

    def blocks(self, n: int, stop: Stop | None = None) -> Iterator[np.ndarray]:
        """All blocks of 1 to `n` frames until the end of the stream, or a signal noted by `stop`."""
        stop = stop or Stop()
        while not stop():
            try:
                with stop.waiting():  # for sound that may not come
                    block = self.read(n)
            except KeyboardInterrupt:
                if stop():
                    return
                raise
            if not block.shape[1]:
                return
            yield block

    def _end(self, held_bytes: int) -> None:
        if self._left or held_bytes:
            early = f"{self._left} bytes before its announced end"
            where = early if self._left else "in the middle of a frame"
            self.truncated = True
            self.warnings.append(f"The stream broke off {where}; what came before was kept.")
        self._held, self._left = b"", 0
        # Tags behind the sound: whoever sends them would otherwise die of a broken pipe.
        while self._behind and (rest := self._some(min(self._behind, _HEADER_CHUNK_BYTES))):
            self._behind -= len(rest)

    def _some(self, size: int) -> bytes:
        # read1 gives what is there; read would wait for all of it.
        read = getattr(self._stream, "read1", self._stream.read)
        data = bytes(read(size) or b"")
        self._position += len(data)
        return data

    def _exactly(self, size: int) -> bytes:
        parts = []
        while size and (part := self._some(size)):
            parts.append(part)
            size -= len(part)
        if size:
            raise AudioError(
                "The WAV stream ended inside its header; was the program before the pipe cut off?"
            )
        return b"".join(parts)

    def _parse_header(self) -> PcmLayout:
        head = self._some(4)
        while 0 < len(head) < 4 and (more := self._some(4 - len(head))):
            head += more
        if not head:
            raise AudioError("The input stream is empty: nothing came before its end.")
        if head not in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
            raise AudioError(
                f"The input stream is not WAV (it begins with {head!r}). Pipe in WAV, or describe"
                " the raw samples with --rate and --encoding."
            )
        order = ">" if head == b"RIFX" else "<"
        (riff_bytes,) = struct.unpack(order + "I", self._exactly(4))
        if self._exactly(4) != b"WAVE":
            raise AudioError("The input stream is RIFF but not WAVE; pipe in WAV sound.")
        layout: PcmLayout | None = None
        data_bytes_64 = 0
        while True:
            kind, size = struct.unpack(order + "4sI", self._exactly(8))
            if kind == b"data":
                break
            body = self._header_chunk(size + size % 2, keep=kind in (b"fmt ", b"ds64"))
            if kind == b"fmt ":
                layout = parse_fmt(body, order)
            elif kind == b"ds64" and len(body) >= 16:
                (data_bytes_64,) = struct.unpack_from("<Q", body, 8)
        if layout is None:
            raise AudioError("The WAV stream has no 'fmt ' chunk before its data.")
        self.data_bytes, self.byte_order = size, order
        if size == UNKNOWN_BYTES and 0 < data_bytes_64 < 1 << 63:
            self.frames = data_bytes_64 // layout.frame_bytes
        elif size == 0:
            # Where more chunks are announced after the data, the recording truly is empty.
            empty = self._position - 8 < riff_bytes and not is_placeholder(riff_bytes)
            self.frames = 0 if empty else None
        elif not is_placeholder(size):
            self.frames = size // layout.frame_bytes
        if self.frames is not None:
            self._left = self.frames * layout.frame_bytes
            if not is_placeholder(riff_bytes):
                self._behind = max(0, 8 + riff_bytes - self._position - self._left)
        return layout

    def _header_chunk(self, size: int, keep: bool) -> bytes:
        """The body of a chunk before the data; nothing is kept of unwanted ones (cover art)."""
        if keep and size > _HEADER_CHUNK_BYTES:
            raise AudioError(
                f"The WAV stream has a header chunk of {size} bytes; it is damaged or not WAV."
            )
        if keep:
            return self._exactly(size)
        while size:
            size -= len(self._exactly(min(size, _HEADER_CHUNK_BYTES)))
        return b""


class PipeWriter:
    """Writes float32 blocks as PCM to a stream that cannot seek, each block at once.

    `encoding` is "s16", "s24", "s32" or "f32", little-endian. With `wav` a header goes first whose
    sizes say "until the end"; where the stream turns out to be a file, `close` puts the true ones
    in. Integers are clamped to [-1, 1 - lsb] and `clipped` counts the clamped; `nonfinite` counts
    samples written as 0 for being NaN, infinite or absurdly loud. BrokenPipeError is passed on. The
    stream is flushed, not closed.
    """

    def __init__(
        self, stream: BinaryIO, sample_rate: int, channels: int, encoding: str, wav: bool
    ) -> None:
        self._stream = stream
        self._layout = PcmLayout(_known(encoding), sample_rate, channels)
        self.encoding, self.sample_rate, self.channels = encoding, sample_rate, channels
        self.clipped = self.nonfinite = 0
        self._data_bytes = 0
        self._start = _file_position(stream) if wav else None
        if wav:
            self._send(self._layout.header(None))

    def write(self, block: np.ndarray) -> None:
        """Write `(channels, n)` float32 and flush it."""
        if block.ndim != 2 or block.shape[0] != self.channels:
            raise AudioError(
                f"A block of shape {block.shape} was given; ({self.channels}, n) was wanted."
            )
        samples, nonfinite = silence_nonfinite(np.ascontiguousarray(block.T, np.float32))
        data, clipped = self._layout.encode(samples)
        self._send(data)
        self.nonfinite += nonfinite
        self.clipped += clipped
        self._data_bytes += len(data)

    def close(self) -> None:
        """Finish: in a file the header's sizes are put right; in a pipe there is nothing to do."""
        start, self._start = self._start, None
        if start is not None:
            if self._data_bytes % 2:
                self._send(b"\0")
            if self._data_bytes + 64 < UNKNOWN_BYTES:
                end = self._stream.tell()
                self._stream.seek(start)
                self._send(self._layout.header(self._data_bytes))
                self._stream.seek(end)
        self._stream.flush()

    def __enter__(self) -> PipeWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            # Raw streams may take a part only.
            view = view[self._stream.write(view) or 0 :]
        self._stream.flush()


def _known(encoding: str) -> str:
    if encoding not in ENCODINGS:
        raise AudioError(
            f"The encoding {encoding!r} is not known; choose one of {', '.join(ENCODINGS)}."
        )
    return encoding


def _file_position(stream: BinaryIO) -> int | None:
    """Where a header begins that can be put right later; None in pipes and when appending."""
    try:
        if not stream.seekable():
            return None
        with contextlib.suppress(ImportError, OSError, ValueError):
            import fcntl

            if fcntl.fcntl(stream.fileno(), fcntl.F_GETFL) & os.O_APPEND:
                return None
        return stream.tell()
    except (OSError, ValueError, AttributeError):
        return None
