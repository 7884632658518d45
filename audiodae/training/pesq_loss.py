"""PESQ as something to train on: the package `torch-pesq`, with filters that a GPU can compute too."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from audiodae.errors import AudiodaeError
from audiodae.training.corrupt import convolved

_FACTOR = 0.5  # of the distance, in the scale of `torch-pesq`
_TAPS = 1024  # both responses have died away to less than float32 can tell by then


def pesq_loss(sample_rate: int, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """How far PESQ (ITU-T P.862) finds an estimate: `(batch, samples)` clean and estimate -> `(batch,)`.

    `torch-pesq` runs two recursive filters sample by sample, for which a GPU takes longer than for all
    the rest, and the band-pass comes out 1 % off in float32. Their responses are short: here they are
    convolved with, by FFT. Raises `AudiodaeError` where the package is missing.
    """
    try:
        from scipy.signal import lfilter
        from torch_pesq import PesqLoss
    except ImportError as error:
        raise AudiodaeError(
            "The recipe asks for a PESQ loss, which needs the package torch-pesq: "
            'pip install "audiodae[train]", or set pesq to 0 in every stage.'
        ) from error

    class FastPesqLoss(PesqLoss):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(_FACTOR, sample_rate=sample_rate)
            impulse = torch.zeros(_TAPS, dtype=torch.float64)
            impulse[0] = 1.0
            for name in ("power", "pre"):
                numerator, denominator = getattr(self, f"{name}_filter").double().numpy()
                response = torch.from_numpy(lfilter(numerator, denominator, impulse.numpy()))
                self.register_buffer(f"{name}_response", response.float(), persistent=False)

        def align_level(self, signal: Tensor) -> Tensor:
            """To the power that the standard wants between 325 and 3250 Hz."""
            speech_band = convolved(signal, self.get_buffer("power_response"))
            # The reference implementation divides by more than the length.
            length = 1.04684 * (signal.shape[-1] + 5120)
            power = speech_band.square().sum(dim=-1, keepdim=True) / length
            return signal * (1e7 / power).sqrt()

        def preemphasize(self, signal: Tensor) -> Tensor:
            """Through the standard's filter, faded in and out over 15 samples."""
            fade = torch.ones(signal.shape[-1], device=signal.device)
            fade[:15] = torch.arange(1, 16, device=signal.device) / 16.0
            fade[-15:] = fade[:15].flip(0)
            return convolved(signal * fade, self.get_buffer("pre_response"))

    loss: Callable[[Tensor, Tensor], Tensor] = FastPesqLoss().to(device)
    return loss
