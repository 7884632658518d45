"""A phase for magnitudes that have none."""

from __future__ import annotations

import atexit
import importlib
import logging
import shutil
import tempfile

import torch
from torch import Tensor

from audiodae.errors import AudiodaeError
from audiodae.sound.stft import Stft

_ITERATIONS = 60

log = logging.getLogger("audiodae")


def griffin_lim(magnitude: Tensor, stft: Stft, seed: int) -> Tensor:
    """Magnitudes `(frames, bins)` -> samples `((frames - 1) * hop_length + n_fft,)` that have them nearly.

    Fast Griffin-Lim (Perraudin et al., 2013) from a start that `seed` decides. Raises `AudiodaeError` when
    librosa is not installed.
    """
    try:
        import librosa
    except ImportError as error:
        raise AudiodaeError(
            "Turning a spectrogram into sound needs the package librosa, which is not installed: "
            'run pip install "audiodae[families]".'
        ) from error
    _have_a_place_to_cache()
    sound = librosa.griffinlim(
        magnitude.detach().cpu().numpy().T,
        n_iter=_ITERATIONS,
        hop_length=stft.hop_length,
        win_length=stft.n_fft,
        n_fft=stft.n_fft,
        window=stft.window(),
        center=False,
        random_state=seed,
    )
    return torch.from_numpy(sound).to(magnitude)


def _have_a_place_to_cache() -> None:
    """Librosa's compiler, Numba, refuses to be loaded by who may write neither beside it nor at home."""
    try:
        importlib.import_module("librosa.core.spectrum")
    except RuntimeError:
        import numba

        # Of its own: what lies in a folder that others can write to would be run.
        folder = tempfile.mkdtemp(prefix="audiodae-numba-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        log.warning(
            "Numba, which librosa needs, may write neither beside it nor into the home folder, so it "
            "compiles anew each time, for half a minute: set NUMBA_CACHE_DIR to a folder of your own."
        )
        setattr(numba.config, "CACHE_DIR", folder)  # noqa: B010 - it has no such name for mypy
        try:
            importlib.import_module("librosa.core.spectrum")
        except RuntimeError as error:  # it asks for a home, too
            raise AudiodaeError(
                f"Librosa, which turns spectrograms into sound, cannot be loaded ({error}): set HOME to a "
                "folder of your own."
            ) from error
