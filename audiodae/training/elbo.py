"""What an autoencoder minimises: the error of its reconstruction and, where the code is gaussian, its cost.

The convention, once: squared errors are summed over the values of a patch and halved (a gaussian decoder
with unit variance), the Kullback-Leibler divergence is summed over the code, both are averaged over the
batch. Their sum with weight `beta` (Higgins et al., 2017) is divided by the number of values of a patch,
which changes no minimum and makes one learning rate serve every patch size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from audiodae.config import check_range
from audiodae.nets.autoencoder import Code


@dataclass(frozen=True)
class ElboConfig:
    """`beta` is reached by a straight line over `warmup_steps` (Sonderby et al., 2016).

    `free_bits` is what every value of the code may cost before it is punished (Kingma et al., 2016), in
    bits a patch, so that none is given up at the start. Plain codes cost nothing, whatever stands here.
    """

    beta: float = 1.0
    warmup_steps: int = 1000
    free_bits: float = 0.0

    def __post_init__(self) -> None:
        check_range(self, 0, 1e9, "beta", "warmup_steps", "free_bits")

    def beta_at(self, step: int) -> float:
        """The weight at a step of the training, counted from 0; `beta` where the warm-up is over."""
        if step >= self.warmup_steps:
            return self.beta
        return self.beta * step / self.warmup_steps


def kl_per_unit(code: Code) -> Tensor:
    """Divergence of a gaussian code from the standard normal, mean over the batch: `(latent,)` in nats."""
    if code.logvar is None:
        return torch.zeros(code.mean.shape[-1], device=code.mean.device)
    kl = 0.5 * (code.mean.square() + code.logvar.exp() - code.logvar - 1.0)
    return kl.mean(dim=0)


def elbo_loss(
    rebuilt: Tensor, target: Tensor, code: Code, config: ElboConfig, step: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Reconstruction and target `(n, frames, mels)`, code -> scalar loss and the value of each term."""
    error = 0.5 * (rebuilt - target).square().flatten(1).sum(dim=-1).mean()
    terms = {"reconstruction": error}
    if code.logvar is not None:
        free = config.free_bits * math.log(2.0)
        terms["kl"] = config.beta_at(step) * kl_per_unit(code).clamp_min(free).sum()
    values = target[0].numel()
    terms = {name: term / values for name, term in terms.items()}
    return torch.stack(list(terms.values())).sum(), terms
