"""New noise from the latent space of a variational autoencoder, and ways between two recordings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from audiodae.errors import AudiodaeError
from audiodae.files.audio import Writer
from audiodae.latent.latents import Patches, Progress, encode, sound
from audiodae.latent.texture import Texture
from audiodae.nets.autoencoder import Autoencoder

Audio = npt.NDArray[np.float32]
Warn = Callable[[str], object]
"""Called with each sentence about what is wrong with a recording that is used all the same."""

_MOST_SECONDS = 60.0  # of a recording that are listened to
_FARTHEST = 0.5  # part of the way from one recording to another
_PEAK = 0.98
_BLOCK_PATCHES = 48


def texture_of(
    path: str | os.PathLike[str],
    autoencoder: Autoencoder,
    progress: Progress | None = None,
    warn: Warn | None = None,
) -> Texture:
    """The texture of a recording (of its first minute or so). Raises `AudioError` for what is no sound."""
    latents, squares, count = [], torch.zeros(()), 0
    reader = Patches(path, autoencoder, progress, whole_only=True)
    for block in reader:
        latent = encode(autoencoder, block)
        with torch.inference_mode():
            squares = squares + (block - autoencoder.decode(latent)).square().sum(dim=(0, 1)).cpu()
        latents.append(latent.cpu().numpy())
        count += block.shape[0] * block.shape[1]
        if count * autoencoder.config.hop_length > _MOST_SECONDS * autoencoder.sample_rate:
            break
    _pass_on(reader, warn)
    residual = (squares / count).sqrt().numpy().astype(np.float64)
    return Texture.fit(np.concatenate(latents), residual)


def generate(
    autoencoder: Autoencoder,
    count: int,
    seconds: float,
    *,
    like: Sequence[Texture] = (),
    seed: int = 0,
) -> Iterator[Audio]:
    """`count` new noises of so many `seconds`, `(samples,)` float32 at the model's rate.

    Without `like` each is drawn from the prior. With textures of recordings each sounds like one of
    them, drawn at random and moved up to half way towards another. The same seed gives the same
    latents. Raises `AudiodaeError` as `check`.
    """
    check(autoencoder, count, seconds)
    if seed < 0:
        raise AudiodaeError(f"The seed is {seed}: give 0 or more.")
    return _generated(autoencoder, count, seconds, like, seed)


def check(autoencoder: Autoencoder, count: int, seconds: float) -> None:
    """Raise `AudiodaeError` for a model that is not variational and for impossible numbers."""
    if count < 1 or not 0.1 <= seconds <= 3600.0:
        raise AudiodaeError(
            f"{count} noises of {seconds:g} s: give at least one, of 0.1 s to an hour."
        )
    if autoencoder.config.bottleneck != "gaussian":
        raise AudiodaeError(
            "Noise is drawn from the latent space of a variational autoencoder, and this model is "
            "none: leave out --model or give one with a Gaussian bottleneck."
        )


def _generated(
    autoencoder: Autoencoder, count: int, seconds: float, like: Sequence[Texture], seed: int
) -> Iterator[Audio]:
    config = autoencoder.config
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        if like:
            texture = like[int(rng.integers(len(like)))]
            other = like[int(rng.integers(len(like)))]
            texture = texture.towards(other, float(rng.uniform(0.0, _FARTHEST)))
        else:
            texture = Texture.prior(config.latent, config.mels, rng)
        yield render(autoencoder, texture, seconds, rng)


def render(
    autoencoder: Autoencoder, texture: Texture, seconds: float, rng: np.random.Generator
) -> Audio:
    """A texture as sound, `(samples,)` float32, turned down where it would exceed full scale."""
    samples = round(seconds * autoencoder.sample_rate)
    config = autoencoder.config
    # A patch more than what is heard, as half of one at either end is faded with none beside it. Of an odd
    # number of frames halves are shorter, so it takes more of them.
    frames = (-(-samples // config.patch_samples) + 1) * config.patch_frames
    halves = -(-(frames - config.patch_frames) // _step(config.patch_frames)) + 1
    latents = torch.from_numpy(texture.walk(halves, rng))
    levels = _overlapped(autoencoder, latents)
    noise = rng.standard_normal(tuple(levels.shape)).astype(np.float32)
    levels = levels + torch.from_numpy(noise * texture.residual.astype(np.float32)).to(levels)
    return _within_full_scale(_whole(autoencoder, levels, samples, int(rng.integers(2**31))))


def interpolate(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    autoencoder: Autoencoder,
    steps: int = 7,
    warn: Warn | None = None,
) -> Iterator[Audio]:
    """From one recording to another in `steps` sounds, along straight lines in the latent space.

    The first is the reconstruction of `a`, the last that of `b`; all have the length of the shorter
    (a minute or so at most). Raises `AudioError` for what is no sound, `AudiodaeError` under two steps.
    """
    if steps < 2:
        raise AudiodaeError(f"{steps} steps from one recording to another: give at least two.")
    ends = [_beginning(path, autoencoder, warn) for path in (a, b)]
    common = min(len(end) for end in ends)
    samples = common * autoencoder.config.patch_samples
    for part in np.linspace(0.0, 1.0, steps).tolist():
        latents = (1 - part) * ends[0][:common] + part * ends[1][:common]
        with torch.inference_mode():
            levels = autoencoder.decode(latents)
        yield _within_full_scale(_whole(autoencoder, levels, samples))


def places(folder: Path, names: Iterable[str], overwrite: bool) -> list[Path]:
    """`FOLDER/NAME.wav` of each. Raises `AudiodaeError` where one is there, unless `overwrite`."""
    paths = [folder / f"{name}.wav" for name in names]
    there = [path for path in paths if os.path.lexists(path)]
    if there and not overwrite:
        raise AudiodaeError(f"{there[0]} exists already: use --overwrite to replace it.")
    return paths


def write_sounds(
    paths: Iterable[Path], sounds: Iterable[Audio], sample_rate: int, *, replace: bool = True
) -> Iterator[Path]:
    """Write each sound, 16 bits; folders are made once there is something to be in them.

    Without `replace` a file that exists, or appears meanwhile, is an error and stays.
    """
    for path, samples in zip(paths, sounds, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        with Writer(path, sample_rate, 1, subtype="PCM_16", replace=replace) as writer:
            writer.write(samples[None])
        yield path


def _beginning(path: str | os.PathLike[str], autoencoder: Autoencoder, warn: Warn | None) -> Tensor:
    blocks, count = [], 0
    reader = Patches(path, autoencoder, whole_only=True)
    for block in reader:
        blocks.append(encode(autoencoder, block))
        count += len(block)
        if count * autoencoder.config.patch_samples > _MOST_SECONDS * autoencoder.sample_rate:
            break
    _pass_on(reader, warn)
    return torch.cat(blocks)


def _pass_on(reader: Patches, warn: Warn | None) -> None:
    if warn is not None:
        for warning in reader.warnings:
            warn(warning)


def _overlapped(autoencoder: Autoencoder, latents: Tensor) -> Tensor:
    """Latents half a patch apart to patches without seams: each decoded, faded into the next."""
    frames, mels = autoencoder.config.patch_frames, autoencoder.config.mels
    half, step = frames // 2, _step(frames)
    device = autoencoder.device
    rise = (torch.arange(half, device=device) + 0.5) / max(half, 1)
    window = torch.cat([rise, torch.ones(frames - 2 * half, device=device), rise.flip(0)])
    total = torch.zeros((len(latents) - 1) * step + frames, mels, device=device)
    weight = torch.zeros(len(total), 1, device=device)
    with torch.inference_mode():
        decoded = autoencoder.decode(latents.to(autoencoder.device))
    for i, patch in enumerate(decoded):
        total[i * step : i * step + frames] += patch * window[:, None]
        weight[i * step : i * step + frames, 0] += window
    total = total / weight
    whole = len(total) // frames
    return total[: whole * frames].view(whole, frames, mels)


def _step(patch_frames: int) -> int:
    """Frames from a patch to the next where they overlap by half; one of a frame cannot overlap."""
    return max(patch_frames // 2, 1)


def _whole(autoencoder: Autoencoder, patches: Tensor, samples: int, seed: int = 0) -> Audio:
    return np.concatenate(list(sound(autoencoder, patches.split(_BLOCK_PATCHES), samples, seed)))


def _within_full_scale(x: Audio) -> Audio:
    peak = float(np.abs(x).max(initial=0.0))
    return x * np.float32(_PEAK / peak) if peak > _PEAK else x
