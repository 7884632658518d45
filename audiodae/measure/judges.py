"""Machines that judge speech in a listener's place: the rate they hear at, and what is published of DNSMOS.

For measuring (`metrics`) and for training (`dnsmos_loss`, `whisper_loss`) alike.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

SPEECH_RATE = 16_000
"""The rate in Hz at which PESQ, STOI, DNSMOS and Whisper listen."""

Score = TypeVar("Score", float, "Tensor")

# What DNSMOS P.835 (Reddy et al., 2022) says becomes what listeners would: the factors of the square, of
# the value itself, and what is added.
_TO_LISTENERS = {
    "sig": (-0.08397278, 1.22083953, 0.0052439),
    "bak": (-0.13166888, 1.60915514, -0.39604546),
    "ovrl": (-0.06766283, 1.11546468, 0.04602535),
}


def as_listeners(raw: Score, which: str) -> Score:
    """A value of the DNSMOS net ("sig", "bak" or "ovrl") on the scale of listeners, 1 to 5."""
    square, linear, constant = _TO_LISTENERS[which]
    return square * raw**2 + linear * raw + constant


def dnsmos_model() -> Path | None:
    """The ONNX file of DNSMOS P.835 in the package `speechmos`; None where that is not installed."""
    found = importlib.util.find_spec("speechmos")  # not imported: that wants librosa
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "dnsmos_models" / "sig_bak_ovr.onnx"
