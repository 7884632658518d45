"""The shipped weights keep what no random weights could: clean stays clean, noisy gets better."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

import audiodae
from audiodae.sound.resample import resample

DATA = Path(__file__).parent / "data"


def si_sdr_db(estimate: np.ndarray, clean: np.ndarray) -> float:
    wanted = clean * (estimate @ clean) / (clean @ clean)
    return 10 * np.log10((wanted @ wanted) / np.square(estimate - wanted).sum())


@pytest.fixture(params=[("speech-16k", 16000), ("speech-48k", 48000)], ids=lambda p: p[0])
def shipped(request):
    """The model's denoiser, and the demo recording at its rate: noisy and clean."""
    name, rate = request.param
    sounds = [
        soundfile.read(DATA / f"{kind}-speech.flac", dtype="float32") for kind in ("noisy", "clean")
    ]
    return audiodae.load(name), *(resample(sound, given, rate) for sound, given in sounds), rate


def test_clean_speech_comes_out_as_it_came_in(shipped):
    denoiser, _, clean, rate = shipped
    out = denoiser(clean, rate)
    assert si_sdr_db(out, clean) > 25
    assert abs(20 * np.log10(out.std() / clean.std())) < 1


def test_a_quiet_recording_comes_out_as_clean_as_a_loud_one(shipped):
    denoiser, noisy, clean, rate = shipped
    quiet = noisy * np.float32(0.01)  # some -64 dBFS
    loss_db = si_sdr_db(denoiser(noisy, rate), clean) - si_sdr_db(denoiser(quiet, rate), clean)
    assert loss_db < 1


def test_noise_goes_and_the_level_of_speech_stays(shipped):
    denoiser, noisy, clean, rate = shipped
    out = denoiser(noisy, rate)
    assert si_sdr_db(out, clean) > si_sdr_db(noisy, clean) + 6
    assert abs(20 * np.log10((out @ clean) / (clean @ clean))) < 1
