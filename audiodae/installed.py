"""Which optional packages are there, without importing them: most of them load slowly."""

from __future__ import annotations

from importlib.util import find_spec


def is_installed(package: str) -> bool:
    """Whether `package` could be imported."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # a finder keeps it from being imported; a half-made module
        return False
