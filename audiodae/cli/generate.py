"""The `generate` and `interpolate` commands."""

from __future__ import annotations

from pathlib import Path

import click

from audiodae.cli.words import NAME, OVERWRITE, QUIET, FilledPath, device_option
from audiodae.errors import printable
from audiodae.recordings.progress import bar, failed, say

DEFAULT = "variational-16k"
_FOLDER = click.option(
    "-o",
    "--output",
    "target",
    type=FilledPath(file_okay=False, path_type=Path),
    required=True,
    help="Folder for the sounds (WAV).",
)
_MODEL = click.option("--model", default=DEFAULT, show_default=True, type=NAME, metavar="NAME|FILE")
_DEVICE = device_option("cpu")


@click.command(short_help="New noise, out of a latent space.")
@_FOLDER
@click.option(
    "-n",
    "--count",
    type=click.IntRange(1, 1_000_000),
    default=10,
    show_default=True,
    help="How many sounds.",
)
@click.option(
    "--like",
    type=NAME,
    multiple=True,
    metavar="SRC",
    help="Sound like these recordings; repeatable.",
)
@click.option("--seconds", type=float, default=10.0, show_default=True, help="Length of each.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="The same seed gives the same sounds.",
)
@_MODEL
@OVERWRITE
@_DEVICE
@QUIET
@click.pass_context
def generate(
    ctx: click.Context,
    target: Path,
    count: int,
    like: tuple[str, ...],
    seconds: float,
    seed: int,
    model: str,
    overwrite: bool,
    device: str,
    quiet: bool,
) -> None:
    """Make new noise from the latent space of a variational autoencoder.

    With --like each sound is a texture like one of these recordings (file, folder, quoted pattern),
    moved some way towards another; without, it is drawn from the prior.

    \b
    audiodae generate -n 20 -o generated/ --like my/noise/
    audiodae train --speech my/speech --noise my/noise --noise generated/ --recipe my.toml ...

    where my.toml says how often it is to be heard:

    \b
    [mix]
    generated_noise = 0.2
    """
    from audiodae.latent import generate as task
    from audiodae.latent.latents import Trained
    from audiodae.recordings.walk import each, recordings

    names = [f"noise-{seed}-{number:04d}" for number in range(count)]
    paths = task.places(target, names, overwrite)
    found = recordings(like, [target])
    trained = Trained.load(model, device)
    task.check(trained.net, count, seconds)
    with bar(found, quiet or not found) as shown:
        outcomes = list(
            each(found, lambda f: task.texture_of(f.source, trained.net, shown.update, _warn))
        )
    textures = [outcome.value for outcome in outcomes if outcome.value is not None]
    bad = failed(outcomes)
    if textures or not like:
        sounds = task.generate(trained.net, count, seconds, like=textures, seed=seed)
        for path in task.write_sounds(paths, sounds, trained.net.sample_rate, replace=overwrite):
            if not quiet:
                click.echo(printable(str(path)))
    if bad:
        ctx.exit(1)


@click.command(short_help="Sounds between two recordings.")
@click.argument("a", type=FilledPath(path_type=Path))
@click.argument("b", type=FilledPath(path_type=Path))
@_FOLDER
@click.option("--steps", type=click.IntRange(2, 10_000), default=7, show_default=True)
@_MODEL
@OVERWRITE
@_DEVICE
@QUIET
def interpolate(
    a: Path,
    b: Path,
    target: Path,
    steps: int,
    model: str,
    overwrite: bool,
    device: str,
    quiet: bool,
) -> None:
    """Go from recording A to recording B through the latent space, in --steps sounds."""
    from audiodae.latent import generate as task
    from audiodae.latent.latents import Trained

    paths = task.places(target, [f"{number:02d}" for number in range(steps)], overwrite)
    trained = Trained.load(model, device)
    sounds = task.interpolate(a, b, trained.net, steps, _warn)
    for path in task.write_sounds(paths, sounds, trained.net.sample_rate, replace=overwrite):
        if not quiet:
            click.echo(printable(str(path)))


def _warn(warning: str) -> None:
    say(f"Warning: {warning}")
