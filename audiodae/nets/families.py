"""The four families of autoencoders by name: rows of a table, not classes.

| family | body | bottleneck | trained on | for |
| --- | --- | --- | --- | --- |
| vanilla | dense | plain | sound as it is | features, compression |
| denoising | convolutional | plain | noisy in, clean wanted | what the clean patch was |
| convolutional | convolutional | plain | sound as it is | compression, anomalies, features |
| variational | convolutional | gaussian | noise as it is | new noise, anomalies |

The flagship (`audiodae.nets.denoiser`) is the denoising family grown up: causal, with skips, memory and
a mask.
"""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

import torch

from audiodae.errors import AudiodaeError
from audiodae.nets.autoencoder import Autoencoder
from audiodae.nets.autoencoder_config import AutoencoderConfig

FAMILIES: dict[str, AutoencoderConfig] = {
    "vanilla": AutoencoderConfig(body="dense", hidden=(128, 96), latent=32),
    "denoising": AutoencoderConfig(channels=(16, 32, 64), latent=64, denoising=True),
    "convolutional": AutoencoderConfig(channels=(24, 48, 96), latent=32),
    "variational": AutoencoderConfig(channels=(24, 48, 96), latent=32, bottleneck="gaussian"),
}


def family(name: str, **changes: Any) -> AutoencoderConfig:
    """The config of a family with some keys changed: `family("convolutional", down="max")`.

    Raises `AudiodaeError` for an unknown family or key, naming the nearest, or a value that does not fit.
    """
    if name not in FAMILIES:
        near = difflib.get_close_matches(name, FAMILIES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(FAMILIES)}."
        raise AudiodaeError(f"There is no family {name!r}: {hint}")
    known = [field.name for field in dataclasses.fields(AutoencoderConfig)]
    for key in changes:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."
            raise AudiodaeError(f"An autoencoder has no {key!r}: {hint}")
    try:
        return dataclasses.replace(FAMILIES[name], **changes)
    except ValueError as error:
        raise AudiodaeError(f"The family {name!r} cannot be changed so: {error}") from error


def build(name: str, *, seed: int = 0, **changes: Any) -> Autoencoder:
    """An untrained autoencoder of a family, the same weights for the same `seed`. Raises as `family`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Autoencoder(family(name, **changes))
