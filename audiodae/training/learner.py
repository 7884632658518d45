"""A net that learns: its step, its averaged weights, its optimiser, and what of all that a state keeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from audiodae.training.averages import Statistics, average_weights, averaged_copy, is_finite
from audiodae.training.lessons import Net, lesson_of
from audiodae.training.mixer import Mixture
from audiodae.training.optimizers import optimizer_of
from audiodae.training.recipe import Recipe
from audiodae.training.run_state import load_weights
from audiodae.training.together import OthersGone, average_gradients, rank_and_world
from audiodae.training.warm_start import warm_start


class Learner:
    """The `net` of a recipe, and `ema`, its average over the steps. Every process has such a one."""

    def __init__(
        self,
        recipe: Recipe,
        device: torch.device,
        start_from: Net | None,
        first_mixtures: Iterator[Mixture] | None,
    ) -> None:
        """Begins as `start_from` where that is given; a straight path is laid by `first_mixtures`."""
        self.recipe, self.device = recipe, device
        self.rank, self.world = rank_and_world()
        self.lesson = lesson_of(recipe, device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)  # the same first weights in every process and every run
            self.net = self.lesson.build().to(device)
        straight = start_from is not None and warm_start(self.net, start_from)
        if not straight and first_mixtures is not None:
            self.lesson.prepare(self.net, first_mixtures)
        self.ema = averaged_copy(self.net)
        self.optimizer = optimizer_of(recipe, self.net)
        self.step = 0
        self.stop_agreed = (
            False  # whether any process was told to stop when the last step was taken
        )
        self._statistics = Statistics(self.net)

    def learn(self, mixture: Mixture, stopped: Callable[[], bool]) -> float:
        """Take a step. The loss is NaN where it or its gradient was no number; nothing is learned then."""
        stage, within = self.recipe.stage_at(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.stages[stage].rate_at(within)
        self.optimizer.zero_grad(set_to_none=True)
        self._statistics.keep()
        loss = self._loss(mixture)
        loss.backward()  # type: ignore[no-untyped-call]
        loss = loss.detach()
        if self.world > 1:
            try:
                loss, self.stop_agreed = average_gradients(self.net, loss, stopped())
            except OthersGone:
                self._statistics.put_back()  # the step is not taken
                raise
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.clip_norm)
        self.step += 1
        if not bool(torch.isfinite(norm) & torch.isfinite(loss)):
            self._statistics.put_back()
            return math.nan
        self.optimizer.step()
        decay = min(self.recipe.ema_decay, self.step / (9 + self.step))
        average_weights(self.ema, self.net, decay)
        return float(loss)

    def _loss(self, mixture: Mixture) -> torch.Tensor:
        # By the step, not from a running stream: a resumed training draws what an unbroken one draws.
        seed = (((self.recipe.seed * self.world + self.rank) << 32) + self.step) % (1 << 63)
        draws = torch.Generator(self.device).manual_seed(seed)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)  # of dropout
            return self.lesson.loss(self.net, mixture, self.step, draws)

    def is_finite(self) -> bool:
        """Whether there is something to go on with."""
        return is_finite(self.net) and is_finite(self.ema)

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on bit for bit."""
        return {
            "net": self.net.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }

    def restore(self, run: Path, state: dict[str, Any]) -> None:
        """Go on from a state in the folder `run`; raises `AudiodaeError` where it is of another net."""
        load_weights(run, self.net, state["net"])
        self.ema.load_state_dict(state["ema"])
        decays = [group["weight_decay"] for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, decay in zip(self.optimizer.param_groups, decays, strict=True):
            group["weight_decay"] = decay  # the recipe's, which may be new
        self.step = state["step"]
