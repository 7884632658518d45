"""Whether what somebody puts back as the state of a stream is one, and one of such a stream."""

from __future__ import annotations

import operator
import re
from typing import Any

from audiodae.errors import AudiodaeError

NO_STATE = "This is no state: what the `state` of a stream gave is wanted."
_WHOLE = ("net", "tail")  # arrays whose shape never changes


def checked_state(state: Any, present: dict[str, Any]) -> dict[str, Any]:
    """What is to take the place of the `present` state, with plain numbers (numpy saves them as arrays).

    `setup` in both says what the stream was made with. Raises `AudiodaeError` for what is no such state,
    before any of it is set.
    """
    no_state = AudiodaeError(NO_STATE)
    if not isinstance(state, dict) or not isinstance(state.get("setup"), dict):
        raise no_state
    theirs, ours = state["setup"], present["setup"]
    if theirs != ours:
        different = [name for name in ours if theirs.get(name) != ours[name]]
        raise AudiodaeError(
            "The state belongs to a stream with "
            + ", ".join(f"{name}={theirs.get(name)!r}" for name in different)
            + "; this one has "
            + ", ".join(f"{name}={ours[name]!r}" for name in different)
            + ": make a Streamer with the same settings and model."
        )
    try:
        taken: dict[str, Any] = _taken(present, state)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise no_state from error
    return taken


def _taken(pattern: Any, state: Any, whole: bool = False) -> Any:
    """Of `state` all that `pattern` has, in the dicts inside too. Raises where something is not of its kind.

    Arrays are as many dimensions and rows; how long they are is a matter of what was heard, but for `whole`.
    """
    if isinstance(pattern, dict):
        return {
            name: _taken(value, state[name], whole or name in _WHOLE)
            for name, value in pattern.items()
        }
    if hasattr(pattern, "shape"):
        given, wanted = tuple(state.shape), tuple(pattern.shape)
        same = given == wanted if whole else given[:1] == wanted[:1] and len(given) == len(wanted)
        if not same or "float" not in str(state.dtype):
            raise ValueError
        return state
    if isinstance(pattern, int):
        return operator.index(state)
    if isinstance(pattern, tuple):
        return _form(*state)
    return state


def _form(library: Any, dtype: Any, device: Any, dimensions: Any) -> tuple[str, str, str, int]:
    """That of the arrays which are given out."""
    dimensions = operator.index(dimensions)
    dtype_is = {"numpy": r"[<>=]?f\d+", "torch": r"b?float\d+"}[str(library)]
    if not re.fullmatch(dtype_is, str(dtype)) or not 1 <= dimensions <= 3:
        raise ValueError
    return str(library), str(dtype), str(device), dimensions
