"""How a sound moves through a latent space, learned from a few seconds and played on for ever.

A texture is a stationary Gaussian autoregression of first order, one for each principal axis of the
latents it was fitted to, and the deviation of the spectrogram from its reconstruction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_SHRINK_PATCHES = 4.0  # as many patches of prior: axes are the latent's own, deviations equal
_SLOWEST = 0.98
_WANDER = 0.5  # of the prior's deviation is within a sound of it, the rest between sounds


@dataclass(frozen=True)
class Texture:
    """`mean` `(latent,)`; principal `axes` `(latent, latent)`, columns, with their `deviation`.

    `follow`, from 0 to 0.98, is how much of an axis's deviation is left a patch later. `residual`
    `(mels,)` is the standard deviation of what the decoder leaves out.
    """

    mean: Floats
    axes: Floats
    deviation: Floats
    follow: Floats
    residual: Floats

    @classmethod
    def fit(cls, latents: Floats, residual: Floats) -> Texture:
        """To latents `(patches, latent)` in the order of time, one at least, and residual `(mels,)`."""
        latents = latents.astype(np.float64)
        n, size = latents.shape
        mean = latents.mean(axis=0)
        centred = latents - mean
        variance = np.diag(np.square(centred).mean(axis=0) + 1e-6)
        part = n / (n + _SHRINK_PATCHES)
        covariance = part * (centred.T @ centred / n) + (1 - part) * variance
        values, axes = np.linalg.eigh(covariance)
        along = centred @ axes
        product = (along[1:] * along[:-1]).sum(axis=0)
        square = np.square(along).sum(axis=0) + 1e-9
        follow = np.clip(product / square, 0.0, _SLOWEST) if n > 2 else np.full(size, 0.5)
        return cls(mean, axes, np.sqrt(np.maximum(values, 1e-9)), follow, residual)

    @classmethod
    def prior(cls, size: int, mels: int, rng: np.random.Generator) -> Texture:
        """One drawn from the standard normal prior: a place of its own, and some way around it."""
        return cls(
            rng.standard_normal(size) * np.sqrt(1.0 - _WANDER**2),
            np.eye(size),
            np.full(size, _WANDER),
            np.full(size, 0.7),
            np.zeros(mels),
        )

    def towards(self, other: Texture, part: float) -> Texture:
        """This texture with its mean and residual moved a part of the way to another's."""
        return replace(
            self,
            mean=(1 - part) * self.mean + part * other.mean,
            residual=(1 - part) * self.residual + part * other.residual,
        )

    def walk(self, half_patches: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """Latents half a patch apart, `(half_patches, latent)` float32."""
        follow = np.sqrt(self.follow)
        fresh = self.deviation * np.sqrt(1.0 - follow**2)
        along = np.empty((half_patches, len(self.mean)))
        now = self.deviation * rng.standard_normal(len(self.mean))
        for row in along:
            row[:] = now
            now = follow * now + fresh * rng.standard_normal(len(self.mean))
        return (self.mean + along @ self.axes.T).astype(np.float32)
