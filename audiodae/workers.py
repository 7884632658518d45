"""Files shared out to several processes, each with one thread: `--jobs N`.

Processes are spawned, not forked, so it works the same on every system and beside running threads.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from audiodae.blockwise import Progress, clean_together
from audiodae.job import Job
from audiodae.options import Options
from audiodae.report import FileReport

_POLL_SECONDS = 0.1

_shared: tuple[Any, Options, Any, Any]  # in a worker: denoiser, options, seconds heard, stop event


def spread(
    jobs: Sequence[Job],
    denoiser: Any,
    options: Options,
    workers: int,
    begin: Callable[[Job], None],
    end: Callable[[Job, FileReport], FileReport],
    progress: Progress | None,
    stopped: Callable[[], bool],
) -> Iterator[FileReport]:
    """Clean `jobs` in processes, calling `begin` as each is handed out and `end` when it is done.

    Leaving early (an interrupt, a closed generator) stops the workers at their next block, and they
    remove what is unfinished; what they have finished by then still gets its `end`.
    """
    context = multiprocessing.get_context("spawn")
    heard, stop = context.Value("d", 0.0), context.Event()

    def pool() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            workers, context, initializer=_start, initargs=(denoiser, options, heard, stop)
        )

    executor = pool()
    waiting, running = deque(jobs), dict[Future[FileReport], Job]()
    told, broken = 0.0, False
    begun: Job | None = None
    try:
        while waiting or running:
            if stopped():
                raise KeyboardInterrupt
            while waiting and len(running) < workers + 1:
                if begun is not waiting[0]:
                    begin(begun := waiting[0])
                with _deaf_to_interrupts():
                    try:
                        future = executor.submit(_clean, waiting[0])
                    except BrokenProcessPool:
                        broken = True  # a worker died since we last looked
                        break
                    running[future] = waiting.popleft()
            finished, _ = wait(running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            if stopped():  # before what a signal to all of us has ended is taken for lost
                raise KeyboardInterrupt
            if progress and heard.value > told:
                progress(heard.value - told)
                told = heard.value
            if broken or any(_is_lost(future) for future in finished):
                # All that was under way is lost with the pool; a new one goes on with the rest.
                executor.shutdown(wait=True, cancel_futures=True)
                finished = set(running)
                executor, broken = pool(), False
            for future in finished:
                job = running.pop(future)
                yield _lost(job) if _is_lost(future) else end(job, future.result())
    finally:
        stop.set()
        executor.shutdown(wait=True, cancel_futures=True)
        for future, job in running.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                end(job, future.result())


def _is_lost(future: Future[FileReport]) -> bool:
    return isinstance(future.exception(), BrokenProcessPool)


def _lost(job: Job) -> FileReport:
    reason = (
        f"{job.source} was not cleaned: a worker process ended without a word. If memory was "
        "short, use fewer --jobs; a script must start under `if __name__ == '__main__':`."
    )
    return FileReport(job.source, job.target, "failed", reason=reason)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes started inside never see Ctrl-C: this one gets it a moment later and tells them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(denoiser: Any, options: Options, heard: Any, stop: Any) -> None:
    global _shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "torch" in sys.modules:  # it came with the denoiser
        sys.modules["torch"].set_num_threads(1)
    _shared = denoiser, options, heard, stop
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _clean(job: Job) -> FileReport:
    denoiser, options, heard, stop = _shared

    def progress(seconds: float) -> None:
        with heard.get_lock():
            heard.value += seconds

    with _ending_between_blocks() as told_to_end:

        def stopped() -> bool:
            return bool(stop.is_set() or told_to_end())

        return clean_together([job], denoiser, options, progress, stopped)[0]


@contextmanager
def _ending_between_blocks() -> Iterator[Callable[[], bool]]:
    """SIGTERM leaves nothing half done: inside it is only noted, and ends the process afterwards.

    It comes to all processes of a group at once, and again from the pool when one of them has ended.
    """
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGTERM, before)
        if came:
            os._exit(128 + signal.SIGTERM)
