"""What a stream asks of a trained net, whichever program runs it: torch (`denoiser.py`) or ONNX Runtime."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from audiodae.sound.arrays import Array
from audiodae.sound.stft import Stft

if TYPE_CHECKING:
    from torch import nn

State: TypeAlias = dict[str, Array]
"""Everything a stream remembers between frames; every array is batch first."""

Step: TypeAlias = Callable[[Array, State], tuple[Array, State]]

Engine = Literal["auto", "onnx", "torch"]
"""Who runs a net. "auto" is ONNX Runtime on a CPU where it can, torch otherwise."""


class Net(Protocol):
    """A net ready to clean: a function of spectra and a state, so one net serves many streams."""

    @property
    def engine(self) -> str:
        """ "onnx" or "torch"."""

    @property
    def device(self) -> Any:
        """Where it calculates; as a text "cpu", "cuda:0"..."""

    @property
    def sample_rate(self) -> int:
        """Its own rate in Hz."""

    @property
    def stft(self) -> Stft:
        """How its spectra are made."""

    def initial_state(self, batch: int) -> State:
        """The state of `batch` streams that have heard nothing yet."""

    def mask(self, spec: Array, state: State) -> tuple[Array, State]:
        """`(batch, frames, bins)` complex -> complex mask of the same shape, and the new state."""

    def step(self, batch: int, frames: int) -> Step:
        """`mask` for one shape, to be called over and over, as fast as the device can."""

    def fingerprint(self) -> str:
        """A hash of shape and weights, the same for every engine."""


def weights(module: nn.Module) -> bytes:
    """All that a torch module has learnt, as a safetensors file."""
    from safetensors.torch import save

    return save({k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()})


def fingerprint(config: Mapping[str, Any], weights_sha256: str) -> str:
    """A hash of a net's shape and weights."""
    text = json.dumps([config, weights_sha256], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
