"""How a codec is asked for the bit rate that the source had."""

from __future__ import annotations

import numpy as np

from audiodae.files.formats import is_lossy

# In smaller frames of a constant rate LAME has no room to note delay and padding, and the length
# comes back wrong. The least that fits depends on rate and channels; this fits all of them.
LEAST_MP3_KBPS = 64
MOST_COMPRESSION = 0.99  # libsndfile takes up to 1, but LAME no level that rounds to it: refused


def codec_options(
    subtype: str, sample_rate: int, channels: int, bitrate: int | None
) -> dict[str, float | str]:
    """soundfile's keywords that give a codec about the source's bit rate, in bit/s.

    MP3 gets the rate itself, but at least `LEAST_MP3_KBPS`; for Vorbis and Opus, whose rate follows
    the content, libsndfile's default quality is raised where the source had more, never lowered.
    """
    if bitrate is None or not is_lossy(subtype):
        return {}
    if subtype == "MPEG_LAYER_III":
        low, high = (
            (32, 320) if sample_rate >= 32000 else (8, 160) if sample_rate >= 16000 else (8, 64)
        )
        level = (high - max(bitrate / 1000, LEAST_MP3_KBPS)) / (high - low)
        return {
            "compression_level": min(max(level, 0.0), MOST_COMPRESSION),
            "bitrate_mode": "CONSTANT",
        }
    kbps = bitrate / 1000 / channels
    if subtype == "OPUS":
        return {"compression_level": max(0.0, (256 - kbps) / 250)} if kbps > 64 else {}
    # libvorbis' kbit/s per channel at 44.1 kHz for its qualities 0.4 to 1.
    quality = np.interp(
        kbps * 44100 / sample_rate, [64, 80, 96, 112, 128, 160, 250], np.linspace(0.4, 1, 7)
    )
    return {"compression_level": float(1 - quality)}
