"""The optimisers that a recipe may name."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiodae.errors import AudiodaeError
from audiodae.training.recipe import Recipe


def optimizer_of(recipe: Recipe, net: nn.Module) -> torch.optim.Optimizer:
    """The one a recipe asks for. Raises `AudiodaeError` where it is not installed."""
    # Norms, biases and other vectors are not decayed: pulling them to zero only distorts.
    matrices: list[Tensor] = [p for p in net.parameters() if p.ndim > 1]
    vectors: list[Tensor] = [p for p in net.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98))
    try:
        from pytorch_optimizer import SOAP
    except ImportError as error:
        raise AudiodaeError(
            'The recipe asks for the optimiser SOAP, which needs pip install "audiodae[train]"; '
            "or choose optimizer = 'adamw'."
        ) from error
    soap: torch.optim.Optimizer = SOAP(groups, lr=1e-3, precondition_frequency=10)
    return soap
