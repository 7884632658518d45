"""Few numbers for a patch: how well it comes back, and what can be read off them."""

from __future__ import annotations

from argparse import Namespace

import numpy as np
import torch
from data import Piece, corpora, markdown, mfcc_vector, patches, pieces
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from audiodae.latent.embed import clip_vector
from audiodae.latent.latents import Trained, encode
from audiodae.nets.autoencoder import SCALE_DB

TRAINING_PATCHES = 40_000


def all_patches(corpus_pieces: list[Piece], net) -> torch.Tensor:
    return torch.cat([patches(piece.samples, net) for piece in corpus_pieces])


def fit_pca(parts, net, size: int) -> PCA:
    """On patches of the training parts of speech and noise, as many of each."""
    rng = torch.Generator().manual_seed(0)
    chosen = []
    for training, _ in parts.values():
        rows = all_patches(pieces(training, 10.0, 3, limit=1000), net)
        chosen.append(rows[torch.randperm(len(rows), generator=rng)[: TRAINING_PATCHES // 2]])
    return PCA(size, svd_solver="randomized", random_state=0).fit(
        torch.cat(chosen).flatten(1).numpy()
    )


def reconstruction(args: Namespace) -> None:
    parts = corpora(args)
    print("\n### A patch in few numbers: reconstruction error on held-out groups\n")
    print(
        "Root mean square error in dB over the mel bands of 256 ms patches (1024 values), clean input.\n"
    )
    rows: list[list[object]] = []
    for name in args.models:
        net = Trained.load(name).net
        size = net.config.latent
        pca = fit_pca(parts, net, size)
        errors: list[object] = []
        for kind in ("speech", "noise"):
            held = all_patches(pieces(parts[kind][1], 10.0, 4), net)
            with torch.inference_mode():
                ours = net.decode(encode(net, held)) - held
            flat = held.flatten(1).numpy()
            theirs = pca.inverse_transform(pca.transform(flat)) - flat
            for error in (ours.numpy(), theirs):
                errors.append(f"{SCALE_DB * float(np.sqrt(np.mean(error**2))):.2f}")
        rows.append([name, size, *errors])
    print(markdown(["model", "latent", "speech", "PCA, speech", "noise", "PCA, noise"], rows))


def features(found: list[Piece], models: list[str], parts) -> dict[str, np.ndarray]:
    """Vectors of every piece by each of the ways compared; all but MFCC have mean and deviation."""
    result: dict[str, np.ndarray] = {}
    size = 32
    for name in models:
        net = Trained.load(name).net
        result[name] = np.stack(
            [clip_vector(encode(net, patches(p.samples, net)).numpy()) for p in found]
        )
    net = Trained.load(models[0]).net
    pca = fit_pca(parts, net, size)
    result[f"PCA, {size}"] = np.stack(
        [clip_vector(pca.transform(patches(p.samples, net).flatten(1).numpy())) for p in found]
    )
    result["MFCC"] = np.stack([mfcc_vector(p.samples) for p in found])
    result["MFCC, means only"] = result["MFCC"][:, :20]
    return result


def accuracy(vectors: np.ndarray, labels: np.ndarray, groups: np.ndarray, folds: int) -> float:
    probe = make_pipeline(
        StandardScaler(), LogisticRegression(max_iter=300, C=0.1, class_weight="balanced")
    )
    found = cross_val_predict(probe, vectors, labels, groups=groups, cv=GroupKFold(folds))
    return 100 * balanced_accuracy_score(labels, found)


def several(labels: np.ndarray, groups: np.ndarray, least: int) -> np.ndarray:
    """Which pieces have a label that occurs in at least `least` groups."""
    counts = {label: len(set(groups[labels == label])) for label in set(labels)}
    return np.array([counts[label] >= least for label in labels])


def probe(args: Namespace) -> None:
    parts = corpora(args)
    print("\n### What a linear classifier reads off the vectors of a clip\n")
    noise = [p for part in parts["noise"] for p in pieces(part, 8.0, 2)]
    labels, groups = np.array([p.category for p in noise]), np.array([p.group for p in noise])
    kept = several(labels, groups, 5)
    noise = [p for p, keep in zip(noise, kept, strict=True) if keep]
    labels, groups = labels[kept], groups[kept]

    speech = [p for part in parts["speech"] for p in pieces(part, 5.0, 4)]
    talkers, files = np.array([p.group for p in speech]), np.array([p.name for p in speech])
    kept = several(talkers, files, 2)
    speech = [p for p, keep in zip(speech, kept, strict=True) if keep]
    talkers, files = talkers[kept], files[kept]
    chosen = np.isin(talkers, sorted(set(talkers))[:60])
    speech = [p for p, keep in zip(speech, chosen, strict=True) if keep]
    talkers, files = talkers[chosen], files[chosen]

    print(
        f"Balanced accuracy in %, logistic regression. Noise: {len(set(labels))} categories, "
        f"{len(noise)} pieces of 8 s, 5 folds by source group. Talkers: {len(set(talkers))}, "
        f"{len(speech)} pieces of 5 s, 5 folds by file. Vectors are means and standard deviations "
        "over the clip.\n"
    )
    of_noise, of_speech = features(noise, args.models, parts), features(speech, args.models, parts)
    rows = [
        [
            name,
            of_noise[name].shape[1],
            f"{accuracy(of_noise[name], labels, groups, 5):.1f}",
            f"{accuracy(of_speech[name], talkers, files, 5):.1f}",
        ]
        for name in of_noise
    ]
    rows.append(["chance", "", f"{100 / len(set(labels)):.1f}", f"{100 / len(set(talkers)):.1f}"])
    print(markdown(["features", "size", "noise categories", "talkers"], rows))
