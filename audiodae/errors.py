"""Errors a user can act on. Each message says what was given, what was wanted, and what to do."""

import errno

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


def reason(error: OSError) -> str:
    """What a user can do about a system error, in words."""
    known = {
        errno.ENOSPC: "the disk is full; free some space or choose another folder",
        errno.EDQUOT: "your disk quota is used up; free some space or choose another folder",
        errno.EFBIG: "the file grew beyond what the file system or a limit allows",
        errno.EROFS: "the file system is read-only; choose another folder",
        errno.EACCES: "permission is denied; check the rights of the file and its folder",
        errno.EPERM: "permission is denied; check the rights of the file and its folder",
        errno.ENAMETOOLONG: "its name is too long for the file system; shorten it",
        errno.ELOOP: "its path goes round in circles through symbolic links",
        errno.ENOENT: "it does not exist",
        errno.ENOTDIR: "part of its path is a file, not a folder",
    }
    return known.get(error.errno or 0, error.strerror or str(error))
