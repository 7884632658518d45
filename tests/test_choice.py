"""Which model for which recording: full band from 32 kHz on, recording by recording."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner

import audiodae
from audiodae.cli.main import main
from audiodae.nets import checkpoint
from audiodae.nets.checkpoint import FULL_BAND_RATE, model_for, save_checkpoint
from audiodae.nets.denoiser import DenoiserConfig, DenoiserNet
from audiodae.nets.features import BandsConfig

SMALL = {"channels": (8, 8), "blocks": 1, "heads": 2}
FULL_BAND = DenoiserConfig(48000, 1536, 768, BandsConfig(64, 120), **SMALL)


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped models with a small one at each of the two rates."""
    folder = tmp_path / "shipped"
    with torch.random.fork_rng():
        torch.manual_seed(2)
        save_checkpoint(folder / "speech-16k", DenoiserNet(DenoiserConfig(**SMALL)))
        save_checkpoint(folder / "speech-48k", DenoiserNet(FULL_BAND))
    monkeypatch.setattr(checkpoint, "pretrained_folder", lambda: folder)
    monkeypatch.chdir(tmp_path)
    return folder


def noise(rate: int, channels: int = 1) -> np.ndarray:
    return 0.1 * np.random.default_rng(rate).standard_normal((channels, rate // 4), np.float32)


def put(path: str, rate: int) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(rate)[0], rate, "FLOAT")


def run(*words: str) -> None:
    result = CliRunner().invoke(main, ["clean", *words])
    assert result.exit_code == 0, result.output


def models(report: str) -> dict[str, str]:
    return {
        Path(f["source"]).name: f["model"] for f in json.loads(Path(report).read_text())["files"]
    }


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 31999, 32000, 44100, 48000, 192000])
def test_the_rate_chooses_the_model(shipped: Path, rate: int) -> None:
    expected = "speech-48k" if rate >= FULL_BAND_RATE else "speech-16k"
    assert model_for(rate) == audiodae.load(sample_rate=rate).name == expected
    x = noise(rate, 2)
    assert np.array_equal(audiodae.load()(x, rate), audiodae.load(expected)(x, rate))
    stream = audiodae.load().stream(sample_rate=rate)
    assert stream.latency == audiodae.load(expected).stream(sample_rate=rate).latency


def test_without_a_full_band_model_all_goes_through_the_other(shipped: Path) -> None:
    for file in shipped.glob("speech-48k.*"):
        file.unlink()
    assert audiodae.load(sample_rate=48000).name == "speech-16k"
    assert audiodae.load()(noise(48000), 48000).shape == (1, 12000)


def test_a_model_that_was_named_is_taken_whatever_the_rate(shipped: Path) -> None:
    put("a.wav", 48000)
    run("a.wav", "--model", "speech-16k", "--report", "r.json")
    assert models("r.json") == {"a.wav": "speech-16k"}
    assert audiodae.load("speech-48k").at(16000).name == "speech-48k"


def test_a_worker_process_gets_the_choice_and_makes_it_itself(shipped: Path) -> None:
    copy = pickle.loads(pickle.dumps(audiodae.load()))
    assert [copy.at(rate).name for rate in (16000, 48000)] == ["speech-16k", "speech-48k"]


def test_a_folder_of_mixed_rates_goes_through_both_and_tells_which(shipped: Path) -> None:
    for rate in (16000, 44100, 48000):
        put(f"in/{rate}.wav", rate)
    run("in", "-o", "out", "--report", "r.json")
    chosen = {"16000.wav": "speech-16k", "44100.wav": "speech-48k", "48000.wav": "speech-48k"}
    assert models("r.json") == chosen
    lines = Path("out/.audiodae-manifest.jsonl").read_text().splitlines()
    done = [json.loads(line) for line in lines]
    assert {d["target"]: d["made"]["model"] for d in done if d["made"]["model"]} == chosen
    for rate in (16000, 44100, 48000):
        alone = audiodae.load(chosen[f"{rate}.wav"])(noise(rate), rate)
        cleaned, _ = soundfile.read(f"out/{rate}.wav", dtype="float32")
        np.testing.assert_array_equal(cleaned, alone[0])


def test_a_new_full_band_model_redoes_only_what_it_is_for(shipped: Path) -> None:
    put("in/narrow.wav", 16000)
    put("in/wide.wav", 48000)
    away = shutil.move(shipped / "speech-48k.safetensors", shipped / "kept")
    run("in", "-o", "out")
    shutil.move(away, shipped / "speech-48k.safetensors")
    run("in", "-o", "out", "--skip-existing", "--report", "r.json")
    assert models("r.json") == {"narrow.wav": "", "wide.wav": "speech-48k"}
    run("in", "-o", "out", "--skip-existing", "--report", "r.json")
    assert models("r.json") == {"narrow.wav": "", "wide.wav": ""}


def test_what_lies_above_8_khz_is_cleaned_and_not_lost(shipped: Path) -> None:
    x = noise(48000)
    bins = slice(len(x[0]) // 4, None)  # 12 kHz and more

    def energy(name: str) -> float:
        cleaned = audiodae.load(name)(x, 48000)[0]
        return float(np.square(np.abs(np.fft.rfft(cleaned)[bins])).sum())

    assert energy("speech-16k") < 1e-4 * energy("speech-48k")
