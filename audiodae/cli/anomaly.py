"""The `anomaly` command: `fit` learns what is normal, `score` says what is not."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from audiodae.cli.words import NAME, QUIET, FilledPath, device_option
from audiodae.errors import AudiodaeError, printable
from audiodae.recordings.progress import bar, failed, say

if TYPE_CHECKING:
    from audiodae.latent.anomaly import Scores
    from audiodae.recordings.sources import Found
    from audiodae.recordings.walk import Outcome

    _Scored = tuple[Scores, list[str]]

DEFAULT = "vanilla-16k"
_DETECTOR = "anomaly-detector"
_DEVICE = device_option("cpu")


@click.group(short_help="Find recordings that are not like the normal ones.")
def anomaly() -> None:
    """Find recordings, and moments in them, that are not like the normal ones.

    \b
    audiodae anomaly fit good/ -o detector
    audiodae anomaly score new/ -m detector --plot pictures/
    """


@anomaly.command()
@click.argument("sources", nargs=-1, required=True, type=NAME, metavar="NORMAL...")
@click.option(
    "-o",
    "--output",
    "target",
    type=FilledPath(path_type=Path),
    default=_DETECTOR,
    show_default=True,
    help="Name of the detector; two files, .safetensors and .json.",
)
@click.option(
    "--quantile",
    type=click.FloatRange(0.0, 1.0, min_open=True, max_open=True),
    help="The part of normal recordings, and of their patches, under the threshold.  [default: 0.99]",
)
@click.option("--model", default=DEFAULT, show_default=True, type=NAME, metavar="NAME|FILE")
@_DEVICE
@QUIET
@click.pass_context
def fit(
    ctx: click.Context,
    sources: tuple[str, ...],
    target: Path,
    quantile: float | None,
    model: str,
    device: str,
    quiet: bool,
) -> None:
    """Learn from normal recordings (files, folders, patterns) what is normal."""
    from audiodae.latent import anomaly as task
    from audiodae.latent.detector_file import detector_files
    from audiodae.latent.latents import Trained
    from audiodae.recordings.walk import each, recordings

    part = task.check_quantile(task.QUANTILE if quantile is None else quantile)
    with detector_files(target) as write:
        found = recordings(sources)
        trained = Trained.load(model, device)
        with bar(found, quiet) as shown:
            outcomes = list(
                each(found, lambda f: task.describe_file(f.source, trained.net, shown.update))
            )
        done = [outcome.value for outcome in outcomes if outcome.value is not None]
        for _, warnings in done:
            for warning in warnings:
                say(f"Warning: {warning}")
        bad = failed(outcomes)
        path = write(task.fit([rows for rows, _ in done], trained, part))
    if not quiet:
        patches = sum(len(rows) for rows, _ in done)
        click.echo(printable(f"{path}: learned from {len(done)} recordings, {patches} patches"))
    if bad:
        ctx.exit(1)


@anomaly.command()
@click.argument("sources", nargs=-1, required=True, type=NAME, metavar="SRC...")
@click.option(
    "-m",
    "--detector",
    type=FilledPath(path_type=Path),
    default=_DETECTOR,
    show_default=True,
    help="What `fit` wrote.",
)
@click.option(
    "--model", type=NAME, metavar="NAME|FILE", help="Autoencoder.  [default: that of the detector]"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the score of every patch.")
@click.option(
    "--plot",
    type=FilledPath(file_okay=False, path_type=Path),
    help="Draw spectrograms and scores into this folder (PNG).",
)
@_DEVICE
@click.option("-q", "--quiet", is_flag=True, help="Show no progress; the scores are the result.")
@click.pass_context
def score(
    ctx: click.Context,
    sources: tuple[str, ...],
    detector: Path,
    model: str | None,
    as_json: bool,
    plot: Path | None,
    device: str,
    quiet: bool,
) -> None:
    """Score recordings: over 1 is odd. Says where, and draws it with --plot.

    The exit code is 1 when a recording could not be read or drawn, not when one is odd.
    """
    from audiodae.latent import anomaly as task
    from audiodae.latent.detector_file import read_detector
    from audiodae.latent.latents import Trained
    from audiodae.recordings.report import explain
    from audiodae.recordings.walk import each, recordings

    known = read_detector(detector)
    found = recordings(sources)
    trained = Trained.load(known.model if model is None else model, device)
    known.check(trained)
    patch_seconds = trained.net.config.patch_samples / trained.net.sample_rate
    if plot is not None:
        from audiodae.latent.plot_anomaly import plot_scores
        from audiodae.recordings.plot import matplotlib_part

        matplotlib_part("figure")
        plot.mkdir(parents=True, exist_ok=True)
    pictures = _pictures(found, plot) if plot is not None else {}
    undrawn: list[str] = []
    outcomes: list[Outcome[_Scored]] = []
    with bar(found, quiet) as shown:

        def work(item: Found) -> _Scored:
            rows, warnings = task.describe_file(item.source, trained.net, shown.update)
            scores = task.score(rows, known, patch_seconds)
            if target := pictures.get(item):
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    plot_scores(item.source, scores, target)
                except Exception as error:  # the score is there all the same
                    undrawn.append(explain(error, target))
            return scores, list(warnings)

        try:
            for outcome in each(found, work):
                outcomes.append(outcome)
        except KeyboardInterrupt:  # what is scored by then is told all the same
            shown.close()
            _tell(outcomes, as_json)
            raise
    drawn = _tell(outcomes, as_json)
    bad = failed(outcomes)
    if undrawn:
        say(f"{len(undrawn)} of {drawn} could not be drawn:")
    for reason in undrawn:
        say(f"  {reason}")
    if bad or undrawn:
        ctx.exit(1)


def _tell(outcomes: Iterable[Outcome[_Scored]], as_json: bool) -> int:
    """Print all scores, in the table the oddest first; how many there are."""
    done = [(o.source, *o.value) for o in outcomes if o.value is not None]
    if as_json:
        rows = [{"file": str(source), **s.plain(), "warnings": w} for source, s, w in done]
        click.echo(json.dumps(rows, indent=2))
        return len(done)
    for source, scores, warnings in sorted(done, key=lambda row: -row[1].clip):
        spans = ", ".join(f"{a:.1f}-{b:.1f} s" for a, b in scores.odd_spans[:6])
        more = len(scores.odd_spans) - 6
        spans += f" and {more} more" if more > 0 else ""
        verdict = "odd   " if scores.odd else "normal"
        click.echo(printable(f"{scores.clip:8.2f}  {verdict}  {source}  {spans}".rstrip()))
        for warning in warnings:
            say(f"Warning: {warning}")
    return len(done)


def _pictures(found: Iterable[Found], folder: Path) -> dict[Found, Path]:
    """Where each recording is drawn. Raises `AudiodaeError` where two would be drawn to one place."""
    places: dict[Path, Found] = {}
    for item in found:
        name = item.relative.with_name(item.relative.name + ".png")
        if other := places.get(folder / name):
            raise AudiodaeError(
                f"{other.source} and {item.source} would both be drawn to {name}: score them in two runs."
            )
        places[folder / name] = item
    return {item: place for place, item in places.items()}
