"""The comparison with other denoisers: aligned, each in its own process, written as table and picture."""

from __future__ import annotations

import importlib.util
import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

SCRIPTS = Path(__file__).parent.parent / "scripts"


def rivals():
    spec = importlib.util.spec_from_file_location("rivals", SCRIPTS / "rivals.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["rivals"] = module  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("late", [-300, -1, 0, 1, 512, 1600])
@pytest.mark.parametrize("extra", [-700, 0, 900])
def test_an_output_is_compared_at_its_own_moments(late, extra):
    given = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    output = np.roll(np.concatenate((given, np.zeros(4000, np.float32))), late)[: 8000 + extra]
    moved = rivals().aligned(0.3 * output, given, 16000)
    assert moved.shape == given.shape
    np.testing.assert_allclose(moved[400:5600], 0.3 * given[400:5600], atol=1e-6)


def test_frames_hold_all_that_was_given():
    x = np.arange(1, 1001, dtype=np.float32)
    whole = rivals().in_frames(x, 160, lambda frame: 2 * frame)
    assert np.array_equal(whole[:1000], 2 * x) and not whole[1000:].any()


def test_a_comparison_measures_cost_and_quality_and_names_who_is_missing(tmp_path):
    for name in ("pesq", "pystoi", "matplotlib"):
        pytest.importorskip(name)
    rng = np.random.default_rng(1)
    time_s = np.arange(24000) / 16000
    clean = 0.2 * np.sin(900 * time_s) * (np.sin(9 * time_s) > 0)
    pairs = tmp_path / "out" / "pairs"  # also where the results go they are the user's
    for kind, noise in (("noisy", 0.05), ("clean", 0.0)):
        (pairs / kind).mkdir(parents=True)
        sound = clean + noise * rng.standard_normal(24000)
        soundfile.write(pairs / kind / "a_+5dB.WAV", np.stack((sound, sound), axis=1), 16000)
        (pairs / kind / "a").mkdir()
        for name in ("a/b.wav", "a-b.wav"):  # two recordings, however they are written
            soundfile.write(pairs / kind / name, sound, 16000)
    words = [pairs / "noisy", pairs / "clean", "--out", tmp_path / "out"]
    words += ["--only", "speech-16k", "--dnsmos-every", "0"]
    program = [sys.executable, str(SCRIPTS / "compare"), *map(str, words)]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (pairs / "noisy" / "a_+5dB.WAV").exists()
    missing = [name for name, rival in rivals().RIVALS.items() if not rivals().installed(rival)]
    for name in missing:
        assert f"{name}: left out, needs pip install" in done.stderr
    rows = done.stdout.splitlines()
    assert rows[0].endswith("| RTF | peak MB |")
    assert rows[2].startswith("| noisy |") and rows[3].startswith("| speech-16k |")
    cost = json.loads((tmp_path / "out/comparison.json").read_text())["costs"]["speech-16k"]
    assert cost["real_time_factor"] > 0 and 50 < cost["peak_mb"] < 4000
    assert (tmp_path / "out/comparison.png").stat().st_size > 5000
    for name in ("a_+5dB", "a/b", "a-b"):
        assert soundfile.info(tmp_path / f"out/cleaned/speech-16k/{name}.wav").frames == 24000
    assert "3 clips." in done.stdout


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (["--only", "speech16k"], "speech16k"),
        (["--model", "nope"], "nope"),
        (["--out", __file__], "it is a file"),
    ],
)
def test_what_cannot_be_compared_is_refused_at_once(wrong, word, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "argv", ["compare", "noisy", "clean", "--out", "out", *wrong])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPTS / "compare"), run_name="__main__")
    assert end.value.code == 2 and word in capsys.readouterr().err
