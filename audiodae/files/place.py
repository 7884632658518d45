"""What stands where a folder for outputs is to be, looked at before any work."""

from __future__ import annotations

import os
from pathlib import Path


def nearest_there(folder: Path) -> Path:
    """`folder`, or the nearest above it that is there, also a link that leads nowhere; or its root."""
    folder = folder.absolute()
    places = (place for place in (folder, *folder.parents) if os.path.lexists(place))
    return next(places, Path(folder.anchor))
