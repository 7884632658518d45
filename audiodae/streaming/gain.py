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
    """Lift a complex mask's magnitude to at least `floor` (0 to 1); larger values stay as they are.

    What is lifted leans towards the input's own phase, the more the further it is lifted: the phase
    of a nearly closed mask is chance, and would be heard once it is opened. At `floor` 1 nothing is
    attenuated and nothing is turned: the mask is one.
    """
    xp = array_namespace(mask)
    if floor >= 1.0:
        return xp.ones_like(mask)
    magnitude = xp.abs(mask)
    # 1 at the floor, 0 when closed; the nearer the floor is to one, the sooner it is 0.
    own = xp.clip(magnitude / max(floor, _SILENT), 0.0, 1.0) ** (1.0 / (1.0 - floor))
    direction = own * mask / xp.clip(magnitude, _SILENT, None) + (1.0 - own)
    length = xp.abs(direction)
    lifted = xp.where(length > 1e-3, floor * direction / xp.clip(length, 1e-3, None), floor)
    return xp.where(magnitude >= floor, mask, lifted)
