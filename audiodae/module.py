"""Cleaning as a torch module: a transform for data sets, a front end for models."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

try:
    from torch import Tensor, nn
except ImportError as error:
    raise ImportError(
        "audiodae.Denoise is a module of PyTorch, which is not installed: "
        "pip install 'audiodae[torch]'. Without it, audiodae.load() cleans numpy arrays."
    ) from error

from audiodae.api import Denoiser, load
from audiodae.errors import AudiodaeError
from audiodae.nets.checkpoint import DEFAULT_MODEL, FULL_BAND_RATE, LOWER_RATE, model_for
from audiodae.sound.resample import check_rate
from audiodae.streaming.settings import Link, checked_limit, checked_link, checked_mix

if TYPE_CHECKING:
    from audiodae.nets.denoiser import DenoiserNet


class Denoise(nn.Module):
    """Cleans whole recordings; a fixed step without gradients, to be put before what is trained.

        dataset = MyRecordings(transform=audiodae.Denoise(sample_rate=44100))
        loader = DataLoader(dataset, num_workers=4)

    It can be pickled (also to workers that are spawned), moved with `.to(device)`, and stays in
    evaluation mode and in float32 whatever the module around it does. Its weights are frozen, and no
    gradient goes through it.

    Args:
        sample_rate: of the waveforms in Hz; None is the model's own. Where none is named either, each
            call has to tell it.
        model: a shipped model's name or the path of a `.safetensors` file; without it the shipped
            models are all held, and each waveform is cleaned by the one for its rate.
        mix, attenuation_limit_db, link: as for `audiodae.Streamer`.

    Raises:
        CheckpointError: the model is missing or damaged.
        AudiodaeError: a setting makes no sense.
    """

    def __init__(
        self,
        sample_rate: int | None = None,
        *,
        model: str | os.PathLike[str] = DEFAULT_MODEL,
        mix: float = 1.0,
        attenuation_limit_db: float | None = None,
        link: Link = "linked",
    ) -> None:
        super().__init__()
        names = [os.fspath(model)]
        if model == DEFAULT_MODEL:
            names = [model_for(LOWER_RATE), model_for(FULL_BAND_RATE)]
        nets = [cast("DenoiserNet", load(name, engine="torch").net) for name in names]
        self.nets = nn.ModuleList(nets)
        self.sample_rate = None if sample_rate is None else check_rate(sample_rate)
        if sample_rate is None and model != DEFAULT_MODEL:
            self.sample_rate = nets[0].sample_rate
        self.mix = checked_mix(mix)
        self.attenuation_limit_db = checked_limit(attenuation_limit_db)
        self.link = checked_link(link)

    def forward(self, waveform: Tensor, sample_rate: int | None = None) -> Tensor:
        """`(samples,)`, `(channels, samples)` or `(batch, channels, samples)`; the same comes out.

        Same dtype, device, shape and alignment. `sample_rate` in Hz replaces the module's for this
        waveform. Raises `AudioError` for a tensor that is no plausible audio, `AudiodaeError` where the
        rate chooses the model and none was given.
        """
        rate = self.sample_rate if sample_rate is None else check_rate(sample_rate)
        if rate is None:
            raise AudiodaeError(
                "The model is chosen by the sample rate of the waveform, and none was given: pass it "
                "(`denoise(waveform, 48000)`, `audiodae.Denoise(sample_rate=48000)`), or name a model."
            )
        net = cast("DenoiserNet", self.nets[-1 if rate >= FULL_BAND_RATE else 0])
        return Denoiser(net)(
            waveform,
            rate,
            link=self.link,
            mix=self.mix,
            attenuation_limit_db=self.attenuation_limit_db,
        )

    def train(self, mode: bool = True) -> Denoise:
        """The module follows `mode`, the nets inside never: what they give must not depend on chance."""
        super().train(mode)
        self.nets.eval()
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Denoise:
        """`half()` of a model around it moves nothing here: spectra need float32. Devices are followed."""

        def placed(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(placed, recurse)

    def extra_repr(self) -> str:
        return (
            f"sample_rate={self.sample_rate}, mix={self.mix}, "
            f"attenuation_limit_db={self.attenuation_limit_db}, link={self.link!r}"
        )
