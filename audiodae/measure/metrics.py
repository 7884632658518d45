"""What a cleaned recording is worth, measured against the clean one it should have become.

Signals are numpy arrays `(samples,)` of floats, aligned and of equal length; results are plain
floats. What cannot be had for a clip (PESQ of silence) is NaN, never a crash. No ratio in dB leaves
-100...100, so that one perfect or silent clip cannot make a mean infinite.

PESQ, STOI and DNSMOS are other people's packages, imported when first used. They come with
`pip install "audiodae[metrics,dnsmos]"`.
"""

from __future__ import annotations

import functools
import importlib
import math
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from audiodae.errors import AudiodaeError, AudioError
from audiodae.measure.judges import SPEECH_RATE, as_listeners, dnsmos_model
from audiodae.nets.features import erb_rate
from audiodae.nets.onnx_runtime import onnx_runtime
from audiodae.sound.levels import ACTIVE_FRAME_SECONDS, ACTIVE_RANGE_DB
from audiodae.sound.resample import resample
from audiodae.sound.stft import Stft

Signal = npt.NDArray[np.floating]

LIMIT_DB = 100.0
TOO_LITTLE_SPEECH_STOI = 1e-5
_ROUNDING = 1e-20  # of a power: what float64 may leave of a mean taken away
_EPSILON = 1e-30  # a power; only keeps logarithms and divisions finite
_PESQ_SECONDS = (
    15.0  # P.862 is for clips of 8-30 s, and its code overruns its tables beyond 50 utterances
)
_CELL_SECONDS = 0.032
_LOWEST_ERB = 2  # 54 Hz: below is rumble, not speech
_DNSMOS_SECONDS = 9.01
_BLOCK_FRAMES = 1024  # of spectra in memory at a time


class Dnsmos(NamedTuple):
    """DNSMOS P.835: how good the speech, the background, and the whole sound, each from 1 to 5."""

    sig: float
    bak: float
    ovrl: float


def si_sdr_db(estimate: Signal, reference: Signal) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al., 2019), means removed.

    The reference, scaled to fit the estimate best, against what remains. Of a silent estimate:
    -100, so that deleting everything is never a way out; of a silent reference: NaN.
    """
    x, s = pair(estimate, reference)
    before = _energy(s)
    x, s = x - x.mean() if x.size else x, s - s.mean() if s.size else s
    energy = _energy(s)
    if energy <= max(_EPSILON, _ROUNDING * before):  # a constant is silence
        return math.nan
    target = (float(x @ s) / energy) * s
    return _ratio_db(_energy(target), _energy(x - target))


def snr_db(estimate: Signal, reference: Signal) -> float:
    """Energy of the reference over that of the difference, in dB. Of a silent reference: NaN."""
    x, s = pair(estimate, reference)
    if _energy(s) <= _EPSILON:
        return math.nan
    return _ratio_db(_energy(s), _energy(x - s))


def stoi(estimate: Signal, reference: Signal, sample_rate: int) -> float:
    """Short-time objective intelligibility, 0 to 1 (Taal et al., 2011), by `pystoi` at 16 kHz.

    Where the reference has less than about 0.4 s of speech the value is `TOO_LITTLE_SPEECH_STOI`,
    pystoi's own answer, kept so that means agree with everybody else's; NaN where it is silent or
    has under 0.1 s. Raises `AudiodaeError` without `pystoi`.
    """
    package = _package("pystoi")
    x, s = _speech_band(estimate, reference, sample_rate)
    if s.size < SPEECH_RATE // 10 or _energy(s) <= _EPSILON:
        return math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # too little speech: the value says it
        return float(package.stoi(s, x, SPEECH_RATE))


def pesq_wb(estimate: Signal, reference: Signal, sample_rate: int) -> float:
    """Wide-band PESQ, 1.04 to 4.64 (ITU-T P.862.2), by the `pesq` package at 16 kHz.

    Clips over 15 s are cut into equal parts and the mean is given, of those in which the reference has
    speech. NaN where PESQ finds nothing to compare: no speech in the reference, or none in a part of the
    estimate where there should be, or less than a quarter of a second. Raises `AudiodaeError` without
    `pesq`.
    """
    package = _package("pesq")
    x, s = _speech_band(estimate, reference, sample_rate)
    parts = max(1, math.ceil(s.size / (SPEECH_RATE * _PESQ_SECONDS)))
    pairs = list(zip(np.array_split(x, parts), np.array_split(s, parts), strict=True))
    scores = [_pesq(package, x_part, s_part) for x_part, s_part in pairs]
    if any(
        # Parts without speech are left out, but not those where it was deleted.
        math.isnan(score) and not math.isnan(_pesq(package, s_part, s_part))
        for score, (_, s_part) in zip(scores, pairs, strict=True)
    ):
        return math.nan
    scores = [score for score in scores if not math.isnan(score)]
    return float(np.mean(scores)) if scores else math.nan


def _pesq(package: Any, x: npt.NDArray[np.float32], s: npt.NDArray[np.float32]) -> float:
    if _energy(s) <= _EPSILON or _energy(x) <= _EPSILON:
        return math.nan
    try:
        return float(package.pesq(SPEECH_RATE, s, x, "wb"))
    except (package.PesqError, ValueError):
        return math.nan  # no utterance found, or a clip too short


def dnsmos(signal: Signal, sample_rate: int) -> Dnsmos:
    """DNSMOS P.835 (Reddy et al., 2022), from the sound alone, by the model in `speechmos`.

    At 16 kHz; clips shorter than 9.01 s are repeated, longer ones heard in steps of one second.
    As in the original, also in what its rounding does: stretches that begin 7 to 23 s into a clip come
    out a sample too short and are passed over, so of 16 to 33 s it hears the first 16. NaN for an
    empty clip. Raises `AudiodaeError` without `speechmos` and `onnxruntime`.
    """
    session = _dnsmos_session()
    x = np.clip(_at_speech_rate(_checked(signal), sample_rate), -1.0, 1.0)
    if not x.size:
        return Dnsmos(math.nan, math.nan, math.nan)
    length = int(_DNSMOS_SECONDS * SPEECH_RATE)
    while x.size < length:
        x = np.concatenate((x, x))
    hops = int(x.size // SPEECH_RATE - _DNSMOS_SECONDS) + 1
    starts = [hop * SPEECH_RATE for hop in range(max(1, hops))]
    ends = [int((hop + _DNSMOS_SECONDS) * SPEECH_RATE) for hop in range(len(starts))]
    parts = [x[None, a:b] for a, b in zip(starts, ends, strict=True) if b - a >= length]
    raw = [session.run(None, {"input_1": part[:, :length]})[0][0] for part in parts]
    heard = [
        [as_listeners(value, which) for value, which in zip(values, Dnsmos._fields, strict=True)]
        for values in raw
    ]
    sig, bak, ovrl = np.mean(heard, axis=0)
    return Dnsmos(float(sig), float(bak), float(ovrl))


def speech_attenuation_db(estimate: Signal, reference: Signal, sample_rate: int) -> float:
    """How much of the speech was eaten, in dB: clean speech itself gives 0, at half amplitude 6.02.

    Both spectrograms (32 ms, half overlapping) are cut into cells of one frame by one ERB. In
    every cell where the clean speech S is within 35 dB of its loudest cell, the estimate's
    component along it has the gain g = Re<Y, S> / <S, S> (negative where the polarity is inverted,
    which counts as all lost). The mean of g, each cell weighted by
    the amplitude of its speech (so that quiet consonants count more than by their energy), turned
    into dB of loss. Noise left in the estimate is not along S and so averages out: the noisy
    recording gives about 0. Below 0: the speech became louder. NaN where the clean speech is
    silent or shorter than a frame.
    """
    x, s = pair(estimate, reference)
    cells = _cells(x, s, sample_rate)
    if cells is None:
        return math.nan
    along, power = cells
    active = power >= power.max() * 10.0 ** (-ACTIVE_RANGE_DB / 10.0)
    amplitude = power[active].sqrt()
    gain = float((along[active] / amplitude).sum() / amplitude.sum())
    return _clamp_db(-20.0 * math.log10(max(gain, _EPSILON)))


def noise_attenuation_db(
    estimate: Signal, noisy: Signal, reference: Signal, sample_rate: int
) -> float:
    """How much the noise fell where nobody speaks, in dB: the noisy recording itself gives 0.

    The energy of `noisy` over that of `estimate` in the pauses: the frames of 20 ms in which the
    clean reference is more than 35 dB below its loudest frame. NaN for a clip without pauses or
    without noise.
    """
    x, s = pair(estimate, reference)
    n, _ = pair(noisy, reference)
    frame = max(1, round(ACTIVE_FRAME_SECONDS * sample_rate))
    whole = s.size // frame * frame

    def power(signal: Signal) -> Signal:
        frames = signal[:whole].reshape(-1, frame)
        return np.asarray(np.einsum("ij,ij->i", frames, frames) / frame)

    speech = power(s)
    if not speech.size or speech.max() <= _EPSILON:
        return math.nan
    pause = speech < speech.max() * 10.0 ** (-ACTIVE_RANGE_DB / 10.0)
    before = float(power(n)[pause].sum())
    return _ratio_db(before, float(power(x)[pause].sum())) if before > _EPSILON else math.nan


def _cells(x: Signal, s: Signal, sample_rate: int) -> tuple[Tensor, Tensor] | None:
    """Re<Y, S> and <S, S> of every cell, `(frames, bands)`; None where there is no speech."""
    hop = max(1, round(_CELL_SECONDS * sample_rate / 2))
    stft = Stft(sample_rate, 2 * hop, hop)
    if s.size < stft.n_fft or _energy(s) <= _EPSILON:
        return None
    rates = [erb_rate(index * sample_rate / stft.n_fft) for index in range(stft.bins)]
    kept = [index for index, rate in enumerate(rates) if rate >= _LOWEST_ERB]
    band = torch.tensor([int(rates[index]) - _LOWEST_ERB for index in kept])
    along, power = [], []
    for part in frame_blocks(stft, s.size):
        y_spec, s_spec = stft.analyse(torch.from_numpy(np.stack((x[part], s[part]))))
        cells = torch.zeros(s_spec.shape[0], int(band.max()) + 1, dtype=torch.float64)
        along.append(cells.index_add(1, band, (y_spec * s_spec.conj()).real[:, kept]))
        power.append(cells.index_add(1, band, s_spec.abs().square()[:, kept]))
    return torch.cat(along), torch.cat(power)


def frame_blocks(stft: Stft, samples: int) -> Iterator[slice]:
    """Stretches of so many samples that hold some whole frames each, and together all of them once."""
    frames = stft.frames(samples)
    for first in range(0, frames, _BLOCK_FRAMES):
        last = min(first + _BLOCK_FRAMES, frames) - 1
        yield slice(first * stft.hop_length, last * stft.hop_length + stft.n_fft)


def _checked(signal: Signal) -> npt.NDArray[np.float64]:
    x = np.asarray(signal, dtype=np.float64)
    if x.ndim != 1:
        raise AudioError(
            f"A metric was given an array of shape {x.shape}; one channel, `(samples,)`, is "
            "wanted: measure each channel, or their mean."
        )
    if not np.isfinite(x).all():
        raise AudioError("A metric was given NaN or infinite samples: look for what made them.")
    return x


def pair(a: Signal, b: Signal) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Two channels to compare, as float64. Raises `AudioError` unless finite and equally long."""
    x, y = _checked(a), _checked(b)
    if x.size != y.size:
        raise AudioError(
            f"A metric was given {x.size} samples against {y.size}; equal lengths are wanted: "
            "align and cut the two signals first."
        )
    return x, y


def _at_speech_rate(x: npt.NDArray[np.float64], sample_rate: int) -> npt.NDArray[np.float32]:
    return np.asarray(resample(x.astype(np.float32), sample_rate, SPEECH_RATE))


def _speech_band(
    a: Signal, b: Signal, sample_rate: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    x, y = pair(a, b)
    return _at_speech_rate(x, sample_rate), _at_speech_rate(y, sample_rate)


def _energy(x: Signal) -> float:
    return float(x @ x)


def _ratio_db(above: float, below: float) -> float:
    if above <= _EPSILON:
        return -LIMIT_DB  # nothing of what was wanted, even where nothing else is there either
    return _clamp_db(10.0 * math.log10(above / max(below, _EPSILON)))


def _clamp_db(db: float) -> float:
    return min(max(db, -LIMIT_DB), LIMIT_DB)


def _package(name: str, extra: str = "metrics") -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise _missing(name, extra) from error


def _missing(name: str, extra: str) -> AudiodaeError:
    return AudiodaeError(
        f"This measurement needs the package `{name}`, which is not installed: "
        f'run pip install "audiodae[{extra}]".'
    )


@functools.lru_cache(maxsize=1)
def _dnsmos_session() -> Any:
    """The P.835 model, read from the package's files: importing the package wants librosa."""
    try:
        runtime = onnx_runtime()
    except ImportError as error:
        raise _missing("onnxruntime", "dnsmos") from error
    model = dnsmos_model()
    if model is None:
        raise _missing("speechmos", "dnsmos")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return runtime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
