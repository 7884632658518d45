"""Cleaning while it is heard: a device's callback on one side, a worker on the other, never late.

Every sample has a number. The callback writes what it captures into a ring under its number and
plays, from a second ring, the number that is `delay` behind: the delay is fixed, whatever happens.
Where the worker has not cleaned that sample in time, the uncleaned one of the same moment is
played and counted; what is cleaned too late is never played late. No lock is taken by the callback.

    device -> heard (ring) -> worker: Streamer -> cleaned (ring) -> device
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from audiodae.errors import AudiodaeError
from audiodae.sound.layout import sound

if TYPE_CHECKING:
    from audiodae.streaming.stream import Streamer

Samples = npt.NDArray[np.float32]

LONGEST_BACKLOG_SECONDS = 0.5
"""What waits longer than this for the worker is dropped, and the stream begins anew."""

_SILENCE_DB = -120.0


class Ring:
    """The last `capacity` samples of a signal, found by their number; `(samples, channels)`."""

    def __init__(self, capacity: int, channels: int) -> None:
        self._data = np.zeros((capacity, channels), np.float32)

    @property
    def capacity(self) -> int:
        return len(self._data)

    def write(self, first: int, samples: Samples) -> None:
        """Put samples under the numbers from `first` on, over those of `capacity` before."""
        at = first % len(self._data)
        head = min(len(samples), len(self._data) - at)
        self._data[at : at + head] = samples[:head]
        self._data[: len(samples) - head] = samples[head:]

    def read(self, first: int, count: int) -> Samples:
        """A copy of the samples from number `first` on; zeros under numbers never written."""
        at = first % len(self._data)
        head = min(count, len(self._data) - at)
        return np.concatenate([self._data[at : at + head], self._data[: count - head]])


@dataclass(frozen=True)
class Tally:
    """Sums since the start, of all channels: a pair of tallies tells what happened in between."""

    cleaned_samples: int = 0
    energy_in: float = 0.0
    energy_out: float = 0.0
    busy_seconds: float = 0.0
    late_blocks: int = 0
    late_samples: int = 0
    dropped_samples: int = 0
    xruns: int = 0
    captured_samples: int = 0


@dataclass(frozen=True)
class Meter:
    """What there is to see of a stretch of time. `load` is 1 where cleaning takes all the time."""

    level_in_db: float
    level_out_db: float
    attenuation_db: float
    load: float


class Live:
    """Runs a `Streamer` between a device's captured and played blocks.

    The device layer calls `exchange` from its own thread for every block; `start` begins a worker
    that cleans, `stop` ends it. A sample is played `delay` samples after the moment it was captured
    in: the stream's latency, a block, and the headroom. The worker has a block's time and the
    headroom to clean a block; devices that hand out two blocks at once need a block of headroom.

    Args:
        stream: a fresh stream with a batch of 1; its settings may change while it runs.
        block_length: samples the device exchanges at a time. Longer blocks than this are
            played, but come late for the worker.
        headroom: more samples of delay, against lateness.
    """

    def __init__(self, stream: Streamer, block_length: int, headroom: int = 0) -> None:
        if block_length < 1 or headroom < 0:
            raise AudiodaeError(
                f"The block is {block_length} samples and the headroom {headroom}; a block has at least one, "
                "and the headroom none or more."
            )
        self.stream = stream
        self.block_length = block_length
        self.delay = stream.latency + block_length + headroom
        self.error: Exception | None = None
        self._strength, self._bypassed = stream.mix, False
        # Devices may hand out two long blocks at once, and a third may come meanwhile.
        seconds = int(LONGEST_BACKLOG_SECONDS * stream.sample_rate)
        self._longest_backlog = max(seconds, 3 * block_length)
        capacity = 2 * (self._longest_backlog + self.delay + block_length)
        self._heard = Ring(capacity, stream.channels)
        self._cleaned = Ring(capacity, stream.channels)
        # Each of these is written by one thread, in one step.
        self._captured = 0
        self._given_up = 0
        self._ready = (0, 0)  # numbers of the cleaned samples that are there: from, until
        self._taken = 0
        self._worked = Tally()
        self._missed = (0, 0, 0)  # blocks, samples, xruns
        self._work = SimpleQueue[bool]()
        self._thread: Thread | None = None

    # -------------------------------------------------------------------------- the device's thread

    def exchange(self, captured: Samples, played: Samples, xrun: bool = False) -> None:
        """Take a block `(samples, channels)` and fill another of the same shape with what to play."""
        most = self._longest_backlog
        if len(captured) > most:  # more than the rings are made for
            for start in range(0, len(captured), most):
                part = slice(start, start + most)
                self.exchange(captured[part], played[part], xrun and start == 0)
            return
        number = self._captured
        self._heard.write(number, captured)
        self._captured = number + len(captured)
        if self._work.empty():
            self._work.put(True)
        self._play(number - self.delay, played)
        if xrun:
            blocks, samples, xruns = self._missed
            self._missed = (blocks, samples, xruns + 1)

    def _play(self, first: int, played: Samples) -> None:
        end = first + len(played)
        ready, until = self._ready
        begin, stop = max(first, ready), min(end, until)
        if stop - begin < len(played):
            played[:] = sound(self._heard.read(first, len(played)))[0]
            missing = max(0, end) - max(0, first) - max(0, stop - begin)
            if missing:
                blocks, samples, xruns = self._missed
                self._missed = (blocks + 1, samples + missing, xruns)
        if stop > begin:
            played[begin - first : stop - first] = self._cleaned.read(begin, stop - begin)

    # -------------------------------------------------------------------------- the worker's thread

    def start(self) -> None:
        """Begin to clean, in a thread."""
        warm_up = np.zeros((self.stream.channels, self._longest_backlog), np.float32)
        self.stream.feed(warm_up)  # the first calls are slow, and nobody shall hear it
        self.stream.reset()
        self._taken = self._captured
        self._ready = (self._captured, self._captured)
        self._thread = Thread(target=self._run, name="audiodae-live", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the worker. Raises what it failed with, if it did."""
        if self._thread is not None:
            self._work.put(False)
            self._thread.join()
            self._thread = None
        if isinstance(self.error, AudiodaeError):
            raise self.error
        if self.error is not None:
            raise AudiodaeError(f"The cleaning failed: {self.error!r}.") from self.error

    def _run(self) -> None:
        try:
            while self._work.get():
                while self.clean_next():
                    pass
        except Exception as error:  # the callback goes on with uncleaned sound
            self.error = error

    def clean_next(self) -> bool:
        """Clean up to a block of what has been captured; whether there was anything."""
        waiting = self._captured - self._taken
        if waiting > self._longest_backlog:
            self._give_up()
            return True
        if waiting == 0:
            return False
        count = min(waiting, self.block_length)
        samples = self._heard.read(self._taken, count)
        began = time.perf_counter()
        clean = self.stream.feed(np.ascontiguousarray(samples.T)).T
        busy = time.perf_counter() - began
        ready, until = self._ready
        self._cleaned.write(until, clean)
        self._ready = (ready, until + len(clean))
        self._taken += count
        before = self._worked
        self._worked = Tally(
            cleaned_samples=before.cleaned_samples + count,
            energy_in=before.energy_in + float(np.square(sound(samples)[0]).sum()),
            energy_out=before.energy_out + float(np.square(clean).sum()),
            busy_seconds=before.busy_seconds + busy,
        )
        return True

    def _give_up(self) -> None:
        """Far behind: drop what waits and begin anew with what is captured next."""
        self.stream.reset()
        now = self._captured
        self._given_up += now - self._taken
        self._taken = now
        self._ready = (now, now)

    # ---------------------------------------------------------------------------- whoever looks on

    @property
    def tally(self) -> Tally:
        """What happened since the start."""
        worked, (blocks, samples, xruns) = self._worked, self._missed
        return Tally(
            worked.cleaned_samples,
            worked.energy_in,
            worked.energy_out,
            worked.busy_seconds,
            blocks,
            samples,
            self._given_up,
            xruns,
            self._captured,
        )

    def meter(self, before: Tally, after: Tally) -> Meter:
        """What happened between two tallies."""
        count = max(1, after.cleaned_samples - before.cleaned_samples)
        level_in = _level_db((after.energy_in - before.energy_in) / count / self.stream.channels)
        level_out = _level_db((after.energy_out - before.energy_out) / count / self.stream.channels)
        busy = after.busy_seconds - before.busy_seconds
        return Meter(
            level_in,
            level_out,
            max(0.0, level_in - level_out),
            busy * self.stream.sample_rate / count,
        )

    @property
    def strength(self) -> float:
        """Share of the cleaned sound, 0 to 1, whenever it is not bypassed."""
        return self._strength

    @strength.setter
    def strength(self, strength: float) -> None:
        self._strength = min(1.0, max(0.0, round(strength, 3)))
        self.bypassed = self._bypassed  # it stays, also over a strength of 0

    @property
    def bypassed(self) -> bool:
        """Whether the sound goes through as it came; with the same delay, so it changes smoothly."""
        return self._bypassed

    @bypassed.setter
    def bypassed(self, bypassed: bool) -> None:
        self._bypassed = bypassed
        self.stream.mix = 0.0 if bypassed else self._strength


def _level_db(power: float) -> float:
    return max(_SILENCE_DB, 10.0 * math.log10(power)) if power > 0.0 else _SILENCE_DB
