"""Whether what somebody puts back as the state of a stream is one, and one of such a stream."""

from __future__ import annotations

from typing import Any

from audiodae.errors import AudiodaeError


def check_state(state: Any, present: dict[str, Any]) -> None:
    """Raise `AudiodaeError` for what cannot take the place of the `present` state, before any of it is set.

    `setup` in both says what the stream was made with.
    """
    no_state = AudiodaeError("This is no state: what the `state` of a stream gave is wanted.")
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
    if not _is_like(present, state):
        raise no_state


def _is_like(pattern: Any, state: Any) -> bool:
    """Whether all that `pattern` has is in `state` too, in the dicts inside too, and of its kind.

    Arrays are as many dimensions and rows; how long they are is a matter of what was heard.
    """
    if isinstance(pattern, dict):
        return isinstance(state, dict) and all(
            name in state and _is_like(value, state[name]) for name, value in pattern.items()
        )
    if hasattr(pattern, "shape"):
        shape = getattr(state, "shape", ())
        return len(shape) == len(pattern.shape) and shape[:1] == pattern.shape[:1]
    if isinstance(pattern, int):
        return hasattr(state, "__index__")
    return not isinstance(pattern, tuple) or isinstance(state, list | tuple)
