"""The README's examples run as they stand."""

import dataclasses
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from recogniser import whisper_base
from tasks_model import machine

from audiodae.cli.main import main
from audiodae.nets.autoencoder_config import AutoencoderConfig
from audiodae.nets.denoiser import DenoiserConfig
from audiodae.nets.features import BandsConfig
from audiodae.training.elbo import ElboConfig
from audiodae.training.losses import LossConfig
from audiodae.training.mix_config import MixConfig
from audiodae.training.recipe import Recipe, Stage

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
DEMO = Path(__file__).parent / "data" / "noisy-speech.flac"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture(autouse=True)
def recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    speech, sample_rate = soundfile.read(DEMO, dtype="float32", frames=32000)
    soundfile.write("interview.wav", speech, sample_rate)
    soundfile.write("microphone.wav", np.repeat(speech, 3)[:48000], 48000)
    Path("recordings/deeper").mkdir(parents=True)
    shutil.copy("interview.wav", "recordings/a.wav")
    soundfile.write("recordings/deeper/b.flac", speech[:16000], sample_rate)
    Path("machines").mkdir()
    soundfile.write("machines/fan.wav", machine(12.0), 16000)
    return tmp_path


def test_every_key_of_a_recipe_is_described_where_it_is_read() -> None:
    configs = [Recipe, Stage, MixConfig, LossConfig, DenoiserConfig, BandsConfig]
    for config in [*configs, AutoencoderConfig, ElboConfig]:
        named = re.findall(r"`\[*(\w+)\]*`", config.__doc__ or "")
        lacking = [f.name for f in dataclasses.fields(config) if f.name not in named]
        assert not lacking, f"{config.__name__}: {lacking}"


def test_the_shell_examples_run(recordings: Path) -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines() if line]
    assert len(lines) > 5
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "audiodae"
        # One process is enough here: what --jobs does has a test of its own.
        result = CliRunner().invoke(main, [a if a != "2" else "1" for a in arguments])
        assert result.exit_code == 0, f"{line}\n{result.output}"
    for made in (
        "clean.wav",
        "cleaned/deeper/b.flac",
        "wavs/deeper/b.wav",
        "removed",
        "pictures",
        "odd/a.wav.png",
    ):
        assert (recordings / made).exists(), made
    assert not (recordings / "elsewhere").exists()
    assert soundfile.info("wavs/deeper/b.wav").subtype == "PCM_24"


@pytest.mark.parametrize("code", blocks("python"))
def test_the_python_examples_run(recordings: Path, code: str) -> None:
    if "import datasets" in code:
        pytest.importorskip("datasets", reason="needs `pip install datasets`")
    if "WhisperModel" in code:
        whisper_base(recordings)  # the name in the example is that of a folder, where there is one
    exec(compile(code, "README.md", "exec"), {})
    for name, source in (("clean.wav", "interview.wav"), ("live.wav", "microphone.wav")):
        if f'"{name}"' in code:
            assert soundfile.info(name).frames == soundfile.info(source).frames
