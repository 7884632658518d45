"""The settings of cleaning, each checked in one place: strength, what channels share, sizes."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast, get_args

from audiodae.config import as_number
from audiodae.errors import AudiodaeError

if TYPE_CHECKING:
    from audiodae.nets.net import Engine

Link = Literal["linked", "each", "mid"]


class Settings(TypedDict, total=False):
    """Of a `Streamer`, whatever the sound is that it is fed with; it says what they are."""

    engine: Engine
    link: Link
    mix: float
    attenuation_limit_db: float | None
    block_frames: int


def checked_mix(mix: Any) -> float:
    """As a plain float, whatever kind of number it was. Raises `AudiodaeError` outside 0 to 1."""
    share = as_number(mix)
    if not 0.0 <= share <= 1.0:
        raise AudiodaeError(f"mix is {mix!r}: give a number from 0 (as it came) to 1 (clean).")
    return share


def checked_limit(limit_db: Any) -> float | None:
    """As a plain float; infinitely many decibels are no limit, None, which JSON has a word for.

    Raises `AudiodaeError` for what is below 0 or no number.
    """
    limit = math.inf if limit_db is None else as_number(limit_db)
    if not limit >= 0.0:
        raise AudiodaeError(
            f"The attenuation limit is {limit_db!r} dB: give 0 (change nothing) or more decibels, such "
            "as 12, or None for no limit."
        )
    return None if math.isinf(limit) else limit


def checked_link(link: Any) -> Link:
    """As it came. Raises `AudiodaeError` for what is none of the three."""
    if not isinstance(link, str) or link not in get_args(Link):
        raise AudiodaeError(
            f"link is {link!r}: choose linked (one mask for all channels), each (every channel alone) "
            "or mid (the mean of the channels on all)."
        )
    return cast("Link", link)


def checked_count(name: str, value: int) -> int:
    """As a plain int. Raises `AudiodaeError` for less than 1 and for what is no whole number."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise AudiodaeError(f"{name} is {value!r}; a whole number from 1 up is wanted.")
    return number
