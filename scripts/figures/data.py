"""Clips for the figures: levelled pieces of corpora, split by group as the trainings split them."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from audiodae.nets.autoencoder import Autoencoder
from audiodae.training.corpus import Corpus, read_corpus

RATE = 16_000
HELD_OUT = 0.06  # as in the recipes of the four
LEVEL_DBFS = -26.0


@dataclass(frozen=True)
class Piece:
    """`samples` of a clip at -26 dBFS (RMS), with the clip's name, category and group."""

    samples: np.ndarray
    name: str
    category: str
    group: str


def corpora(args: Namespace) -> dict[str, tuple[Corpus, Corpus]]:
    """Training and held-out parts of the speech and the noise."""
    cache = Path(args.cache)
    speech = read_corpus([Path(args.speech)], RATE, cache, talkers_in_folders=True)
    noise = read_corpus([Path(args.noise)], RATE, cache)
    return {"speech": speech.split(HELD_OUT), "noise": noise.split(HELD_OUT)}


def pieces(
    corpus: Corpus, seconds: float, most_a_clip: int, limit: int | None = None
) -> list[Piece]:
    """Pieces of so many seconds from every clip, spread over it; a shorter clip is one piece.

    Silent ones are left out. With `limit`, so many of them, drawn with a fixed seed.
    """
    size = round(seconds * RATE)
    found = []
    for clip in corpus.clips:
        count = max(1, min(most_a_clip, clip.samples // size))
        for start in np.linspace(0, max(0, clip.samples - size), count).astype(int):
            begin = clip.start + int(start)
            raw = corpus.audio[begin : begin + min(size, clip.samples)]
            samples = raw.astype(np.float32) / 32768
            rms = float(np.sqrt(np.mean(samples**2)))
            if rms > 1e-4 and len(samples) >= RATE // 2:
                gain = 10 ** (LEVEL_DBFS / 20) / rms
                found.append(Piece(samples * gain, clip.name, clip.category, clip.group))
    if limit is not None and len(found) > limit:
        chosen = np.random.default_rng(0).permutation(len(found))[:limit]
        found = [found[i] for i in sorted(chosen)]
    return found


def patches(samples: np.ndarray, net: Autoencoder) -> torch.Tensor:
    """Whole patches `(n, frames, mels)`; a shorter sound gives one."""
    with torch.inference_mode():
        found = net.patches(torch.from_numpy(samples)[None])[0]
    return found[: max(1, len(samples) // net.config.patch_samples)]


def mfcc_vector(samples: np.ndarray) -> np.ndarray:
    """Mean and standard deviation of 20 MFCC, `(40,)`."""
    import librosa

    rows = librosa.feature.mfcc(y=samples, sr=RATE, n_mfcc=20, n_fft=512, hop_length=256)
    return np.concatenate([rows.mean(axis=1), rows.std(axis=1)])


def markdown(header: list[str], rows: list[list[object]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in rows:
        cells = [f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
