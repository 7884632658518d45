"""How well odd recordings are told from normal ones, beside PCA and IsolationForest."""

from __future__ import annotations

from argparse import Namespace

import numpy as np
from damage import ten_ways
from data import RATE, corpora, markdown, patches, pieces
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from audiodae.latent import anomaly
from audiodae.latent.latents import Trained
from audiodae.sound.flat_tops import FlatTops

SECONDS = 8.0
LEFT_OUT = ("dog", "keyboard", "clock", "baby_cry", "glass_break", "snoring_breathing")


def rows_of(x: np.ndarray, model: Trained) -> np.ndarray:
    """Descriptions of the patches of `(samples,)`, as of a file."""
    found = patches(x, model.net)
    tops = FlatTops(model.net.config.patch_samples / RATE)
    tops.feed(x[None], RATE)
    return anomaly.describe(model.net, found, tops.shares(len(found)))


class Ours:
    def __init__(self, model: Trained, normal: list[np.ndarray]) -> None:
        self.model = model
        self.detector = anomaly.fit([rows_of(x, model) for x in normal], model)

    def __call__(self, x: np.ndarray) -> float:
        return anomaly.score(rows_of(x, self.model), self.detector, 1.0).clip


class Baseline:
    """Scores of patches to scores of clips just as ours do: by the mean and the oddest patches."""

    def __init__(self, model: Trained, normal: list[np.ndarray]) -> None:
        self.net = model.net
        rows = [self._patches(x) for x in normal]
        self.fit(np.concatenate(rows), model.net.config.latent)
        statistics = np.stack([self._statistics(r) for r in rows])
        self.centre, self.spread = statistics.mean(axis=0), statistics.std(axis=0) + 1e-6

    def _patches(self, x: np.ndarray) -> np.ndarray:
        return patches(x, self.net).flatten(1).numpy()

    def __call__(self, x: np.ndarray) -> float:
        return float(((self._statistics(self._patches(x)) - self.centre) / self.spread).max())

    def _statistics(self, rows: np.ndarray) -> np.ndarray:
        scores = self.patch_scores(rows)
        return np.log([scores.mean(), np.quantile(scores, 0.9), scores.max()])


class ByPca(Baseline):
    def fit(self, rows: np.ndarray, size: int) -> None:
        self.pca = PCA(size, svd_solver="randomized", random_state=0).fit(rows)

    def patch_scores(self, rows: np.ndarray) -> np.ndarray:
        error = self.pca.inverse_transform(self.pca.transform(rows)) - rows
        return np.mean(error**2, axis=1) + 1e-9


class ByForest(Baseline):
    """On the mean and deviation of every mel band over the patch."""

    def fit(self, rows: np.ndarray, size: int) -> None:
        self.forest = IsolationForest(n_estimators=200, random_state=0).fit(self._summary(rows))

    def _summary(self, rows: np.ndarray) -> np.ndarray:
        frames = rows.reshape(len(rows), -1, self.net.config.mels)
        return np.concatenate([frames.mean(axis=1), frames.std(axis=1)], axis=1)

    def patch_scores(self, rows: np.ndarray) -> np.ndarray:
        return -self.forest.score_samples(self._summary(rows))


class SameForest:
    """IsolationForest on the very descriptions ours looks at: a clip's means and deviations."""

    def __init__(self, model: Trained, normal: list[np.ndarray]) -> None:
        self.model = model
        rows = np.stack([self._clip(x) for x in normal])
        self.forest = IsolationForest(n_estimators=200, random_state=0).fit(rows)

    def _clip(self, x: np.ndarray) -> np.ndarray:
        rows = rows_of(x, self.model)
        return np.concatenate([rows.mean(axis=0), rows.std(axis=0)])

    def __call__(self, x: np.ndarray) -> float:
        return -float(self.forest.score_samples(self._clip(x)[None])[0])


def run(args: Namespace) -> None:
    parts = corpora(args)
    systems: dict[str, tuple[type, str]] = {name: (Ours, name) for name in args.models}
    systems |= {"PCA": (ByPca, args.models[0]), "IsolationForest": (ByForest, args.models[0])}
    systems["IsolationForest, our descriptions"] = (SameForest, args.models[0])
    print("\n### Anomalies: area under the ROC curve\n")
    damaged(parts, systems)
    categories(parts, systems)


def damaged(parts, systems) -> None:
    normal = [p.samples for p in pieces(parts["speech"][0], SECONDS, 2, limit=300)]
    clean = [p.samples for p in pieces(parts["speech"][1], SECONDS, 3, limit=60)]
    clean = [x for x in clean if len(x) > 4 * 16_000]
    ways = ten_ways([p.samples for p in pieces(parts["noise"][1], 1.0, 2)])
    print(
        f"Clean recordings of {len(clean)} clips of held-out talkers against the same, damaged in ten "
        f"ways; fitted to {len(normal)} clips of other talkers. False alarms: clean held-out clips over "
        "the threshold, which is the 0.99 quantile.\n"
    )
    table: list[list[object]] = [[way] for way in [*ways, "all ten", "false alarms"]]
    for _, (kind, model) in systems.items():
        score = kind(Trained.load(model), normal)
        low = [score(x) for x in clean]
        every: list[float] = []
        for row, way in zip(table, ways.values(), strict=False):
            rng = np.random.default_rng(0)
            high = [score(np.asarray(way(x, rng), np.float32)) for x in clean]
            every += high
            row.append(f"{auc(low, high):.3f}")
        table[-2].append(f"{auc(low, every):.3f}")
        table[-1].append(f"{np.mean(np.array(low) > 1):.1%}" if kind is Ours else "")
    print(markdown(["damage", *systems], table))


def categories(parts, systems) -> None:
    training, held = parts["noise"]
    everything = pieces(training, SECONDS, 3) + pieces(held, SECONDS, 3)
    groups = sorted({p.group for p in everything if p.category not in LEFT_OUT})
    test_groups = set(groups[::4])
    normal = [
        p.samples for p in everything if p.category not in LEFT_OUT and p.group not in test_groups
    ]
    low_sounds = [
        p.samples for p in everything if p.group in test_groups and p.category not in LEFT_OUT
    ]
    table: list[list[object]] = [[name] for name in [*LEFT_OUT, "all six", "false alarms"]]
    print(
        f"\nNoise: {len(normal)} clips of the other categories are normal; {len(low_sounds)} clips of "
        "other source groups of the same categories against six categories left out of `fit` (the "
        "autoencoders have heard them in training).\n"
    )
    for _, (kind, model) in systems.items():
        score = kind(Trained.load(model), normal)
        low = [score(x) for x in low_sounds]
        every: list[float] = []
        for row, name in zip(table, LEFT_OUT, strict=False):
            high = [score(p.samples) for p in everything if p.category == name]
            every += high
            row.append(f"{auc(low, high):.3f}")
        table[-2].append(f"{auc(low, every):.3f}")
        table[-1].append(f"{np.mean(np.array(low) > 1):.1%}" if kind is Ours else "")
    print(markdown(["left out", *systems], table))


def auc(low: list[float], high: list[float]) -> float:
    return float(roc_auc_score([0] * len(low) + [1] * len(high), low + high))
