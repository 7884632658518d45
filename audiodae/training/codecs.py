"""Lossy codecs as damage: through libsndfile and back, in memory."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import soundfile

from audiodae.files.codec_options import MOST_COMPRESSION
from audiodae.files.formats import OPUS_RATES
from audiodae.sound.resample import resample

Samples = npt.NDArray[np.float32]

CODECS = ("opus", "mp3", "mu-law")
_FORMS = {"opus": ("OGG", "OPUS"), "mp3": ("MP3", "MPEG_LAYER_III"), "mu-law": ("WAV", "ULAW")}
_TELEPHONE_RATE = 8000  # where mu-law is at home


def coded(x: Samples, sample_rate: int, codec: str, effort: float) -> Samples:
    """`(samples,)` as it comes out of a codec, equally long and in place.

    `effort` is from 0 (the most bits) to 1 (the fewest the encoder offers). Mu-law is telephony: it
    goes through 8 kHz.
    """
    rate = sample_rate
    if codec == "mu-law":
        rate = min(rate, _TELEPHONE_RATE)
    elif codec == "opus":
        rate = min((r for r in OPUS_RATES if r >= rate), default=OPUS_RATES[-1])
    container, subtype = _FORMS[codec]
    # Only what compresses has a level of it.
    more = {} if codec == "mu-law" else {"compression_level": min(float(effort), MOST_COMPRESSION)}
    file = io.BytesIO()
    given = np.asarray(resample(x, sample_rate, rate)).clip(-1.0, 1.0)
    soundfile.write(file, given, rate, subtype, format=container, **more)
    file.seek(0)
    back = resample(soundfile.read(file, dtype="float32")[0], rate, sample_rate)
    result = np.zeros(len(x), np.float32)
    result[: len(back)] = back[: len(x)]
    return result
