"""The `clean` command: words on the command line become options, a plan, and a run."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from audiodae.cli.words import (
    NAME,
    OVERWRITE,
    PIPE,
    QUIET,
    FilledPath,
    check_plotting,
    check_report,
    device_option,
    refuse,
    refuse_dashes,
)
from audiodae.cores import one_thread
from audiodae.errors import AudiodaeError
from audiodae.nets.device import cleaning_device
from audiodae.recordings.options import PRESETS, Options
from audiodae.recordings.progress import bar, say, show, tell
from audiodae.signals import heeding_signals
from audiodae.streaming.settings import Link

if TYPE_CHECKING:
    from audiodae.recordings.job import Job
    from audiodae.recordings.report import FileReport

_FOLDER = FilledPath(file_okay=False, path_type=Path)
_LINK = click.Choice(get_args(Link))
_FOR_FILES = (
    *("target", "container", "subtype", "residue", "plot", "vad", "report", "jobs"),
    *("skip_existing", "overwrite", "dry_run"),
)
_PATIENCE_SECONDS = 2.0  # with whoever reads what is piped on
_OF_RAW_PCM = ("sample_rate", "input_channels")
_FOR_PIPES = (*_OF_RAW_PCM, "encoding")


def _show_tracebacks(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        import logging

        logging.basicConfig(level=logging.DEBUG)
        ctx.find_root().params["debug"] = True


@click.command(short_help="Clean files, folders or a pipe.")
@click.argument("sources", nargs=-1, required=True, type=NAME, metavar="SRC...")
@click.option(
    "-o",
    "--output",
    "target",
    type=NAME,
    metavar="DST",
    help="Folder for the outputs, or the output of a single file.  [default: beside each SRC, "
    "named NAME-clean]",
)
@click.option(
    "--model",
    type=NAME,
    metavar="NAME|FILE",
    help="See `audiodae models`.  [default: by sample rate, speech-48k from 32 kHz on]",
)
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    default="voice",
    show_default=True,
    help="voice: for people, as clean as can be. asr: for speech recognition, a floor is left.",
)
@click.option("--mix", type=float, help="0 (original) to 1 (cleaned).  [default: preset's]")
@click.option(
    "--attenuation-limit",
    "attenuation_limit_db",
    type=float,
    metavar="DB",
    help="Turn nothing down by more than this.  [default: preset's]",
)
@click.option(
    "--link",
    type=_LINK,
    default="linked",
    show_default=True,
    help="linked: one mask, so the stereo image stays. each: every channel on its own. "
    "mid: the cleaned mean on all.",
)
# As it was called before, when it meant something else than the --channels of `live`.
@click.option("--channels", "link_as_channels", type=_LINK, hidden=True)
@click.option("--format", "container", metavar="FORMAT", help="wav, flac, mp3, ogg, opus, aiff...")
@click.option("--subtype", metavar="SUBTYPE", help="PCM_16, PCM_24, FLOAT, VORBIS...")
@click.option("--residue", type=_FOLDER, help="Also write what was removed into this folder.")
@click.option("--plot", type=_FOLDER, help="Also draw before and after into this folder (PNG).")
@click.option(
    "--vad",
    type=FilledPath(path_type=Path),
    metavar="FOLDER|FILE.json",
    help="Also write the speech probability over time (JSON).",
)
@click.option(
    "--report", type=FilledPath(dir_okay=False, path_type=Path), help="Write a report (.json)."
)
@device_option("auto", chosen=False)  # by the engine, too
@click.option(
    "--engine",
    type=click.Choice(["auto", "onnx", "torch"]),
    default="auto",
    show_default=True,
    help="Runtime to use. auto: ONNX Runtime on the CPU if it can, else PyTorch.",
)
@click.option(
    "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes on a CPU."
)
@click.option("--skip-existing", is_flag=True, help="Resume: leave out what is done and unchanged.")
@OVERWRITE
@click.option("--dry-run", is_flag=True, help="Show what would be done and do nothing.")
@click.option("--rate", "sample_rate", type=int, metavar="HZ", help="For `-`: rate of raw PCM.")
@click.option("--encoding", metavar="s16|s24|s32|f32", help="For `-`: encoding of raw PCM.")
@click.option(
    "--input-channels", type=click.IntRange(1), help="For `-`: channels of raw PCM.  [default: 1]"
)
@click.option("-v", "--verbose", is_flag=True, help="A line for every file.")
@QUIET
@click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    callback=_show_tracebacks,
    help="Show the traceback of an error.",
)
@click.pass_context
def clean(ctx: click.Context, /, sources: tuple[str, ...], **given: Any) -> None:
    """Remove noise from speech recordings.

    SRC is a file, a folder (with all below it; the tree is mirrored), a quoted glob pattern, or `-`
    for a live stream from standard input to standard output: WAV, or raw PCM with --rate and
    --encoding. Rate, channels, length, format and common tags of a recording stay as they are.

    \b
    audiodae clean interview.wav
    audiodae clean recordings/ -o cleaned/ --jobs 4
    audiodae clean 'recordings/**/*.mp3' -o cleaned/ --format flac
    arecord -f S16_LE -r 16000 -t wav | audiodae clean - | aplay
    """
    if given["quiet"] and given["verbose"]:
        raise click.UsageError("--quiet and --verbose are opposites: give one of them.")
    preset = PRESETS[given["preset"]]
    limit = given["attenuation_limit_db"]
    options = Options(
        mix=preset.mix if given["mix"] is None else given["mix"],
        attenuation_limit_db=preset.attenuation_limit_db if limit is None else limit,
        link=given["link_as_channels"] or given["link"],
        container=given["container"],
        subtype=given["subtype"],
        residue=given["residue"],
        plot=given["plot"],
        vad=given["vad"],
        overwrite=given["overwrite"],
        skip_existing=given["skip_existing"],
    )
    if PIPE in sources:
        said_twice = {"target"} if given["target"] == PIPE else set()  # it goes there anyway
        refuse(
            ctx,
            set(_FOR_FILES) - said_twice,
            f"`{PIPE}` goes to standard output; this is for files:",
        )
        if len(sources) > 1:
            raise click.UsageError("`-` cannot be combined with other sources.")
        if given["encoding"] is None:
            refuse(
                ctx,
                _OF_RAW_PCM,
                "A WAV stream carries this itself; for raw PCM also give --encoding:",
            )
        _clean_pipe(options, given)
        return
    refuse_dashes(ctx, ("target", "residue", "plot", "vad"))
    refuse(ctx, _FOR_PIPES, "This is for `-` (standard input) only:")
    if not _clean_files(sources, options, given):
        ctx.exit(1)


def _load(given: dict[str, Any]) -> Any:
    from audiodae.api import load
    from audiodae.nets.checkpoint import DEFAULT_MODEL, is_exported

    model = DEFAULT_MODEL if given["model"] is None else given["model"]
    engine, device = given["engine"], given["device"]
    if device == "auto":
        for_cpu = engine == "onnx" or is_exported(model)
        device = "cpu" if for_cpu else cleaning_device(device)
    denoiser = load(model, device, engine)
    one_thread()
    return denoiser


def _clean_pipe(options: Options, given: dict[str, Any]) -> None:
    if sys.stdin is None or sys.stdout is None:  # a shell's `<&-` and `>&-`
        raise click.UsageError("`-` needs standard input and output, and one of them is closed.")
    if sys.stdin.isatty():
        raise click.UsageError("`-` reads sound from standard input: pipe some into it.")
    if sys.stdout.isatty():
        raise click.UsageError("`-` writes sound to standard output: pipe it on, or use `> FILE`.")
    from audiodae.recordings.pipe_clean import clean_pipe

    denoiser = _load(given)
    with heeding_signals(_PATIENCE_SECONDS) as stop:
        warnings = clean_pipe(
            sys.stdin.buffer,
            sys.stdout.buffer,
            denoiser,
            options,
            encoding=given["encoding"],
            sample_rate=given["sample_rate"],
            channels=given["input_channels"] or 1,
            stop=stop,
        )
        for warning in warnings:
            click.echo(f"Warning: {warning}", err=True)
        if stop():
            raise KeyboardInterrupt


def _clean_files(sources: tuple[str, ...], options: Options, given: dict[str, Any]) -> bool:
    """Plan, clean, report; whether all went well."""
    from audiodae.recordings.plan import plan
    from audiodae.recordings.report import explain, summary, write_report

    report_path: Path | None = given["report"]
    if report_path is not None:
        if given["dry_run"]:
            raise click.UsageError("--report tells what was done: leave it out with --dry-run.")
        check_report(report_path, options.overwrite)
    if options.plot is not None:
        check_plotting()
    denoiser: Any = None
    marks: Callable[[Path], str] | None = None
    if options.skip_existing:  # only then the plan depends on the weights, which take a second
        from audiodae.recordings.clean import fingerprints

        denoiser = _load(given)
        marks = fingerprints(denoiser, options)
    jobs = plan(sources, given["target"], options, marks)
    if given["dry_run"]:
        from audiodae.recordings.dry_run import dry_run

        return show(dry_run(jobs, options))
    if report_path is not None and any(
        report_path.resolve() == path.resolve() for job in jobs for path in job.outputs
    ):
        raise click.UsageError(f"--report {report_path} is the name of an output: choose another.")
    began = time.perf_counter()
    reports: list[FileReport] = []
    try:
        with heeding_signals() as stopped:
            for report in _run(jobs, denoiser, options, given, stopped):
                reports.append(report)
                tell(report, given["verbose"])
    except (KeyboardInterrupt, SystemExit):
        left = len(jobs) - len(reports)
        say(f"{left} of {len(jobs)} recordings are left; --skip-existing goes on with them.")
        raise
    finally:
        elapsed = time.perf_counter() - began
        told = True
        if report_path is not None:
            try:
                write_report(report_path, reports, options, given["model"], elapsed)
            except (AudiodaeError, OSError) as error:  # failures and signals have the last word
                say(f"Error: The report is missing: {explain(error, report_path)}")
                told = False
    failed = [report for report in reports if report.status == "failed"]
    if not given["quiet"]:
        if len(reports) == 1 and not failed:
            say(f"{reports[0].source} -> {reports[0].target}")
        say(summary(reports, elapsed))
    if failed:
        say(f"{len(failed)} of {len(reports)} could not be cleaned:")
    for report in failed:
        say(f"  {report.reason}")
    return told and not failed


def _run(
    jobs: list[Job],
    denoiser: Any,
    options: Options,
    given: dict[str, Any],
    stopped: Callable[[], bool],
) -> Iterator[FileReport]:
    from audiodae.recordings.report import not_done

    todo = [job for job in jobs if job.action == "clean"]
    yield from [not_done(job) for job in jobs if job.action != "clean"]
    if not todo:
        return
    from audiodae.recordings.clean import carry_out

    denoiser = denoiser or _load(given)
    workers = given["jobs"]
    if workers > 1 and str(denoiser.device) != "cpu":
        say("--jobs is for the CPU: on a GPU, files go through the model side by side.")
        workers = 1
    with bar(todo, given["quiet"], stopped) as shown:
        yield from carry_out(
            todo, denoiser, options, workers=workers, progress=shown.update, stopped=stopped
        )
