"""Ten ways in which a recording goes wrong: `(samples, rng) -> samples`, 16 kHz, equal length."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import numpy as np

RATE = 16_000
Damage = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x**2)))


def dropouts(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Six gaps of 30 to 150 ms."""
    y = x.copy()
    for _ in range(6):
        size = int(rng.integers(480, 2400))
        start = int(rng.integers(0, len(y) - size))
        y[start : start + size] = 0
    return y


def clipping(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Peaks cut 10 dB below the highest."""
    top = np.abs(x).max() * 10 ** (-10 / 20)
    return np.clip(x, -top, top)


def hum(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mains hum with harmonics, 20 dB below the recording."""
    t = np.arange(len(x)) / RATE
    base = rng.choice([50.0, 60.0])
    y = sum(np.sin(2 * np.pi * base * k * t + 6 * rng.random()) / k for k in range(1, 8))
    return x + y * (0.1 * _rms(x) / _rms(y))


def clicks(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two clicks a second, as high as the highest peak."""
    y = x.copy()
    for _ in range(2 * len(x) // RATE):
        start = int(rng.integers(0, len(y) - 32))
        y[start : start + 32] += np.abs(x).max() * np.exp(-np.arange(32) / 6) * rng.choice([-1, 1])
    return y


def cancelled_channels(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two channels mixed of which one has the wrong polarity and comes 0.25 to 0.5 ms later."""
    late = int(rng.integers(4, 9))
    return x - 0.9 * np.concatenate([np.zeros(late, x.dtype), x[:-late]])


def broken_microphone(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A loose contact: in a third of the recording 25 dB quieter, with crackle."""
    y = x.copy()
    size = len(x) // 9
    for start in rng.choice(9, 3, replace=False) * size:
        crackle = rng.standard_normal(size) * (rng.random(size) < 0.002) * _rms(x)
        y[start : start + size] = 0.056 * x[start : start + size] + crackle
    return y


def band_loss(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Nothing above 3 kHz."""
    spectrum = np.fft.rfft(x)
    hz = np.fft.rfftfreq(len(x), 1 / RATE)
    return np.fft.irfft(spectrum / (1 + (hz / 3000) ** 24), len(x))


def speed_wobble(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A worn tape: the speed swings by 4 % five times a second."""
    t = np.arange(len(x))
    wobble = 0.04 * RATE / (2 * np.pi * 5) * np.sin(2 * np.pi * 5 * t / RATE)
    return np.interp(t + wobble, t, x)


def opus(
    x: np.ndarray, rng: np.random.Generator | None = None, bits_a_second: int = 6000
) -> np.ndarray:
    """Through Opus and back, by the ffmpeg program."""
    return opus_coded(x, bits_a_second)[0]


def opus_coded(x: np.ndarray, bits_a_second: int) -> tuple[np.ndarray, float]:
    """What comes back, and the bits a second it took (packets alone, without the container)."""
    raw = ["-f", "f32le", "-ar", str(RATE), "-ac", "1"]
    quiet = ["ffmpeg", "-hide_banner", "-loglevel", "error"]
    encode = [*quiet, *raw, "-i", "-", "-c:a", "libopus", "-b:a", str(bits_a_second)]
    encode += ["-application", "voip", "-vbr", "on", "-frame_duration", "60", "-f", "ogg", "-"]
    coded = subprocess.run(encode, input=x.astype("<f4").tobytes(), capture_output=True, check=True)
    probe = ["ffprobe", "-loglevel", "error", "-show_entries", "packet=size", "-of", "csv=p=0", "-"]
    sizes = subprocess.run(probe, input=coded.stdout, capture_output=True, check=True).stdout
    decode = [*quiet, "-i", "-", *raw, "-"]
    back = subprocess.run(decode, input=coded.stdout, capture_output=True, check=True).stdout
    y = np.frombuffer(back, "<f4")[: len(x)]
    bits = 8 * sum(int(size.strip(b",")) for size in sizes.split())
    return np.pad(y, (0, len(x) - len(y))), bits * RATE / len(x)


def foreign(sounds: list[np.ndarray]) -> Damage:
    """A second of another sound, 5 dB below the recording."""

    def damage(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        other = sounds[int(rng.integers(len(sounds)))][:RATE]
        start = int(rng.integers(0, len(x) - len(other)))
        y = x.copy()
        y[start : start + len(other)] += other * (0.56 * _rms(x) / _rms(other))
        return y

    return damage


def ten_ways(sounds: list[np.ndarray]) -> dict[str, Damage]:
    return {
        "dropouts": dropouts,
        "clipping": clipping,
        "hum": hum,
        "clicks": clicks,
        "cancelled channels": cancelled_channels,
        "broken microphone": broken_microphone,
        "foreign sound": foreign(sounds),
        "band loss": band_loss,
        "speed wobble": speed_wobble,
        "codec (Opus 6 kbit/s)": opus,
    }
