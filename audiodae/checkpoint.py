"""A trained net as plain data: tensors in safetensors, everything else in a JSON file beside them.

The JSON carries the SHA-256 of the tensors, so a damaged or swapped file is noticed before it is used,
and loading is strict: every tensor must be there with its shape. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from audiodae.autoencoder import Autoencoder, AutoencoderConfig
from audiodae.config import from_plain, to_plain
from audiodae.denoiser import DenoiserConfig, DenoiserNet
from audiodae.errors import CheckpointError

DEFAULT_MODEL = "auto"
"""Stands for the shipped model that fits a recording's sample rate: see `model_for`."""
FULL_BAND_RATE = 32_000
"""From this sample rate on, in Hz, there is something above 8 kHz to clean and to keep."""
FORMAT = 1
Net = DenoiserNet | Autoencoder
_KINDS: dict[str, tuple[type[Any], type[Net]]] = {
    "denoiser": (DenoiserConfig, DenoiserNet),
    "autoencoder": (AutoencoderConfig, Autoencoder),
}
_LARGEST_BYTES = 1 << 30


def pretrained_folder() -> Path:
    """Where the shipped weights are: inside the installed package, or beside it in a source tree."""
    inside = Path(__file__).parent / "pretrained"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "pretrained"


def pretrained_names(kind: str | None = None) -> list[str]:
    """Names that can be loaded without a path; of one kind ("denoiser", "autoencoder") or of all."""
    names = sorted(p.stem for p in pretrained_folder().glob("*.safetensors"))
    return [name for name in names if kind is None or describe(name).get("kind") == kind]


def model_for(sample_rate: int) -> str:
    """Name of the shipped model for recordings of a rate: full band from `FULL_BAND_RATE` on."""
    full_band = sample_rate >= FULL_BAND_RATE and "speech-48k" in pretrained_names()
    return "speech-48k" if full_band else "speech-16k"


def checkpoint_path(name_or_path: str | os.PathLike[str]) -> Path:
    """The `.safetensors` file of a shipped model or of a path (with or without its ending)."""
    text = os.fspath(name_or_path)
    shipped = pretrained_folder() / f"{text}.safetensors"
    if os.sep not in text and shipped.is_file():
        return shipped
    path = Path(text)
    if path.is_dir():
        path = path / "model.safetensors"
    if path.suffix != ".safetensors":
        path = path.with_name(path.name + ".safetensors")
    if not path.is_file():
        raise CheckpointError(
            f"There is no model {text!r}: give the path of a .safetensors file or one of the shipped "
            f"names ({', '.join(pretrained_names()) or 'none are installed'})."
        )
    return path


def describe(name_or_path: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON beside a weight file: config, licence, training, SHA-256. Raises `CheckpointError`."""
    path = checkpoint_path(name_or_path).with_suffix(".json")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}): a weight file needs its .json beside it."
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}): get the file again.") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} does not describe an audiodae model of format {FORMAT}: "
            "it was made by another program or another version."
        )
    return card


def load_denoiser(
    name_or_path: str | os.PathLike[str], device: str | torch.device = "cpu"
) -> DenoiserNet:
    """Load a denoiser, ready to clean (evaluation mode). Raises `CheckpointError`."""
    return cast(DenoiserNet, _load(name_or_path, "denoiser", device))


def load_autoencoder(
    name_or_path: str | os.PathLike[str], device: str | torch.device = "cpu"
) -> Autoencoder:
    """Load an autoencoder, ready to use (evaluation mode). Raises `CheckpointError`."""
    return cast(Autoencoder, _load(name_or_path, "autoencoder", device))


def _load(name_or_path: str | os.PathLike[str], kind: str, device: str | torch.device) -> Net:
    path = checkpoint_path(name_or_path)
    card = describe(path)
    if path.stat().st_size > _LARGEST_BYTES:
        raise CheckpointError(f"{path} is over 1 GB, which no model of ours is: it was not opened.")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != card.get("sha256"):
        raise CheckpointError(
            f"{path} does not match the sha256 in {path.stem}.json: the file is damaged or was "
            "exchanged. Get both files again from where you trust."
        )
    if card.get("kind") != kind:
        raise CheckpointError(
            f"{path} is of the kind {card.get('kind')!r}, but the kind {kind!r} is wanted here: give "
            f"a model of that kind ({', '.join(pretrained_names(kind)) or 'none is installed'})."
        )
    config, net_class = _KINDS[kind]
    try:
        net: Net = net_class(from_plain(config, card.get("config", {}), "config"))
        net.load_state_dict(load(data), strict=True)
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} does not fit its description: {error}") from error
    return net.to(device).eval().requires_grad_(False)


def save_checkpoint(
    path: str | os.PathLike[str], net: Net, meta: Mapping[str, Any] | None = None
) -> None:
    """Write `PATH.safetensors` and `PATH.json`; `meta` adds plain entries (licence, training...)."""
    tensors_path = Path(path).with_suffix(".safetensors")
    tensors = {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
    data = save(tensors)
    card = {
        "format": FORMAT,
        "kind": next(kind for kind, (_, cls) in _KINDS.items() if isinstance(net, cls)),
        **(meta or {}),
        "config": to_plain(net.config),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    tensors_path.parent.mkdir(parents=True, exist_ok=True)
    for target, content in (
        (tensors_path, data),
        (tensors_path.with_suffix(".json"), (json.dumps(card, indent=2) + "\n").encode()),
    ):
        unfinished = target.with_name(f".{target.name}.{os.getpid()}")
        unfinished.write_bytes(content)
        os.replace(unfinished, target)
