"""What a training leaves in its run folder beside the model: the state to go on from, and the curve."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor, nn

from audiodae.config import in_json, to_plain
from audiodae.errors import AudiodaeError, reason
from audiodae.files.atomic import write_whole
from audiodae.files.place import nearest_there
from audiodae.training.recipe import Recipe

STATE = "state.pt"
CURVE = "curve.jsonl"
_DAMAGED = (
    *(RuntimeError, EOFError, UnpicklingError),  # of torch.load
    *(AttributeError, KeyError, TypeError, ValueError, BadZipFile),
)
_WHOLE = ("net", "ema", "optimizer", "step", "audio_seconds")


def check_folder(run: Path) -> None:
    """Raise `AudiodaeError` where a training could write nothing: known before minutes of decoding."""
    there = nearest_there(run)
    if not os.path.isdir(there):
        raise AudiodaeError(f"{run} cannot be a run folder: {there} is none. Choose another name.")
    effective = os.access in os.supports_effective_ids
    if not os.access(there, os.W_OK | os.X_OK, effective_ids=effective):
        raise AudiodaeError(
            f"The run folder {run} cannot be written: you may not write in {there}. Choose another place."
        )


def write_state(run: Path, recipe: Recipe, state: dict[str, Any]) -> None:
    """Write `state.pt`, with what of the recipe must be the same where it goes on, and its seed."""
    state = state | {
        "optimizer_name": recipe.optimizer,
        "shape": shape_of(recipe),
        "seed": recipe.seed,
    }
    written = io.BytesIO()  # torch has no words for a full disk
    torch.save(state, written)
    write_whole(run / STATE, lambda file: file.write(written.getbuffer()))


def read_state(run: Path, recipe: Recipe, device: torch.device) -> dict[str, Any] | None:
    """What `write_state` wrote; None where there is nothing yet.

    Raises `AudiodaeError` where it is damaged or of another training than the recipe's.
    """
    path = run / STATE
    if not path.exists():
        return None
    try:
        with ZipFile(path) as archive:  # torch reads past a byte that is not what it was
            if archive.testzip() is not None:
                raise ValueError
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        before = state.get("optimizer_name", recipe.optimizer)
        state |= {key: state[key] for key in _WHOLE}
        state |= {"step": int(state["step"]), "audio_seconds": float(state["audio_seconds"])}
    except _DAMAGED as error:
        raise AudiodaeError(
            f"{path} is damaged: use a new run folder with --init {run} for its last weights."
        ) from error
    if before != recipe.optimizer:
        raise AudiodaeError(
            f"{run} holds a training with the optimiser {before!r}, and the recipe asks for "
            f"{recipe.optimizer!r}: use a new run folder with --init {run}."
        )
    wanted = shape_of(recipe)
    shape = state.get("shape", wanted)  # states of earlier versions have none
    other = sorted(key for key in {*shape, *wanted} if shape.get(key) != wanted.get(key))
    if other:
        raise _other_model(run, f"{', '.join(other)}: not what they were")
    return state


def changes(
    state: dict[str, Any],
    recipe: Recipe,
    held_out: dict[str, str],
    heard: dict[str, str],
    processes: int,
) -> list[str]:
    """What to say where seed, sounds or the number of processes are others than before.

    `held_out` and `heard` are the fingerprints of what is held out and trained on now.
    """
    lines = []
    seed = state.get("seed", recipe.seed)  # earlier versions have noted none, nor what was held out
    if seed != recipe.seed:
        lines.append(
            f"The seed is {recipe.seed}, and the steps before were taken with {seed}: from here on "
            "the mixtures are others, and no single seed gives this training again. To begin with the "
            "new one, use a new run folder."
        )
    before = state.get("heard", heard)
    if other := [kind for kind in heard if before.get(kind) != heard[kind]]:
        lines.append(
            f"The {' and '.join(other)} to train on are not those of before: from here on the mixtures are "
            "others than those of an unbroken training."
        )
    if (before := state.get("processes", processes)) != processes:
        lines.append(
            f"There are now {processes} processes, and were {before}: from here on the steps are others than "
            "those of an unbroken training."
        )
    before = state.get("held_out", held_out)
    if other := [kind for kind in held_out if before.get(kind) != held_out[kind]]:
        lines.append(
            f"The held-out {' and '.join(other)} are not those of before (other folders, or another "
            "held_out): figures of the validation do not compare with earlier ones, and what is held out "
            "now may have been trained on."
        )
    return lines


def load_weights(run: Path, net: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load those of a state into `net`. Raises `AudiodaeError` where they are another net's."""
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise _other_model(run, str(error)) from error


def _other_model(run: Path, misfit: str) -> AudiodaeError:
    return AudiodaeError(
        f"{run} holds a training of another model than the recipe's: use a new run "
        f"folder, or --init with its model. ({misfit})"
    )


def shape_of(recipe: Recipe) -> dict[str, Any]:
    """What cannot change in the middle of a training, even where all tensors would still fit."""
    plain = to_plain(recipe.autoencoder or recipe.model)
    plain.pop("dropout", None)
    return plain


def add_to_curve(run: Path, figures: dict[str, Any]) -> None:
    """One more line of `curve.jsonl`, whole or not at all; figures that are no numbers are left out.

    Raises `AudiodaeError` for a full disk.
    """
    path = run / CURVE
    line = (json.dumps(in_json(figures)) + "\n").encode()
    try:
        with path.open("ab", buffering=0) as curve:
            before = curve.seek(0, os.SEEK_END)
            try:
                while line:
                    line = line[curve.write(line) :]
            except OSError:
                curve.truncate(before)  # or the next line would stand behind half of this one
                raise
    except OSError as error:
        raise AudiodaeError(f"{path} cannot be written: {reason(error)}.") from error
