"""A guess at a better recipe: what a search may change of one, and between which limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from audiodae.nets.autoencoder_config import AutoencoderConfig
from audiodae.nets.denoiser import DenoiserConfig
from audiodae.training.recipe import Recipe

_STRIDES = {1: ((8,),), 2: ((4, 2), (2, 2)), 3: ((2, 2, 2), (4, 2, 2))}


def suggest(trial: Any, base: Recipe) -> Recipe:
    """The base recipe with another net, learning rate and weight decay; all stages scaled alike.

    Raises `ValueError` for a net that cannot be.
    """
    rate = trial.suggest_float("learning_rate", 3e-4, 1e-2, log=True)
    scale = rate / base.stages[0].learning_rate
    changed = replace(
        base,
        weight_decay=trial.suggest_float("weight_decay", 1e-4, 1e-1, log=True),
        stages=tuple(replace(s, learning_rate=s.learning_rate * scale) for s in base.stages),
    )
    if base.autoencoder is not None:
        return replace(changed, autoencoder=_autoencoder(trial, base.autoencoder))
    return replace(changed, model=_denoiser(trial, base.model))


def _denoiser(trial: Any, base: DenoiserConfig) -> DenoiserConfig:
    layers = trial.suggest_int("layers", 1, 3)
    strides = _STRIDES[layers][trial.suggest_int("strides", 0, len(_STRIDES[layers]) - 1)]
    code = trial.suggest_int("code", 16, 96, step=16)
    outer = trial.suggest_float("outer_share", 0.5, 1.0)
    extra = trial.suggest_int("kernel_extra", 0, 4)
    # Layers widen evenly towards the code.
    widths = [outer + (1 - outer) * (i + 1) / layers for i in range(layers)]
    return replace(
        base,
        channels=tuple(max(4, round(code * w / 4) * 4) for w in widths),
        kernels=tuple(stride + extra for stride in strides),
        strides=strides,
        blocks=trial.suggest_int("blocks", 1, 6),
        dropout=trial.suggest_float("dropout", 0.0, 0.2),
    )


def _autoencoder(trial: Any, base: AutoencoderConfig) -> AutoencoderConfig:
    layers = trial.suggest_int("layers", 1, 3)
    width = trial.suggest_int("width", 16, 96, step=16)
    # Not the latent size: the error falls with every value more, so the most would always win.
    changed = replace(base, dropout=trial.suggest_float("dropout", 0.0, 0.2))
    if base.body == "dense":
        return replace(changed, hidden=tuple(4 * width // (i + 1) for i in range(layers)))
    kernel = 2 * trial.suggest_int("kernel_half", 1, 2) + 1
    channels = tuple(max(4, width * (i + 1) // layers) for i in range(layers))
    return replace(changed, channels=channels, kernel=kernel)
