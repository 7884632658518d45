"""The house's order: imports flow one way, and cleaning loads only what cleaning needs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import audiodae

PACKAGE = Path(audiodae.__file__).parent

# From bottom to top: a module imports from its own room (never in a circle) and the rooms before it. Those
# without a folder are the ground that all stand on, and the front door.
GROUND = {"errors", "installed", "config", "cores", "signals", "limits"}
DOOR = {"api", "module", "pipeline"}
ENTRANCE = {"__init__", "__main__"}
ROOMS = [
    "ground",
    "sound",
    "files",
    "nets",
    "streaming",
    "door",
    "recordings",
    "live",
    "measure",
    "training",
    "latent",
    "cli",
    "entrance",
]

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
    """By names such as `sound.stft` and `api`; of a room's own `__init__` it is that of the room."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text("utf-8"))
    return found


def room(module: str) -> int:
    first, *inside = module.split(".")
    for name, modules in (("ground", GROUND), ("door", DOOR), ("entrance", ENTRANCE)):
        if not inside and first in modules:
            return ROOMS.index(name)
    return ROOMS.index(first)


def imported(node: ast.AST) -> set[str]:
    """Full names of the modules a statement imports, with `from package import module` spelt out."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports inside the package are absolute"
        spelt = {f"{node.module}.{alias.name}" for alias in node.names}
        # A room, or the package itself, of which a module is imported.
        return (
            spelt
            if node.module and node.module.partition(".")[2] in packages()
            else {node.module or ""}
        )
    return set()


def packages() -> set[str]:
    return {"", *(path.parent.name for path in PACKAGE.glob("*/__init__.py"))}


def arrows() -> dict[str, set[str]]:
    """What each module imports of ours, anywhere in its code."""
    result = {}
    for module, tree in modules().items():
        names = set().union(*(imported(node) for node in ast.walk(tree)))
        ours = {name.partition(".")[2] or "__init__" for name in names if is_ours(name)}
        result[module] = ours - {"__version__"}  # a constant, not a part of the house
    return result


def is_ours(name: str) -> bool:
    return name == "audiodae" or name.startswith("audiodae.")


def test_every_room_has_its_place_and_says_what_it_is_for():
    folders = packages() - {""}
    assert folders == set(ROOMS) - {"ground", "door", "entrance"}
    assert all(ast.get_docstring(modules()[folder]) for folder in folders)
    assert all(len(modules()[folder].body) == 1 for folder in folders), "code has a name of its own"
    outside = {module for module in modules() if "." not in module} - folders
    assert outside == GROUND | DOOR | ENTRANCE


def test_the_readme_shows_the_rooms_in_their_order():
    readme = (PACKAGE.parent / "README.md").read_text("utf-8")
    shown = re.findall(
        r"^\| `(\w+)` \| (.*) \|$", readme.partition("## How the code lies")[2], re.MULTILINE
    )
    wanted = [name for name in ROOMS if name in packages()]
    assert shown == [(name, ast.get_docstring(modules()[name])) for name in wanted]


def test_imports_flow_one_way():
    wrong = [
        f"{module} imports {other}"
        for module, others in arrows().items()
        for other in others
        if room(other) > room(module)
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
