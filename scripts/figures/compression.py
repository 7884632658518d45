"""Bits and quality of `audiodae compress` beside Opus at its lowest rates."""

from __future__ import annotations

import tempfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import soundfile
from damage import opus_coded
from data import RATE, corpora, markdown, pieces

from audiodae.latent.adae_file import to_bytes
from audiodae.latent.compress import compress, decompress
from audiodae.latent.compress_quality import compare
from audiodae.latent.latents import Trained

FINENESS = (1.0, 0.35, 0.1)
CLIPS = 8
SECONDS = 8.0


def means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]}


def by_model(found: list[np.ndarray], model: Trained, fineness: float) -> dict[str, float]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for x in found:
            path = Path(folder) / "a.wav"
            soundfile.write(path, x, RATE, subtype="FLOAT")
            content, _ = compress(path, model, fineness=fineness)
            y = np.concatenate(list(decompress(content, model)), axis=1)[0]
            bits = 8 * len(to_bytes(content)) / content.seconds
            rows.append({"bits": bits, **compare(x, y, RATE)})
    return means(rows)


def by_opus(found: list[np.ndarray], bits_a_second: int) -> dict[str, float]:
    rows = []
    for x in found:
        y, bits = opus_coded(x, bits_a_second)
        rows.append({"bits": bits, **compare(x, y, RATE)})
    return means(rows)


def run(args: Namespace) -> None:
    parts = corpora(args)
    sounds = {
        kind: [
            p.samples
            for p in pieces(parts[kind][1], SECONDS, 2)
            if len(p.samples) >= SECONDS * RATE
        ]
        for kind in ("speech", "noise")
    }
    sounds = {kind: found[:: max(1, len(found) // CLIPS)][:CLIPS] for kind, found in sounds.items()}
    print("\n### Compression beside Opus at its lowest rates\n")
    print(
        f"{len(sounds['speech'])} held-out talkers' and {len(sounds['noise'])} held-out noises' clips of "
        f"{SECONDS:g} s, header and checksum included (Opus: packets alone). LSD: log-spectral distance.\n"
    )
    table: list[list[object]] = []
    systems = [(name, f) for name in args.models for f in FINENESS]
    for name, fineness in systems:
        model = Trained.load(name)
        table.append([f"{name}, fineness {fineness:g}"])
        for kind, found in sounds.items():
            table[-1] += cells(by_model(found, model, fineness), kind)
    for rate in (6000, 8000):
        table.append([f"Opus, {rate // 1000} kbit/s"])
        for kind, found in sounds.items():
            table[-1] += cells(by_opus(found, rate), kind)
    print(markdown(["", "bit/s", "LSD dB", "STOI", "PESQ", "noise: bit/s", "LSD dB"], table))


def cells(row: dict[str, float], kind: str) -> list[object]:
    found: list[object] = [f"{row['bits']:.0f}", f"{row['lsd_db']:.1f}"]
    return found + ([f"{row['stoi']:.2f}", f"{row['pesq_wb']:.2f}"] if kind == "speech" else [])
