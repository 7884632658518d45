"""The `compress` and `decompress` commands."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from audiodae.cli.words import NAME, OVERWRITE, QUIET, FilledPath, device_option
from audiodae.errors import printable
from audiodae.recordings.progress import bar, failed, say

if TYPE_CHECKING:
    from audiodae.recordings.walk import Outcome

DEFAULT = "vanilla-16k"
_TARGET = click.option(
    "-o",
    "--output",
    "target",
    type=FilledPath(),  # as written: a slash at its end says that it is a folder
    help="A file for a single SRC, or a folder (such as small/).  [default: beside each SRC]",
)
_DEVICE = device_option("cpu")


@click.command(short_help="Recordings to a few hundred bits a second.")
@click.argument("sources", nargs=-1, required=True, type=NAME, metavar="SRC...")
@_TARGET
@click.option("--model", default=DEFAULT, show_default=True, type=NAME, metavar="NAME|FILE")
@click.option(
    "--fineness",
    type=float,
    help="Quantiser step in deviations of the latent: smaller means better sound and larger files.  "
    "[default: 0.35]",
)
@click.option("--measure", is_flag=True, help="Decode again and say how good it is.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@OVERWRITE
@_DEVICE
@QUIET
@click.pass_context
def compress(
    ctx: click.Context,
    sources: tuple[str, ...],
    target: str | None,
    model: str,
    fineness: float | None,
    measure: bool,
    as_json: bool,
    overwrite: bool,
    device: str,
    quiet: bool,
) -> None:
    """Compress recordings into .adae files of some hundred bits a second, one channel.

    Phases are not kept: what comes back sounds alike but is not the same waveform. Above 6 kbit/s
    use Opus.

    \b
    audiodae compress a.wav -o a.adae --measure
    audiodae compress recordings/ -o small/
    """
    from audiodae.latent.compress import FINENESS, SUFFIX, check_fineness, compress_file
    from audiodae.latent.compress_quality import quality
    from audiodae.latent.latents import Trained
    from audiodae.recordings.walk import each, mirrored, recordings

    step = check_fineness(FINENESS if fineness is None else fineness)
    found = recordings(sources, [Path(target)] if target else [])
    targets = mirrored(found, target, SUFFIX, overwrite=overwrite)
    trained = Trained.load(model, device)
    with bar(found, quiet) as shown:

        def work(item: Any) -> dict[str, Any]:
            goes = targets[item.source]
            content, size, warnings = compress_file(
                item.source,
                goes,
                trained,
                fineness=step,
                progress=shown.update,
                replace=overwrite,
            )
            for warning in warnings:
                say(f"Warning: {warning}")
            row = {"file": str(item.source), "target": str(goes), "seconds": content.seconds}
            row |= {"bytes": size, "bits_per_second": 8 * size / content.seconds}
            return row | (quality(item.source, content, trained) if measure else {})

        outcomes: list[Outcome[dict[str, Any]]] = []
        try:
            for outcome in each(found, work):
                outcomes.append(outcome)
                if outcome.value and not (as_json or quiet):
                    with shown.external_write_mode():  # above the bar
                        click.echo(printable(_line(outcome.value)))
        except KeyboardInterrupt:
            if as_json:  # what is done by then is told all the same
                shown.close()
                _print_all(outcomes, as_json, quiet)
            raise
    _print_all(outcomes, as_json, quiet)
    if failed(outcomes):
        ctx.exit(1)


@click.command(short_help="Sound from .adae files.")
@click.argument(
    "sources", nargs=-1, required=True, metavar="SRC...", type=FilledPath(path_type=Path)
)
@_TARGET
@click.option(
    "--model",
    type=NAME,
    metavar="NAME|FILE",
    help="Where the model is.  [default: the one each file names]",
)
@OVERWRITE
@_DEVICE
@QUIET
@click.pass_context
def decompress(
    ctx: click.Context,
    sources: tuple[Path, ...],
    target: str | None,
    model: str | None,
    overwrite: bool,
    device: str,
    quiet: bool,
) -> None:
    """Turn .adae files (folders, quoted patterns) into sound: one channel, rate and length of the original.

    \b
    audiodae decompress a.adae -o a.wav
    audiodae decompress small/ -o large/
    """
    from audiodae.files.formats import AUDIO_SUFFIXES
    from audiodae.latent.adae_file import read
    from audiodae.latent.compress import decompress_file, found_compressed
    from audiodae.latent.latents import Trained
    from audiodae.recordings.walk import each, means_folder, mirrored

    found = found_compressed(sources)
    suffix = Path(target).suffix.lower() if target and not means_folder(target) else ""
    suffix = suffix if suffix in AUDIO_SUFFIXES else ".wav"
    targets = mirrored(found, target, suffix, overwrite=overwrite)
    load = cache(Trained.load)

    def work(item: Any) -> str:
        goes = targets[item.source]
        trained = load(read(item.source).model if model is None else model, device)
        content = decompress_file(item.source, goes, trained, replace=overwrite)
        return f"{item.source} -> {goes} ({content.seconds:.1f} s)"

    outcomes = []
    for outcome in each(found, work):
        outcomes.append(outcome)
        if outcome.value and not quiet:
            click.echo(printable(outcome.value))
    if failed(outcomes):
        ctx.exit(1)


def _line(row: dict[str, Any]) -> str:
    line = f"{row['file']} -> {row['target']}: {row['bytes']} bytes, "
    line += f"{row['bits_per_second']:.0f} bit/s"
    more = {"lsd_db": "LSD {:.1f} dB", "stoi": "STOI {:.2f}", "pesq_wb": "PESQ {:.2f}"}
    more = {k: text for k, text in more.items() if k in row}
    return line + "".join(
        ", " + text.format(row[k]).replace("nan", "n/a") for k, text in more.items()
    )


def _print_all(outcomes: list[Outcome[dict[str, Any]]], as_json: bool, quiet: bool) -> None:
    """What can only be said at the end."""
    import json

    rows = [outcome.value for outcome in outcomes if outcome.value is not None]
    if as_json:
        clean = [{k: None if v != v else v for k, v in row.items()} for row in rows]
        click.echo(json.dumps(clean, indent=2))
        return
    if quiet:
        return
    seconds = sum(row["seconds"] for row in rows)
    if len(rows) > 1 and seconds:
        total = sum(row["bytes"] for row in rows)
        click.echo(f"{len(rows)} files: {total} bytes, {8 * total / seconds:.0f} bit/s")
