"""DNSMOS P.835 as something to train on: the published net, rebuilt so that gradients pass."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiodae.errors import AudiodaeError
from audiodae.measure.judges import SPEECH_RATE, as_listeners, dnsmos_model

_HOP_LENGTH = 160
_POOLED_AFTER = (3, 4, 5)  # convolutions that are followed by max pooling
_CONVOLUTIONS = 7
_ROOT = "mos_estimator_logpow/"


class DnsmosLoss(nn.Module):
    """How far a recording is from 5, by the overall quality (OVRL) of DNSMOS P.835 (Reddy et al., 2022).

    `(batch, samples)` -> `(batch,)`. The weights are those of the package `speechmos`, and so is every
    value, for 9.01 s; the net takes a maximum over time, so shorter recordings can be judged too. It costs
    some 4 billion multiplications a second of sound with the gradient, so where the hardware has bfloat16
    the convolutions can be computed in that (`half_precision`): less than half the time, a value that is
    off by some 0.003. A net trained on it is no longer measured by it alone: look at PESQ, STOI and SI-SDR
    too. Raises `AudiodaeError` where the packages are missing.
    """

    def __init__(self, sample_rate: int, half_precision: bool = False) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.half_precision = half_precision
        if sample_rate != SPEECH_RATE:
            # Here and not when it is called: what is missing should be said before hours of training.
            from torchaudio.functional import resample

            self.resample = resample
        for name, value in _published_weights().items():
            self.register_buffer(name.replace("/", "|"), value, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, samples)` at `sample_rate` -> `(batch,)`, 0 for an OVRL of 5; shortest are 0.09 s."""
        return 5.0 - as_listeners(self.raw(x)[:, 2], "ovrl")

    def raw(self, x: Tensor) -> Tensor:
        """What the net says of speech, background and overall, before calibration: `(batch, 3)`."""
        if self.sample_rate != SPEECH_RATE:
            x = self.resample(x, self.sample_rate, SPEECH_RATE)
        kernels = [
            self._weight(f"time2freq/stft-{part}/kernel:0")[..., 0] for part in ("real", "imag")
        ]
        frames = x.unfold(-1, kernels[0].shape[1], _HOP_LENGTH)
        power = torch.stack([(frames @ kernel.T).square() for kernel in kernels]).sum(dim=0)
        y = power.clamp_min(1e-12).log10()[:, None]
        half = (
            torch.autocast(y.device.type, torch.bfloat16) if self.half_precision else nullcontext()
        )
        with half:
            for layer in range(_CONVOLUTIONS):
                name = f"conv2d_{layer}" if layer else "conv2d"
                kernel, bias = self._weight(f"{name}/kernel:0"), self._weight(f"{name}/bias:0")
                y = functional.conv2d(y, kernel, bias, padding=1).relu()
                if layer in _POOLED_AFTER:
                    y = functional.max_pool2d(y, 2)
        y = y.float().amax(dim=(2, 3))
        return self._dense("dense_3", self._dense("dense_1", self._dense("dense", y).relu()).relu())

    def _dense(self, name: str, y: Tensor) -> Tensor:
        kernel = self._weight(f"{_ROOT}{name}/MatMul/ReadVariableOp/resource:0")
        return y @ kernel + self._weight(f"{_ROOT}{name}/BiasAdd/ReadVariableOp/resource:0")

    def _weight(self, name: str) -> Tensor:
        return self.get_buffer(name.replace("/", "|"))


def _published_weights() -> dict[str, Tensor]:
    published = dnsmos_model()
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        published = None
    if published is None:
        raise AudiodaeError(
            "The recipe asks for a DNSMOS loss, which needs the packages speechmos and onnx: "
            'pip install "audiodae[train]", or set dnsmos to 0 in every stage.'
        )
    model = onnx.load(str(published))
    arrays = {t.name: numpy_helper.to_array(t).copy() for t in model.graph.initializer}
    return {
        name: torch.from_numpy(a) for name, a in arrays.items() if a.ndim and a.dtype == "float32"
    }
