"""Files shared out to several processes, each with one thread: `--jobs N`.

Processes are spawned, not forked, so it works the same on every system and beside running threads.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from audiodae.cores import one_thread
from audiodae.errors import AudiodaeError, reason
from audiodae.files.atomic import AtomicFile
from audiodae.recordings.blockwise import Progress, clean_together
from audiodae.recordings.job import Job
from audiodae.recordings.options import Options
from audiodae.recordings.report import FileReport
from audiodae.signals import deaf_to_interrupts, end_with_the_parent, leave_to_the_parent

_POLL_SECONDS = 0.1
_PATIENCE_SECONDS = 5.0  # in which a worker comes to its next block
_MOST_WORKERS = 61 if os.name == "nt" else 10_000  # Windows waits for no more
_NONE_STARTED = (
    "No worker process could be started: a script that cleans with several processes must do so under "
    "`if __name__ == '__main__':`, since each of them reads the script too. If memory was short, use "
    "fewer jobs."
)
_TRIES = 2  # of a recording, where nobody can say with which one a worker died

_shared: tuple[Any, Options, _Bulletin]  # in a worker: denoiser, options, what is told


class _Bulletin:
    """What this process and the workers tell each other, without locks: one killed would keep them.

    `given` goes to all of them by shared memory. As an argument of theirs it would go by a pipe, in which
    this process gets stuck when a child ends before it reads.
    """

    def __init__(self, context: Any, jobs: int, given: tuple[Any, Options]) -> None:
        pickled = pickle.dumps(given)
        self.given = context.Array("B", len(pickled), lock=False)
        memoryview(self.given).cast("B")[:] = pickled
        self.started = context.Value("b", 0, lock=False)  # whether any of them ever was
        self.stop = context.Value("b", 0, lock=False)
        self.heard = context.Array("d", jobs, lock=False)  # seconds of each job
        self.worker = context.Array("q", jobs, lock=False)  # who is at it; negative: has done it


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

    A worker that is killed fails the job it was at; the others go on in new processes. Leaving early (an
    interrupt, a closed generator) stops the workers at their next block, and they remove what is
    unfinished; what they have finished by then still gets its `end`. Raises `AudiodaeError` when no
    worker can be started.
    """
    context = multiprocessing.get_context("spawn")
    with _told():
        bulletin = _Bulletin(context, len(jobs), (denoiser, options))
    workers = min(workers, _MOST_WORKERS)

    def pool() -> ProcessPoolExecutor:
        with _told():
            return ProcessPoolExecutor(workers, context, initializer=_start, initargs=(bulletin,))

    executor = pool()
    jobs = list(jobs)
    waiting, running = deque(range(len(jobs))), dict[Future[FileReport], int]()
    begun, broken = set[int](), False
    told, losses = defaultdict[int, float](float), Counter[int]()
    processes: dict[int | None, Any] = {}
    try:
        while waiting or running:
            if stopped():
                raise KeyboardInterrupt
            while waiting and len(running) < workers + 1:
                i = waiting[0]
                if i not in begun:
                    begun.add(i)
                    begin(jobs[i])
                with deaf_to_interrupts(), _told():
                    try:
                        future = executor.submit(_clean, i, jobs[i])
                    except BrokenProcessPool:
                        broken = True  # a worker died since we last looked
                        break
                    running[future] = waiting.popleft()
                processes |= {child.pid: child for child in multiprocessing.active_children()}
            finished, _ = wait(running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            if stopped():  # before what a signal to all of us has ended is taken for lost
                raise KeyboardInterrupt
            for i in running.values() if progress else ():
                if (gained := bulletin.heard[i] - told[i]) > 0 and progress:
                    told[i] += gained
                    progress(gained)
            if broken or any(_is_lost(future) for future in finished):
                # All that was under way is lost with the pool; a new one goes on with the rest.
                _end(executor)
                if not bulletin.started.value:
                    raise AudiodaeError(_NONE_STARTED)
                finished = set(running)
                executor, broken = pool(), False
            lost = sorted(running.pop(future) for future in finished if _is_lost(future))
            died = {i for i in lost if _was_killed(processes.get(bulletin.worker[i]))}
            losses.update(() if died else lost)
            for i in reversed(lost):
                if i in died or losses[i] >= _TRIES:
                    yield _lost(jobs[i])
                    continue
                if bulletin.worker[i] < 0:  # done, and only the word of it was lost: done again
                    jobs[i] = replace(jobs[i], replaces=tuple(jobs[i].outputs), stamps=())
                bulletin.worker[i], bulletin.heard[i] = 0, 0.0
                waiting.appendleft(i)
            for future in finished & running.keys():
                yield end(jobs[running.pop(future)], future.result())
    finally:
        bulletin.stop.value = 1
        try:
            _end(executor)
        finally:
            for future, i in running.items():
                if not future.done() or future.cancelled():
                    continue
                if _is_lost(future):
                    _lost(jobs[i])
                elif future.exception() is None:
                    end(jobs[i], future.result())


def _end(executor: ProcessPoolExecutor) -> None:
    """Wait until all workers have ended, and only then heed a second signal.

    Those that are stuck then, as in a network disk that is gone, are killed. Python 3.11 takes a thread for
    ended when waiting for it is broken off; the pool's own then never tells the workers to end, and this
    process waits for them for ever. So another thread waits for it, where the system gives one.
    """
    over = threading.Event()

    def shut_down() -> None:
        executor.shutdown(wait=True, cancel_futures=True)
        over.set()

    begun, since = False, math.inf
    second: BaseException | None = None
    while not over.is_set():
        try:
            if not begun:  # a signal may come before it is
                try:
                    threading.Thread(target=shut_down).start()
                except RuntimeError:
                    shut_down()
                begun = True
            over.wait(_POLL_SECONDS)
            if time.monotonic() - since > _PATIENCE_SECONDS:
                for worker in list((executor._processes or {}).values()):
                    worker.kill()
        except BaseException as error:  # what the handler of a signal raises
            second, since = error, min(since, time.monotonic())
    if second is not None:
        raise second


def _is_lost(future: Future[FileReport]) -> bool:
    return isinstance(future.exception(), BrokenProcessPool)


def _was_killed(worker: Any) -> bool:
    """Whether it ended by itself or by another signal than the one by which the pool ends the rest."""
    return worker is not None and worker.exitcode not in (-signal.SIGTERM, 128 + signal.SIGTERM)


def _lost(job: Job) -> FileReport:
    for output in job.outputs:
        with contextlib.suppress(AudiodaeError):
            AtomicFile(output).discard()  # what the worker left of it
    reason = (
        f"{job.source} was not cleaned: a worker process ended without an error message. If memory was "
        "short, use fewer --jobs."
    )
    return FileReport(job.source, job.target, "failed", reason=reason)


@contextmanager
def _told() -> Iterator[None]:
    """What the system says when it gives no process, memory or file for one becomes a sentence."""
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise AudiodaeError(
            f"Several processes cannot work here ({where}{reason(error)}): use --jobs 1, or fewer."
        ) from error


def _start(bulletin: _Bulletin) -> None:
    global _shared
    leave_to_the_parent()
    denoiser, options = pickle.loads(memoryview(bulletin.given))
    one_thread()  # torch came with the denoiser, or not at all
    _shared = denoiser, options, bulletin
    bulletin.started.value = 1
    end_with_the_parent()


def _clean(i: int, job: Job) -> FileReport:
    denoiser, options, bulletin = _shared
    bulletin.worker[i] = os.getpid()

    def progress(seconds: float) -> None:
        bulletin.heard[i] += seconds

    with _ending_between_blocks() as told_to_end:

        def stopped() -> bool:
            return bool(bulletin.stop.value or told_to_end())

        report = clean_together([job], denoiser, options, progress, stopped)[0]
        bulletin.worker[i] = -os.getpid()
    return report


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
