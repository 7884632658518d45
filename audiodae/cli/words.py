"""What words on the command line may be, and how those that cannot be are refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from audiodae.errors import AudiodaeError
from audiodae.files.place import nearest_there
from audiodae.installed import is_installed
from audiodae.nets.device import cleaning_device

PIPE = "-"


class FilledPath(click.Path):
    """A path that an unset variable of a shell does not make the folder where one is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail(
                "it is empty: is a variable not set? The folder where you are is `.`.", param, ctx
            )
        return super().convert(value, param, ctx)


# Shells complete file names only where they are told that one is wanted. Whether it is there, and
# may be read, others say: it may be a pattern, the name of a model, or new.
NAME = FilledPath(readable=False)


QUIET = click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong.")
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")


def device_option(default: str, *, chosen: bool = True) -> Callable[[Any], Any]:
    """`--device` of every command that runs a model; not `chosen`, "auto" is left to the command."""
    return click.option(
        "--device",
        default=default,
        show_default=True,
        metavar="NAME",
        callback=(lambda _, __, name: cleaning_device(name)) if chosen else None,
        help="cpu, cuda, cuda:1 or mps; auto: a GPU if it is there, else the CPU.",
    )


def refuse(ctx: click.Context, names: Collection[str], why: str) -> None:
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if name in names and ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{why} {max(parameter.opts, key=len)}.")


def refuse_dashes(ctx: click.Context, names: Collection[str]) -> None:
    """No file or folder is called `-` unless somebody insists: it would be hard to get rid of."""
    for parameter in ctx.command.params:
        if parameter.name in names and str(ctx.params[parameter.name]) == PIPE:
            raise click.UsageError(
                f"{max(parameter.opts, key=len)} -: files are not written to standard output; for "
                "that, use `audiodae clean - < FILE > OUT`. For a file really named `-`, write `./-`."
            )


def check_report(path: Path, overwrite: bool) -> None:
    from audiodae.recordings.report import is_report

    if path.suffix.lower() != ".json":
        raise click.UsageError(f"--report {path}: the report is JSON, give a name ending in .json.")
    folder = nearest_there(path.absolute().parent)
    if not os.path.isdir(folder):
        raise AudiodaeError(f"The report {path} cannot be written: {folder} is not a folder.")
    if not overwrite and os.path.lexists(path) and not is_report(path):
        raise AudiodaeError(
            f"The report {path} is not written: a file of that name exists already, and is not a "
            "report of audiodae. Choose another name, or use --overwrite."
        )


def check_plotting() -> None:
    if not is_installed("matplotlib"):
        raise AudiodaeError(
            "--plot needs matplotlib, which is not installed: run `pip install 'audiodae[plot]'`."
        )
