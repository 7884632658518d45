"""How training examples are made: the `[mix]` table of a recipe."""

from __future__ import annotations

from dataclasses import dataclass, field

from audiodae.config import check_range

_CHANCES = (
    *("clean_only", "noise_only", "second_noise", "synthetic_noise", "generated_noise", "babble"),
    *("room", "equalise_speech", "equalise_noise", "swell", "band_limit", "clip"),
    *("simulated_room", "codec", "pitch", "noise_room", "noise_backwards"),
)


@dataclass(frozen=True)
class MixConfig:
    """How training examples are made. Ranges are (low, high) in the unit named; the rest are chances.

    `snr_db` is the ratio of speech to noise (of the voice with all of its room, and before bands are
    limited), `level_dbfs` how loud it is in the end, `speed` by how much faster crops are heard (pitch
    and all). `equalise_speech` and `equalise_noise` are how often one gets another frequency response,
    within `equalise_db` and `equalise_noise_db`; `band_limit` how often both lose what is outside a band
    (from 20 to 350 Hz, to 3 kHz or more), `clip` how often peaks are cut off, by 1 to 12 dB. `clean_only`
    and `noise_only` are the shares of examples with one of them alone. `second_noise` is the chance of
    another noise, up to 15 dB below the first, `synthetic_noise` that of steady noise, hum or clicks
    instead, `babble` that of four more voices as noise, `swell` that of noise whose level wanders, `room`
    that of a voice in a room, `noise_room` and `noise_backwards` those of noise in one or backwards.
    `category_weights` multiplies how often a noise category (a sub-folder's name) is drawn; without it a
    category is drawn by the square root of its length, so that no large one drowns the small ones.
    `generated_noise` is the chance of noise from a folder named `generated` (`audiodae generate -o
    generated/`, given as one more noise folder); that folder is not drawn from otherwise.
    `simulated_room` is the share of rooms that are made up (all, where none are given). The clean side
    keeps the whole room, or with `early_reflections_ms` only what comes within that time of the direct
    sound: the net is then asked to take the rest of the reverberation away. `codec` puts the noisy side
    through Opus, MP3 or mu-law (on the CPU); `pitch` moves a voice by `pitch_semitones`, its speed kept.

    Few recordings of noise are heard again and again, and a net may learn them by heart. `noise_speed`
    (pitch and speed together; as `speed` where it is not given), `noise_backwards`, `noise_room` and
    `equalise_noise_db` make more of them. With the 623 groups of noise behind the shipped nets it
    made no difference; those with fewer may try.
    """

    snr_db: tuple[float, float] = (-7.0, 22.0)
    level_dbfs: tuple[float, float] = (-45.0, -12.0)
    speed: tuple[float, float] = (0.88, 1.14)
    noise_speed: tuple[float, float] | None = None
    equalise_db: float = 6.0
    equalise_noise_db: float = 6.0
    clean_only: float = 0.04
    noise_only: float = 0.04
    second_noise: float = 0.3
    synthetic_noise: float = 0.15
    generated_noise: float = 0.0
    babble: float = 0.08
    room: float = 0.3
    equalise_speech: float = 0.4
    equalise_noise: float = 0.5
    swell: float = 0.2
    band_limit: float = 0.1
    clip: float = 0.05
    simulated_room: float = 0.0
    early_reflections_ms: float = 0.0
    codec: float = 0.0
    pitch: float = 0.0
    pitch_semitones: tuple[float, float] = (-3.0, 3.0)
    noise_room: float = 0.0
    noise_backwards: float = 0.0
    category_weights: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_range(self, -200.0, 200.0, "snr_db")
        check_range(self, -24.0, 24.0, "pitch_semitones")
        check_range(self, -120.0, 0.0, "level_dbfs")
        check_range(self, 0.25, 4.0, "speed", *(["noise_speed"] if self.noise_speed else []))
        check_range(self, 0.0, 60.0, "equalise_db", "equalise_noise_db")
        check_range(self, 0.0, 10_000.0, "early_reflections_ms")
        check_range(self, 0.0, 1.0, *_CHANCES)
        # With noise_only = 1 there is no speech to be clean.
        if self.noise_only < 1.0 and self.clean_only + self.noise_only > 1.0 + 1e-9:
            raise ValueError(
                f"clean_only is {self.clean_only:g} and noise_only {self.noise_only:g}: an example is one of "
                "them at most, so together they are wanted to be 1 or less."
            )
        if not all(0.0 <= weight <= 1e6 for weight in self.category_weights.values()):
            raise ValueError(
                f"category_weights are {self.category_weights}: weights from 0 to a million are wanted."
            )
