"""Compression by an autoencoder: quantised latents in, sound with invented phases out.

At some hundred bits a second this keeps what a spectrogram of coarse bands keeps. It is meant for
logs, previews and archives of noise; for speech to listen to, Opus is better from 6 kbit/s up.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from audiodae.errors import AudioError, CheckpointError
from audiodae.files.audio import Writer
from audiodae.latent import adae_file, latent_code
from audiodae.latent.adae_file import Compressed
from audiodae.latent.latents import Patches, Progress, Trained, encode, sound
from audiodae.nets.autoencoder import Autoencoder
from audiodae.recordings.sources import Finder, Found, is_pattern, once
from audiodae.sound.resample import Resampler, check_rate

SUFFIX = ".adae"
FINENESS = 0.35
_DECODED_AT_ONCE = 64  # patches
_LOUDEST_PATCH = 12.0  # 15 dB each, so far beyond full scale


def compress(
    path: str | os.PathLike[str],
    model: Trained,
    *,
    fineness: float = FINENESS,
    progress: Progress | None = None,
) -> tuple[Compressed, list[str]]:
    """A recording as quantised, coded latents, and warnings about it; channels are averaged.

    The quantiser's step is `fineness` times the deviation of the recording's latents: smaller is
    finer and costs more bits. Raises `AudioError` for what cannot be read or holds no sound.
    """
    check_fineness(fineness)
    patches = Patches(path, model.net, progress)
    latents = np.concatenate([encode(model.net, block).cpu().numpy() for block in patches])
    # As it will be read back: float32.
    deviation = float(np.sqrt(latents.var(axis=0).mean())) or float(np.abs(latents).mean()) or 1.0
    step = float(np.float32(max(fineness * deviation, np.abs(latents).max() / latent_code.LARGEST)))
    numbers = np.clip(np.rint(latents / step), -latent_code.LARGEST, latent_code.LARGEST)
    numbers = numbers.astype(np.int32)
    content = Compressed(
        model.name,
        bytes.fromhex(model.sha256)[:8],
        patches.sample_rate,
        patches.frames,
        numbers.shape[0],
        numbers.shape[1],
        step,
        latent_code.pack(numbers),
    )
    return content, patches.warnings


def check_fineness(fineness: float) -> float:
    """As it came. Raises `AudioError` for one that is too small or too large."""
    if not 0.01 <= fineness <= 10.0:
        raise AudioError(f"fineness is {fineness:g}: give a step from 0.01 to 10 deviations.")
    return fineness


def decompress(content: Compressed, model: Trained) -> Iterator[npt.NDArray[np.float32]]:
    """The sound of what `compress` made, `(1, n)` float32 blocks at the rate of the original.

    Raises `CheckpointError` when `model` is not the one it was compressed with, and `AudioError` for
    numbers that do not go together.
    """
    _check(content, model)
    return _sound(content, model)


def _check(content: Compressed, model: Trained) -> None:
    mark = bytes.fromhex(model.sha256)[:8]
    if content.sha256 != mark:
        raise CheckpointError(
            f"It was compressed with the model {content.model!r} ({content.sha256.hex()}...), but "
            f"{model.name!r} ({mark.hex()}...) was loaded: give that model with --model."
        )
    check_rate(content.sample_rate)
    config = model.net.config
    samples = _samples(content, model)
    if (content.patches, content.latent) != (-(-samples // config.patch_samples), config.latent):
        raise AudioError(
            f"It says {content.patches} patches of {content.latent} numbers for {content.samples} samples, "
            "which do not go together: it was not written by audiodae."
        )


def _samples(content: Compressed, model: Trained) -> int:
    """The length at the model's rate."""
    return -(-content.samples * model.net.sample_rate // content.sample_rate)


def _sound(content: Compressed, model: Trained) -> Iterator[npt.NDArray[np.float32]]:
    numbers = latent_code.unpack(content.payload, content.patches, content.latent)
    resampler = Resampler(model.net.sample_rate, content.sample_rate)
    left = content.samples
    for piece in sound(
        model.net, _decoded(numbers, content.step, model.net), _samples(content, model)
    ):
        block = resampler.feed(piece[None])[:, :left]
        left -= block.shape[1]
        if block.shape[1]:
            yield block
    block = resampler.flush()[:, :left]
    yield np.pad(block, ((0, 0), (0, left - block.shape[1])))


def _decoded(numbers: npt.NDArray[np.int32], step: float, net: Autoencoder) -> Iterator[Tensor]:
    for start in range(0, len(numbers), _DECODED_AT_ONCE):
        with np.errstate(over="ignore"):  # of a step that nobody chose
            latents = numbers[start : start + _DECODED_AT_ONCE].astype(np.float32) * np.float32(
                step
            )
        with torch.inference_mode():
            patches = net.decode(torch.from_numpy(latents).to(net.device))
        if not bool(patches.abs().amax() < _LOUDEST_PATCH):
            raise AudioError("Its numbers make no sound: it was not written by audiodae.")
        yield patches


def compress_file(
    source: Path,
    target: Path,
    model: Trained,
    *,
    fineness: float = FINENESS,
    progress: Progress | None = None,
    replace: bool = True,
) -> tuple[Compressed, int, list[str]]:
    """Compress a recording into an `.adae` file; what it holds, its size in bytes, and warnings.

    The folder of the target is made once there is something to be in it. Without `replace` a target that
    exists, or appears meanwhile, is an error and stays.
    """
    content, warnings = compress(source, model, fineness=fineness, progress=progress)
    target.parent.mkdir(parents=True, exist_ok=True)
    return content, adae_file.write(target, content, replace=replace), warnings


def decompress_file(
    source: Path, target: Path, model: Trained, *, replace: bool = True
) -> Compressed:
    """Turn an `.adae` file into sound, 16 bits, in the format of the target's suffix.

    The folder of the target is made once there is something to be in it; `replace` as above.
    """
    content = adae_file.read(source)
    blocks = decompress(content, model)
    target.parent.mkdir(parents=True, exist_ok=True)
    with Writer(target, content.sample_rate, 1, replace=replace) as writer:
        for block in blocks:
            writer.write(np.clip(block, -1.0, 1.0))
    return content


def found_compressed(sources: Iterable[Path]) -> list[Found]:
    """The `.adae` files that files, folders and patterns stand for, with their places below these."""
    found: list[Found] = []
    for source in sources:
        if source.is_dir():
            files = (path for path in source.rglob("*") if path.suffix.lower() == SUFFIX)
            inside = sorted(path for path in files if path.is_file())
            found += [Found(path, path.relative_to(source), source) for path in inside]
            if not inside:
                reason = f"{source} holds no {SUFFIX} file."
                found.append(Found(source, Path(source.name), None, "refuse", reason))
        elif is_pattern(str(source)):
            base, matches, closed = Finder(()).matches(str(source))
            inside = [path for path in matches if path.suffix.lower() == SUFFIX and path.is_file()]
            found += [Found(path, Path(os.path.relpath(path, base))) for path in inside] + closed
            if not inside:
                reason = f"{source} matches no {SUFFIX} file."
                found.append(Found(source, Path(source.name), None, "refuse", reason))
        else:
            found.append(Found(source, Path(source.name)))
    return once(found)
