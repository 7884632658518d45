"""Errors a user can act on. Each message says what was given, what was wanted, and what to do."""

_COMMANDS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {ord("\n"): r"\n"}


class AudiodaeError(Exception):
    """Base of every error audiodae raises on purpose; its text is a sentence for the user."""


class AudioError(AudiodaeError):
    """An audio file, stream or array cannot be read, written or made sense of."""


class CheckpointError(AudiodaeError):
    """A weight file is missing, damaged, or not one of ours."""


class RecipeError(AudiodaeError):
    """A training recipe has an unknown key or an impossible value."""


class PlanError(AudiodaeError):
    """Nothing can be started: outputs would fall on each other or on a recording."""


def printable(text: str) -> str:
    """One line of text: names on disk may be no valid text, may command a terminal or divide the row."""
    valid = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return valid.translate(_COMMANDS)
