"""The `train` command: folders and a recipe in, a run folder with weights out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from audiodae.cli.words import NAME, FilledPath, device_option
from audiodae.signals import heeding_signals

_FOLDER = FilledPath(exists=True, file_okay=False, path_type=Path)
_DATA_OPTIONS = (
    click.option("--speech", type=_FOLDER, multiple=True, help="Folder of clean speech."),
    click.option(
        "--noise", type=_FOLDER, multiple=True, help="Folder of noise; synthetic without it."
    ),
    click.option("--rir", type=_FOLDER, multiple=True, help="Folder of room impulse responses."),
    click.option(
        "--cache",
        type=FilledPath(file_okay=False, path_type=Path),
        help="Folder for the decoded audio (default: RUN/cache). What changed is decoded anew, beside what "
        "there was, which may be deleted.",
    ),
    device_option("auto", chosen=False),  # torch is there in any case, and knows
)


def data_options(command: Callable[..., None]) -> Callable[..., None]:
    """What every command that trains asks for: its folders of audio, its cache and its device."""
    for option in reversed(_DATA_OPTIONS):
        command = option(command)
    return command


@click.command()
@data_options
@click.option(
    "--recipe",
    type=FilledPath(exists=True, dir_okay=False, path_type=Path),
    help="TOML file with the model, the mix, the loss and the stages.",
)
@click.option(
    "--family",
    metavar="NAME",
    help="Recipe of an autoencoder family: vanilla, denoising, convolutional or variational.",
)
@click.option(
    "--run",
    type=FilledPath(file_okay=False, path_type=Path),
    required=True,
    help="Folder for checkpoints; an unfinished training there is resumed.",
)
@click.option(
    "--init",
    type=NAME,
    metavar="NAME|FILE",
    help="Model (name or path) whose weights to start from.",
)
@click.option(
    "--workers",
    type=click.IntRange(0),
    help="Processes that mix ahead (default: on a GPU the other cores, up to 15, else 0).",
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    help="Take at most so many steps now; the same command goes on from there.",
)
@click.option(
    "--check", is_flag=True, help="Count what is there, write ten mixtures, train nothing."
)
def train(
    speech: tuple[Path, ...],
    noise: tuple[Path, ...],
    rir: tuple[Path, ...],
    recipe: Path | None,
    family: str | None,
    run: Path,
    cache: Path | None,
    init: str | None,
    device: str,
    workers: int | None,
    steps: int | None,
    check: bool,
) -> None:
    """Train a denoiser on two folders of your own: speech and noise. Or another autoencoder.

    Examples are mixed on the fly, so the folders need no preparation. Ctrl-C stops it after a step, which is
    saved; start it again with the same --run and it goes on from there. Several processes or GPUs: `torchrun
    --nproc-per-node 2 -m -- audiodae train ...`.
    """
    from audiodae.training.folders import check_folders, family_recipe, train_folders

    if family is not None and recipe:
        raise click.UsageError("--family is a recipe of its own: give it or --recipe, not both.")
    if family is not None:
        recipe = family_recipe(family)
    if check:
        check_folders(speech, noise, rir, recipe, run, cache, init)
    else:
        folders = speech, noise, rir
        with heeding_signals() as stop:
            train_folders(*folders, recipe, run, cache, device, init, steps, workers, stop)
