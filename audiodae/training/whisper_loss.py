"""A recogniser's hearing as something to train on: the encoder of Whisper, rebuilt so that gradients pass."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from audiodae.errors import AudiodaeError, reason
from audiodae.measure.judges import SPEECH_RATE

_N_FFT, _HOP_LENGTH = 400, 160
_DYNAMIC_BELS = 8.0  # what lies further below the loudest is not heard
_TYPES = {0: "<f4", 4: "<f2"}  # of CTranslate2, those that are not quantised


class WhisperLoss(nn.Module):
    """How differently Whisper (Radford et al., 2022) hears an estimate and the clean speech.

    `(batch, samples)` twice -> `(batch,)`: the mean squared difference of what the encoder's last layer
    says, each frame to unit power, so 0 is the same and 2 has nothing in common. `folder` is a Whisper
    model as CTranslate2 and faster-whisper keep it, in float16 or float32 (`model.bin`). Raises
    `AudiodaeError` where there is none.
    """

    def __init__(self, sample_rate: int, folder: Path) -> None:
        super().__init__()
        # Here and not when it is called: what is missing should be said before hours of training.
        try:
            from librosa.filters import mel

            if sample_rate != SPEECH_RATE:
                from torchaudio.functional import resample

                self.resample = resample
        except ImportError as error:
            raise AudiodaeError(
                f"The recipe asks for a Whisper loss, which needs the package {error.name}: "
                'pip install "audiodae[train]", or set whisper to 0 in every stage.'
            ) from error
        self.sample_rate = sample_rate
        arrays = _read(folder)
        self.heads = int(arrays.pop("num_heads"))
        self.layers = sum(name.endswith("linear_1/bias") for name in arrays) // 2
        for name, array in arrays.items():
            self.register_buffer(
                name.replace("/", "|"), torch.from_numpy(array.astype("f4")), persistent=False
            )
        bands = self._weight("conv1/weight").shape[1]
        bank = torch.from_numpy(mel(sr=SPEECH_RATE, n_fft=_N_FFT, n_mels=bands)).T
        self.register_buffer("bank", bank, persistent=False)
        self.register_buffer("window", torch.hann_window(_N_FFT), persistent=False)

    def forward(self, estimate: Tensor, clean: Tensor) -> Tensor:
        """Twice `(batch, samples)` at `sample_rate` -> `(batch,)`; only the estimate gets a gradient."""
        with torch.no_grad():
            wanted = self.hear(clean)
        return (self.hear(estimate) - wanted).square().mean(dim=(1, 2))

    def hear(self, x: Tensor) -> Tensor:
        """`(batch, samples)` -> `(batch, frames of 20 ms, features)`, each frame to unit power."""
        if self.sample_rate != SPEECH_RATE:
            x = self.resample(x, self.sample_rate, SPEECH_RATE)
        y = self._encode(self._log_mel(x))
        return functional.layer_norm(y, y.shape[-1:])

    def _log_mel(self, x: Tensor) -> Tensor:
        window = self.get_buffer("window")
        spec = torch.stft(x, _N_FFT, _HOP_LENGTH, window=window, return_complex=True)[..., :-1]
        power = torch.view_as_real(spec).square().sum(dim=-1)
        bels = (power.transpose(1, 2) @ self.get_buffer("bank")).clamp_min(1e-10).log10()
        loudest = bels.amax(dim=(1, 2), keepdim=True)
        return (torch.maximum(bels, loudest - _DYNAMIC_BELS) + 4.0) / 4.0

    def _encode(self, mel: Tensor) -> Tensor:
        y = mel.transpose(1, 2)
        for name, stride in (("conv1", 1), ("conv2", 2)):
            kernel, bias = self._weight(f"{name}/weight"), self._weight(f"{name}/bias")
            y = functional.gelu(functional.conv1d(y, kernel, bias, stride=stride, padding=1))
        y = y.transpose(1, 2)
        y = y + self._weight("position_encodings/encodings")[: y.shape[1]]
        for layer in range(self.layers):
            part = f"layer_{layer}/self_attention"
            y = y + self._attend(part, self._norm(f"{part}/layer_norm", y))
            part = f"layer_{layer}/ffn"
            inner = self._linear(f"{part}/linear_0", self._norm(f"{part}/layer_norm", y))
            y = y + self._linear(f"{part}/linear_1", functional.gelu(inner))
        return self._norm("layer_norm", y)

    def _attend(self, part: str, y: Tensor) -> Tensor:
        three = self._linear(f"{part}/linear_0", y).unflatten(-1, (3, self.heads, -1))
        query, key, value = three.permute(2, 0, 3, 1, 4)
        heard = functional.scaled_dot_product_attention(query, key, value)
        return self._linear(f"{part}/linear_1", heard.transpose(1, 2).flatten(2))

    def _linear(self, name: str, y: Tensor) -> Tensor:
        return functional.linear(y, self._weight(f"{name}/weight"), self._weight(f"{name}/bias"))

    def _norm(self, name: str, y: Tensor) -> Tensor:
        gamma, beta = self._weight(f"{name}/gamma"), self._weight(f"{name}/beta")
        return functional.layer_norm(y, gamma.shape, gamma, beta)

    def _weight(self, name: str) -> Tensor:
        return self.get_buffer(name.replace("/", "|"))


def _read(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of the encoder in a CTranslate2 model, by their names after `encoder/`."""
    path = folder / "model.bin"
    found: dict[str, np.ndarray] = {}
    strange = False
    try:
        with path.open("rb") as file:
            _number(file, "<I")  # version of the format
            kind = _text(file)
            _number(file, "<I")  # revision of the model
            for _ in range(_number(file, "<I") if kind == "WhisperSpec" else 0):
                name = _text(file)
                shape = [_number(file, "<I") for _ in range(_number(file, "<B"))]
                dtype, size = _number(file, "<B"), _number(file, "<I")
                raw = file.read(size)
                if name == "encoder/num_heads":
                    found["num_heads"] = np.frombuffer(raw, "<i2" if size == 2 else "<i1")[0]
                elif name.startswith("encoder/") and dtype in _TYPES:
                    array = np.frombuffer(raw, _TYPES[dtype]).reshape(shape)
                    found[name.removeprefix("encoder/")] = array
                else:  # quantised ones have scales beside them, and could not be computed with
                    strange |= name.startswith("encoder/") and name.endswith("/weight")
    except (OSError, struct.error, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise AudiodaeError(f"{path} cannot be read as a Whisper model: {why}.") from error
    if strange or not {"num_heads", "layer_norm/gamma", "conv1/weight"} <= set(found):
        raise AudiodaeError(
            f"{path} is not a Whisper model that CTranslate2 keeps in float16 or float32: give the folder "
            "of one, such as faster-whisper downloads."
        )
    return found


def _number(file: BinaryIO, form: str) -> int:
    (number,) = struct.unpack(form, file.read(struct.calcsize(form)))
    return int(number)


def _text(file: BinaryIO) -> str:
    return file.read(_number(file, "<H")).rstrip(b"\0").decode()
