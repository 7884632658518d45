"""A training recipe: everything that decides what a training does, read from TOML."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audiodae.config import check_range, from_plain, to_plain
from audiodae.errors import AudiodaeError, RecipeError, reason
from audiodae.files.regular import read_regular
from audiodae.nets.autoencoder_config import AutoencoderConfig
from audiodae.nets.denoiser import DenoiserConfig
from audiodae.nets.families import family
from audiodae.training.elbo import ElboConfig
from audiodae.training.losses import WEIGHTS, LossConfig
from audiodae.training.mix_config import MixConfig

# The shortest and longest crops that each can hear.
HEARD_SECONDS = {
    "stoi": (0.5, math.inf),
    "pesq": (0.33, math.inf),  # 20 frames, over which it adds up
    "dnsmos": (0.09, math.inf),  # 8 frames, which it halves three times
    "whisper": (0.0, 30.0),
}


@dataclass(frozen=True)
class Stage:
    """A stretch of training: `steps` of `batch_size` crops of `crop_seconds`, with a rate of its own.

    It rises over `warmup_steps` to `learning_rate` and falls by a half cosine to `final_fraction` of that.
    `pesq` and `stoi` are the weights of a differentiable PESQ and STOI in this stage, `dnsmos` that of
    DNSMOS, which hears only the first `dnsmos_items` examples with speech of every batch because it is slow,
    and `whisper` that of what a recogniser hears of the first `whisper_items`.
    """

    steps: int
    batch_size: int = 8
    crop_seconds: float = 1.0
    learning_rate: float = 2e-3
    warmup_steps: int = 200
    final_fraction: float = 0.0
    pesq: float = 0.0
    dnsmos: float = 0.0
    dnsmos_items: int = 1
    stoi: float = 0.0
    whisper: float = 0.0
    whisper_items: int = 1

    def __post_init__(self) -> None:
        check_range(self, 1, 65_536, "batch_size")
        check_range(self, 0.05, 600.0, "crop_seconds")
        check_range(self, 0.0, 1.0, "final_fraction")
        check_range(self, 0, 1e9, "steps", "warmup_steps", "dnsmos_items", "whisper_items")
        check_range(self, 0.0, 1e3, "learning_rate", "pesq", "dnsmos", "stoi", "whisper")

    def rate_at(self, step: int) -> float:
        """Learning rate at a step of this stage, counted from 0."""
        rise = min(1.0, (step + 1) / max(1, self.warmup_steps))
        fall = 0.5 * (1.0 + math.cos(math.pi * step / max(1, self.steps)))
        return self.learning_rate * rise * (self.final_fraction + (1 - self.final_fraction) * fall)


@dataclass(frozen=True)
class Recipe:
    """Model, mix, loss, stages and optimiser. Short crops and small batches first learn fastest.

    The `[[stages]]` follow each other; `[mix]` says how examples are made.
    A denoiser is `[model]` and `[loss]`. An autoencoder is `[autoencoder]` and `[elbo]`; with `family`
    `[autoencoder]` need only say what is different from that family. `pca_patches` is how many patches the
    straight path beside its body is laid by; with 0 there is none.
    `bfloat16` lets the net compute in that on a GPU that has it (what it hears and the loss stay float32).
    `description` and `licence` are written into the JSON of the weights for whoever gets them.

    `optimizer` is "adamw" or "soap", with `weight_decay` on what is multiplied with; gradients are cut to a
    norm of `clip_norm`. The model that is written is an average of the weights, which keeps `ema_decay` of
    itself a step. `seed` decides the first weights and all mixtures. `held_out` is the share of talkers,
    noises and rooms that is kept for validation, on `validation_batches` of 8 mixtures of 3 s, whenever
    `checkpoint_minutes` have gone by.
    """

    description: str = ""
    licence: str = ""
    stages: tuple[Stage, ...] = (Stage(steps=20_000),)
    model: DenoiserConfig = field(default_factory=DenoiserConfig)
    mix: MixConfig = field(default_factory=MixConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    family: str = ""
    autoencoder: AutoencoderConfig | None = None
    elbo: ElboConfig = field(default_factory=ElboConfig)
    pca_patches: int = 20_000
    optimizer: str = "adamw"
    weight_decay: float = 0.01
    clip_norm: float = 3.0
    ema_decay: float = 0.999
    bfloat16: bool = True
    seed: int = 1
    held_out: float = 0.03
    checkpoint_minutes: float = 5.0
    validation_batches: int = 12

    def __post_init__(self) -> None:
        if self.optimizer not in ("adamw", "soap"):
            raise ValueError(f"optimizer is {self.optimizer!r}: choose 'adamw' or 'soap'.")
        check_range(self, 0.0, 1.0, "ema_decay")
        check_range(self, 0.0, 0.9, "held_out")
        check_range(self, 1e-6, math.inf, "clip_norm")
        check_range(self, 1, 10_000, "validation_batches")
        check_range(self, 0.0, 1e3, "weight_decay")
        check_range(self, 0.0, math.inf, "checkpoint_minutes")
        check_range(self, 0, 2**63 - 1, "seed")
        check_range(self, 0, 1_000_000, "pca_patches")
        if self.autoencoder is None:
            self._check_loss()
        else:
            self._check_patches(self.autoencoder)
        if not self.stages:
            raise ValueError("there are no stages: give at least one [[stages]] table with steps.")
        if not self.steps:
            raise ValueError(
                "there is nothing to do, with steps = 0 in every stage: give one of them more."
            )

    def _check_loss(self) -> None:
        frame_seconds = self.model.n_fft / self.model.sample_rate
        if frame_seconds > 1.0:
            raise ValueError(
                f"model.n_fft = {self.model.n_fft} at {self.model.sample_rate} Hz is a frame of "
                f"{frame_seconds:g} s: one of 1 s or less is wanted."
            )
        for stage in self.stages:
            if round(stage.crop_seconds * self.model.sample_rate) < self.model.n_fft:
                raise ValueError(
                    f"a stage has crop_seconds = {stage.crop_seconds:g}, and a frame of model.n_fft = "
                    f"{self.model.n_fft} samples is {frame_seconds:g} s: give longer crops."
                )
        highest_hz, from_hz = self.model.sample_rate / 2, self.loss.log_spectrum_from_hz
        if self.loss.log_spectrum and from_hz >= highest_hz:
            raise ValueError(
                f"loss.log_spectrum is asked for from {from_hz:g} Hz up, and the model hears only what is "
                f"below {highest_hz:g} Hz: set loss.log_spectrum_from_hz lower, or log_spectrum to 0."
            )
        if not any(getattr(self.loss, name) for name in WEIGHTS):
            for stage in self.stages:
                if stage.steps and not any(getattr(stage, name) for name in HEARD_SECONDS):
                    raise ValueError(
                        "there is nothing to learn in a stage: all weights of its loss are 0. Give one of "
                        f"{', '.join(WEIGHTS)} in [loss], or {', '.join(HEARD_SECONDS)} in that stage."
                    )
        for name, (least, most) in HEARD_SECONDS.items():
            for seconds in (stage.crop_seconds for stage in self.stages if getattr(stage, name)):
                if not least <= seconds <= most:
                    wanted = f"{least:g} or more" if least else f"{most:g} or less"
                    raise ValueError(
                        f"a stage with {name} has crop_seconds = {seconds:g}: {name} needs {wanted}."
                    )

    def _check_patches(self, config: AutoencoderConfig) -> None:
        if self.pca_patches and config.latent > config.features:
            raise ValueError(
                f"autoencoder.latent is {config.latent}: a patch has only {config.features} values, and no "
                "more principal components. Give no more, or set pca_patches to 0."
            )
        patch_seconds = config.patch_samples / config.sample_rate
        for stage in self.stages:
            samples = round(stage.crop_seconds * config.sample_rate)
            if stage.batch_size == 1 and samples < 2 * config.patch_samples:
                raise ValueError(
                    f"a stage with batch_size = 1 and crop_seconds = {stage.crop_seconds:g} is one patch of "
                    f"{patch_seconds:g} s at a time, and norms need two to compare: set batch_size to 2 or "
                    f"more, or crop_seconds to {2 * patch_seconds:g} or more."
                )

    @property
    def sample_rate(self) -> int:
        return (self.autoencoder or self.model).sample_rate

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[int, int]:
        """Which stage a step belongs to, and how many steps into it."""
        for i, stage in enumerate(self.stages):
            if step < stage.steps:
                return i, step
            step -= stage.steps
        return len(self.stages) - 1, self.stages[-1].steps

    def audio_seconds(self, steps: int) -> float:
        """Seconds of mixtures that a process hears in the first so many steps."""
        index, within = self.stage_at(steps)
        taken = [*(stage.steps for stage in self.stages[:index]), within]
        heard = zip(taken, self.stages, strict=False)
        return sum(count * stage.batch_size * stage.crop_seconds for count, stage in heard)


def read_recipe(path: Path | None) -> Recipe:
    """Read a TOML file; None gives the defaults. Raises `RecipeError` naming the file and the key."""
    if path is None:
        return Recipe()
    try:
        data = tomllib.loads(read_regular(path).decode("utf-8-sig"))
        return from_plain(Recipe, _with_family(data))
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {reason(error)}.") from error
    except RecursionError as error:
        raise RecipeError(f"{path} has lists within lists without end.") from error
    except (ValueError, AudiodaeError) as error:  # TOML errors are ValueErrors too
        raise RecipeError(f"{path}: {error}") from error


def _with_family(data: dict[str, Any]) -> dict[str, Any]:
    """A recipe's data with the family's config under what it changes of it."""
    autoencoder, name = data.get("autoencoder", {}), data.get("family")
    if isinstance(name, str) and name and isinstance(autoencoder, dict):
        data = {**data, "autoencoder": {**to_plain(family(name)), **autoencoder}}
    if "autoencoder" in data and ("model" in data or "loss" in data):
        given = f"family = {name!r}" if name else "[autoencoder]"
        raise ValueError(
            f"{given} stands beside [model] or [loss], which are a denoiser's: a recipe trains one net, so "
            "leave the others out."
        )
    return data
