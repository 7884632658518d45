"""Who measures: this process, or several beside it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

import torch

from audiodae.errors import AudiodaeError
from audiodae.signals import deaf_to_interrupts, end_with_the_parent, leave_to_the_parent


class _Here(Executor):
    """The executor of this very process: work is done when it is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class _Beside(ProcessPoolExecutor):
    """Processes beside this one, to which Ctrl-C is no matter: this one ends them."""

    def __init__(self, jobs: int) -> None:
        # Spawned, not forked: torch's threads do not survive a fork.
        super().__init__(jobs, multiprocessing.get_context("spawn"), _begin)
        self._ours: set[Any] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        others = set(multiprocessing.active_children())
        with deaf_to_interrupts():
            future = super().submit(fn, *args, **kwargs)
            self._ours |= set(multiprocessing.active_children()) - others
        return future

    def __exit__(self, kind: object, *error: object) -> None:
        for process in self._ours if kind else ():
            process.terminate()  # nobody waits for what it measures
        self.shutdown()


def _begin() -> None:
    leave_to_the_parent()
    end_with_the_parent()
    torch.set_num_threads(1)


def measuring(jobs: int) -> Executor:
    """Of one job, this very process."""
    return _Here() if jobs == 1 else _Beside(jobs)


@contextmanager
def told_of_a_death() -> Iterator[None]:
    """A process that was killed becomes a sentence: `AudiodaeError`."""
    try:
        yield
    except BrokenProcessPool as error:
        raise AudiodaeError(
            "A process that measured was killed. If memory ran out, use fewer jobs; a script "
            "that measures with several must do so under `if __name__ == '__main__':`, since each of them "
            "reads the script too."
        ) from error
