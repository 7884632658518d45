"""audiodae: clean speech recordings and live speech with a small autoencoder.

    import audiodae
    denoiser = audiodae.load()
    clean = denoiser(noisy, sample_rate=44100)      # numpy or torch, time last

Names are imported when first used, so `import audiodae` is quick and does not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from audiodae.installed import is_installed

if TYPE_CHECKING:
    from audiodae.api import Denoiser, load
    from audiodae.errors import AudiodaeError
    from audiodae.module import Denoise
    from audiodae.pipeline import aclean_chunks, clean_chunks
    from audiodae.recordings.clean import clean_file, clean_folder
    from audiodae.recordings.options import Options
    from audiodae.streaming.stream import Streamer

__version__ = "0.1.0"

__all__ = [
    "AudiodaeError",
    "Denoise",
    "Denoiser",
    "Options",
    "Streamer",
    "__version__",
    "aclean_chunks",
    "clean_chunks",
    "clean_file",
    "clean_folder",
    "load",
]

_HOMES = {
    "AudiodaeError": "audiodae.errors",
    "Denoise": "audiodae.module",
    "Denoiser": "audiodae.api",
    "Options": "audiodae.recordings.options",
    "Streamer": "audiodae.streaming.stream",
    "aclean_chunks": "audiodae.pipeline",
    "clean_chunks": "audiodae.pipeline",
    "clean_file": "audiodae.recordings.clean",
    "clean_folder": "audiodae.recordings.clean",
    "load": "audiodae.api",
}


if not TYPE_CHECKING and not is_installed("torch"):
    __all__.remove("Denoise")  # asked for by name, it says what it needs


if not TYPE_CHECKING:  # a name that is not there is an error for type checkers, too

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
