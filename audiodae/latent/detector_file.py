"""A detector as plain data: arrays in safetensors, the rest in a JSON file beside them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from audiodae.errors import AudiodaeError, CheckpointError, reason
from audiodae.files.atomic import AtomicFile
from audiodae.files.regular import read_regular
from audiodae.latent.anomaly import Detector, Gaussian, Normal
from audiodae.latent.standing import Standing

KIND = "anomaly-detector"
# 1 knew nothing of flat peaks; thresholds of 2 are of the largest oddity, not of all together; 3 knew
# of one length of clips alone.
FORMAT, _ONE_LENGTH = 4, 3
_STANDING = ("patches", "centre", "spread", "thresholds")


def detector_path(path: Path) -> Path:
    """The `.safetensors` file of a detector named with or without its ending."""
    if not path.name:
        raise AudiodaeError(
            f"{path} is a folder: give the name of a detector, such as {path / KIND}."
        )
    return path if path.suffix == ".safetensors" else path.with_name(path.name + ".safetensors")


def write_detector(path: Path, detector: Detector) -> Path:
    """Write `PATH.safetensors` and `PATH.json`; the first of them. Raises as `detector_files`."""
    with detector_files(path) as write:
        return write(detector)


@contextlib.contextmanager
def detector_files(path: Path) -> Iterator[Callable[[Detector], Path]]:
    """Opens both files of a detector before there is one, and gives what writes them.

    Raises `AudioError` where they cannot be written, and `AudiodaeError` where one would replace
    anything but an earlier detector: a model has files of the same two endings.
    """
    tensors = detector_path(path)
    targets = (tensors, tensors.with_suffix(".json"))
    with contextlib.ExitStack() as opened:
        files = []
        for target in targets:
            files.append(AtomicFile(target))
            opened.callback(files[-1].discard)
        _refuse_other_files(*targets)

        def write(detector: Detector) -> Path:
            for file, data in zip(files, _packed(detector), strict=True):
                file.write(data)
            _refuse_other_files(*targets)  # what appeared while the recordings were listened to
            for file in files:
                file.commit()
            return tensors

        yield write


def _refuse_other_files(tensors: Path, card: Path) -> None:
    there = [path for path in (tensors, card) if os.path.lexists(path)]
    if there and not _is_ours(card):
        raise AudiodaeError(
            f"{there[0]} exists already and belongs to no detector: give the detector another name "
            "with -o."
        )


def _is_ours(card: Path) -> bool:
    try:
        found = json.loads(read_regular(card))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("kind") == KIND


def _packed(detector: Detector) -> tuple[bytes, bytes]:
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
    return data, (json.dumps(card, indent=2) + "\n").encode()


def read_detector(path: Path) -> Detector:
    """Raises `CheckpointError` for a detector that is missing, damaged or of another kind."""
    tensors = detector_path(path)
    try:
        data = read_regular(tensors)
        card = json.loads(read_regular(tensors.with_suffix(".json")))
    except OSError as error:
        raise CheckpointError(
            f"The detector {error.filename} cannot be read: {reason(error)}. "
            "`audiodae anomaly fit NORMAL_DIR -o NAME` makes one (two files)."
        ) from error
    except (ValueError, RecursionError) as error:
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
        if wrong := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
            raise ValueError(f"{', '.join(wrong)} is not finite")
        if card["format"] == _ONE_LENGTH:
            threshold = float(card["clip_threshold"])
            standing = Standing.of_one_length(arrays["centre"], arrays["spread"], threshold)
            clips: tuple[Gaussian, ...] = (_gaussian(arrays, "clips"),)
        else:
            standing = Standing(
                **{name: arrays[name] for name in _STANDING}, growth=float(card["growth"])
            )
            clips = tuple(_gaussian(arrays, f"clips.{i}") for i in range(len(standing.patches)))
        _check_shapes(standing, arrays)
        return Detector(
            Normal(clips, _gaussian(arrays, "moments"), _gaussian(arrays, "levels")),
            standing,
            patch_thresholds=arrays["patch_thresholds"],
            quantile=float(card["quantile"]),
            model=str(card["autoencoder"]["model"]),
            sha256=str(card["autoencoder"]["sha256"]),
        )
    except (SafetensorError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{tensors} does not fit its description: {error}") from error


def _check_shapes(standing: Standing, arrays: dict[str, Any]) -> None:
    """Raise ValueError for arrays that do not go together, or divide by nothing."""
    count = len(standing.patches)
    if not count or not math.isfinite(standing.growth):
        raise ValueError("there is no length of clips, or no number for their growth")
    for name in _STANDING:
        array = getattr(standing, name)
        if len(array) != count or (name != "centre" and not np.all(array > 0)):
            raise ValueError(f"{name} does not fit {count} lengths of clips")
    for name, array in arrays.items():
        gaussian, _, part = name.rpartition(".")
        if part == "whitening" and array.shape[:1] != arrays[f"{gaussian}.mean"].shape:
            raise ValueError(f"{name} does not fit its mean")


def _gaussian(arrays: dict[str, Any], name: str) -> Gaussian:
    return Gaussian(arrays[f"{name}.mean"], arrays[f"{name}.whitening"])
