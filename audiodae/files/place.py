"""Where a folder for outputs is to be: what stands there, looked at before any work, and making it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def nearest_there(folder: Path) -> Path:
    """`folder`, or the nearest above it that is there, also a link that leads nowhere; or its root."""
    folder = folder.absolute()
    places = (place for place in (folder, *folder.parents) if os.path.lexists(place))
    return next(places, Path(folder.anchor))


@contextlib.contextmanager
def made(folder: Path) -> Iterator[None]:
    """Makes a folder and those above it; where nothing came into them, and that failed, they go again."""
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # of one that is not empty
            for place in new:
                place.rmdir()
        raise
