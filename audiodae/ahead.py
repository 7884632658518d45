"""Batches mixed ahead of the step that wants them: by one thread, or by processes of their own.

A GPU takes a step faster than one core mixes a batch. A batch depends on its step alone, so whoever mixes
it, a training hears the same.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from audiodae.errors import AudiodaeError
from audiodae.mixer import Mixture

Mix = Callable[[int], Mixture]
_AHEAD = 2  # batches that each process has ready
_MOST_WORKERS = 16


def default_workers(device: torch.device) -> int:
    """Processes that mix for a training on this device: none beside a CPU, which they would slow down."""
    if device.type != "cuda" or not _forks():
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    of_this_process = (cores or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(max(0, of_this_process - 1), _MOST_WORKERS)


def check_workers(workers: int) -> None:
    """Raise `AudiodaeError` where processes that share the decoded audio cannot be had."""
    if workers and not _forks():
        raise AudiodaeError(
            f"{workers} processes that mix were asked for, but this system cannot start them with the "
            "decoded audio in hand: use --workers 0."
        )


def mixed_ahead(mix: Mix, steps: range, workers: int, device: torch.device) -> Iterator[Mixture]:
    """`mix(step)` for each step in order, on `device`; with workers, `mix` must work on the CPU."""
    if not workers or not steps:
        yield from _by_a_thread(mix, steps)
        return
    loader: torch.utils.data.DataLoader[tuple[Tensor, Tensor]] = torch.utils.data.DataLoader(
        _Batches(mix),
        batch_size=None,
        sampler=steps,
        num_workers=min(workers, len(steps)),
        prefetch_factor=_AHEAD,
        pin_memory=device.type == "cuda",
        multiprocessing_context="fork",  # the mixer is not copied
        generator=torch.Generator(),
    )
    try:
        for noisy, clean in loader:
            yield Mixture(noisy.to(device, non_blocking=True), clean.to(device, non_blocking=True))
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise AudiodaeError(
            "A process that mixed was ended from outside, perhaps for want of memory: start again with "
            "fewer --workers; the last checkpoint is in the run folder."
        ) from error


def _by_a_thread(mix: Mix, steps: range) -> Iterator[Mixture]:
    with ThreadPoolExecutor(1, "mixer") as ahead:
        coming = ahead.submit(mix, steps[0]) if steps else None
        for step in steps[1:]:
            assert coming is not None
            ready = coming.result()
            coming = ahead.submit(mix, step)
            yield ready
        if coming is not None:
            yield coming.result()


class _Batches(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, mix: Mix) -> None:
        self._mix = mix

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        mixture = self._mix(step)
        return mixture.noisy, mixture.clean


def _forks() -> bool:
    return "fork" in multiprocessing.get_all_start_methods()
