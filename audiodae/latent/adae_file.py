"""The `.adae` file: a header, the coded latents, and a checksum over both.

All numbers are little-endian. No byte of a file can be changed or lost unnoticed: the CRC-32 at its
end covers all before it.

    4   b"ADAE"
    1   version of the format, 1
    1   length of the model's name, then the name in UTF-8 (or the bytes of a path that is none)
    8   first bytes of the SHA-256 of the model's weights
    4   sample rate of the original, Hz
    8   its length in samples
    4   patches
    2   size of a latent
    4   quantiser step, float32
        the coded latents
    4   CRC-32
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from audiodae.errors import AudioError, reason
from audiodae.files.atomic import write_whole
from audiodae.files.regular import read_regular

MAGIC, VERSION = b"ADAE", 1
_FIELDS = struct.Struct("<8sIQIHf")
_CRC = struct.Struct("<I")


@dataclass(frozen=True)
class Compressed:
    """What a file holds. `payload` is from `latent_code.pack`; `sha256` are the first 8 bytes."""

    model: str
    sha256: bytes
    sample_rate: int
    samples: int
    patches: int
    latent: int
    step: float
    payload: bytes

    @property
    def seconds(self) -> float:
        return self.samples / self.sample_rate


def to_bytes(content: Compressed) -> bytes:
    """The whole file. Raises `AudioError` for a model's name of over 255 bytes."""
    c = content
    name = c.model.encode("utf-8", "surrogateescape")  # also paths that are no text
    if len(name) > 255:
        raise AudioError(f"The model's name has {len(name)} bytes; up to 255 can be stored.")
    fields = _FIELDS.pack(c.sha256, c.sample_rate, c.samples, c.patches, c.latent, c.step)
    data = MAGIC + bytes([VERSION, len(name)]) + name + fields + c.payload
    return data + _CRC.pack(zlib.crc32(data))


def from_bytes(data: bytes, path: object) -> Compressed:
    """Raises `AudioError`, naming `path`, for anything but what `to_bytes` made, whole."""
    if data[: len(MAGIC)] != MAGIC:
        raise AudioError(
            f"{path} is not a file that audiodae compressed: it does not start with ADAE."
        )
    shortest = len(MAGIC) + 2 + _FIELDS.size + _CRC.size
    if len(data) < shortest or _CRC.unpack(data[-4:])[0] != zlib.crc32(data[:-4]):
        raise AudioError(
            f"{path} is cut short or was altered (its checksum does not fit): get the file again."
        )
    if data[4] != VERSION:
        raise AudioError(
            f"{path} is of version {data[4]}, and this audiodae reads version {VERSION}: "
            "use the audiodae that made it."
        )
    begin = 6 + data[5]
    try:
        model = data[6:begin].decode("utf-8", "surrogateescape")
        sha256, rate, samples, patches, latent, step = _FIELDS.unpack_from(data[:-4], begin)
    except struct.error as error:
        raise AudioError(
            f"{path} has a header that makes no sense: it was not written by audiodae."
        ) from (error)
    payload = data[begin + _FIELDS.size : -_CRC.size]
    numbers = rate and samples and patches and latent
    if not numbers or not 0.0 < step < math.inf or not payload or len(payload) % 4:
        raise AudioError(
            f"{path} has a header that makes no sense: it was not written by audiodae."
        )
    return Compressed(model, sha256, rate, samples, patches, latent, step, payload)


def read(path: Path) -> Compressed:
    """Raises `AudioError` for what is missing, cut short, altered or of another kind."""
    try:
        return from_bytes(read_regular(path), path)
    except OSError as error:
        raise AudioError(f"{path} cannot be read: {reason(error)}.") from error


def write(path: Path, content: Compressed, *, replace: bool = True) -> int:
    """Write the file, whole or not at all; its size in bytes. Without `replace` one that exists stays."""
    data = to_bytes(content)
    write_whole(path, lambda stream: stream.write(data), replace=replace)
    return len(data)
