"""The database of a search, and what may be wrong with it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audiodae.errors import AudiodaeError

# What reading a study raises in which something stands that we have not written.
_DAMAGED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


def storage(path: Path) -> Any:
    """The database at a path, which as a part of a URL would have characters that mean something else."""
    import optuna
    from sqlalchemy.pool import QueuePool

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(path, check_same_thread=False)

    return optuna.storages.RDBStorage(
        "sqlite://", engine_kwargs={"creator": connect, "poolclass": QueuePool}
    )


@contextlib.contextmanager
def told_of(path: Path, *, reading: bool = False) -> Iterator[None]:
    """What goes wrong with a study's database becomes a sentence; `reading` it, also what stands there."""
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    told: tuple[type[Exception], ...] = (
        SQLAlchemyError,
        OptunaError,
        *(_DAMAGED if reading else ()),
    )
    try:
        yield
    except AudiodaeError:
        raise
    except told as error:
        first = str(getattr(error, "orig", None) or error).splitlines() or [type(error).__name__]
        raise AudiodaeError(
            f"{path} cannot be used as the study of a search: {first[0].rstrip('.')}. If it is not in use by "
            "another search, and there is room on the disk, begin a new one with another --run."
        ) from error
