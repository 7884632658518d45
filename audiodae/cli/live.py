"""The `live` command: from a microphone to a loudspeaker or a virtual microphone, with meters."""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from audiodae.cli.words import NAME
from audiodae.cores import one_thread
from audiodae.limits import MOST_CHANNELS

if TYPE_CHECKING:
    from audiodae.live.live import Live, Tally

_STEP = 0.1  # of the strength, for a key
_LOOK_SECONDS = 0.2
_HANG_SECONDS = 5.0  # sound servers may need some to begin; a device silent for longer is restarted
_SWITCH_SECONDS = 0.001  # Python's own 5 ms between threads are long beside a block


class _Range(click.FloatRange):
    """A range that NaN, which is neither below nor above it, is not in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


def _list_devices(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from audiodae.live.soundcard import list_devices

        click.echo(list_devices())
        ctx.exit()


@click.command()
@click.option("--input", "input_device", metavar="DEV", help="Name, part of it, or number.")
@click.option("--output", "output_device", metavar="DEV", help="Name, part of it, or number.")
@click.option(
    "--list-devices",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_devices,
    help="List the devices and exit.",
)
@click.option("--model", type=NAME, metavar="NAME|FILE", help="See `audiodae models`.")
@click.option(
    "--mix", type=_Range(0, 1), default=1.0, show_default=True, help="0 (original) to 1 (cleaned)."
)
@click.option(
    "--attenuation-limit",
    "attenuation_limit_db",
    type=_Range(0),
    metavar="DB",
    help="Turn nothing down by more than this.",
)
@click.option("--rate", "sample_rate", type=int, metavar="HZ", help="[default: the input device's]")
@click.option(
    "--channels",
    type=click.IntRange(1, MOST_CHANNELS),
    default=1,
    show_default=True,
    help="Of both devices.",
)
@click.option(
    "--block-ms",
    type=_Range(1, 500),
    default=10.0,
    show_default=True,
    help="Length of a block.",
)
@click.option(
    "--headroom-ms",
    type=_Range(0, 500),
    default=10.0,
    show_default=True,
    help="Extra delay, so that fewer blocks come late.",
)
@click.option("--duration", type=_Range(0), metavar="SECONDS", help="Stop after this long.")
def live(**given: Any) -> None:
    """Clean what a microphone hears while it hears it.

    Keys: b bypasses and comes back, + and - change the strength, q ends (so does Ctrl-C). Sound
    that was not cleaned in time is played uncleaned and counted as late; the delay never grows.

    \b
    audiodae live
    audiodae live --input pulse --output pulse --attenuation-limit 30
    """
    from audiodae.live.soundcard import Duplex, default_rate

    rate = given["sample_rate"]
    rate = default_rate(given["input_device"]) if rate is None else rate
    engine = _engine(rate, given)
    sys.setswitchinterval(_SWITCH_SECONDS)
    device = Duplex(
        given["input_device"],
        given["output_device"],
        sample_rate=rate,
        channels=given["channels"],
        block_length=engine.block_length,
        exchange=engine.exchange,
    )
    engine.start()
    restarts, came = 0, time.monotonic()
    try:
        with device, _heeding_sigterm():
            delay_ms = 1e3 * engine.delay / rate
            click.echo(
                f"Live at {rate} Hz, {delay_ms:.0f} ms behind (and about "
                f"{1e3 * device.latency_seconds:.0f} ms in the devices). b: bypass, +/-: strength, "
                "q: end.",
                err=True,
            )
            for before, after in _looks(engine, given["duration"]):
                if sys.stderr.isatty():
                    line = meter_line(engine, before, after, delay_ms)
                    click.echo("\r\033[K" + line, err=True, nl=False)
                if after.captured_samples > before.captured_samples:
                    came = time.monotonic()
                if not device.running or time.monotonic() > came + _HANG_SECONDS:
                    device.restart()
                    restarts, came = restarts + 1, time.monotonic()
    except KeyboardInterrupt:
        pass  # the usual way to end
    finally:
        try:
            engine.stop()
        finally:
            click.echo(summary(engine.tally, rate, restarts), err=True)


def _engine(rate: int, given: dict[str, Any]) -> Live:
    from audiodae.api import load
    from audiodae.live.live import Live

    denoiser = load(given["model"]) if given["model"] else load()
    one_thread()
    stream = denoiser.stream(
        sample_rate=rate,
        channels=given["channels"],
        mix=given["mix"],
        attenuation_limit_db=given["attenuation_limit_db"],
    )
    block_length = max(1, round(rate * given["block_ms"] / 1e3))
    return Live(stream, block_length, round(rate * given["headroom_ms"] / 1e3))


def _looks(engine: Live, duration: float | None) -> Iterator[tuple[Tally, Tally]]:
    """Heed the keys, and give the tallies of every look and the look before, until the end."""
    from audiodae.live.keyboard import keys

    until = None if duration is None else time.monotonic() + duration
    before = engine.tally
    with keys() as pressed:
        while engine.error is None and (until is None or time.monotonic() < until):
            looked = time.monotonic() + _LOOK_SECONDS
            while (left := looked - time.monotonic()) > 0 and (key := pressed(left)):
                if not press(engine, key):
                    return
            after = engine.tally
            yield before, after
            before = after


def press(engine: Live, key: str) -> bool:
    """Do what a key stands for; False if it ends the session."""
    if key == "b":
        engine.bypassed = not engine.bypassed
    elif key in "+=":
        engine.strength += _STEP
    elif key in "-_":
        engine.strength -= _STEP
    return key not in "qQ\x03\x04"


def meter_line(engine: Live, before: Tally, after: Tally, delay_ms: float) -> str:
    """The session in a line: levels, what is taken away, load, delay, and all that went wrong."""
    meter = engine.meter(before, after)
    strength = "bypass" if engine.bypassed else f"{100 * engine.strength:3.0f} %"
    return (
        f"in {meter.level_in_db:4.0f} dB  out {meter.level_out_db:4.0f} dB  "
        f"-{meter.attenuation_db:2.0f} dB  strength {strength}  load {100 * meter.load:3.0f} %  "
        f"delay {delay_ms:.0f} ms  late {after.late_blocks}  xruns {after.xruns}"
    )


def summary(tally: Tally, rate: int, restarts: int = 0) -> str:
    """What is said at the end."""
    return (
        f"\nCleaned {tally.cleaned_samples / rate:.1f} s; {tally.late_blocks} blocks late "
        f"({1e3 * tally.late_samples / rate:.0f} ms heard uncleaned), "
        f"{1e3 * tally.dropped_samples / rate:.0f} ms dropped, {tally.xruns} xruns and {restarts} restarts "
        "of the devices."
    )


@contextmanager
def _heeding_sigterm() -> Iterator[None]:
    """SIGTERM ends a session as Ctrl-C does."""

    def end(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
