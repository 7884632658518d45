"""Beginning a training with what another net has learnt, also where it is smaller or sees fewer frames."""

from __future__ import annotations

import math
import re

import torch
from torch import nn

from audiodae.stft import Stft


@torch.no_grad()
def warm_start(net: nn.Module, trained: nn.Module) -> None:
    """Copy into `net` the tensors of the same name; where sizes differ, the corner that both have.

    Bands lie from low to high, so a net with more of them above hears what the smaller one heard below.
    Blocks that only the deeper net has begin by adding nothing. With shorter hops a net remembers for as many
    seconds: the logarithm of the ratio on its update gates lets it forget so much less at each.
    """
    given = trained.state_dict()
    ratio = _hop_seconds(trained) / _hop_seconds(net)
    for name, tensor in net.state_dict().items():
        source = given.get(name)
        if source is not None and source.ndim == tensor.ndim:
            into = tensor
            if re.search(
                r"\.(gru|query_key_value)\.", name
            ):  # three in one: gates; query, key, value
                into, source = tensor.unflatten(0, (3, -1)), source.unflatten(0, (3, -1))
            corner = tuple(slice(min(a, b)) for a, b in zip(into.shape, source.shape, strict=True))
            into[corner] = source[corner]
            if name.endswith("gru.bias_ih_l0"):
                into[1] += math.log(ratio)
        elif re.fullmatch(r"(memory|attention)\.\d+\.out\.(weight|bias)", name):
            tensor.zero_()


def _hop_seconds(net: nn.Module) -> float:
    stft = getattr(net, "stft", None)
    return stft.hop_length / stft.sample_rate if isinstance(stft, Stft) else 1.0
