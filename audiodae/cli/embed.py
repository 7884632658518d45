"""The `embed` command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from audiodae.cli.words import NAME, QUIET, FilledPath, device_option
from audiodae.errors import printable
from audiodae.recordings.progress import bar, failed, say

if TYPE_CHECKING:
    from audiodae.latent.embed import Embedding

DEFAULT = "vanilla-16k"


@click.command(short_help="Turn recordings into vectors.")
@click.argument("sources", nargs=-1, required=True, type=NAME, metavar="SRC...")
@click.option(
    "-o",
    "--output",
    "target",
    type=FilledPath(dir_okay=False, path_type=Path),
    required=True,
    help="File to write: .npz, or .parquet (needs pyarrow).",
)
@click.option(
    "--per",
    type=click.Choice(["clip", "patch", "frame"]),  # the last is what a patch was called before
    metavar="[clip|patch]",
    default="clip",
    show_default=True,
    help="A row for each recording (mean and deviation of its latents), or for each patch.",
)
@click.option("--model", default=DEFAULT, show_default=True, type=NAME, metavar="NAME|FILE")
@device_option("cpu")
@click.option(
    "--overwrite", is_flag=True, help="Also replace a file that is not an embedding file."
)
@QUIET
@click.pass_context
def embed(
    ctx: click.Context,
    sources: tuple[str, ...],
    target: Path,
    per: str,
    model: str,
    device: str,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Turn recordings into vectors of an autoencoder's latent space, with names and times.

    SRC is a file, a folder (with all below it) or a quoted glob pattern.

    \b
    audiodae embed recordings/ -o features.npz
    audiodae embed recordings/ -o patches.parquet --per patch
    """
    from audiodae.latent import embed as task
    from audiodae.latent.latents import Trained
    from audiodae.recordings.walk import each, recordings

    a_row_for = task.checked_per(per)
    with task.embedding_file(target, overwrite=overwrite) as write:
        found = recordings(sources)
        trained = Trained.load(model, device)
        embeddings: list[Embedding] = []
        with bar(found, quiet) as shown:
            outcomes = []
            for outcome in each(
                found,
                lambda f: task.embed(f.source, trained.net, per=a_row_for, progress=shown.update),
            ):
                outcomes.append(outcome)
                if outcome.value is not None:
                    embeddings.append(outcome.value)
                    for warning in outcome.value.warnings:
                        say(f"Warning: {warning}")
        if embeddings:
            write(embeddings, {"model": trained.name, "sha256": trained.sha256, "per": a_row_for})
    if embeddings and not quiet:
        rows, size = sum(len(e.vectors) for e in embeddings), embeddings[0].vectors.shape[1]
        line = f"{target}: {rows} vectors of {size} from {len(embeddings)} recordings"
        click.echo(printable(line))
    if failed(outcomes):
        ctx.exit(1)
