"""Batches mixed ahead of the step that wants them: by one thread, or by processes of their own.

A GPU takes a step faster than one core mixes a batch. A batch depends on its step alone, so it is the same
whichever process mixes it. (Mixed by the GPU itself it is another: that has its own random numbers.)
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from audiodae.cores import can_fork, cores
from audiodae.errors import AudiodaeError
from audiodae.signals import leave_to_the_parent
from audiodae.training.mixer import Mixture

Mix = Callable[[int], Mixture]
Batch = tuple[Tensor, Tensor] | Exception
_AHEAD = 2  # batches that each process has ready
_SHARED = "/dev/shm"  # where they wait
_SHARED_BYTES = 64_000_000  # for one process


def default_workers(device: torch.device, say: Callable[[str], None]) -> int:
    """Processes that mix for a training on this device: none beside a CPU, which they would slow down.

    Where there is no room for one on every other core that is said: fewer are slower, and with none
    the device mixes, from other random numbers.
    """
    if device.type != "cuda" or not can_fork():
        return 0
    try:
        room = shutil.disk_usage(_SHARED).total // _SHARED_BYTES  # containers are given little
    except OSError:
        room = 0
    others = cores() - 1
    if room < others:
        say(
            f"{_SHARED} has room for batches of {room} processes that mix, and {others} cores are free: "
            + (f"{room} are started" if room else "the device mixes, by random numbers of its own")
            + f". Give it {others * _SHARED_BYTES // 1_000_000} MB, or ask for --workers."
        )
    return min(others, room)


def check_workers(workers: int) -> None:
    """Raise `AudiodaeError` where processes that share the decoded audio cannot be had."""
    if workers and not can_fork():
        raise AudiodaeError(
            f"{workers} processes that mix were asked for, but this system cannot start them with the "
            "decoded audio in hand: use --workers 0."
        )


def mixed_ahead(mix: Mix, steps: range, workers: int, device: torch.device) -> Generator[Mixture]:
    """`mix(step)` for each step in order, on `device`; with workers, `mix` must work on the CPU."""
    if not steps:
        return
    if not workers:
        yield from (mixture.to(device) for mixture in _by_a_thread(mix, steps))
        return
    # Written by this process, read by those: a lock might be held by one that was killed.
    ending = multiprocessing.get_context("fork").Value("b", 0, lock=False)
    loader: torch.utils.data.DataLoader[Batch] = torch.utils.data.DataLoader(
        _Batches(mix),
        batch_size=None,
        collate_fn=_as_it_is,
        sampler=steps,
        num_workers=min(workers, len(steps)),
        prefetch_factor=_AHEAD,
        pin_memory=device.type == "cuda",
        multiprocessing_context="fork",  # the mixer is not copied
        generator=torch.Generator(),
        worker_init_fn=functools.partial(_leave_signals_to_the_training, ending),
    )
    try:
        for batch in _deaths_noticed_here(loader):
            if isinstance(batch, Exception):
                raise batch
            noisy, clean = batch
            yield Mixture(noisy.to(device, non_blocking=True), clean.to(device, non_blocking=True))
    finally:
        ending.value = 1


def _deaths_noticed_here(loader: torch.utils.data.DataLoader[Batch]) -> Iterator[Batch]:
    """Of the loader, whose handler would else raise a worker's death wherever the training just is.

    A step would be half taken then. Without it the loader sees the death where it waits for a batch.
    """
    before = signal.getsignal(signal.SIGCHLD)
    batches = iter(loader)
    if before is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, before)
    return batches


def _leave_signals_to_the_training(ending: Any, _: int) -> None:
    """In a mixing process: Ctrl-C, and often SIGTERM, come to all, and the step under way needs its batch.

    Once the training needs no more, SIGTERM ends the process: that is how torch and Python end theirs.
    """
    leave_to_the_parent()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0) if ending.value else None)


@contextlib.contextmanager
def deaths_told() -> Iterator[None]:
    """Around what waits for a batch: that a mixing process was killed gets words."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        raise AudiodaeError(
            "A process that mixed was killed, perhaps because memory ran out (in a container also "
            f"of {_SHARED}): start again with fewer --workers."
        ) from error


def _by_a_thread(mix: Mix, steps: range) -> Iterator[Mixture]:
    with ThreadPoolExecutor(1, "mixer") as ahead:
        coming = ahead.submit(mix, steps[0])
        for step in steps[1:]:
            ready = coming.result()
            coming = ahead.submit(mix, step)
            yield ready
        yield coming.result()


class _Batches(torch.utils.data.Dataset[Batch]):
    def __init__(self, mix: Mix) -> None:
        self._mix = mix

    def __getitem__(self, step: int) -> Batch:
        try:
            mixture = self._mix(step)
        except Exception as error:
            return error  # raised there it would come out wrapped in a traceback
        return mixture.noisy, mixture.clean


def _as_it_is(batch: Any) -> Any:
    return batch
