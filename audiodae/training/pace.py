"""How fast a training goes, and how long it will take: a part of the line that it says now and then."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

_LINE_SECONDS = 10.0


class Pace:
    """Counts from where a training begins or goes on, with `audio_seconds` heard until then."""

    def __init__(self, audio_seconds: float) -> None:
        self._audio_seconds = audio_seconds
        self._began = self._said = time.monotonic()
        self._waited = 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what only waits for data."""
        asked = time.monotonic()
        yield
        self._waited += time.monotonic() - asked

    def is_due(self) -> bool:
        """Whether it is time for the next line."""
        now = time.monotonic()
        if now - self._said <= _LINE_SECONDS:
            return False
        self._said = now
        return True

    def told(self, audio_seconds: float, left_seconds: float) -> str:
        """Seconds of audio a second, the share of waiting, hours heard in all, and the time that what is left
        to hear will take: a step may hear far more in one stage than in another.
        """
        passed = time.monotonic() - self._began
        speed = (audio_seconds - self._audio_seconds) / passed
        minutes = int(left_seconds / speed // 60)
        return (
            f"{speed:.0f} s/s  {100 * self._waited / passed:.0f} % waiting for data  "
            f"{audio_seconds / 3600:.1f} h heard  ETA {minutes // 60}:{minutes % 60:02d} h"
        )
