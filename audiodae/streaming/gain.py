"""From the net's mask to what a spectrum is multiplied by: shared by channels, limited, mixed."""

from __future__ import annotations

from audiodae.sound.arrays import Array, array_namespace

_SILENT = 1e-12
_CANCELLED = 1e-4  # what is left of channels, for their level


def shared(channels: Array) -> Array:
    """One spectrum that stands for all channels: `(batch, channels, ...)` complex -> `(batch, ...)`.

    As loud as the channels together are, so that nothing out of phase goes unheard. Its phase is that of
    their sum or, where they cancel each other (one of two wired the wrong way round), of an uneven sum.
    """
    xp = array_namespace(channels)
    magnitude = xp.sqrt(xp.mean(xp.abs(channels) ** 2, axis=1))
    total = xp.sum(channels, axis=1)
    uneven = sum(channels[:, -i] * i for i in range(1, channels.shape[1] + 1))
    total = xp.where(xp.abs(total) > _CANCELLED * magnitude, total, uneven)
    size = xp.abs(total)
    direction = total / xp.clip(size, _SILENT, None)
    return magnitude * xp.where(size > _SILENT, direction, 1.0)


def gain(mask: Array, mix: float, attenuation_limit_db: float | None) -> Array:
    """The mask, limited, with a share of the input as it came: on one frame, so nothing phases."""
    if attenuation_limit_db is not None:
        mask = limit_attenuation(mask, 10.0 ** (-attenuation_limit_db / 20.0))
    return mask if mix == 1.0 else (1.0 - mix) + mix * mask


def limit_attenuation(mask: Array, floor: float) -> Array:
    """Lift the real part of a complex mask (magnitude at most 1) to at least `floor`, 0 to 1.

    What comes out has so much of the input in it, at the input's own phase, in every part of every frame
    and so in their sum: a floor for magnitudes alone would let overlapping frames cancel each other. At
    `floor` 1 nothing is attenuated and nothing is turned: the mask is one.
    """
    xp = array_namespace(mask)
    real = xp.clip(xp.real(mask), floor, 1.0)
    reach = xp.sqrt(1.0 - real * real)  # within the unit disc
    return real + 1j * xp.clip(xp.imag(mask), -reach, reach)
