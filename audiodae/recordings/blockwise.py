"""Recordings through a `Streamer`, block by block, in memory that does not grow with their length.

A file alone and a batch of files on a GPU go through the same lines: one file is a batch of one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from audiodae.recordings.job import Job
from audiodae.recordings.options import Options
from audiodae.recordings.report import FileReport
from audiodae.recordings.track import Track
from audiodae.streaming.net_of import at_rate
from audiodae.streaming.stream import Streamer
from audiodae.streaming.voice import VoiceTrack
from audiodae.streaming.whole import OFFLINE_BLOCK_FRAMES

BLOCK_SECONDS = 4.0
BLOCK_SAMPLES = 1 << 20  # of all files and channels together, whatever the rate

Progress = Callable[[float], None]
"""Called with the seconds of audio cleaned since the last call."""


def clean_together(
    jobs: Sequence[Job],
    denoiser: Any,
    options: Options,
    progress: Progress | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> list[FileReport]:
    """Clean recordings of one sample rate and channel count side by side; a report for each.

    What goes wrong with one fails that one. Between blocks `stopped()` is asked, and a yes raises
    KeyboardInterrupt; whatever is raised, no unfinished file is left under a final name.
    """
    began = time.perf_counter()
    tracks: list[Track] = []
    try:
        for job in jobs:
            tracks.append(Track(job, options))
        with_sound = [track for track in tracks if not track.failure]
        if with_sound:
            try:
                _stream(with_sound, denoiser, options, progress, stopped)
            except Exception as error:  # of the net or the device: no one file is to blame
                for track in with_sound:
                    track.fail(error)
        for track in tracks:
            track.finish()
            track.draw()
    except BaseException as error:
        for track in tracks:
            track.fail(error)
        raise
    elapsed = time.perf_counter() - began
    total = sum(track.seconds for track in tracks)
    return [track.report(elapsed * track.seconds / total if total else elapsed) for track in tracks]


def _stream(
    tracks: list[Track],
    denoiser: Any,
    options: Options,
    progress: Progress | None,
    stopped: Callable[[], bool],
) -> None:
    sample_rate, channels = tracks[0].info.sample_rate, tracks[0].info.channels
    denoiser = at_rate(denoiser, sample_rate)
    for track in tracks:
        track.model = getattr(denoiser, "name", "")
    streamer = Streamer(
        denoiser,
        sample_rate=sample_rate,
        batch=len(tracks),
        channels=channels,
        link=options.link,
        mix=options.mix,
        attenuation_limit_db=options.attenuation_limit_db,
        block_frames=OFFLINE_BLOCK_FRAMES,
    )
    at_most = max(1, BLOCK_SAMPLES // (len(tracks) * channels))
    length = min(round(BLOCK_SECONDS * sample_rate), at_most)
    heard = False
    while True:
        if stopped():
            raise KeyboardInterrupt
        blocks = [track.read(length) for track in tracks]
        longest = max(block.shape[1] for block in blocks)
        if longest == 0:
            break
        heard = True
        together = np.zeros((len(tracks), channels, longest), np.float32)
        for row, block in zip(together, blocks, strict=True):
            row[:, : block.shape[1]] = block  # a track that has ended goes on in silence
        for track, cleaned in zip(tracks, streamer.feed(together), strict=True):
            track.write(cleaned)
        _hear(tracks, options, streamer)
        if progress:
            progress(sum(block.shape[1] for block in blocks) / sample_rate)
    if heard:
        for track, cleaned in zip(tracks, streamer.flush(), strict=True):
            track.write(cleaned)
        _hear(tracks, options, streamer)


def _hear(tracks: list[Track], options: Options, streamer: Streamer) -> None:
    if options.vad is None:
        return
    for track, probability in zip(tracks, streamer.speech_probability, strict=True):
        if track.voice is None:
            track.voice = VoiceTrack(streamer.sample_rate, streamer.hop_seconds)
        track.voice.add(probability[: track.written - track.voice.samples])
