"""Several processes of one training: how they come together, agree, learn alike, and end together.

`torchrun` starts them, and they reach each other by `torch.distributed`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

from audiodae.errors import AudiodaeError, printable
from audiodae.signals import OF_TERMINALS

_launcher: int | None = None  # the process that started this one as one of several


def is_first() -> bool:
    """Whether this is the first of the processes, also before they have come together."""
    return os.environ.get("RANK", "0") == "0"


def say(line: str) -> None:
    """On stderr, once for all processes of a training; a terminal that was closed costs no training."""
    if is_first():
        with contextlib.suppress(OSError, ValueError):
            print(printable(line), file=sys.stderr, flush=True)


class OthersGone(AudiodaeError):
    """One of the processes that train together has ended before the others."""

    def __init__(self) -> None:
        super().__init__(
            "Another process of this training has ended (see its message): fix the cause and run the same "
            "command again."
        )


def join(device: torch.device) -> None:
    """Wait for the others, where there are some; a signal meanwhile ends the process.

    Raises `AudiodaeError` where they do not come together.
    """
    if dist.is_initialized() or os.environ.get("WORLD_SIZE", "1") in ("", "0", "1"):
        return
    # Optimizers import it, and its defaults hold the group that there is by then: after the training
    # it would live on with its threads, which now and then abort a process that ends.
    importlib.import_module("torch.distributed.nn")
    global _launcher
    if "TORCHELASTIC_RUN_ID" in os.environ:  # a shell may well end before what it has started
        _launcher = os.getppid()
    with _deadly_signals():
        try:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        except (RuntimeError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise AudiodaeError(
                "The processes of this training could not connect to each other; start them with torchrun, "
                f"or unset WORLD_SIZE to train with one. ({first})"
            ) from error


def is_orphaned() -> bool:
    """Whether the program that started the processes of this training is gone: nobody else would end them."""
    return _launcher is not None and os.getppid() != _launcher


def leave() -> None:
    """After a training, whether or not there were others."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank_and_world() -> tuple[int, int]:
    """Which of how many processes this is."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def agree(step: int, last: int, is_over: bool, nets: Iterable[nn.Module]) -> None:
    """Wait for all processes, and give the nets of each the weights of the first.

    Raises `AudiodaeError` where they would not take the same steps, and `OthersGone`.
    """
    values = [value for net in nets for value in net.state_dict().values()]
    here = torch.tensor([step, last, is_over], device=values[0].device)
    everywhere = [torch.empty_like(here) for _ in range(dist.get_world_size())]
    with _told():
        dist.all_gather(everywhere, here)
        if any(there.tolist() != everywhere[0].tolist() for there in everywhere):
            steps = ", ".join(f"{there[0]} to {there[1]}" for there in everywhere)
            raise AudiodaeError(
                f"The processes of this training would take different steps ({steps}): give all of them the "
                "same recipe and options, and a --run folder that all of them see."
            )
        for value in values:
            dist.broadcast(value, 0)


def average_gradients(net: nn.Module, loss: Tensor, told: bool) -> tuple[Tensor, bool]:
    """Give every process the mean of all gradients; the mean loss, and whether any was `told` so.

    The loss goes along so that all agree on what a step was worth: where one is no number, no mean is.
    Raises `OthersGone`.
    """
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    extra = torch.stack([loss.to(gradients[0]), loss.new_tensor(float(told)).to(gradients[0])])
    flat = torch.cat([*(g.reshape(-1) for g in gradients), extra])
    with _told():
        dist.all_reduce(flat)
        any_told = bool(flat[-1])
    flat /= dist.get_world_size()
    pieces = flat[:-2].split([g.numel() for g in gradients])
    for g, piece in zip(gradients, pieces, strict=True):
        g.copy_(piece.view_as(g))
    return flat[-2], any_told


def wait_for_all(device: torch.device) -> None:
    """Return when all processes are here, or one is gone."""
    with contextlib.suppress(OthersGone), _told():
        dist.all_reduce(waited := torch.zeros(1, device=device))
        waited.tolist()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What torch raises where a process has ended becomes a sentence."""
    try:
        yield
    except RuntimeError as error:
        raise OthersGone from error


@contextlib.contextmanager
def _deadly_signals() -> Iterator[None]:
    """While others are waited for torch runs no handler of Python; and there is nothing to save."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [n for n in (*OF_TERMINALS, signal.SIGTERM) if callable(signal.getsignal(n))]
    before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
