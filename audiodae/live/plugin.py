"""Putting the GStreamer element where GStreamer looks, and asking GStreamer whether it is found.

What is installed is one small file that knows the Python environment audiodae lives in. GStreamer's
loader runs a Python of its own, most often the system's, and can use that environment where both
are the same version of Python.
"""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from audiodae.errors import AudiodaeError, reason
from audiodae.files.atomic import write_whole

FILE_NAME = "gstaudiodae.py"  # not audiodae.py, which would hide the package from itself

_DEBIAN_PACKAGES = (
    "gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good "
    "gstreamer1.0-python3-plugin-loader python3-gi python3-gst-1.0"
)
_INSPECT = "gst-inspect-1.0"
_INSPECT_SECONDS = 120.0  # the first look reads every plugin there is

_TEMPLATE = '''"""Leads GStreamer to the element `audiodae`; written by `audiodae plugin install`."""

import sys

PYTHON = {python}
ENVIRONMENT = {environment!r}
FOLDERS = {folders}

if sys.version_info[:2] != PYTHON:
    raise ImportError(
        "audiodae is installed in {{}} for Python {{}}.{{}}, but GStreamer runs Python {{}}.{{}}: make an "
        "environment with `python{{}}.{{}} -m venv`, install audiodae there, and run its `audiodae "
        "plugin install`.".format(ENVIRONMENT, *PYTHON, *sys.version_info[:2] * 2)
    )
sys.path[:0] = [folder for folder in FOLDERS if folder not in sys.path]
try:
    from audiodae.live.gstreamer import __gstelementfactory__  # noqa: F401
except ImportError as error:
    raise ImportError(
        "audiodae cannot be loaded from {{}} ({{}}): install it there again, or run `audiodae plugin "
        "install` where it is now.".format(ENVIRONMENT, error)
    ) from error
'''


def default_folder() -> Path:
    """Where GStreamer's Python loader looks in a home (not in ~/.local/share, as GStreamer does)."""
    try:
        return Path.home() / ".gstreamer-1.0" / "plugins"
    except RuntimeError as error:  # of a user whom the system does not know
        raise AudiodaeError(
            "There is no home folder, where GStreamer would look: say with --path where."
        ) from error


def install(folder: Path | None = None) -> Path:
    """Write the element's file into `folder/python` (None: the user's own); returns its path.

    A `folder` of one's own must be in GST_PLUGIN_PATH. Raises `AudiodaeError` where it cannot be
    written.
    """
    path = (folder or default_folder()) / "python" / FILE_NAME
    text = _TEMPLATE.format(
        python=tuple(sys.version_info[:2]),
        environment=sys.prefix,
        folders=[str(folder) for folder in _import_folders()],
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudiodaeError(
            f"{path} cannot be written ({reason(error)}): choose another folder with --path."
        ) from error
    write_whole(path, lambda file: file.write(text.encode()))  # on a full disk an earlier one stays
    return path


def remove(folder: Path | None = None) -> Path:
    """Delete the element's file; returns where it was. Raises `AudiodaeError` if it is not there."""
    path = (folder or default_folder()) / "python" / FILE_NAME
    if not path.is_file():
        raise AudiodaeError(f"{path} is not there: nothing was removed.")
    path.unlink()
    return path


def check(folder: Path | None = None) -> None:
    """Ask GStreamer for the element. Raises `AudiodaeError` with the reason why it is not found."""
    if shutil.which(_INSPECT) is None:
        raise AudiodaeError(
            f"GStreamer was not asked, because its program {_INSPECT} is not installed. On Debian "
            f"and Ubuntu: apt install {_DEBIAN_PACKAGES}"
        )
    path = (folder or default_folder()) / "python" / FILE_NAME
    if not path.is_file():
        raise AudiodaeError(f"{path} is not there: run `audiodae plugin install`.")
    environment = dict(os.environ)
    if folder is not None:
        others = environment.get("GST_PLUGIN_PATH")
        environment["GST_PLUGIN_PATH"] = f"{folder}{os.pathsep + others if others else ''}"
    with tempfile.TemporaryDirectory() as empty:
        # What GStreamer remembers of an earlier look would hide why a look fails.
        environment["GST_REGISTRY"] = str(Path(empty) / "registry")
        loader = _inspect("python", environment, empty)
        element = _inspect("audiodae", environment, empty)
        environment |= {"GST_REGISTRY": str(Path(empty) / "outside")}
        outside = environment | {"PATH": _path_without_environments()}
        if loader.returncode and not _inspect("python", outside, empty).returncode:
            raise AudiodaeError(
                "GStreamer's loader for Python does not start in this shell: the environment that is "
                "activated here has no `gi`. Leave it (`deactivate`) before you start GStreamer, or make it "
                "with `/usr/bin/python3 -m venv --system-site-packages`."
            )
    if loader.returncode:
        raise AudiodaeError(
            "GStreamer has no loader for elements written in Python. On Debian and Ubuntu: "
            f"apt install {_DEBIAN_PACKAGES}"
        )
    if element.returncode:
        said = loader.stderr + element.stderr
        reasons = re.findall(r"^\w*Error: (.*)$", said, re.MULTILINE)
        raise AudiodaeError(
            "GStreamer does not find the element: "
            + (reasons[-1] if reasons else said.strip() or element.stdout.strip())
        )


def _path_without_environments() -> str:
    """PATH without Python environments: GStreamer's Python takes the first `python3` there for its own."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(f for f in folders if not (Path(f).parent / "pyvenv.cfg").is_file())


def _inspect(
    name: str, environment: dict[str, str], folder: str
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [_INSPECT, name],
            cwd=folder,  # a file or folder of that name would be taken for a plugin
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_INSPECT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise AudiodaeError(
            f"{_INSPECT} {name} gave no answer for {_INSPECT_SECONDS:.0f} s: run it to see why."
        ) from error


def _import_folders() -> list[Path]:
    """Where this Python finds audiodae and what it needs."""
    folders = [Path(__file__).parents[2]]
    folders += [Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")]
    if site.ENABLE_USER_SITE:
        folders.append(Path(site.getusersitepackages()))
    return list(dict.fromkeys(folder for folder in folders if folder.is_dir()))
