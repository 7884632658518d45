"""The `audiodae` command: a group that loads its commands when asked, and one place for errors.

Nothing here imports numpy or torch, so that `--help` and a wrong argument are answered at once.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from audiodae import __version__
from audiodae.errors import AudiodaeError, printable, reason

# name -> module with a function of that name; the order of `--help`
_COMMANDS = {
    "clean": "audiodae.cli.clean",
    "embed": "audiodae.cli.embed",
    "compress": "audiodae.cli.compress",
    "decompress": "audiodae.cli.compress",
    "anomaly": "audiodae.cli.anomaly",
    "generate": "audiodae.cli.generate",
    "interpolate": "audiodae.cli.generate",
    "evaluate": "audiodae.cli.evaluate",
    "export": "audiodae.cli.export",
    "live": "audiodae.cli.live",
    "models": "audiodae.cli.models",
    "plugin": "audiodae.cli.plugin",
    "train": "audiodae.cli.train",
    "tune": "audiodae.cli.tune",
}

# packages that not every install has -> the extra that brings them
_EXTRAS = {"torch": "torch", "torchaudio": "train", "pytorch_optimizer": "train"}
# and commands that need more than the first package they miss
_EXTRA_OF_COMMAND = {
    "evaluate": "metrics",
    "export": "export",
    "train": "train",
    "tune": "tune",
} | dict.fromkeys(
    ("anomaly", "compress", "decompress", "embed", "generate", "interpolate"), "families"
)

INTERRUPTED = 130  # what shells expect: 128 + SIGINT
BROKEN_PIPE = 141  # 128 + SIGPIPE
_STDERR = 2


class Commands(click.Group):
    """Loads commands lazily; turns errors into a sentence and an exit code, never a traceback."""

    def main(self, *args: Any, **more: Any) -> Any:
        # On Windows click would make file names of a quoted pattern, and the tree below it would be lost.
        # A home is still for us to put in: the shells there do not.
        if os.name == "nt" and not args and more.get("args") is None:
            more["args"] = [os.path.expanduser(word) for word in sys.argv[1:]]
        return super().main(*args, **{"windows_expand_args": False} | more)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(_COMMANDS[cmd_name]), cmd_name)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _told(ctx):  # --help and --version speak here
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        with _told(ctx):
            return super().invoke(ctx)


@contextmanager
def _told(ctx: click.Context) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        ctx.exit(INTERRUPTED)
    except ModuleNotFoundError as error:
        if ctx.params.get("debug") or error.name not in _EXTRAS:
            raise
        extra = _EXTRA_OF_COMMAND.get(ctx.invoked_subcommand or "", _EXTRAS[error.name])
        command = f"pip install 'audiodae[{extra}]'"
        click.echo(
            f"Error: This needs {error.name}, which is not installed: run `{command}`.",
            err=True,
        )
        ctx.exit(1)
    except BrokenPipeError:
        # Whoever read our output has left; closing must not fail for that once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        ctx.exit(BROKEN_PIPE)
    except (AudiodaeError, OSError) as error:
        if ctx.params.get("debug"):
            raise
        click.echo(f"Error: {printable(_sentence(error))}", err=True)
        ctx.exit(1)


def _sentence(error: AudiodaeError | OSError) -> str:
    if isinstance(error, AudiodaeError):
        return str(error)
    if error.filename is None and isinstance(error, FileNotFoundError):  # of os.getcwd
        return "The folder you are in is not there any more: go to another one."
    return f"{error.filename}: {reason(error)}." if error.filename else f"{reason(error)}."


def _hush() -> None:
    """Let what is said on a closed stderr go nowhere.

    Left closed, its descriptor would go to the next file opened: to a recording, into which the
    complaints of a library were then written.
    """
    while (nothing := os.open(os.devnull, os.O_RDWR)) < _STDERR:
        pass  # standard input and output, where they are closed too
    os.set_inheritable(nothing, True)  # for the programs we start
    sys.stderr = open(nothing, "w", encoding="utf-8", errors="replace")  # noqa: SIM115


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="audiodae")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Clean speech recordings and live speech with a small autoencoder."""
    if sys.stderr is None:  # a shell's `2>&-`
        _hush()
    # As stderr does: names may have letters that the encoding has not.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    # Numpy's matrices here are too small to share out; read when numpy is loaded, which is later.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if debug:
        import logging

        logging.basicConfig(level=logging.DEBUG)
