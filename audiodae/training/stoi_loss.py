"""STOI as something to train on: the package `torch-stoi`, whole batches at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from audiodae.errors import AudiodaeError

_RATE_HZ = 10_000  # of the standard measure
_EPSILON = 1e-8


def stoi_loss(sample_rate: int, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """How far from 1 the intelligibility (Taal et al., 2011) of an estimate is; pauses do not count.

    `(batch, samples)` clean and estimate -> `(batch,)`. Raises `AudiodaeError` where the package is missing.
    """
    try:
        from torch_stoi import NegSTOILoss
        from torchaudio.functional import resample
    except ImportError as error:
        raise AudiodaeError(
            "The recipe asks for a STOI loss, which needs the package torch-stoi: "
            'pip install "audiodae[train]", or set stoi to 0 in every stage.'
        ) from error

    class FastStoiLoss(NegSTOILoss):  # type: ignore[misc]
        @staticmethod
        def remove_silent_frames(
            x: Tensor, y: Tensor, dyn_range: float, window: Tensor, framelen: int, hop: int
        ) -> tuple[Tensor, Tensor, Tensor]:
            """As in the package, which goes through the rows of a batch one by one."""
            frames = torch.stack((x, y)).unfold(-1, framelen, hop) * window
            level_db = 20.0 * (frames[0].norm(dim=-1) + _EPSILON).log10()
            spoken = level_db > level_db.amax(dim=-1, keepdim=True) - dyn_range
            order = (
                spoken.logical_not().long().argsort(dim=-1, stable=True)
            )  # those first, in order
            frames = frames.gather(2, order[None, ..., None].expand_as(frames))
            frames = frames * spoken.gather(1, order)[None, ..., None]
            halves = frames.unflatten(-1, (2, hop))
            first = torch.nn.functional.pad(halves[..., 0, :], (0, 0, 0, 1))
            second = torch.nn.functional.pad(halves[..., 1, :], (0, 0, 1, 0))
            clean, estimate = (first + second).flatten(-2)
            return clean, estimate, spoken.long()

    # It resamples by a name that newer torchaudio has dropped, so that is done here.
    negative = FastStoiLoss(_RATE_HZ, do_resample=False).to(device)

    def loss(clean: Tensor, estimate: Tensor) -> Tensor:
        both = resample(torch.stack((estimate, clean)), sample_rate, _RATE_HZ)
        distance: Tensor = 1.0 + negative(both[0], both[1])
        return distance

    return loss
