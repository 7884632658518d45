"""How many processes and threads share the work, and whether processes can be had with all in memory."""

from __future__ import annotations

import os
import sys

_MOST = 16


def cores() -> int:
    """Cores that this process may use, shared with the others that `torchrun` started here; 1 to 16."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    ours = (there or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(max(ours, 1), _MOST)


def can_fork() -> bool:
    """Whether forked processes work: Windows has none, on macOS libraries hang in them."""
    return sys.platform == "linux"


def one_thread() -> None:
    """Torch, where it is loaded, gets one: the nets are too small to share out, a second mostly waits.

    More cores are for more files.
    """
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
