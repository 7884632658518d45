"""How near generated noise is to real noise, and how different its sounds are from each other."""

from __future__ import annotations

import tempfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import soundfile
from data import RATE, Piece, corpora, markdown, mfcc_vector, patches, pieces
from scipy.linalg import sqrtm

from audiodae.latent.embed import clip_vector
from audiodae.latent.generate import generate, texture_of
from audiodae.latent.latents import Trained, encode

SECONDS = 6.0
COUNT = 160


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Distance of the Gaussians fitted to two sets of vectors `(n, size)` (Heusel et al., 2017)."""
    covariance = [np.cov(x, rowvar=False) + 1e-6 * np.eye(x.shape[1]) for x in (a, b)]
    mean = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    cross = sqrtm(covariance[0] @ covariance[1]).real
    return float(mean + np.trace(covariance[0] + covariance[1] - 2 * cross))


def spread(x: np.ndarray) -> float:
    """Mean distance of two different sounds."""
    distance = np.linalg.norm(x[:, None] - x[None], axis=2)
    return float(distance.sum() / (len(x) * (len(x) - 1)))


def levelled(x: np.ndarray) -> np.ndarray:
    return (x * (0.05 / (np.sqrt(np.mean(x**2)) + 1e-9))).astype(np.float32)


def shuffled(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pieces of 50 ms in another order."""
    size = RATE // 20
    rows = x[: len(x) // size * size].reshape(-1, size)
    return rng.permutation(rows).reshape(-1)


def filtered_white(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """White noise with the long-term spectrum of `x`, in 512 bins."""
    frames = x[: len(x) // 1024 * 1024].reshape(-1, 1024) * np.hanning(1024)
    shape = np.sqrt(np.square(np.abs(np.fft.rfft(frames))).mean(axis=0))
    spectrum = np.fft.rfft(rng.standard_normal(len(x)))
    return np.fft.irfft(
        spectrum * np.interp(np.linspace(0, 1, len(spectrum)), np.linspace(0, 1, 513), shape)
    )


def run(args: Namespace) -> None:
    training, held = corpora(args)["noise"]
    everything = [p for part in (training, held) for p in pieces(part, SECONDS, 2)]
    everything = [p for p in everything if len(p.samples) >= SECONDS * RATE]
    groups = sorted({p.group for p in everything})
    rng = np.random.default_rng(0)
    heard = set(rng.permutation(groups)[: len(groups) // 2].tolist())
    source = draw([p for p in everything if p.group in heard], rng)
    other = draw([p for p in everything if p.group not in heard], rng)
    sets: dict[str, list[np.ndarray]] = {
        "real, same groups": [
            p.samples for p in draw([p for p in everything if p.group in heard], rng)
        ],
        "real, shuffled": [shuffled(p.samples, rng) for p in source],
        "white noise, filtered": [filtered_white(p.samples, rng) for p in source],
    }
    for name in args.models:
        net = Trained.load(name).net
        with tempfile.TemporaryDirectory() as folder:
            like = []
            for p in source:
                path = Path(folder) / "a.wav"
                soundfile.write(path, p.samples, RATE, subtype="FLOAT")
                like.append(texture_of(path, net))
        sets[f"{name} --like"] = list(generate(net, COUNT, SECONDS, like=like))
        sets[f"{name}, prior"] = list(generate(net, COUNT, SECONDS))
    judge = Trained.load(args.judge).net
    spaces = {
        "latents": lambda x: clip_vector(encode(judge, patches(x, judge)).numpy()),
        "MFCC": mfcc_vector,
    }
    print("\n### Generated noise\n")
    print(
        f"Fréchet distance to {len(other)} clips of 6 s of other source groups, and mean distance of two "
        f"clips of a set as a part of that of the real ones, in two spaces: latents of {args.judge} and "
        "MFCC (mean and deviation over the clip, each dimension scaled by its deviation in the real "
        f"ones). {len(source)} clips of the one half of the groups are the `--like`, the shuffled and "
        "the filtered.\n"
    )
    table: list[list[object]] = [[name] for name in sets]
    for embed in spaces.values():
        real = np.stack([embed(levelled(p.samples)) for p in other])
        scale = real.std(axis=0) + 1e-9
        for row, sounds in zip(table, sets.values(), strict=True):
            made = np.stack([embed(levelled(x)) for x in sounds])
            row.append(f"{frechet(made / scale, real / scale):.1f}")
            row.append(f"{spread(made / scale) / spread(real / scale):.2f}")
    print(markdown(["", "Fréchet, latents", "diversity", "Fréchet, MFCC", "diversity"], table))


def draw(found: list[Piece], rng: np.random.Generator) -> list[Piece]:
    return [found[i] for i in rng.permutation(len(found))[:COUNT]]
