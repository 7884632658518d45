"""A training: its steps in a run folder, validation, resume, and a line that says how it goes.

Several processes started by `torchrun` share the work: each mixes its own batch, gradients are averaged.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import NoReturn

import torch

from audiodae.config import to_plain
from audiodae.errors import AudiodaeError
from audiodae.files.atomic import claimed, write_whole
from audiodae.files.stamp import stamp
from audiodae.nets.checkpoint import IN_FOLDER, save_checkpoint
from audiodae.training.ahead import deaths_told, mixed_ahead
from audiodae.training.board import Board
from audiodae.training.learner import Learner
from audiodae.training.lessons import Figures, Net
from audiodae.training.mixer import Mixer, Mixture
from audiodae.training.pace import Pace
from audiodae.training.recipe import Recipe
from audiodae.training.run_state import (
    STATE,
    add_to_curve,
    changes,
    read_state,
    write_state,
)
from audiodae.training.together import (
    OthersGone,
    agree,
    say,
    wait_for_all,
)

_VALIDATION_SECONDS = 3.0
_PATIENCE = 20  # steps in a row without a finite loss before giving up


class Diverged(AudiodaeError):
    """What is learnt has become numbers that are none."""


class Trainer:
    """Trains a net by a recipe inside a run folder, from where an earlier run left off.

    The folder gets `recipe.json`, `state.pt` (all that resuming needs), `model.safetensors` with its JSON
    (the averaged weights, usable at once) and `curve.jsonl` (one line a validation).
    """

    def __init__(
        self,
        recipe: Recipe,
        training: Mixer,
        validation: Mixer,
        run: Path,
        *,
        device: torch.device,
        start_from: Net | None = None,
        workers: int = 0,
        say: Callable[[str], None] = say,
    ) -> None:
        self.recipe, self.training, self.validation = recipe, training, validation
        self.run, self.device, self.workers, self.say = run, device, workers, say
        first = None if (run / STATE).exists() else self._first_mixtures()
        self.learner = Learner(recipe, device, start_from, first)
        self.rank, self.world = self.learner.rank, self.learner.world
        self.audio_seconds = 0.0
        self._held_out, self._heard = validation.fingerprints(), training.fingerprints()
        self.board: Board | None = None
        self._stopped: Callable[[], bool] = lambda: False
        self.recent = math.nan  # mean of the last losses
        self._state_was = stamp(run / STATE)
        self._resume()

    @property
    def step(self) -> int:
        """How many steps are taken."""
        return self.learner.step

    @property
    def is_over(self) -> bool:
        """Whether the run folder holds all that the recipe asks for."""
        return self.step >= self.recipe.steps and (self.run / IN_FOLDER).is_file()

    def train(
        self, stop_after_steps: int | None = None, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        """Run to the end of the recipe, or so many steps further; writes the run folder as it goes.

        When `stopped()` says yes, in whichever process, all end after the step under way: it is saved, and
        KeyboardInterrupt raised. A training that is over is left as it is. Raises `AudiodaeError` where
        another one is at work in that folder, where others of the processes have ended, and, before the
        first step, where what a later stage needs is not there.
        """
        last = self.recipe.steps
        if stop_after_steps is not None:
            last = min(last, self.step + stop_after_steps)
        self._stopped = stopped
        if self.world > 1:
            try:
                agree(self.step, last, self.is_over, (self.learner.net, self.learner.ema))
            except OthersGone as error:
                if stopped():
                    raise KeyboardInterrupt from error
                raise
        if self.is_over:
            if self.rank == 0:
                self.say(
                    f"{self.run} is done: {self.step} steps are taken, and the recipe asks for "
                    f"{self.recipe.steps}. The model is {self.run / IN_FOLDER}."
                )
            return
        self.learner.lesson.check(self.step)
        self.run.mkdir(parents=True, exist_ok=True)
        with claimed(self.run) if self.rank == 0 else contextlib.nullcontext():
            if self.rank == 0:  # not before the folder is ours
                if stamp(self.run / STATE) != self._state_was:
                    raise AudiodaeError(
                        f"Another process has trained in {self.run} meanwhile: run the same command again to "
                        "go on from there."
                    )
                plain = (json.dumps(to_plain(self.recipe), indent=2) + "\n").encode()
                write_whole(self.run / "recipe.json", lambda file: file.write(plain))
                self.board = Board(self.run, self.step, self.say)
            try:
                with contextlib.closing(self._mixtures(last)) as mixtures:
                    self._train(last, mixtures)
            finally:
                if self.board is not None:
                    self.board.close()
                    self.board = None

    def _train(self, last: int, mixtures: Iterator[Mixture]) -> None:
        recipe = self.recipe
        pace = Pace(self.audio_seconds)
        saved = time.monotonic()
        failures, saved_step, saved_here = 0, self.step, False
        self.learner.net.train()
        while self.step < last and not self._is_stopping():
            index, within = recipe.stage_at(self.step)
            stage = recipe.stages[index]
            try:
                with deaths_told(), pace.waiting():
                    mixture = next(mixtures)
                loss = self.learner.learn(mixture, self._stopped)
            except AudiodaeError as error:
                if isinstance(error, OthersGone) and self._stopped():
                    break
                if self.rank == 0 and self.step > saved_step and not failures:
                    with contextlib.suppress(AudiodaeError, OSError):  # the first one is to be told
                        self.save()
                raise
            self.audio_seconds += stage.batch_size * stage.crop_seconds * self.world
            if math.isfinite(loss):
                before = self.recent
                self.recent = loss if math.isnan(before) else 0.98 * before + 0.02 * loss
                failures = 0
            else:
                failures += 1
                if failures >= _PATIENCE:
                    raise Diverged(
                        f"The loss or its gradient was not a number for {failures} steps in a row at step "
                        f"{self.step}: lower the learning rate. "
                        + (
                            "The last good state is in the run folder."
                            if (self.run / STATE).exists()
                            else "No state was saved before."
                        )
                    )
            if self.rank == 0 and pace.is_due():
                left = recipe.audio_seconds(recipe.steps) - recipe.audio_seconds(self.step)
                self.say(
                    f"step {self.step}/{recipe.steps}  stage {index + 1}  loss {self.recent:.4f}  "
                    f"rate {stage.rate_at(within):.1e}  "
                    + pace.told(self.audio_seconds, left * self.world)
                )
            # Not while losses are no numbers: the state before them is what can be gone on with.
            due = time.monotonic() - saved > 60 * recipe.checkpoint_minutes and not failures
            if self.rank == 0 and due:
                self.save()
                saved, saved_step, saved_here = time.monotonic(), self.step, True
        if self.step < last:
            self._stop(saved_step if failures else self.step, saved_step)
        if self.rank == 0:
            if not saved_here or saved_step < self.step:
                self.save()
            if not (self.run / IN_FOLDER).is_file():
                raise Diverged(
                    f"The validation loss is not a number, so {self.run} holds no model after {self.step} "
                    "steps. Look at the held-out sounds, or begin in a new folder with a lower learning rate."
                )

    def _is_stopping(self) -> bool:
        """Several processes ask each other with every step: one that ended alone would leave them waiting."""
        return self.learner.stop_agreed if self.world > 1 else self._stopped()

    def _stop(self, good_step: int, saved_step: int) -> NoReturn:
        """Save what is good, say from where the same command goes on, and raise KeyboardInterrupt."""
        if self.rank == 0:
            if good_step > saved_step:
                self._write_state()  # at once: a second signal, or whoever sent it, may not wait for more
                self.say(
                    f"stopping at step {good_step}: validating it (stop again to leave that out)"
                )
                self.save()
            self.say(
                f"saved at step {good_step} of {self.recipe.steps}; the same command goes on from there"
                if good_step
                else "stopped before there was anything to save; the same command begins anew"
            )
        if self.world > 1:
            # None ends before it is saved: whoever started them would end the others.
            wait_for_all(self.device)
        raise KeyboardInterrupt

    def _first_mixtures(self) -> Iterator[Mixture]:
        """Batches of the training, the same ones in every process."""
        stage = self.recipe.stages[0]
        self.say(
            f"hearing {self.recipe.pca_patches} patches for their principal axes, before step 1"
        )
        for step in itertools.count():
            yield self.training.batch(step, stage.batch_size, stage.crop_seconds).to(self.device)

    def _mixtures(self, last: int) -> Generator[Mixture]:
        """The batches of the steps to come."""

        def mix(step: int) -> Mixture:
            stage = self.recipe.stages[self.recipe.stage_at(step)[0]]
            return self.training.batch(step, stage.batch_size, stage.crop_seconds, self.rank)

        return mixed_ahead(mix, range(self.step, last), self.workers, self.device)

    @torch.no_grad()
    def validate(self) -> Figures:
        """What the lesson says of the averaged weights on fixed mixtures of held-out talkers and noises."""
        count = self.recipe.validation_batches
        mixtures = (
            self.validation.batch(i, 8, _VALIDATION_SECONDS).to(self.device) for i in range(count)
        )
        return self.learner.lesson.figures(self.learner.ema, mixtures)

    def save(self) -> None:
        """Validate, and write the state to resume from and the averaged weights to use.

        Weights whose validation loss is no number replace none that are there.
        """
        figures: Figures = {
            "step": self.step,
            "audio_hours": round(self.audio_seconds / 3600, 3),
        }
        if math.isfinite(self.recent):  # it is not when no step was taken
            figures["training_loss"] = self.recent
        figures |= self.validate()
        about = {"description": self.recipe.description, "licence": self.recipe.licence}
        loss = figures["loss"]
        if good := isinstance(loss, float) and math.isfinite(loss):
            save_checkpoint(self.run / IN_FOLDER, self.learner.ema, {**about, "training": figures})
        else:
            self.say(
                f"The validation loss at step {self.step} is not a number: no model is written, and one "
                "that is there stays. Look at the held-out sounds, or lower the learning rate."
            )
        # With good weights it was the sounds; with bad ones the state before is what to go on with.
        if good or self.learner.is_finite():
            self._write_state()
        add_to_curve(self.run, figures)
        self.say(
            "  ".join(f"{k} {v:.4g}" for k, v in figures.items() if isinstance(v, float | int))
        )
        if self.board is not None and good:  # last: what may be missing must cost nothing else
            self.board.show(self.step, figures, self.learner.ema, self.validation)

    def _write_state(self) -> None:
        state = self.learner.state() | {
            "audio_seconds": self.audio_seconds,
            "training_loss": self.recent,
            "held_out": self._held_out,
            "heard": self._heard,
            "processes": self.world,
        }
        write_state(self.run, self.recipe, state)
        self._state_was = stamp(self.run / STATE)

    def _resume(self) -> None:
        state = read_state(self.run, self.recipe, self.device)
        if state is None:
            return
        self.learner.restore(self.run, state)
        self.audio_seconds = state["audio_seconds"]
        self.recent = float(state.get("training_loss", math.nan))
        if self.rank == 0 and not self.is_over:
            self.say(f"resumed {self.run} at step {self.step}")
            for line in changes(state, self.recipe, self._held_out, self._heard, self.world):
                self.say(line)
