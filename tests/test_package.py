"""What whoever installs it relies on: no pins, nothing to build, no call over the network, known licences."""

import json
import os
import re
import runpy
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from audiodae.cli.main import main
from audiodae.nets.checkpoint import pretrained_folder

ROOT = Path(__file__).parent.parent
DEMO = Path(__file__).parent / "data" / "noisy-speech.flac"
CARDS = sorted(pretrained_folder().glob("*.json"))


def test_lower_bounds_only_and_no_framework_to_clean_with() -> None:
    """A pin would replace the torch that somebody has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [one for extra in project["optional-dependencies"].values() for one in extra]
    for wanted in (*project["dependencies"], *extras):
        assert re.fullmatch(r"audiodae\[[\w,]+\]|[\w.-]+>=[\d.]+", wanted), wanted
    heavy = {"torch", "torchaudio", "librosa", "scipy"}
    assert not heavy & {re.split("[>=]", one)[0] for one in project["dependencies"]}


def test_there_is_nothing_to_compile() -> None:
    assert not [
        path
        for path in (ROOT / "audiodae").rglob("*")
        if path.suffix in {".c", ".cpp", ".pyx", ".rs", ".so", ".pyd"}
    ]


def test_a_program_whose_types_are_checked_strictly_runs() -> None:
    """mypy, which reads it with the package, is run before the tests."""
    runpy.run_path(str(ROOT / "tests" / "typed_program.py"))


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_nothing_is_asked_of_the_network(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    for way in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, way, no_network)
    words = ["clean", str(DEMO), "-o", str(tmp_path / "clean.flac"), "--engine", engine]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "clean.flac").exists()


@pytest.mark.skipif(os.name == "nt", reason="its home is said in other ways there")
def test_nothing_is_left_in_the_home_folder(tmp_path: Path) -> None:
    """As the telemetry of ONNX Runtime would, which Python's sockets do not see."""
    program = (
        "import soundfile\n"
        "from audiodae.measure import metrics\n"
        "from audiodae.cli.main import main\n"
        "from audiodae.installed import is_installed\n"
        f"sound, rate = soundfile.read({str(DEMO)!r})\n"
        "if is_installed('speechmos'): metrics.dnsmos(sound, rate)\n"
        f"main(['clean', {str(DEMO)!r}, '-o', {str(tmp_path / 'clean.flac')!r}])\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    env = {k: v for k, v in os.environ.items() if not k.startswith(("ORT_", "XDG_"))}
    words = [sys.executable, "-c", program]
    subprocess.run(words, env={**env, "HOME": str(home)}, check=True)
    assert (tmp_path / "clean.flac").exists() and not list(home.iterdir())


@pytest.mark.parametrize("card", CARDS, ids=[card.stem for card in CARDS])
def test_weights_say_what_they_are_and_under_which_licence(card: Path) -> None:
    known = json.loads(card.read_text(encoding="utf-8"))
    assert known["licence"] == "MIT" and known["description"]
    assert card.with_suffix(".safetensors").stat().st_size < 10e6
    pages = [page.read_text(encoding="utf-8") for page in card.parent.glob("*.md")]
    assert any(card.stem in page and "licence" in page.lower() for page in pages)


def test_the_asr_preset_leaves_a_floor_and_not_silence(tmp_path: Path) -> None:
    """Recognisers make up words in digital silence."""
    noise = np.random.default_rng(1).standard_normal(5 * 16000).astype(np.float32) * 0.01
    soundfile.write(tmp_path / "noise.wav", noise, 16000, "FLOAT")
    levels_db = {}
    for preset in ("voice", "asr"):
        words = ["clean", str(tmp_path / "noise.wav"), "-o", str(tmp_path / f"{preset}.wav")]
        assert CliRunner().invoke(main, [*words, "--preset", preset]).exit_code == 0
        out, _ = soundfile.read(tmp_path / f"{preset}.wav", dtype="float32")
        second = np.sqrt(np.square(out.reshape(5, -1)).mean(axis=1))
        levels_db[preset] = 20 * np.log10(second[2:].max() / 0.01)
        if preset == "asr":
            assert 20 * np.log10(second.min() / 0.01) > -10
    assert levels_db["voice"] < levels_db["asr"] - 6


def test_the_second_example_streams() -> None:
    """Chunks given to what is meant for whole recordings sound choppy: the way to do it is shown early."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    second = re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)[1]
    assert ".stream(" in second and ".feed(" in second and ".flush(" in second
