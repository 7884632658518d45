"""The `tune` command: a search for a better recipe, in many short trainings."""

from __future__ import annotations

from pathlib import Path

import click

from audiodae.cli.train import data_options
from audiodae.cli.words import FilledPath
from audiodae.signals import heeding_signals


@click.command()
@data_options
@click.option(
    "--recipe",
    type=FilledPath(exists=True, dir_okay=False, path_type=Path),
    help="TOML file to start from; of a denoiser or an autoencoder family.",
)
@click.option(
    "--run",
    type=FilledPath(file_okay=False, path_type=Path),
    required=True,
    help="Folder for the study; a search there is resumed.",
)
@click.option(
    "--trials",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="In total, earlier ones included.",
)
@click.option(
    "--steps", type=click.IntRange(1), default=500, show_default=True, help="Of each trial."
)
@click.option(
    "--most-parameters",
    type=click.IntRange(1),
    help="Skip larger nets; they do not count as trials.",
)
def tune(
    speech: tuple[Path, ...],
    noise: tuple[Path, ...],
    rir: tuple[Path, ...],
    recipe: Path | None,
    run: Path,
    cache: Path | None,
    device: str,
    trials: int,
    steps: int,
    most_parameters: int | None,
) -> None:
    """Search for the net and the rates that learn most in a short training.

    Layers, kernels, channels, memory blocks, dropout, learning rate and weight decay are tried by
    turns; RUN/best.toml is the best recipe, ready for `audiodae train --recipe`. The same command goes on
    with a search that was stopped, and with more --trials.
    """
    from audiodae.training.tune import tune_folders

    try:
        with heeding_signals() as stop, stop.waiting():  # a trial is short: it is not gone on with
            best = tune_folders(
                speech,
                noise,
                rir,
                recipe,
                run,
                cache,
                device,
                trials=trials,
                steps=steps,
                most_parameters=most_parameters,
                say=click.echo,
            )
    except (KeyboardInterrupt, SystemExit):
        click.echo("Stopped: a trial under way is left out; the same command goes on.", err=True)
        raise
    click.echo(f"The best recipe is {best}.")
