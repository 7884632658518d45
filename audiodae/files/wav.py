"""The bytes of WAV: its header in both directions, and PCM samples to and from float32.

For streams only; files go through libsndfile. Nothing here seeks or reads.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from audiodae.errors import AudioError
from audiodae.files.formats import check_layout
from audiodae.files.samples import quantise

ENCODINGS = ("s16", "s24", "s32", "f32")
UNKNOWN_BYTES = 0xFFFF_FFFF
# What writers that cannot know the length announce: about all ones, or about 2 GiB (sox, arecord).
# In between lie long recordings.
_PLACEHOLDERS = (range(0x7FFF_F000, 0x8000_1000), range(0xFFFF_F000, UNKNOWN_BYTES + 1))
_SAMPLE_BYTES = {"u8": 1, "s16": 2, "s24": 3, "s32": 4, "f32": 4, "f64": 8}
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_FMT = "HHIIHH"


@dataclass(frozen=True)
class PcmLayout:
    """How samples lie in a stream: encoding, rate in Hz, channels, "<" little or ">" big endian.

    Raises AudioError for rates and channel counts that no recording has.
    """

    encoding: str
    sample_rate: int
    channels: int
    byte_order: str = "<"

    def __post_init__(self) -> None:
        check_layout("The stream", self.sample_rate, self.channels)

    @property
    def sample_bytes(self) -> int:
        return _SAMPLE_BYTES[self.encoding]

    @property
    def frame_bytes(self) -> int:
        return self.channels * self.sample_bytes

    def decode(self, data: bytes) -> np.ndarray:
        """Whole frames of bytes to `(n, channels)` float32; integers to [-1, 1)."""
        order, encoding = self.byte_order, self.encoding
        if encoding == "u8":
            flat = (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
        elif encoding == "s24":
            # Three bytes become the upper three of four.
            wide = np.zeros((len(data) // 3, 4), np.uint8)
            upper = slice(1, 4) if order == "<" else slice(0, 3)
            wide[:, upper] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            flat = wide.view(order + "i4").ravel() / 2**31
        elif encoding in ("s16", "s32"):
            flat = np.frombuffer(data, f"{order}i{self.sample_bytes}")
            flat = flat / 2 ** (8 * self.sample_bytes - 1)
        else:
            flat = np.frombuffer(data, f"{order}f{self.sample_bytes}")
        with np.errstate(over="ignore"):  # A double beyond float32 becomes infinite.
            return flat.astype(np.float32).reshape(-1, self.channels)

    def encode(self, frames: np.ndarray) -> tuple[bytes, int]:
        """Finite `(n, channels)` float32 to little-endian bytes, and how many had to be clamped."""
        if self.encoding == "f32":
            return frames.astype("<f4", copy=False).tobytes(), 0
        integers, clipped = quantise(frames, 8 * self.sample_bytes)
        little = integers.astype("<i4", copy=False).ravel().view(np.uint8).reshape(-1, 4)
        return little[:, : self.sample_bytes].tobytes(), clipped

    def header(self, data_bytes: int | None) -> bytes:
        """A WAV header for so many bytes of sound; None says "until the end"."""
        tag = _FLOAT if self.encoding == "f32" else _PCM
        rate, frame_bytes, bits = self.sample_rate, self.frame_bytes, 8 * self.sample_bytes
        fmt = struct.pack(
            "<" + _FMT, tag, self.channels, rate, rate * frame_bytes, frame_bytes, bits
        )
        if data_bytes is None:
            riff_bytes = data_bytes = UNKNOWN_BYTES
        else:
            riff_bytes = 20 + len(fmt) + data_bytes + data_bytes % 2
        start = struct.pack("<4sI4s4sI", b"RIFF", riff_bytes, b"WAVE", b"fmt ", len(fmt))
        return start + fmt + struct.pack("<4sI", b"data", data_bytes)


def is_placeholder(size_bytes: int) -> bool:
    """Whether a size in a header only says that nobody knew it."""
    return any(size_bytes in sizes for sizes in _PLACEHOLDERS)


def parse_fmt(body: bytes, byte_order: str) -> PcmLayout:
    """The layout that a 'fmt ' chunk describes; raises AudioError unless it is PCM or float."""
    if len(body) < 16:
        raise AudioError("The WAV stream's 'fmt ' chunk is too short; it is damaged or not WAV.")
    tag, channels, rate, _, frame_bytes, bits = struct.unpack_from(byte_order + _FMT, body)
    if tag == _EXTENSIBLE and len(body) >= 26:
        (tag,) = struct.unpack_from(byte_order + "H", body, 24)
    # The container counts, not the valid bits: 20 bits in three bytes are read like 24.
    width = frame_bytes // channels if channels and frame_bytes % channels == 0 else 0
    encodings = {(_PCM, 1): "u8", (_PCM, 2): "s16", (_PCM, 3): "s24", (_PCM, 4): "s32"}
    encodings |= {(_FLOAT, 4): "f32", (_FLOAT, 8): "f64"}
    if channels and (tag, width) not in encodings:
        raise AudioError(
            f"The WAV stream has format tag {tag} with {bits} bits in {frame_bytes} bytes for"
            f" {channels} channels; only PCM (8 to 32 bits) and float can be piped. Save it as a"
            " file and give its name instead."
        )
    return PcmLayout(encodings.get((tag, width), "s16"), rate, channels, byte_order)
