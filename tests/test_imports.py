"""The house's order: imports flow one way, and cleaning loads only what cleaning needs."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import audiodae

PACKAGE = Path(audiodae.__file__).parent

# From bottom to top: a module imports from its own row (never in a circle) and the rows before it.
ROWS = [
    {
        "errors",
        "installed",
        "device",
        "regular",
        "config",
        "cores",
        "levels",
        "arrays",
        "resample",
        "stft",
        "flat_tops",
    }
    | {
        "limits",
        "atomic",
        "channel_order",
        "formats",
        "wav",
        "ffmpeg",
        "id3",
        "sndfile",
        "writer",
        "pipe",
        "signals",
    }
    | {"audio"},
    {
        "features",
        "fixed_step",
        "gain",
        "judges",
        "layout",
        "onnx_runtime",
        "net",
        "phase",
        "strength",
    }
    | {"stream_state", "autoencoder_config", "autoencoder_layers", "denoiser_layers"},
    {"autoencoder", "denoiser", "onnx_net", "voice", "frame_cleaner"},
    {"checkpoint", "export", "families", "net_of", "stream", "whole"},
    {"manifest", "options", "sources", "job", "plan", "report", "plot", "dry_run"}
    | {"blockwise", "workers", "pipe_clean"}
    | {"elbo", "ahead", "pesq_loss", "stoi_loss"}
    | {
        "codecs",
        "draw",
        "corrupt",
        "groups",
        "corpus",
        "dnsmos_loss",
        "whisper_loss",
        "losses",
        "mix_config",
        "mixer",
        "recipe",
        "metrics",
        "spectral",
        "pairs",
        "scores",
    },
    {"lessons"}
    | {
        "averages",
        "board",
        "optimizers",
        "pace",
        "run_state",
        "trainer",
        "together",
        "training",
        "guess",
        "study",
        "tune",
        "warm_start",
        "evaluate",
        "progress",
        "api",
        "clean",
        "pipeline",
        "module",
    }
    | {"gstreamer", "plugin", "live", "soundcard", "keyboard"}
    | {"walk", "latents", "embed", "anomaly", "standing", "detector_file"}
    | {"plot_anomaly"}
    | {"latent_code", "adae_file", "compress", "compress_quality", "texture", "generate"},
    {"cli_embed", "cli_compress", "cli_anomaly", "cli_generate"}
    | {
        "__init__",
        "__main__",
        "cli",
        "cli_clean",
        "cli_evaluate",
        "cli_models",
        "cli_train",
        "cli_tune",
    }
    | {"cli_live", "cli_plugin", "cli_export", "cli_words"},
]
ROW = {module: number for number, row in enumerate(ROWS) for module in row}

# Slow to load, or not installed with the package: never at the top of a module.
HEAVY = {
    "constriction",
    "librosa",
    "matplotlib",
    "onnxruntime",
    "optuna",
    "pesq",
    "pyarrow",
    "pystoi",
    "scipy",
    "sklearn",
    "soxr",
    "tensorboard",
    "torchaudio",
}


@cache
def modules() -> dict[str, ast.Module]:
    return {path.stem: ast.parse(path.read_text("utf-8")) for path in PACKAGE.glob("*.py")}


def imported(node: ast.AST) -> set[str]:
    """Full names of the modules a statement imports, with `from package import module` spelt out."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports inside the package are absolute"
        if node.module == "audiodae":
            return {f"audiodae.{alias.name}" for alias in node.names}
        return {node.module or ""}
    return set()


def arrows() -> dict[str, set[str]]:
    """What each module imports of ours, anywhere in its code."""
    result = {}
    for module, tree in modules().items():
        names = set().union(*(imported(node) for node in ast.walk(tree)))
        ours = {
            name.split(".")[1] if "." in name else "__init__" for name in names if is_ours(name)
        }
        result[module] = ours - {"__version__"}  # a constant, not a part of the house
    return result


def is_ours(name: str) -> bool:
    return name == "audiodae" or name.startswith("audiodae.")


def test_every_module_has_its_row():
    found = set(modules())
    assert found - set(ROW) == set(), "give new modules a row in this test"
    assert set(ROW) - found == set(), "take modules that are gone out of the rows"


def test_imports_flow_one_way():
    wrong = [
        f"{module} (row {ROW[module]}) imports {other} (row {ROW[other]})"
        for module, others in arrows().items()
        for other in others
        if ROW[other] > ROW[module]
    ]
    assert wrong == []


def test_there_is_no_circle():
    assert list(TopologicalSorter(arrows()).static_order())


@pytest.mark.parametrize("module", sorted(modules()))
def test_no_module_loads_something_heavy_by_being_imported(module):
    top = [node for node in modules()[module].body if not is_type_checking(node)]
    names = set().union(*(imported(node) for node in top), set())
    assert {name.split(".")[0] for name in names} & HEAVY == set()


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def test_the_front_door_is_light_and_cleaning_loads_nothing_heavy(model_path):
    program = f"""
import sys
import audiodae
loaded = {{name.split(".")[0] for name in sys.modules}}
assert not loaded & {{"torch", "numpy"}}, loaded & {{"torch", "numpy"}}

import numpy
denoiser = audiodae.load({str(model_path)!r})
noisy = numpy.random.default_rng(0).standard_normal((2, 9000)).astype("float32")
assert denoiser(noisy, sample_rate=44100).shape == noisy.shape
loaded = {{name.split(".")[0] for name in sys.modules}}
heavy = loaded & {HEAVY!r}
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_name_of_the_front_door_is_there():
    for name in audiodae.__all__:
        assert getattr(audiodae, name) is not None
    assert set(audiodae.__all__) <= set(dir(audiodae))
    with pytest.raises(AttributeError, match="denoise_everything"):
        _ = audiodae.denoise_everything
