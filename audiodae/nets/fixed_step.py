"""A net's step with its shape fixed: on a GPU captured once as a CUDA graph and then replayed.

A step is some hundred small kernels, and to start them one by one takes longer than what they do. A graph
starts them all at once, but always works on the same memory: so what comes is copied in and what goes is
copied out, and the step stays a function, which several streams can use in turn. The first steps are done
one by one: a short recording is over before a capture would pay.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

log = logging.getLogger("audiodae")

_CAPTURED_AFTER = 8  # calls
_WARM_UP = 3  # steps just before the capture, in which libraries allocate and choose their kernels

Mask = Callable[[Tensor, dict[str, Tensor]], tuple[Tensor, dict[str, Tensor]]]


class FixedStep:
    """`mask(spec, state)` for spectra of one shape `(batch, frames, bins)`, with the same results.

    On a CPU the same copies are made around the function itself.
    """

    def __init__(self, mask: Mask, spec: Tensor, state: dict[str, Tensor]) -> None:
        with torch.inference_mode():
            self._mask = mask
            self._spec = torch.zeros_like(spec)
            self._state = {name: tensor.clone() for name, tensor in state.items()}
            self._graph: torch.cuda.CUDAGraph | None = None
            self._calls = 0

    def __call__(self, spec: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        self._calls += 1
        if self._calls == _CAPTURED_AFTER and spec.is_cuda:
            self._capture()
        self._spec.copy_(spec)
        for name, tensor in self._state.items():
            tensor.copy_(state[name])
        if self._graph is None:
            mask, after = self._mask(self._spec, self._state)
        else:
            self._graph.replay()
            mask, after = self._out
        return mask.clone(), {name: tensor.clone() for name, tensor in after.items()}

    def _capture(self) -> None:
        device = self._spec.device
        try:
            # The device of the net need not be the current one, and torch's own stream for captures is
            # on the one that was current first: a graph captured there would be empty.
            with torch.inference_mode(), torch.cuda.device(device):
                beside = torch.cuda.Stream(device)
                beside.wait_stream(torch.cuda.current_stream(device))
                with torch.cuda.stream(beside):
                    for _ in range(_WARM_UP):
                        self._mask(self._spec, self._state)
                torch.cuda.current_stream(device).wait_stream(beside)
                graph = torch.cuda.CUDAGraph()
                # Other threads may allocate meanwhile: a training, another stream.
                with torch.cuda.graph(graph, stream=beside, capture_error_mode="thread_local"):
                    self._out = self._mask(self._spec, self._state)
                self._graph = graph
        except RuntimeError as error:  # slower without, but as right
            log.warning("The step could not be captured as a CUDA graph: %s", error)
