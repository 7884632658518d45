"""ONNX Runtime and torch: the same sound from either, and no torch where ONNX Runtime is enough."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import audiodae
from audiodae.errors import AudiodaeError

DEMO = Path(__file__).parent / "data" / "noisy-speech.flac"

# Put before a program: from here on the packages named are not installed.
WITHOUT = """
import sys
from importlib.machinery import PathFinder
class Missing(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.split(".")[0] in {missing}:
            return None
        return super().find_spec(name, path, target)
sys.meta_path[:] = [Missing if finder is PathFinder else finder for finder in sys.meta_path]
"""
TORCH = {"torch", "torchaudio", "safetensors", "onnx"}


def run(program: str, missing: set[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    text = WITHOUT.format(missing=missing) + program
    command = [sys.executable, "-c", text, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def command(missing: set[str], *arguments: object) -> subprocess.CompletedProcess[str]:
    program = "sys.argv[0] = 'audiodae'\nfrom audiodae.cli.main import main\nmain()"
    return run(program, missing, *arguments)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return soundfile.read(DEMO, dtype="float32")[0]


@pytest.mark.parametrize("sample_rate", [16000, 44100])
@pytest.mark.parametrize("block_frames", [1, 16])
def test_the_engines_agree_on_speech(speech, sample_rate, block_frames):
    heard = []
    for engine in ("onnx", "torch"):
        stream = audiodae.Streamer(
            engine=engine, sample_rate=sample_rate, block_frames=block_frames
        )
        heard.append(np.concatenate([stream.feed(speech[:60000]), stream.flush()]))
    assert np.abs(heard[0]).max() > 0.05
    assert np.abs(heard[0] - heard[1]).max() < 1e-4


def test_the_engines_agree_on_settings_and_channels(speech):
    x = np.stack([speech[:30000], 0.5 * speech[30000:60000]])
    for chosen in ({"mix": 0.7}, {"attenuation_limit_db": 9.0}, {"link": "each"}, {"link": "mid"}):
        onnx, torch = (
            audiodae.load(engine=engine)(x, 16_000, **chosen) for engine in ("onnx", "torch")
        )
        assert np.abs(onnx - torch).max() < 1e-4


def test_on_a_cpu_the_light_engine_is_taken_by_itself():
    assert audiodae.load().net.engine == "onnx"
    assert audiodae.load(engine="torch").net.engine == "torch"


def test_an_engine_that_cannot_be_is_named():
    with pytest.raises(AudiodaeError, match="auto, onnx or torch"):
        audiodae.load(engine="steam")
    with pytest.raises(AudiodaeError, match="'onnx' works on the CPU, not on 'cuda'"):
        audiodae.load(engine="onnx", device="cuda")
    with pytest.raises(AudiodaeError, match="loaded for 'onnx'"):
        audiodae.Streamer(audiodae.load("speech-16k", engine="onnx"), engine="torch")


def test_a_state_moves_from_one_engine_to_the_other(speech):
    first, second = (audiodae.Streamer(engine=e, sample_rate=16_000) for e in ("torch", "onnx"))
    first.feed(speech[:20000])
    second.state = first.state
    rest = first.feed(speech[20000:30000])
    assert np.abs(second.feed(speech[20000:30000]) - rest).max() < 1e-4


LIGHT = """
import pydoc
import numpy as np
import audiodae

denoiser = audiodae.load()
assert denoiser.net.engine == "onnx"
x = 0.1 * np.random.default_rng(0).standard_normal((2, 20000)).astype(np.float32)
assert denoiser(x, 44100).shape == x.shape
stream = audiodae.Streamer(sample_rate=48000)
assert len(stream.feed(x[0])) + len(stream.flush()) == 20000
source, folder = sys.argv[1:]
assert audiodae.clean_file(source, folder + "/one.wav", denoiser).status == "done"
loaded = {name.split(".")[0] for name in sys.modules}
assert not loaded & {"torch", "safetensors", "onnx", "scipy"}, loaded
assert "Denoise" not in dir(audiodae) and pydoc.render_doc(audiodae)
for ask in (lambda: audiodae.load(engine="torch"), lambda: audiodae.load(device="cuda")):
    try:
        ask()
    except audiodae.AudiodaeError as error:
        assert "pip install 'audiodae[torch]'" in str(error), error
    else:
        raise AssertionError("torch is not installed")
"""


def test_everything_that_cleans_works_without_torch(tmp_path):
    done = run(LIGHT, TORCH, DEMO, tmp_path)
    assert done.returncode == 0, done.stderr


def test_where_torch_is_installed_the_light_engine_does_not_load_it(tmp_path):
    program = "from audiodae.cli.main import main\ntry: main()\nfinally: assert 'torch' not in sys.modules"
    for arguments in (["--help"], ["models"], ["clean", DEMO, "-o", tmp_path / "out.wav"]):
        done = run(program, set(), *arguments)
        assert done.returncode == 0, done.stderr


def test_the_command_cleans_files_folders_and_pipes_without_torch(tmp_path):
    (tmp_path / "in").mkdir()
    sound = soundfile.read(DEMO, dtype="int16")[0][:32000]
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / "in" / name, sound, 16000)
    done = command(TORCH, "clean", tmp_path / "in", "-o", tmp_path / "out", "--jobs", 2)
    assert done.returncode == 0, done.stderr
    again = command(TORCH, "clean", tmp_path / "in", "-o", tmp_path / "out", "--skip-existing")
    assert "2 " in again.stderr + again.stdout and again.returncode == 0, again.stderr
    program = (
        WITHOUT.format(missing=TORCH) + "from audiodae.cli.main import main\nmain(['clean', '-', "
        "'--rate', '16000', '--encoding', 's16'])"
    )
    piped = subprocess.run(
        [sys.executable, "-c", program], input=sound.tobytes(), capture_output=True
    )
    assert piped.returncode == 0, piped.stderr
    out = np.frombuffer(piped.stdout, np.int16)
    assert len(out) == len(sound)
    filed = soundfile.read(tmp_path / "out" / "a.wav", dtype="int16")[0]
    assert np.abs(out.astype(int) - filed).max() <= 4  # 1e-4, and rounding


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["clean", DEMO, "--engine", "torch"], "pip install 'audiodae[torch]'"),
        (["clean", DEMO, "--device", "cuda"], "pip install 'audiodae[torch]'"),
        (["export", "speech-16k"], "pip install 'audiodae[export]'"),
        (["train", "--speech", DEMO.parent, "--run", "x"], "pip install 'audiodae[train]'"),
    ],
)
def test_what_needs_torch_says_so_in_a_sentence(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = command(TORCH, *arguments)
    assert done.returncode == 1
    assert words in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_onnx_runtime_torch_does_it(tmp_path):
    done = command({"onnxruntime"}, "clean", DEMO, "-o", tmp_path / "out.wav")
    assert done.returncode == 0, done.stderr
    done = command({"onnxruntime"}, "clean", DEMO, "-o", tmp_path / "b.wav", "--engine", "onnx")
    assert done.returncode == 1 and "pip install onnxruntime" in done.stderr


def test_a_model_of_another_kind_is_refused_before_torch_is_asked_for(tmp_path):
    words = ["clean", DEMO, "-o", tmp_path / "out.wav", "--model", "convolutional-16k"]
    done = command(TORCH, *words)
    assert done.returncode == 1 and "the kind 'denoiser' is wanted here" in done.stderr
    assert "PyTorch" not in done.stderr and "Traceback" not in done.stderr
