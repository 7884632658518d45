"""The `models` command: what is installed."""

from __future__ import annotations

import click


@click.command()
def models() -> None:
    """List the models that are installed, a line each."""
    from audiodae.errors import CheckpointError
    from audiodae.nets.checkpoint import checkpoint_path, describe, pretrained_names

    names = pretrained_names()
    if not names:
        raise CheckpointError(
            "No model is installed with this copy of audiodae: train one with `audiodae train` and "
            "give its path to --model."
        )
    for name in names:
        card = describe(name)
        size = checkpoint_path(name).stat().st_size / 1e6
        rate = card.get("config", {}).get("sample_rate")
        about = card.get("description", "")
        click.echo(f"{name}  {rate} Hz  {size:.1f} MB  {about}".rstrip())
