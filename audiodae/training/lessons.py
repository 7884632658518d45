"""What a training teaches: which net, which loss on a mixture, which figures on held-out ones.

The trainer asks a lesson and does not know denoisers from autoencoders.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch
from torch import Generator, Tensor, nn

from audiodae.errors import AudiodaeError
from audiodae.nets.autoencoder import SCALE_DB, Autoencoder, Code
from audiodae.nets.denoiser import DenoiserNet
from audiodae.sound.arrays import has_bfloat16
from audiodae.sound.stft import Stft
from audiodae.training.elbo import ElboConfig, elbo_loss, kl_per_unit
from audiodae.training.losses import DenoisingLoss, si_sdr_db
from audiodae.training.mixer import Mixture
from audiodae.training.recipe import Recipe, Stage

Net = DenoiserNet | Autoencoder
Figures = dict[str, float | list[float]]
# what a stage may say of a loss
_HEARD = ("pesq", "dnsmos", "dnsmos_items", "stoi", "whisper", "whisper_items")
_ACTIVE_VARIANCE = 0.01  # of a code's mean over the data: below it a unit says nothing


class Lesson(Protocol):
    """One kind of training."""

    def build(self) -> Net:
        """The untrained net."""

    def check(self, step: int) -> None:
        """Raise `AudiodaeError` where what the steps from this one on need is not there."""

    def prepare(self, net: nn.Module, mixtures: Iterator[Mixture]) -> None:
        """What a new net is told before the first step."""

    def loss(self, net: nn.Module, mixture: Mixture, step: int, generator: Generator) -> Tensor:
        """The scalar to minimise at a step; `generator` is for what the net draws."""

    def figures(self, net: nn.Module, mixtures: Iterable[Mixture]) -> Figures:
        """How good a net in evaluation mode is, `loss` first."""


def lesson_of(recipe: Recipe, device: torch.device) -> Lesson:
    """The lesson a recipe asks for."""
    if recipe.autoencoder is not None:
        return Autoencoding(recipe, device)
    return Denoising(recipe, device)


class Denoising:
    """Noisy waveforms in, clean ones wanted."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        model = recipe.model
        self._stft = Stft(model.sample_rate, model.n_fft, model.hop_length)
        self._loss, self._stage = self._loss_with(None), -1

    def build(self) -> DenoiserNet:
        return DenoiserNet(self.recipe.model)

    def check(self, step: int) -> None:
        """Build all that later stages hear with, or the last of them would say it after hours."""
        if step >= self.recipe.steps:
            return
        stages = self.recipe.stages[self.recipe.stage_at(step)[0] :]
        most = {name: max(getattr(s, name) for s in stages if s.steps) for name in _HEARD}
        with _torchaudio_told():
            DenoisingLoss(self.recipe.loss, self._stft, torch.device("cpu"), **most)

    def prepare(self, net: nn.Module, mixtures: Iterator[Mixture]) -> None:
        """Nothing: an untrained denoiser lets everything through."""

    def loss(self, net: nn.Module, mixture: Mixture, step: int, generator: Generator) -> Tensor:
        stage, _ = self.recipe.stage_at(step)
        if stage != self._stage:
            self._loss, self._stage = self._loss_with(self.recipe.stages[stage]), stage
        with _half_precision(self.recipe.bfloat16, self.device):
            estimate = net(mixture.noisy)
        return self._loss(estimate.float(), mixture.clean, mixture.noisy)[0]

    def figures(self, net: nn.Module, mixtures: Iterable[Mixture]) -> Figures:
        """Mean loss, and SI-SDR before and after."""
        loss_of = self._loss_with(None)
        losses, before, after = [], [], []
        for mixture in mixtures:
            estimate = net(mixture.noisy)
            losses.append(float(loss_of(estimate, mixture.clean, mixture.noisy)[0]))
            spoken = mixture.clean.abs().amax(dim=-1) > 1e-4
            before.append(si_sdr_db(mixture.noisy[spoken], mixture.clean[spoken]).clamp(-30, 40))
            after.append(si_sdr_db(estimate[spoken], mixture.clean[spoken]).clamp(-30, 40))
        return {
            "loss": sum(losses) / len(losses),
            "si_sdr_noisy_db": float(torch.cat(before).mean()),
            "si_sdr_db": float(torch.cat(after).mean()),
        }

    def _loss_with(self, stage: Stage | None) -> DenoisingLoss:
        """The loss of a stage; of none, without what only trainings hear."""
        weights = {name: getattr(stage, name) for name in _HEARD} if stage else {}
        return DenoisingLoss(self.recipe.loss, self._stft, self.device, **weights)


@contextmanager
def _torchaudio_told() -> Iterator[None]:
    """The packages for PESQ and STOI import torchaudio, whose own error says little."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if "torchaudio" not in str(error).lower():
            raise
        raise AudiodaeError(
            f"torchaudio cannot be loaded: it was built for another torch than {torch.__version__}, which is "
            "here. Install both from one index (for the CPU builds: pip install --force-reinstall torch "
            "torchaudio --index-url https://download.pytorch.org/whl/cpu), or set pesq, stoi, dnsmos and "
            "whisper to 0 in every stage."
        ) from error


class Autoencoding:
    """Patches in; the same patches, or where the net is a denoising one the clean ones, wanted."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        assert recipe.autoencoder is not None
        self.config, self.elbo, self.device = recipe.autoencoder, recipe.elbo, device
        self.pca_patches, self.bfloat16 = recipe.pca_patches, recipe.bfloat16

    def build(self) -> Autoencoder:
        return Autoencoder(self.config)

    def check(self, step: int) -> None:
        """Nothing: its loss needs no packages and no files."""

    def prepare(self, net: nn.Module, mixtures: Iterator[Mixture]) -> None:
        """The straight path of an autoencoder: the principal axes of what it should say."""
        if not self.pca_patches:
            return
        assert isinstance(net, Autoencoder)
        patches: list[Tensor] = []
        while sum(map(len, patches)) < self.pca_patches:
            patches.append(self._patches(net, next(mixtures))[1])
        net.start_from_pca(torch.cat(patches))

    def loss(self, net: nn.Module, mixture: Mixture, step: int, generator: Generator) -> Tensor:
        given, wanted = self._patches(net, mixture)
        with _half_precision(self.bfloat16, self.device):
            rebuilt, code = net(given, generator)
        whole = Code(code.mean.float(), None if code.logvar is None else code.logvar.float())
        return elbo_loss(rebuilt.float(), wanted, whole, self.elbo, step)[0]

    def figures(self, net: nn.Module, mixtures: Iterable[Mixture]) -> Figures:
        """Loss with the whole beta, RMS error in dB, share of the variance explained; costs of the code."""
        given, wanted, rebuilt, codes = [], [], [], []
        for mixture in mixtures:
            pair = self._patches(net, mixture)
            answer, code = net(pair[0])
            given.append(pair[0])
            wanted.append(pair[1])
            rebuilt.append(answer)
            codes.append(code)
        target, answer = torch.cat(wanted), torch.cat(rebuilt)
        whole = _joined(codes)
        paid = ElboConfig(self.elbo.beta, 0, 0.0)
        error = (answer - target).square().mean()
        spread = (target - target.mean(dim=0)).square().mean()
        figures: Figures = {
            "loss": float(elbo_loss(answer, target, whole, paid, 0)[0]),
            "error_db": SCALE_DB * float(error.sqrt()),
            "explained": 1.0 - float(error / spread),
        }
        if self.config.denoising:
            before = (torch.cat(given) - target).square().mean()
            figures["error_of_the_input_db"] = SCALE_DB * float(before.sqrt())
        if whole.logvar is not None:
            kl = kl_per_unit(whole)
            figures["kl_nats"] = float(kl.sum())
            figures["active_units"] = float((whole.mean.var(dim=0) > _ACTIVE_VARIANCE).sum())
            figures["kl_nats_per_unit"] = [round(float(value), 4) for value in kl]
        return figures

    def _patches(self, net: nn.Module, mixture: Mixture) -> tuple[Tensor, Tensor]:
        """What the net gets and what it should say, both `(n, frames, mels)`; whole patches only."""
        assert isinstance(net, Autoencoder)
        size = net.config.patch_samples
        whole = max(1, mixture.noisy.shape[-1] // size) * size
        with torch.no_grad():
            given = net.patches(mixture.noisy[:, :whole]).flatten(0, 1)
            if not self.config.denoising:
                return given, given
            return given, net.patches(mixture.clean[:, :whole]).flatten(0, 1)


def _joined(codes: list[Code]) -> Code:
    logvars = [code.logvar for code in codes if code.logvar is not None]
    return Code(torch.cat([code.mean for code in codes]), torch.cat(logvars) if logvars else None)


def _half_precision(wanted: bool, device: torch.device) -> AbstractContextManager[object]:
    if wanted and device.type == "cuda" and has_bfloat16(str(device)):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
