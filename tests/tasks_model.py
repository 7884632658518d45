"""Small autoencoders for tests of what they are for: real ones, trained in a second on made-up sounds."""

from pathlib import Path

import numpy as np
import torch

from audiodae.latent.latents import Trained
from audiodae.nets.autoencoder import Autoencoder
from audiodae.nets.checkpoint import save_checkpoint
from audiodae.nets.families import build

RATE = 16_000


def machine(seconds=4.0, seed=0, hum_hz=120.0):
    """A humming machine, `(samples,)`: harmonics that beat slowly, and steady noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    swell = 1 + 0.3 * np.sin(2 * np.pi * (0.5 + rng.random()) * t + 6 * rng.random())
    hum = sum(np.sin(2 * np.pi * hum_hz * k * t + 6 * rng.random()) / k for k in range(1, 9))
    return (0.05 * swell * hum + 0.02 * rng.standard_normal(len(t))).astype(np.float32)


def trained(path: Path, family: str, steps=250, latent=8, **changes) -> Trained:
    """A small net of `family`, trained on quiet and loud machines, saved at `path` and loaded by it."""
    small = {"hidden": (48,)} if family == "vanilla" else {"channels": (8, 16)}
    net: Autoencoder = build(family, latent=latent, **(small | changes))
    levels = np.geomspace(0.03, 3.0, 24).astype(np.float32)
    sounds = [gain * machine(2.0, 1000 + seed) for seed, gain in enumerate(levels)]
    sounds = torch.from_numpy(np.stack(sounds))
    patches = net.patches(sounds).flatten(0, 1)
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    rng = torch.Generator().manual_seed(0)
    net.train()
    for _ in range(steps):
        rows = patches[torch.randint(len(patches), (32,), generator=rng)]
        rebuilt, code = net(rows, rng)
        loss = (rebuilt - rows).square().mean()
        if code.logvar is not None:
            kl = 0.5 * (code.mean.square() + code.logvar.exp() - code.logvar - 1)
            loss = loss + 1e-3 * kl.sum(dim=1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    save_checkpoint(path, net.eval())
    return Trained.load(str(path.with_suffix(".safetensors")))
