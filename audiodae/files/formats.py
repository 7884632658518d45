"""What a recording is on disk, and what each container can hold.

`output_format` answers the one question of every file job: in which container and subtype does the
result go? The same ones wherever that keeps rate, channels and length; a documented neighbour
elsewhere:

- read through ffmpeg (m4a, mp4, webm...): WAV, 16 bits, or as many as a lossless source has;
- relics that store a rounded rate or padded lengths (XI, WVE, VOC, HTK, SDS, PAF, SVX, MPC2K): WAV;
- ADPCM, GSM, DWVW and 8-bit or companded AIFF, which pad or re-damage: 16-bit PCM, same container;
- ALAC of more than 16 bits, where libsndfile turns loud noise into other sound: PCM, same container;
- MPEG layers I and II: layer III, which libsndfile can write.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import soundfile

from audiodae.errors import AudioError
from audiodae.limits import MOST_CHANNELS_OF_A_FILE, RATES_HZ

# 32-bit sizes end at 4 GiB; a mebibyte is left for headers and tags.
RIFF_LIMIT_BYTES = 2**32 - 2**20

_SUFFIX_CONTAINERS = {
    **dict.fromkeys((".wav", ".wave", ".bwf"), "WAV"),
    **dict.fromkeys((".aif", ".aiff", ".aifc"), "AIFF"),
    **dict.fromkeys((".au", ".snd"), "AU"),
    **dict.fromkeys((".ogg", ".oga", ".opus"), "OGG"),
    **dict.fromkeys((".sph", ".nist"), "NIST"),
    **dict.fromkeys((".sf", ".ircam"), "IRCAM"),
    **{".flac": "FLAC", ".mp3": "MP3", ".caf": "CAF", ".w64": "W64", ".rf64": "RF64"},
    **{".avr": "AVR", ".pvf": "PVF"},
}
# Headerless files and names shared with other things (.raw, .mat, .iff) are not picked from a
# folder.
LIBSNDFILE_SUFFIXES = frozenset(
    set(_SUFFIX_CONTAINERS) - {".sf"}
    | {".mp1", ".mp2", ".voc", ".paf", ".svx", ".8svx", ".xi", ".sds"}
)
FFMPEG_SUFFIXES = frozenset(
    {
        *(".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mkv", ".mka", ".webm", ".avi"),
        *(".flv", ".mpg", ".mpeg", ".aac", ".ac3", ".eac3", ".amr", ".ape", ".dts", ".mpc", ".spx"),
        *(".tta", ".wma", ".wmv", ".wv"),
    }
)
AUDIO_SUFFIXES = LIBSNDFILE_SUFFIXES | FFMPEG_SUFFIXES

_KEPT = (
    *("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3"),
    *("NIST", "IRCAM", "AVR", "PVF", "MAT4", "MAT5"),
)
# What the file name of an output may end in; a name of a format does it too (.mat5, .wavex).
OUTPUT_SUFFIXES = frozenset(
    {*_SUFFIX_CONTAINERS, ".mat", *(f".{container.lower()}" for container in _KEPT)}
)

_INTEGER_BITS = {
    **{"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32},
    **{"ALAC_16": 16, "ALAC_20": 20, "ALAC_24": 24, "ALAC_32": 32, "ULAW": 16, "ALAW": 16},
}
_STORED_BYTES = {
    "PCM_S8": 1,
    "PCM_U8": 1,
    "ULAW": 1,
    "ALAW": 1,
    "PCM_16": 2,
    "PCM_24": 3,
    "DOUBLE": 8,
}
_CODECS = frozenset({"VORBIS", "OPUS", "MPEG_LAYER_III"})
_EXACT = (
    frozenset(_INTEGER_BITS) - {"ALAC_20", "ALAC_24", "ALAC_32"} | {"FLOAT", "DOUBLE"} | _CODECS
)
_SIZED_64 = frozenset({"RF64", "W64", "CAF", "FLAC", "OGG", "MP3", "NIST", "IRCAM"})
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)


@dataclass(frozen=True)
class AudioInfo:
    """What is known of a recording before its samples are read.

    `frames` is None when only reading to the end can tell; `seconds` may then still be an estimate, and
    with `rough` it is one by which nothing can be told to be missing.
    `container` and `subtype` are libsndfile's names ("WAV", "PCM_24"), or ffmpeg's in capitals
    ("MOV,MP4,M4A...", "AAC") with `reader` "ffmpeg". `bitrate` is the average in bit/s of lossy
    files, `bits` the resolution of lossless ones read through ffmpeg. `speakers` says which channel
    is whose (`SF_CHANNEL_MAP_*` of libsndfile), where the header does; `late_seconds` how much later
    than the picture the sound of a video begins, `tracks` how many of sound it has (the first is read).
    """

    path: Path
    sample_rate: int
    channels: int
    frames: int | None
    container: str
    subtype: str
    tags: dict[str, str] = field(default_factory=dict)
    endian: str = "FILE"
    seconds: float | None = None
    bitrate: int | None = None
    bits: int | None = None
    speakers: tuple[int, ...] = ()
    late_seconds: float = 0.0
    tracks: int = 1
    rough: bool = False
    reader: str = "libsndfile"

    @property
    def lossless(self) -> bool:
        """Whether its coding keeps every sample."""
        if self.reader == "ffmpeg":
            return self.bits is not None or self.subtype in ("FLOAT", "DOUBLE")
        return not is_lossy(self.subtype)


def integer_bits(subtype: str) -> int | None:
    """Bits of an integer subtype (companded ones decode to 16); None for floats and codecs."""
    return _INTEGER_BITS.get(subtype)


def is_lossy(subtype: str) -> bool:
    """Whether the subtype is a perceptual codec, with a bit rate instead of bits."""
    return subtype in _CODECS or subtype.startswith("MPEG_LAYER")


def container_of(name: str | Path) -> tuple[str, str | None]:
    """Container, and subtype where it decides, of a file name, a suffix or a word such as "flac".

    Raises AudioError for a name that says nothing we can write.
    """
    word = str(name)
    suffix = Path(word).suffix.lower() or "." + word.lower().lstrip(".")
    if suffix in _SUFFIX_CONTAINERS:
        return _SUFFIX_CONTAINERS[suffix], "OPUS" if suffix == ".opus" else None
    if suffix[1:].upper() in _KEPT:
        return suffix[1:].upper(), None
    if suffix == ".mat":
        raise AudioError(f"{word} names two formats; say which by the format mat4 or mat5.")
    raise AudioError(
        f"{word} does not name a format that can be written; choose wav, flac, mp3, ogg, opus,"
        " aiff, caf, w64 or rf64."
    )


def output_format(
    info: AudioInfo, container: str | None = None, subtype: str | None = None
) -> tuple[str, str, str]:
    """Container, subtype and file suffix in which the processed form of `info` is written.

    Without wishes they are those of the source, or the neighbour listed at the top of this module;
    a wished `container` may be a word such as "flac" or "opus". The suffix is the source's own
    while the container stays. Raises AudioError where a wish cannot be met.
    """
    if container is None:
        kept = info.reader == "libsndfile" and info.container in _KEPT
        target, wished = info.container if kept else "WAV", subtype
    else:
        target, implied = container_of(container)
        wished = subtype or implied
    chosen = wished.upper() if wished else _nearest_subtype(info, target)
    check_format(target, chosen, info.sample_rate, info.channels)
    if target == info.container and (target != "OGG" or chosen == info.subtype):
        return target, chosen, info.path.suffix or suffix_of(target, chosen)
    return target, chosen, suffix_of(target, chosen)


def suffix_of(container: str, subtype: str) -> str:
    """The usual suffix of a container: ".wav", ".flac", ".opus"..."""
    if container == "WAVEX":
        return ".wav"
    if subtype == "OPUS":
        return ".opus"
    return {"AIFF": ".aiff", "NIST": ".sph", "MAT4": ".mat", "MAT5": ".mat", "IRCAM": ".sf"}.get(
        container, "." + container.lower()
    )


def default_subtype(container: str) -> str:
    """What a container gets when nothing is known of the source: 16 bits, or its own codec."""
    return {"OGG": "VORBIS", "MP3": "MPEG_LAYER_III"}.get(container, "PCM_16")


def check_layout(what: str, sample_rate: int, channels: int) -> None:
    """Raise AudioError for rates and channel counts that no recording has (damage, or hostile)."""
    most, (low, high) = MOST_CHANNELS_OF_A_FILE, RATES_HZ
    if not 1 <= channels <= most:
        raise AudioError(f"{what} has {channels} channels; 1 to {most} can be processed.")
    if not low <= sample_rate <= high:
        raise AudioError(
            f"{what} has a sample rate of {sample_rate} Hz; {low} to {high} Hz can be processed."
        )


def check_format(container: str, subtype: str, sample_rate: int, channels: int) -> None:
    """Raise AudioError unless such a file can be written and keeps rate, channels and length."""
    name = f"{container} with {subtype}"
    check_layout("The output", sample_rate, channels)
    _check_pair(container, subtype)
    most = {"FLAC": 8, "MP3": 2, "AVR": 2}.get(
        container, 8 if subtype.startswith("ALAC") else MOST_CHANNELS_OF_A_FILE
    )
    if channels > most:
        raise AudioError(
            f"{name} holds at most {most} channels, not {channels}; choose wav instead."
        )
    rates = {"MPEG_LAYER_III": _MP3_RATES, "OPUS": OPUS_RATES}.get(subtype)
    if rates and sample_rate not in rates:
        listed = ", ".join(str(rate) for rate in rates)
        raise AudioError(
            f"{name} cannot hold {sample_rate} Hz, only {listed} Hz; choose wav or flac instead."
        )
    # libsndfile crashes on faster Vorbis, and refuses faster FLAC.
    fastest = {"VORBIS": 192_000}.get(subtype, 655_350 if container == "FLAC" else RATES_HZ[1])
    if sample_rate > fastest:
        raise AudioError(
            f"{name} holds at most {fastest} Hz, not {sample_rate} Hz; choose wav instead."
        )


def check_subtype(subtype: str, container: str | None = None) -> None:
    """Raise AudioError for a subtype that is never written, or never in `container` (such as "flac")."""
    name = subtype.upper()
    if name not in _EXACT:
        near = get_close_matches(name, _EXACT, 1)
        hint = f"did you mean {near[0]}? There are" if near else "there are"
        raise AudioError(
            f"The subtype {subtype} cannot be written; {hint} {', '.join(sorted(_EXACT))}."
        )
    if container is not None:
        _check_pair(container_of(container)[0], name)


def _check_pair(container: str, subtype: str) -> None:
    if not _writable(container, subtype):
        raise AudioError(
            f"{container} with {subtype} cannot be written; try {default_subtype(container)}, "
            "or wav or flac as the format."
        )


def outgrows(container: str, subtype: str, channels: int, frames: int) -> bool:
    """Whether so many frames need more than the 32-bit sizes that the container's header has."""
    return (
        container not in _SIZED_64
        and frames * channels * _STORED_BYTES.get(subtype, 4) > RIFF_LIMIT_BYTES
    )


def _writable(container: str, subtype: str) -> bool:
    if container not in _KEPT or subtype not in _EXACT:
        return False
    # Both come back one sample longer: libsndfile counts the pad byte of an odd chunk as sound.
    if container == "AIFF" and subtype in ("PCM_S8", "PCM_U8", "ULAW", "ALAW"):
        return False
    if container == "WAV" and subtype == "MPEG_LAYER_III":
        return False
    return bool(soundfile.check_format(container, subtype))


def _nearest_subtype(info: AudioInfo, container: str) -> str:
    if _writable(container, info.subtype):
        return info.subtype
    bits = (
        info.bits
        or integer_bits(info.subtype)
        or (24 if info.subtype in ("FLOAT", "DOUBLE") else 16)
    )
    candidates = ("PCM_24",) if 16 < bits <= 24 else ("PCM_32", "PCM_24") if bits > 24 else ()
    return next((s for s in candidates if _writable(container, s)), default_subtype(container))
