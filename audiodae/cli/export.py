"""The `export` command: a model as an ONNX file, for this program without torch and for others."""

from __future__ import annotations

from pathlib import Path

import click

from audiodae.cli.words import NAME, FilledPath


@click.command()
@click.argument("model", type=NAME)
@click.option(
    "-o",
    "--output",
    "target",
    type=FilledPath(dir_okay=False, path_type=Path),
    metavar="FILE.onnx",
    help="[default: beside the weights, where cleaning without torch finds it]",
)
def export(model: str, target: Path | None) -> None:
    """Write MODEL (a name or a .safetensors file) as an ONNX file.

    The graph is the net alone with its memory as inputs and outputs, for any batch and number of frames;
    sample rate, frames, bands, states, licence and the SHA-256 of the weights are in its metadata.
    """
    from audiodae.nets.checkpoint import checkpoint_path
    from audiodae.nets.export import export as write

    path = write(model, target or checkpoint_path(model, "denoiser").with_suffix(".onnx"))
    click.echo(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
