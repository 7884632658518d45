"""Averages that a training keeps: weights over the steps.

And the statistics of norms, which are averages over batches that a bad batch would spoil for ever.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def averaged_copy(net: Module) -> Module:
    """A copy in evaluation mode, without gradients, for `average_weights`."""
    average = copy.deepcopy(net).eval().requires_grad_(False)
    for module in average.modules():
        if isinstance(module, nn.RNNBase):
            module.flatten_parameters()  # a copy's lie scattered, and CUDA complains of it
    return average


@torch.no_grad()
def average_weights(average: nn.Module, net: nn.Module, decay: float) -> None:
    """Move the weights and statistics of `average` towards the net's, by 1 - `decay` of the way.

    Of several processes each has statistics of its own batches, and those of the first alone come into the
    averaged weights. That is as good: all draw from the same mix, and over the thousand or so steps that
    count one process hears enough of it; the weights that the statistics belong to are the same in all.
    """
    into, current = average.state_dict(), net.state_dict()
    floats = [k for k, v in current.items() if v.is_floating_point()]
    torch._foreach_lerp_([into[k] for k in floats], [current[k] for k in floats], 1 - decay)


class Statistics:
    """The running statistics of a net's norms before a forward pass, to be put back after a bad one.

    A step that is not taken leaves the weights as they were, but the forward pass has moved the statistics
    already: one NaN in them would be averaged into all weights to come.
    """

    def __init__(self, net: nn.Module) -> None:
        norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        kept = [(m.running_mean, m.running_var) for m in norms]
        self._live = [value for pair in kept for value in pair if value is not None]
        self._before = [value.clone() for value in self._live]

    @torch.no_grad()
    def keep(self) -> None:
        if self._live:
            torch._foreach_copy_(self._before, self._live)

    @torch.no_grad()
    def put_back(self) -> None:
        if self._live:
            torch._foreach_copy_(self._live, self._before)


def is_finite(net: nn.Module) -> bool:
    """Whether all weights and statistics are numbers."""
    return all(bool(value.isfinite().all()) for value in net.state_dict().values())
