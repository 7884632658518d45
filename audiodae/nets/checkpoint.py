"""A trained net as plain data: tensors in safetensors, everything else in a JSON file beside them.

The JSON carries the SHA-256 of the tensors, so a damaged or swapped file is noticed before it is used,
and loading is strict: every tensor must be there with its shape. Nothing is ever unpickled. A third file,
`.onnx`, may hold the same net for ONNX Runtime; the JSON has its SHA-256 as well, and forgets it when the
tensors are saved anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from audiodae.config import from_plain, in_json, to_plain
from audiodae.errors import AudiodaeError, CheckpointError, reason
from audiodae.files.atomic import AtomicFile
from audiodae.files.regular import read_regular
from audiodae.installed import is_installed
from audiodae.nets.device import check_device, plain_device
from audiodae.nets.net import Engine, Net, weights
from audiodae.sound.resample import check_rate

if TYPE_CHECKING:
    import torch

    from audiodae.nets.autoencoder import Autoencoder
    from audiodae.nets.denoiser import DenoiserNet

DEFAULT_MODEL = "auto"
"""Stands for the shipped model that fits a recording's sample rate: see `model_for`."""
LOWER_RATE = 16_000  # of recordings for the other model, which stands for both where one has to
FULL_BAND_RATE = 32_000
"""From this sample rate on, in Hz, there is something above 8 kHz to clean and to keep."""
FORMAT = 1
IN_FOLDER = "model.safetensors"
"""The model of a run folder, which may be named by its folder."""


def pretrained_folder() -> Path:
    """Where the shipped weights are: inside the installed package, or beside it in a source tree."""
    package = Path(__file__).parents[1]
    inside = package / "pretrained"
    return inside if inside.is_dir() else package.parent / "pretrained"


def pretrained_names(kind: str | None = None) -> list[str]:
    """Names that can be loaded without a path; of one kind ("denoiser", "autoencoder") or of all."""
    names = sorted(p.stem for p in pretrained_folder().glob("*.safetensors"))
    return [name for name in names if kind is None or describe(name).get("kind") == kind]


def model_for(sample_rate: int | None) -> str:
    """Name of the shipped model for recordings of a rate: full band from `FULL_BAND_RATE` on.

    Raises `AudiodaeError` for no rate: sound of 48 kHz taken for 16 kHz comes out worse than it went in.
    """
    if sample_rate is None:
        raise AudiodaeError(
            "The model is chosen by the sample rate of what it is to clean, and none was given: pass it "
            "(`denoiser(audio, 48000)`), or load a model by its name (`audiodae.load('speech-16k')`)."
        )
    full_band = check_rate(sample_rate) >= FULL_BAND_RATE and "speech-48k" in pretrained_names()
    return "speech-48k" if full_band else "speech-16k"


def is_exported(name_or_path: str | os.PathLike[str]) -> bool:
    """Whether a model is the path of an ONNX file, to be run as it is; in any letters (`M.ONNX`)."""
    return Path(name_or_path).suffix.lower() == ".onnx"


def checkpoint_path(name_or_path: str | os.PathLike[str], kind: str | None = None) -> Path:
    """The `.safetensors` file of a shipped model or of a path (with or without its ending).

    Where there is none, the names of one `kind` are offered, or all of them.
    """
    text = os.fspath(name_or_path)
    if not text:  # it would be the folder where one is
        raise CheckpointError("The name of the model is empty: is a variable not set?")
    shipped = pretrained_folder() / f"{text}.safetensors"
    if os.sep not in text and shipped.is_file():
        return shipped
    path = Path(text)
    if path.is_dir():
        path = path / IN_FOLDER
    if path.suffix != ".safetensors":
        path = path.with_name(path.name + ".safetensors")
    if not path.is_file():
        raise CheckpointError(
            f"There is no model {text!r}: give the path of a .safetensors file or one of the shipped "
            f"names ({', '.join(pretrained_names(kind)) or 'none are installed'})."
        )
    return path


def describe(name_or_path: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON beside a weight file: config, licence, training, SHA-256. Raises `CheckpointError`."""
    path = checkpoint_path(name_or_path).with_suffix(".json")
    try:
        card = json.loads(read_regular(path))
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({reason(error)}): a weight file needs its .json beside it."
        ) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}): get the file again.") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} does not describe an audiodae model of format {FORMAT}: "
            "it was made by another program or another version."
        )
    return card


def load_net(
    name_or_path: str | os.PathLike[str],
    device: str | torch.device | None = "cpu",
    engine: Engine = "auto",
    *,
    sample_rate: int | None = None,
) -> Net:
    """Load a denoiser to be run by `engine`; also the path of an `.onnx` file alone.

    The name "auto" is the shipped model for `sample_rate` in Hz.

    Raises `CheckpointError` for a model that is missing, damaged or not there for the engine, and
    `AudiodaeError` for an engine that is not installed or cannot use the device.
    """
    if engine not in get_args(Engine):
        raise AudiodaeError(f"The engine is {engine!r}: choose auto, onnx or torch.")
    device = plain_device(device)
    on_cpu = device == "cpu"
    if engine == "onnx" and not on_cpu:
        raise AudiodaeError(
            f"The engine 'onnx' works on the CPU, not on {str(device)!r}: use the engine 'torch'."
        )
    if name_or_path == DEFAULT_MODEL:
        name_or_path = model_for(sample_rate)
    if is_exported(name_or_path):
        if engine == "torch" or not on_cpu:
            raise AudiodaeError(
                f"{name_or_path} is for ONNX Runtime on the CPU: give the .safetensors file for torch."
            )
        return _load_onnx(Path(name_or_path), None)
    path = checkpoint_path(name_or_path, "denoiser")
    card = describe(path)
    _check_kind(path, card, "denoiser")  # no engine would help
    exported = path.with_suffix(".onnx")
    ready = exported.is_file() and "onnx_sha256" in card
    if engine == "onnx" and not ready:
        raise CheckpointError(
            f"{path} has no ONNX file that was made from it beside it: run "
            f"`audiodae export {name_or_path} -o {exported}`, or use the engine 'torch'."
        )
    if engine == "onnx" or (engine == "auto" and on_cpu and ready and is_installed("onnxruntime")):
        return _load_onnx(exported, card)
    if not is_installed("torch"):
        raise AudiodaeError(
            f"{path} needs PyTorch here, which is not installed: run `pip install 'audiodae[torch]'`"
            + ("." if ready else ", or use a model with an .onnx file, as the shipped ones are.")
        )
    return load_denoiser(path, device)


def _load_onnx(path: Path, card: Mapping[str, Any] | None) -> Net:
    """An exported net; with a `card`, only if it is the one that was made from those weights."""
    from audiodae.nets.onnx_net import OnnxNet

    try:
        data = read_regular(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({reason(error)}).") from error
    if card is not None and hashlib.sha256(data).hexdigest() != card["onnx_sha256"]:
        raise CheckpointError(
            f"{path} does not match the onnx_sha256 in {path.stem}.json: the file is damaged or was "
            "exchanged. Export it again, or get all files again from where you trust."
        )
    net = OnnxNet(data, str(path))
    if card is not None and net.card["sha256"] != card["sha256"]:
        raise CheckpointError(
            f"{path} was made from other weights than {path.stem}.safetensors: export it again."
        )
    return net


def load_denoiser(
    name_or_path: str | os.PathLike[str], device: str | torch.device = "cpu"
) -> DenoiserNet:
    """Load a denoiser for torch, ready to clean (evaluation mode). Raises `CheckpointError`."""
    return cast("DenoiserNet", _load(name_or_path, "denoiser", device))


def load_autoencoder(
    name_or_path: str | os.PathLike[str], device: str | torch.device = "cpu"
) -> Autoencoder:
    """Load an autoencoder, ready to use (evaluation mode). Raises `CheckpointError`."""
    return cast("Autoencoder", _load(name_or_path, "autoencoder", device))


def _load(name_or_path: str | os.PathLike[str], kind: str, device: str | torch.device) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load

    check_device(device)
    path = checkpoint_path(name_or_path, kind)
    card = describe(path)
    _check_kind(path, card, kind)
    try:
        data = read_regular(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {reason(error)}.") from error
    if hashlib.sha256(data).hexdigest() != card.get("sha256"):
        raise CheckpointError(
            f"{path} does not match the sha256 in {path.stem}.json: the file is damaged or was "
            "exchanged. Get both files again from where you trust."
        )
    config, net_class = _kinds()[kind]
    import torch

    try:
        # The weights it begins with are drawn, and overwritten: not with the caller's random numbers, nor
        # where the caller makes modules without any.
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            net = net_class(from_plain(config, card.get("config", {}), "config")).float()
        net.load_state_dict(load(data), strict=True)
    except (SafetensorError, RuntimeError, ValueError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{path} does not fit its description: {error}") from error
    if not all(bool(value.isfinite().all()) for value in net.state_dict().values()):
        raise CheckpointError(
            f"{path} has weights that are not finite: train the model again, or get it again."
        )
    return net.to(device).eval().requires_grad_(False)


def _check_kind(path: Path, card: Mapping[str, Any], kind: str) -> None:
    if card.get("kind") != kind:
        raise CheckpointError(
            f"{path} is of the kind {card.get('kind')!r}, but the kind {kind!r} is wanted here: give "
            f"a model of that kind ({', '.join(pretrained_names(kind)) or 'none is installed'})."
        )


def _kinds() -> dict[str, tuple[type[Any], type[Any]]]:
    """What a checkpoint can be of: its config and its net."""
    from audiodae.nets.autoencoder import Autoencoder
    from audiodae.nets.autoencoder_config import AutoencoderConfig
    from audiodae.nets.denoiser import DenoiserConfig, DenoiserNet

    return {
        "denoiser": (DenoiserConfig, DenoiserNet),
        "autoencoder": (AutoencoderConfig, Autoencoder),
    }


def save_checkpoint(
    path: str | os.PathLike[str],
    net: DenoiserNet | Autoencoder,
    meta: Mapping[str, Any] | None = None,
) -> None:
    """Write `PATH.safetensors` and `PATH.json`; `meta` adds plain entries (licence, training...)."""
    tensors_path = Path(path).with_suffix(".safetensors")
    data = weights(net)
    card = {
        "format": FORMAT,
        "kind": next(kind for kind, (_, cls) in _kinds().items() if isinstance(net, cls)),
        **in_json(meta or {}),
        "config": to_plain(net.config),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    tensors_path.parent.mkdir(parents=True, exist_ok=True)
    # Neither gets its name before both are written: on a full disk the pair of before stays a pair.
    with (
        AtomicFile(tensors_path) as tensors,
        AtomicFile(tensors_path.with_suffix(".json")) as about,
    ):
        tensors.write(data)
        about.write((json.dumps(card, indent=2) + "\n").encode())
