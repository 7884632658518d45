"""Beginning a training with what another net has learnt, also where it is smaller or sees fewer frames."""

from __future__ import annotations

import math
import re
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiodae.nets.autoencoder import STRAIGHT
from audiodae.sound.stft import Stft

Sizes: TypeAlias = tuple[int, int]
_GATES = r"\.(gru|query_key_value)\."  # three in one, stacked: gates; query, key, value
_JOINS = r"\.join\.weight"  # hears what comes from below and what comes across, side by side
_OUT_OF_BLOCKS = r"(memory|attention)\.\d+\.out\.(weight|bias)"


@torch.no_grad()
def warm_start(net: nn.Module, trained: nn.Module) -> bool:
    """Copy into `net` the tensors of the same name; where sizes differ, the corner that both have.

    Bands lie from low to high, so a net with more of them above hears what the smaller one heard below;
    one that strides less has its bands closer together, and each gets the place of the nearest one below.
    What only the wider net has begins unheard by the rest of it (compare Net2Net, Chen et al., 2016; but the
    norms in the blocks are over all channels), and blocks that only the deeper net has by adding nothing.
    Where kernels differ in length, taps go where they meet the bands that they met. With shorter hops a net
    remembers for as many seconds: the logarithm of the ratio on its update gates lets it forget so much less
    at each. Attention is taken over whole where its heads stay as wide: give a wider net more of them.

    The straight path of an autoencoder, which no training changes, is taken over whole or not at all: returns
    whether it was, or there is none.
    """
    given = trained.state_dict()
    own = net.state_dict()
    straight = all(
        name in given and given[name].shape == own[name].shape for name in STRAIGHT if name in own
    )
    ratio = _hop_seconds(trained) / _hop_seconds(net)
    closer = max(1, _stride(trained) // _stride(net))
    transposed: set[str] = set()
    moved: dict[str, Sizes] = {}
    modules_before = dict(trained.named_modules())
    for name, module in net.named_modules():
        before = modules_before.get(name)
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and isinstance(before, type(module)):
            (up, right), (up_then, right_then) = (cast(Sizes, m.padding) for m in (module, before))
            moved[f"{name}.weight"] = up - up_then, right - right_then
        if isinstance(module, nn.ConvTranspose2d):
            transposed.add(f"{name}.weight")
    for name, tensor in own.items():
        source = given.get(name)
        if name in STRAIGHT and not straight:
            continue
        if source is not None and source.ndim == tensor.ndim:
            if name == "place":
                source = source.repeat_interleave(closer, dim=0)
            into, source = _parted(name, tensor), _parted(name, source)
            if name in transposed:
                into, source = into.transpose(1, 2), source.transpose(1, 2)
            if name in moved:
                source = _moved(source, into, *moved[name])
            _copy_corner(into, source)
            if name.endswith("gru.bias_ih_l0"):
                tensor.unflatten(0, (3, -1))[1] += math.log(ratio)
        elif re.fullmatch(_OUT_OF_BLOCKS, name):
            tensor.zero_()
    return straight


def _parted(name: str, tensor: Tensor) -> Tensor:
    """A view of a weight with its parts on an axis of their own, outputs on the one after, then inputs."""
    if re.search(_GATES, name):
        return tensor.unflatten(0, (3, -1))
    if re.search(_JOINS, name):
        return tensor.unflatten(1, (2, -1)).movedim(1, 0)
    return tensor[None]


def _copy_corner(into: Tensor, source: Tensor) -> None:
    """`(parts, outputs, inputs, ...)`: of what both have, inputs that only `into` has weigh 0."""
    corner = tuple(slice(min(a, b)) for a, b in zip(into.shape, source.shape, strict=True))
    if into.ndim > 2 and into.shape[2] > source.shape[2]:
        into[corner[:2]][:, :, source.shape[2] :] = 0.0
    into[corner] = source[corner]


def _moved(source: Tensor, into: Tensor, up: int, right: int) -> Tensor:
    """Taps, which are on the last two axes, moved up by so many into kernels as of `into`; new ones are 0."""
    (tall, wide), (height, width) = into.shape[-2:], source.shape[-2:]
    return functional.pad(source, (right, wide - width - right, up, tall - height - up))


def _hop_seconds(net: nn.Module) -> float:
    stft = getattr(net, "stft", None)
    return stft.hop_length / stft.sample_rate if isinstance(stft, Stft) else 1.0


def _stride(net: nn.Module) -> int:
    return math.prod(getattr(getattr(net, "config", None), "strides", (1,)))
