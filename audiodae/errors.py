"""Errors a user can act on. Each message says what was given, what was wanted, and what to do."""


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
    """Names on disk may be no valid text; terminals, pictures and tables want some."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
