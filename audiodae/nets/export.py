"""A trained denoiser as an ONNX file: the net with explicit state, and all one must know to run it.

    features   (batch, 3, frames, bands)   in: compressed magnitude, real part, imaginary part
    NAME       (batch, ...)                in: the state NAME; zeros when a stream begins
    mask       (batch, 2, frames, bands)   out: real and imaginary part
    NAME_after (batch, ...)                out: the state for the next call

`batch` and `frames` are free; one frame at a time and blocks give the same. Making frames, features and
sound again is outside (`stft.py`, `features.py`); the file's metadata say how, and have all numbers for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from audiodae.errors import AudiodaeError
from audiodae.files.atomic import AtomicFile
from audiodae.nets.checkpoint import checkpoint_path, describe, is_exported, load_denoiser
from audiodae.nets.denoiser import DenoiserNet
from audiodae.nets.features import FEATURE_CHANNELS, FLOOR_POWER, band_matrix
from audiodae.nets.onnx_net import AFTER, FEATURES, FORMAT, MASK

OPSET = 17
_PRODUCER, _START_BYTES = "audiodae", 64
_HOW_TO = (
    "B (bands x bins): row k of band_matrix is [first bin, weights from there on], the rest is 0. "
    "A frame: n_fft samples times window, hop_length after the last; real FFT: spectrum s of n_fft/2+1 bins. "
    "p = |s|^2 + floor_power; g = p^((compression-1)/2). features: sqrt(p) g, Re(s) g, Im(s) g, each times "
    "the transpose of B with its rows divided by their sums. mask: real and imaginary part, each times B, "
    "make a complex mask of the bins. s times mask; inverse real FFT; times window; overlap-add. "
    "A recording begins with n_fft-hop_length zeros more, and as many samples of the output are dropped; it "
    "ends with zeros until its last sample is out. features: batch x 3 x frames x bands; mask: batch x 2 x "
    "frames x bands; batch and frames may be any. States begin as zeros; what comes out as NAME_after "
    "goes in as NAME at the next call."
)


def export(name_or_path: str | os.PathLike[str], target: str | os.PathLike[str]) -> Path:
    """Write the ONNX file of a shipped model or a `.safetensors` file; returns its path.

    Where it lands beside the weights under their name, their JSON notes its SHA-256: then
    `audiodae.load()` takes it for the engine "onnx". Raises `CheckpointError` for a bad model and
    `AudiodaeError` when the package `onnx` is missing or something else has the target's name.
    """
    source = checkpoint_path(name_or_path, "denoiser")
    card = describe(source)
    net = load_denoiser(source)
    path = Path(target)
    if not is_exported(path):
        raise AudiodaeError(f"The export goes into {path}: give a name ending in .onnx.")
    if not path.absolute().parent.is_dir():
        raise AudiodaeError(f"{path} cannot be written: its folder is not there.")
    if path.is_file() and not _is_ours(path):
        raise AudiodaeError(
            f"{path} exists already and is no export of audiodae: choose another name with -o."
        )
    data = _graph(net, _metadata(net, card))
    with contextlib.ExitStack() as files:
        # Neither gets its name before both are written: the weights and what is beside them stay a whole.
        exported = files.enter_context(AtomicFile(path))
        if path.resolve() == source.with_suffix(".onnx").resolve():
            card["onnx_sha256"] = hashlib.sha256(data).hexdigest()
            about = files.enter_context(AtomicFile(source.with_suffix(".json")))
            about.write((json.dumps(card, indent=2) + "\n").encode())
        exported.write(data)
    return path


def _is_ours(path: Path) -> bool:
    """Whether nothing is lost when it is replaced: an export of ours says so at its beginning."""
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
    return not start or _PRODUCER.encode() in start


class _Core(nn.Module):
    """The net's core with its states as arguments in place of a dict."""

    def __init__(self, net: DenoiserNet, names: list[str]) -> None:
        super().__init__()
        self.net, self.names = net, names

    def forward(self, features: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        mask, after = self.net.core(features, dict(zip(self.names, states, strict=True)))
        return mask, *(after[name] for name in self.names)


def _graph(net: DenoiserNet, metadata: dict[str, str]) -> bytes:
    try:
        import onnx
    except ImportError as error:
        raise AudiodaeError(
            "Exporting needs the package onnx, which is not installed: run "
            "`pip install 'audiodae[export]'`."
        ) from error
    states = net.initial_state(2)
    names = list(states)
    after = [name + AFTER for name in names]
    features = torch.zeros(2, FEATURE_CHANNELS, 3, net.config.bands.count)
    free = {key: {0: "batch"} for key in (*names, *after)}
    free |= {key: {0: "batch", 2: "frames"} for key in (FEATURES, MASK)}
    file = io.BytesIO()
    with warnings.catch_warnings():
        # That the exporter is the older one (the newer fixes the number of frames of a GRU), that a
        # GRU's batch may change (its state is an input here), that torch.onnx may change.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Core(net, names).eval(),
            (features, *states.values()),
            file,  # type: ignore[arg-type]
            dynamo=False,
            input_names=[FEATURES, *names],
            output_names=[MASK, *after],
            dynamic_axes=free,
            opset_version=OPSET,
        )
    model = onnx.load_from_string(file.getvalue())
    onnx.helper.set_model_props(model, metadata)
    model.producer_name, model.graph.name = _PRODUCER, "denoiser"
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _sparse(matrix: npt.NDArray[np.float64]) -> list[tuple[int, list[float]]]:
    """Of each row the first column that is not zero, and the values from there to the last such."""
    rows = []
    for row in matrix:
        first, last = np.flatnonzero(row)[[0, -1]].tolist()
        rows.append((first, [round(value, 9) for value in row[first : last + 1].tolist()]))
    return rows


def _metadata(net: DenoiserNet, card: dict[str, Any]) -> dict[str, str]:
    """Texts stand as they are, the rest as JSON."""
    stft = net.stft
    known: dict[str, Any] = {
        "kind": "denoiser",
        "description": card.get("description", ""),
        "licence": card.get("licence", "unknown"),
        "sha256": card["sha256"],  # of the weights this was made from
        "format": FORMAT,
        "opset": OPSET,
        "sample_rate": stft.sample_rate,
        "n_fft": stft.n_fft,
        "hop_length": stft.hop_length,
        "how_to": _HOW_TO,
        "window": [round(value, 9) for value in stft.window().tolist()],
        "latency_samples": stft.n_fft - 1,  # at a block of one frame
        "bands": card["config"]["bands"],
        "band_matrix": _sparse(band_matrix(net.config.bands, stft)),
        "compression": net.config.bands.compression,
        "floor_power": FLOOR_POWER,
        "states": {name: list(value.shape[1:]) for name, value in net.initial_state(1).items()},
        "config": card["config"],
    }
    return {key: v if isinstance(v, str) else json.dumps(v) for key, v in known.items()}
