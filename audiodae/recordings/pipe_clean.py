"""`audiodae clean -`: sound from one pipe to another, live."""

from __future__ import annotations

from typing import Any, BinaryIO

from audiodae.files.pipe import PipeReader, PipeWriter
from audiodae.recordings.options import Options
from audiodae.signals import Stop
from audiodae.sound.arrays import NO_SOUND
from audiodae.streaming.stream import Streamer

READ_SECONDS = 0.1  # at most; what is there earlier is taken earlier

_KEPT = {"u8": "s16", "f64": "f32"}  # encodings that can be read but not written


def clean_pipe(
    source: BinaryIO,
    target: BinaryIO,
    denoiser: Any,
    options: Options,
    *,
    encoding: str | None = None,
    sample_rate: int | None = None,
    channels: int = 1,
    stop: Stop | None = None,
) -> list[str]:
    """Clean a stream until it ends, as many samples out as in; returns warnings for the user.

    With `encoding` ("s16", "s24", "s32", "f32") both sides are raw little-endian PCM of
    `sample_rate` and `channels`; without, both are WAV. Frames are cleaned one by one, so the delay
    is the least there is. A signal noted by `stop` ends the stream: what came before is finished.
    Raises AudioError for a stream that cannot be made sense of; a BrokenPipeError of the target is
    passed on.
    """
    stop = stop or Stop()
    with stop.waiting():
        reader = PipeReader(source, encoding, sample_rate, channels)
    streamer = Streamer(
        denoiser,
        sample_rate=reader.sample_rate,
        channels=reader.channels,
        link=options.link,
        mix=options.mix,
        attenuation_limit_db=options.attenuation_limit_db,
        block_frames=1,
    )
    kept = _KEPT.get(reader.encoding, reader.encoding)
    raw = encoding is not None
    with PipeWriter(target, reader.sample_rate, reader.channels, kept, wav=not raw) as writer:
        for block in reader.blocks(max(1, round(READ_SECONDS * reader.sample_rate)), stop):
            writer.write(streamer.feed(block))
        # For a stream without any samples there is nothing to know the shape of the rest from.
        writer.write(streamer.flush().reshape(reader.channels, -1))
    warnings = list(reader.warnings)
    if reader.nonfinite:
        warnings.append(f"{reader.nonfinite} samples were {NO_SOUND}: they became 0.")
    if writer.clipped:
        warnings.append(f"{writer.clipped} samples were clipped at full scale.")
    return warnings
