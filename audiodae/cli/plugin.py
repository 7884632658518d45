"""The `plugin` command: the GStreamer element, put in place and looked for."""

from __future__ import annotations

from pathlib import Path

import click

from audiodae.cli.words import FilledPath

_path = click.option(
    "--path",
    "folder",
    type=FilledPath(file_okay=False, path_type=Path),
    help="A folder of GST_PLUGIN_PATH; the file goes into its subfolder `python`.  "
    "[default: the user's own plugins]",
)


@click.group()
def plugin() -> None:
    """Make audiodae an element of GStreamer pipelines."""


@plugin.command()
@_path
def install(folder: Path | None) -> None:
    """Put the element `audiodae` where GStreamer looks, and ask GStreamer for it.

    \b
    audiodae plugin install
    gst-inspect-1.0 audiodae
    """
    from audiodae.live.plugin import check, install

    folder = None if folder is None else folder.absolute()
    click.echo(f"Wrote {install(folder)}")
    check(folder)
    click.echo("GStreamer finds the element: see `gst-inspect-1.0 audiodae`.")
    if folder is not None:
        click.echo(f"Programs find it with GST_PLUGIN_PATH={folder}")


@plugin.command()
@_path
def check(folder: Path | None) -> None:
    """Ask GStreamer whether it finds the element, and say why if it does not."""
    from audiodae.live.plugin import check

    check(None if folder is None else folder.absolute())
    click.echo("GStreamer finds the element: see `gst-inspect-1.0 audiodae`.")


@plugin.command()
@_path
def remove(folder: Path | None) -> None:
    """Take the element out again."""
    from audiodae.live.plugin import remove

    click.echo(f"Removed {remove(folder)}")
