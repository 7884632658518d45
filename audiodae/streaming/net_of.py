"""Whose net a stream runs: a denoiser's for the rate, a net itself, or that of a model to be loaded."""

from __future__ import annotations

import os
from typing import Any, Protocol, runtime_checkable

from audiodae.errors import AudiodaeError
from audiodae.nets.checkpoint import load_net
from audiodae.nets.net import Engine, Net


@runtime_checkable
class HasNet(Protocol):
    """Anything with a `net`, such as `audiodae.Denoiser`."""

    @property
    def net(self) -> Net: ...


def at_rate(denoiser: Any, sample_rate: int | None) -> Any:
    """The denoiser for recordings of a rate: of one that chooses by rate its choice, else itself."""
    return denoiser.at(sample_rate) if hasattr(denoiser, "at") else denoiser


def net_of(
    denoiser: Net | HasNet | str | os.PathLike[str], engine: Engine, sample_rate: int | None
) -> Net:
    """The net of a denoiser, or of a model by name or path, for recordings of a rate.

    Raises `AudiodaeError` where it is run by another engine, or is being trained.
    """
    if isinstance(denoiser, str | os.PathLike):
        net = load_net(denoiser, engine=engine, sample_rate=sample_rate)
    else:
        chosen = at_rate(denoiser, sample_rate)
        net = chosen.net if isinstance(chosen, HasNet) else chosen
        if not hasattr(net, "engine"):
            raise AudiodaeError(
                f"The denoiser is a {type(denoiser).__name__}; what `audiodae.load()` returns, or a "
                "model's name or path, is wanted."
            )
    if engine not in ("auto", net.engine):
        raise AudiodaeError(
            f"engine is {engine!r}, but the denoiser was loaded for {net.engine!r}: pass the "
            f"model's name, or `audiodae.load(..., engine={engine!r})`."
        )
    if getattr(net, "training", False):
        raise AudiodaeError(
            "The net is in training mode, where dropout and norms make its output depend on "
            "chance: call net.eval() first."
        )
    return net
