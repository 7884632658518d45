"""Half a minute of what `scripts/soak` does for an hour: nothing grows, slows down or drifts apart."""

import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parent.parent / "scripts" / "soak"


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_streaming_on_and_on_changes_nothing(engine: str) -> None:
    command = [sys.executable, str(SOAK), "--minutes", "0.45", "--engine", engine]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all holds" in done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [(["--minutes", "nan"], "--minutes nan: give"), (["--sample-rate", "0"], "The sample rate 0")],
)
def test_what_it_cannot_do_is_a_sentence(words: list[str], told: str) -> None:
    done = subprocess.run([sys.executable, str(SOAK), *words], capture_output=True, text=True)
    assert done.returncode and told in done.stderr and "Traceback" not in done.stderr
