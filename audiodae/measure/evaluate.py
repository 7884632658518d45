"""Measure denoisers on a folder of noisy recordings and their clean originals.

The noisy recording itself is always the first row: a denoiser that does not beat it does harm.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from audiodae.api import load
from audiodae.errors import AudiodaeError
from audiodae.files.atomic import AtomicFile
from audiodae.installed import is_installed
from audiodae.measure import metrics
from audiodae.measure.executors import measuring, told_of_a_death
from audiodae.measure.pairs import (
    Pair,
    Samples,
    check_alike,
    checked,
    find_pairs,
    matching,
    read_like,
    read_pair,
)
from audiodae.measure.scores import JSON_KEYS, NOISY, Evaluation, Row
from audiodae.measure.spectral import log_spectral_distance_db
from audiodae.nets.checkpoint import (
    DEFAULT_MODEL,
    FULL_BAND_RATE,
    describe,
    is_exported,
    load_autoencoder,
)
from audiodae.recordings.report import is_report
from audiodae.sound.resample import resample

Enhancer = Callable[[Samples, int], npt.NDArray[np.floating]]
"""Noisy `(samples,)` float32, sample rate -> cleaned `(samples,)`; `audiodae.load()` gives one."""

FULL_BAND_ABOVE_HZ = 8_000.0
_Output = tuple[str, Samples, dict[str, float]]  # of which system, and what else is known of it


def evaluate(
    noisy_dir: Path | str,
    clean_dir: Path | str,
    *,
    enhancers: Mapping[str, Enhancer] | None = None,
    enhanced: Mapping[str, Path | str] | None = None,
    dnsmos_every: int | None = None,
    limit: int | None = None,
    jobs: int = 1,
) -> Evaluation:
    """Measure the noisy recordings, every enhancer, and every folder of already enhanced files.

    `enhancers` maps names to callables. Each is warmed up, then timed on one thread:
    `real_time_factor` is CPU seconds of this process per second of audio. `enhanced` maps names
    to folders laid out like `noisy_dir`. DNSMOS, which is slow, is taken of every
    `dnsmos_every`-th clip and never if that is 0; None means all clips, if its model is
    installed. `limit` takes only the first pairs. `jobs` processes measure; the enhancers always
    run in this one.

    Raises `AudiodaeError` for files that do not pair up in name, sample rate or length, for
    results that are not finite or not as long as what went in, when a package for measuring is
    not installed, and when a process that measures is killed.
    """
    systems = [NOISY, *(enhancers or {}), *(enhanced or {})]
    if len(set(systems)) < len(systems):
        raise AudiodaeError(
            f"The systems to compare are named {', '.join(systems)}; every name may occur only "
            f"once (and '{NOISY}' is the input itself): rename one."
        )
    _refuse_below("limit", limit, 1)
    _refuse_below("jobs", jobs, 1)
    _refuse_below("dnsmos_every", dnsmos_every, 0)
    pairs = find_pairs(noisy_dir, clean_dir, limit)
    files = {
        system: matching([pair.name for pair in pairs], folder, noisy_dir)
        for system, folder in (enhanced or {}).items()
    }
    every, notes = _dnsmos_plan(dnsmos_every)
    for pair in pairs:  # before any work
        check_alike(pair.noisy, [pair.clean, *(of_name[pair.name] for of_name in files.values())])
    rows: list[tuple[str, Pair, float, dict[str, float], Future[dict[str, float]]]] = []
    waiting: deque[Future[dict[str, float]]] = deque()
    warm: set[str] = set()
    # tqdm's None: a bar on the terminal, and nothing at all where stderr is a file or a pipe.
    bar = tqdm(total=len(pairs) * len(systems), unit="clip", disable=None)
    with bar, _one_thread(), told_of_a_death(), measuring(min(jobs, len(pairs))) as pool:
        for index, pair in enumerate(pairs):
            noisy, clean, sample_rate = read_pair(pair)
            seconds = noisy.size / sample_rate
            with_dnsmos = every > 0 and index % every == 0
            outputs: list[_Output] = [(NOISY, noisy, {})]
            outputs += _enhanced(pair, noisy, sample_rate, enhancers or {}, warm)
            for system, of_name in files.items():
                output = read_like(of_name[pair.name], noisy, sample_rate, pair.noisy)
                outputs.append((system, output, {}))
            for system, output, timing in outputs:
                scores = pool.submit(measure, output, noisy, clean, sample_rate, with_dnsmos)
                rows.append((system, pair, seconds, timing, scores))
                waiting.append(scores)
                if len(waiting) > 2 * jobs:  # audio waiting to be measured is memory
                    waiting.popleft().result()
                bar.update()
        done = [
            Row(system, pair.name, pair.snr_db, seconds, {**scores.result(), **timing})
            for system, pair, seconds, timing, scores in rows
        ]
    return Evaluation(done, notes + _too_little_speech(done))


def _enhanced(
    pair: Pair,
    noisy: Samples,
    sample_rate: int,
    enhancers: Mapping[str, Enhancer],
    warm: set[str],
) -> Iterator[_Output]:
    """What each enhancer makes of a recording, and how long it took; those not `warm` are warmed up."""
    for system, enhancer in enhancers.items():
        if system not in warm:
            enhancer(noisy.copy(), sample_rate)
            warm.add(system)
        given = noisy.copy()  # so that one that works in place spoils nobody's input
        began = time.process_time()
        output = enhancer(given, sample_rate)
        rtf = (time.process_time() - began) / (noisy.size / sample_rate)
        output = checked(output, noisy, f"What {system} made of {pair.name}")
        yield system, output, {"real_time_factor": rtf}


def measure(
    estimate: Samples, noisy: Samples, clean: Samples, sample_rate: int, with_dnsmos: bool
) -> dict[str, float]:
    """All scores of one clip, by the names of `scores.COLUMNS`; NaN is what could not be had."""
    values = {
        "pesq_wb": metrics.pesq_wb(estimate, clean, sample_rate),
        "stoi": metrics.stoi(estimate, clean, sample_rate),
        "si_sdr_db": metrics.si_sdr_db(estimate, clean),
        "speech_attenuation_db": metrics.speech_attenuation_db(estimate, clean, sample_rate),
        "noise_attenuation_db": metrics.noise_attenuation_db(estimate, noisy, clean, sample_rate),
    }
    if sample_rate >= FULL_BAND_RATE:
        values["lsd_above_8k_db"] = log_spectral_distance_db(
            estimate, clean, sample_rate, FULL_BAND_ABOVE_HZ
        )
    if with_dnsmos:
        heard = metrics.dnsmos(estimate, sample_rate)
        values |= {f"dnsmos_{part}": value for part, value in heard._asdict().items()}
    return values


def run(
    noisy_dir: Path | str,
    clean_dir: Path | str,
    *,
    enhanced: Sequence[Path | str] = (),
    models: Mapping[str, Enhancer] | None = None,
    json_file: Path | str | None = None,
    dnsmos_every: int | None = None,
    limit: int | None = None,
    jobs: int = 1,
) -> Evaluation:
    """`evaluate` as the command line wants it: folders name themselves, JSON goes to a file.

    `models` maps names to loaded denoisers. Raises `AudiodaeError` as `evaluate` does, and before
    any work when `json_file` cannot be written or something else is there.
    """
    if json_file is not None:
        _refuse_place(Path(json_file))
    # Opened before the work, so that a place that cannot be written is known at once.
    report = None if json_file is None else AtomicFile(Path(json_file))
    try:
        names = [Path(folder).resolve().name for folder in enhanced]
        if len({NOISY, *(models or {}), *names}) < 1 + len(models or {}) + len(names):
            names = [str(folder) for folder in enhanced]  # two folders of one name
        evaluation = evaluate(
            noisy_dir,
            clean_dir,
            enhancers=models,
            enhanced=dict(zip(names, enhanced, strict=True)),
            dnsmos_every=dnsmos_every,
            limit=limit,
            jobs=jobs,
        )
        if report is not None:
            report.write((evaluation.to_json() + "\n").encode())
            report.commit()
    finally:
        if report is not None:
            report.discard()
    return evaluation


def enhancer(name_or_path: str, device: str = "cpu") -> Enhancer:
    """A model as something to measure: a denoiser as it is, an autoencoder by what it cannot rebuild.

    See `Autoencoder.masked` for the second. Raises as `audiodae.load`.
    """
    # Without a description of their own, but denoisers for sure.
    denoises = name_or_path == DEFAULT_MODEL or is_exported(name_or_path)
    if denoises or describe(name_or_path).get("kind") != "autoencoder":
        return load(name_or_path, device)
    net = load_autoencoder(name_or_path, device)

    @torch.inference_mode()
    def masked(noisy: Samples, sample_rate: int) -> npt.NDArray[np.floating]:
        given = resample(noisy, sample_rate, net.sample_rate)
        sound = net.masked(torch.from_numpy(given)[None].to(net.device))[0].cpu().numpy()
        return resample(sound, net.sample_rate, sample_rate)[..., : noisy.shape[-1]]

    return masked


def _dnsmos_plan(every: int | None) -> tuple[int, list[str]]:
    if every is not None:
        return every, [f"DNSMOS: of one clip in {every}."] if every > 1 else []
    if is_installed("speechmos") and is_installed("onnxruntime"):
        return 1, []
    return 0, ['DNSMOS: left out, its model is not installed (pip install "audiodae[dnsmos]").']


def _too_little_speech(rows: list[Row]) -> list[str]:
    value = metrics.TOO_LITTLE_SPEECH_STOI
    count = sum(row.system == NOISY and row.values["stoi"] == value for row in rows)
    return [f"STOI: clips with too little speech for it: {count}, as {value:.5f}."] if count else []


def _refuse_place(json_file: Path) -> None:
    wanted = "choose another name, one that ends in .json."
    if json_file.suffix.lower() != ".json":
        raise AudiodaeError(
            f"The figures would be written to {json_file}, but they are JSON: {wanted}"
        )
    there = os.path.lexists(json_file) and not json_file.is_dir()
    if there and not is_report(json_file, JSON_KEYS):
        raise AudiodaeError(
            f"The figures are not written to {json_file}: a file of that name exists already, and holds "
            f"no figures of audiodae: {wanted}"
        )


def _refuse_below(name: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise AudiodaeError(f"{name} is {value}; {least} or more is wanted.")


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
