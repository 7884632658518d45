"""The `evaluate` command: is a denoiser better than doing nothing?"""

from __future__ import annotations

from pathlib import Path

import click

from audiodae.cli.words import NAME, FilledPath, device_option

_FOLDER = FilledPath(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("noisy", type=_FOLDER, metavar="NOISY_DIR")
@click.argument("clean", type=_FOLDER, metavar="CLEAN_DIR")
@click.option(
    "--model",
    "models",
    multiple=True,
    type=NAME,
    metavar="NAME|FILE",
    help="Clean with this denoiser, or mask with this autoencoder; repeatable.",
)
@click.option(
    "--enhanced", type=_FOLDER, multiple=True, help="Folder of cleaned files; repeatable."
)
@click.option(
    "--json",
    "json_file",
    type=FilledPath(dir_okay=False, path_type=Path),
    help="Also write the figures of every clip.",
)
@click.option(
    "--dnsmos-every",
    type=click.IntRange(0),
    help="DNSMOS of every Nth clip; 0: of none.  [default: of all, where it is installed]",
)
@click.option("--limit", type=click.IntRange(1), help="Measure only the first N clips.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@device_option("cpu")
def evaluate(
    noisy: Path,
    clean: Path,
    models: tuple[str, ...],
    enhanced: tuple[Path, ...],
    json_file: Path | None,
    dnsmos_every: int | None,
    limit: int | None,
    jobs: int,
    device: str,
) -> None:
    """Measure cleaned speech against its clean original, with the noisy input as the first row.

    Files are paired by their path below the two folders. Without --model and --enhanced the model for
    their sample rate is measured (that of the first pair).
    """
    from audiodae.files.audio import info
    from audiodae.measure.evaluate import enhancer, run
    from audiodae.measure.pairs import find_pairs
    from audiodae.nets.checkpoint import model_for

    names = models
    if not names and not enhanced:
        names = (model_for(info(find_pairs(noisy, clean, 1)[0].noisy).sample_rate),)
    result = run(
        noisy,
        clean,
        enhanced=enhanced,
        models={name: enhancer(name, device) for name in names},
        json_file=json_file,
        dnsmos_every=dnsmos_every,
        limit=limit,
        jobs=jobs,
    )
    click.echo(result.table())
