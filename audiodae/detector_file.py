"""A detector as plain data: arrays in safetensors, the rest in a JSON file beside them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from audiodae.anomaly import Detector, Gaussian, Normal
from audiodae.atomic import reason, write_whole
from audiodae.errors import CheckpointError
from audiodae.standing import Standing

KIND = "anomaly-detector"
# 1 knew nothing of flat peaks; thresholds of 2 are of the largest oddity, not of all together; 3 knew
# of one length of clips alone.
FORMAT, _ONE_LENGTH = 4, 3
_STANDING = ("patches", "centre", "spread", "thresholds")


def detector_path(path: Path) -> Path:
    """The `.safetensors` file of a detector named with or without its ending."""
    return path if path.suffix == ".safetensors" else path.with_name(path.name + ".safetensors")


def write_detector(path: Path, detector: Detector) -> Path:
    """Write `PATH.safetensors` and `PATH.json`; the first of them. Raises `AudioError`."""
    tensors = detector_path(path)
    arrays = {name: getattr(detector.standing, name) for name in _STANDING}
    arrays["patch_thresholds"] = detector.patch_thresholds
    gaussians = {"moments": detector.normal.moments, "levels": detector.normal.levels}
    gaussians |= {f"clips.{i}": gaussian for i, gaussian in enumerate(detector.normal.clips)}
    for name, gaussian in gaussians.items():
        arrays[f"{name}.mean"] = gaussian.mean
        arrays[f"{name}.whitening"] = np.ascontiguousarray(gaussian.whitening)
    data = save(arrays)
    card = {
        "format": FORMAT,
        "kind": KIND,
        "autoencoder": {"model": detector.model, "sha256": detector.sha256},
        "growth": detector.standing.growth,
        "quantile": detector.quantile,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    text = (json.dumps(card, indent=2) + "\n").encode()
    write_whole(tensors, lambda stream: stream.write(data))
    write_whole(tensors.with_suffix(".json"), lambda stream: stream.write(text))
    return tensors


def read_detector(path: Path) -> Detector:
    """Raises `CheckpointError` for a detector that is missing, damaged or of another kind."""
    tensors = detector_path(path)
    try:
        data = tensors.read_bytes()
        card = json.loads(tensors.with_suffix(".json").read_text("utf-8"))
    except OSError as error:
        raise CheckpointError(
            f"The detector {error.filename} cannot be read: {reason(error)}. "
            "`audiodae anomaly fit NORMAL_DIR -o NAME` makes one (two files)."
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{tensors.with_suffix('.json')} is not JSON ({error}).") from error
    if not isinstance(card, dict) or card.get("kind") != KIND:
        raise CheckpointError(f"{tensors} is no anomaly detector.")
    if card.get("format") not in (FORMAT, _ONE_LENGTH):
        raise CheckpointError(
            f"{tensors} is a detector of format {card.get('format')}, and this version of audiodae reads "
            f"format {FORMAT}: fit it again with `audiodae anomaly fit`."
        )
    if hashlib.sha256(data).hexdigest() != card.get("sha256"):
        raise CheckpointError(
            f"{tensors} does not match the sha256 in its .json: it is damaged or was exchanged."
        )
    try:
        arrays = load(data)
        if card["format"] == _ONE_LENGTH:
            threshold = float(card["clip_threshold"])
            standing = Standing.of_one_length(arrays["centre"], arrays["spread"], threshold)
            clips: tuple[Gaussian, ...] = (_gaussian(arrays, "clips"),)
        else:
            standing = Standing(
                **{name: arrays[name] for name in _STANDING}, growth=float(card["growth"])
            )
            clips = tuple(_gaussian(arrays, f"clips.{i}") for i in range(len(standing.patches)))
        return Detector(
            Normal(clips, _gaussian(arrays, "moments"), _gaussian(arrays, "levels")),
            standing,
            patch_thresholds=arrays["patch_thresholds"],
            quantile=float(card["quantile"]),
            model=str(card["autoencoder"]["model"]),
            sha256=str(card["autoencoder"]["sha256"]),
        )
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{tensors} does not fit its description: {error}") from error


def _gaussian(arrays: dict[str, Any], name: str) -> Gaussian:
    return Gaussian(arrays[f"{name}.mean"], arrays[f"{name}.whitening"])
