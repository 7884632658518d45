"""Cleaning inside a pipeline: an iterator of chunks becomes an iterator of cleaned chunks.

The same `Streamer` as everywhere, as generators: `clean_chunks` for loops, `aclean_chunks` for
asyncio, where the work is done beside the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Generator,
    Iterable,
    Iterator,
)
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Unpack

from audiodae.api import Denoiser, check_layout, load
from audiodae.errors import AudiodaeError, AudioError
from audiodae.nets.checkpoint import DEFAULT_MODEL
from audiodae.streaming.settings import Settings
from audiodae.streaming.stream import Streamer

if TYPE_CHECKING:
    from audiodae.sound.arrays import Audio

_END = object()  # of a source; None would be a chunk, and a wrong one

Model = str | os.PathLike[str] | Denoiser | None


def clean_chunks(
    chunks: Iterable[Audio],
    *,
    sample_rate: int,
    model: Model = None,
    **settings: Unpack[Settings],
) -> Generator[Audio]:
    """Clean a running signal chunk by chunk, as a generator.

    Args:
        chunks: `(n,)` or `(channels, n)`, or `(batch, channels, n)` for several signals at once;
            any `n`, also 0; numpy or torch, floating-point. The first one sets the layout.
        sample_rate: of the chunks, in Hz.
        model: what `audiodae.load()` returns, a shipped model's name, or a path; None is the default.
        settings: as for `Streamer`: mix, attenuation_limit_db, link, block_frames, engine.

    Yields:
        Cleaned chunks of the same kind and layout, each as soon as it is ready (none of them is
        empty), and at the end the rest: together exactly as many samples as came in, each at its
        own place.

    Raises:
        AudiodaeError: for a model, a setting or a chunk that makes no sense.
    """
    stream = None
    for chunk in chunks:
        if stream is None:
            stream = _stream_for(chunk, sample_rate, model, settings)
        clean = stream.feed(chunk)
        if clean.shape[-1]:
            yield clean
    if stream is not None and (rest := stream.flush()).shape[-1]:
        yield rest


async def aclean_chunks(
    chunks: AsyncIterable[Audio] | Iterable[Audio],
    *,
    sample_rate: int,
    model: Model = None,
    **settings: Unpack[Settings],
) -> AsyncGenerator[Audio]:
    """`clean_chunks` for asyncio: the cleaning runs in a thread, so the event loop stays free.

    So does waiting for the next chunk, where `chunks` is an ordinary iterable.

    The next chunk is asked for when the last one has been cleaned and taken, so nothing piles up
    here when whoever listens is slow.
    """
    stream = None
    async for chunk in _as_async(chunks):
        if stream is None:
            stream = await asyncio.to_thread(_stream_for, chunk, sample_rate, model, settings)
        clean = await asyncio.to_thread(stream.feed, chunk)
        if clean.shape[-1]:
            yield clean
    if stream is not None and (rest := await asyncio.to_thread(stream.flush)).shape[-1]:
        yield rest


def _stream_for(chunk: Any, sample_rate: int, model: Model, settings: Settings) -> Streamer:
    settings = settings.copy()
    shape = tuple(getattr(chunk, "shape", ()))
    if not 1 <= len(shape) <= 3:
        raise AudioError(
            f"The first chunk is a {type(chunk).__name__} of shape {shape}; an array (n,), "
            "(channels, n) or (batch, channels, n), time last, is wanted."
        )
    check_layout(chunk, whole=False)
    if known := sorted({"batch", "channels"} & settings.keys()):
        raise AudiodaeError(
            f"{' and '.join(known)} cannot be set here: the first chunk, of shape {shape}, says it."
        )
    if model is None or isinstance(model, str | os.PathLike):
        engine = settings.pop("engine", "auto")
        model = load(DEFAULT_MODEL if model is None else model, engine=engine)
    return Streamer(
        model,
        sample_rate=sample_rate,
        batch=shape[0] if len(shape) == 3 else 1,
        channels=shape[-2] if len(shape) > 1 else 1,
        **settings,
    )


async def _as_async(chunks: AsyncIterable[Audio] | Iterable[Audio]) -> AsyncIterator[Audio]:
    if isinstance(chunks, AsyncIterable):
        async for chunk in chunks:
            yield chunk
    else:
        iterator: Iterator[Any] = iter(chunks)

        loop = asyncio.get_running_loop()
        asked: SimpleQueue[asyncio.Future[Any] | None] = SimpleQueue()

        def settle(future: asyncio.Future[Any], chunk: Any, error: BaseException | None) -> None:
            if future.cancelled():
                return
            if error is None:
                future.set_result(chunk)
            else:
                future.set_exception(error)

        def wait() -> None:
            while (future := asked.get()) is not None:
                chunk, error = None, None
                try:
                    chunk = next(iterator, _END)
                except BaseException as raised:
                    error = raised
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
                    loop.call_soon_threadsafe(settle, future, chunk, error)

        # A thread of its own: a quiet source may keep it waiting for ever, and the loop's are few and shared.
        context = contextvars.copy_context()
        Thread(target=context.run, args=(wait,), name="audiodae-source", daemon=True).start()
        try:
            while True:
                future = loop.create_future()
                asked.put(future)
                if (chunk := await future) is _END:
                    return
                yield chunk
        finally:
            asked.put(None)
