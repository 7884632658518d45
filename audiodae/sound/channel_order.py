"""Which channel is for which loudspeaker: in WAV's order, which everything here uses, and in others.

Ogg's own codecs put the channels of surround sound in an order of their own (Vorbis I specification,
section 4.3.9, and RFC 7845, section 5.1.1.2 for Opus), in which libsndfile gives and takes them.
"""

from __future__ import annotations

import numpy as np

# libsndfile's numbers (`SF_CHANNEL_MAP_*`) in WAV's order, by the names that ffmpeg has for them.
_LEFT, _RIGHT, _CENTRE, _REAR, _LFE, _SIDES = 2, 3, 4, 8, 11, (14, 15)
_REARS = (9, 10)
_LAYOUTS = {
    "3.0": (_LEFT, _RIGHT, _CENTRE),
    "quad": (_LEFT, _RIGHT, *_REARS),
    "quad(side)": (_LEFT, _RIGHT, *_SIDES),
    "5.0": (_LEFT, _RIGHT, _CENTRE, *_REARS),
    "5.0(side)": (_LEFT, _RIGHT, _CENTRE, *_SIDES),
    "5.1": (_LEFT, _RIGHT, _CENTRE, _LFE, *_REARS),
    "5.1(side)": (_LEFT, _RIGHT, _CENTRE, _LFE, *_SIDES),
    "6.1": (_LEFT, _RIGHT, _CENTRE, _LFE, _REAR, *_SIDES),
    "7.1": (_LEFT, _RIGHT, _CENTRE, _LFE, *_REARS, *_SIDES),
}
_OGG_CODECS = ("VORBIS", "OPUS")
# For each channel in WAV's order, where Ogg has it.
_IN_OGG = {
    3: (0, 2, 1),
    5: (0, 2, 1, 3, 4),
    6: (0, 2, 1, 5, 3, 4),
    7: (0, 2, 1, 6, 5, 3, 4),
    8: (0, 2, 1, 7, 5, 6, 3, 4),
}
_OGG_LAYOUTS = {3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


def speakers_of(layout: str) -> tuple[int, ...]:
    """The loudspeakers of a layout that ffmpeg has a name for; empty for one that is not surround."""
    return _LAYOUTS.get(layout, ())


def layout_of(speakers: tuple[int, ...]) -> str:
    """The way back; empty where there is no name."""
    return next((name for name, known in _LAYOUTS.items() if known == speakers), "")


def speakers_in_ogg(subtype: str, channels: int) -> tuple[int, ...]:
    """The loudspeakers of a file of one of Ogg's codecs, once its channels are in WAV's order."""
    return speakers_of(_OGG_LAYOUTS.get(channels, "")) if subtype in _OGG_CODECS else ()


def from_ogg(frames: np.ndarray, subtype: str) -> np.ndarray:
    """`(n, channels)` as libsndfile reads them -> in WAV's order; other codecs' stay as they are."""
    order = _order(frames, subtype)
    return frames if order is None else frames[:, order]


def to_ogg(frames: np.ndarray, subtype: str) -> np.ndarray:
    """The way back."""
    order = _order(frames, subtype)
    return frames if order is None else np.ascontiguousarray(frames[:, np.argsort(order)])


def _order(frames: np.ndarray, subtype: str) -> tuple[int, ...] | None:
    """For each channel in WAV's order, where it is in the file; None where it is in its place."""
    return _IN_OGG.get(frames.shape[1]) if subtype in _OGG_CODECS else None
