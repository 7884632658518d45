"""How a recording is to be cleaned: the settings a user can choose, and the named presets."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from audiodae.streaming.settings import Link, checked_limit, checked_link, checked_mix


@dataclass(frozen=True)
class Strength:
    """How much is removed. `mix` 1 is all clean and 0 the recording as it came.

    No part of the spectrum is lowered by more than `attenuation_limit_db` (None: no limit).
    """

    mix: float = 1.0
    attenuation_limit_db: float | None = None


PRESETS: dict[str, Strength] = {
    "voice": Strength(),  # for people: as clean as the model can
    # For machines: a floor of the recording itself, 6 dB down and in phase, never a hard gate. A mix rather
    # than a limit: it leaves the most of what is quiet, and recognisers hear best with it. Half and half
    # helped at the most SNRs of held-out mixtures (pretrained/MODEL_CARD.md).
    "asr": Strength(mix=0.5),
}


@dataclass(frozen=True)
class Options:
    """Settings of one cleaning run, the same for all its files.

    `link` says what several channels share: "linked" one mask for all, "each" a mask for each,
    "mid" the cleaned mean on every channel. `container` ("flac", "opus") and `subtype` ("PCM_24")
    change the format, which otherwise stays that of the recording. `residue` and `plot` are folders
    for what was removed and for before/after pictures, `vad` one for speech probabilities over time
    (JSON), or the file itself for a single recording. An existing file is replaced only with
    `overwrite`; `skip_existing` leaves out what an earlier run with the same settings has made.
    """

    mix: float = 1.0
    attenuation_limit_db: float | None = None
    link: Link = "linked"
    container: str | None = None
    subtype: str | None = None
    residue: Path | None = None
    plot: Path | None = None
    vad: Path | None = None
    overwrite: bool = False
    skip_existing: bool = False

    def __post_init__(self) -> None:
        for name in ("residue", "plot", "vad"):
            if (place := getattr(self, name)) is not None:
                object.__setattr__(self, name, Path(place))
        # In one spelling each, so that equal settings have one fingerprint and fit into JSON.
        plain = {
            "mix": checked_mix(self.mix),
            "attenuation_limit_db": checked_limit(self.attenuation_limit_db),
            "link": checked_link(self.link),
            "container": self.container and self.container.lower(),
            "subtype": self.subtype and self.subtype.upper(),
        }
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    def fingerprint(self, weights: str) -> str:
        """A short hash of all that changes an output: these settings and the weights."""
        heard = [
            self.mix,
            self.attenuation_limit_db,
            self.link,
            self.container,
            self.subtype,
            weights,
        ]
        return hashlib.sha256(json.dumps(heard).encode()).hexdigest()[:16]
