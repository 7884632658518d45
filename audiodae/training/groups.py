"""Who is who among the files of a corpus: the groups that a split must not part.

A table `NAME.tsv` beside or inside the folder NAME names them: in a column `file` the path in the folder, or
the name alone where no other file has it, and in one named `group`, `talker`, `speaker` or `room` the group.
Of files that no table names, the name less its trailing number is the group. Of speech it is the folder that
the name begins with (`p225/p225_001_mic1.wav`), and for names that are nothing but numbers the folder that
they lie in.
"""

from __future__ import annotations

import csv
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path, PurePath

from audiodae.errors import AudioError, reason

_COLUMNS = ("group", "talker", "speaker", "room")
_NUMBER = re.compile(r"[-_ .]*\d+$")


def groups_of(folder: Path, names: Sequence[PurePath], talkers_in_folders: bool) -> list[str]:
    """The group of each of the files `names`, whose paths are relative to `folder`.

    Raises `AudioError` for a table that cannot be read or says nothing about these files.
    """
    table = _table(folder, [name.as_posix() for name in names])
    return [table.get(name.as_posix()) or _by_name(name, talkers_in_folders) for name in names]


def _by_name(name: PurePath, talkers_in_folders: bool) -> str:
    if talkers_in_folders:
        for part in name.parts[:-1]:
            rest = name.name[len(part) :]
            if name.name.startswith(part) and not rest[:1].isalnum():
                return part
    group = _NUMBER.sub("", name.stem)
    if not group and talkers_in_folders and len(name.parts) > 1:
        group = str(name.parent)
    return group or name.stem


def _table(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Name -> group by the table beside or inside the folder, if there is one."""
    if not names:
        return {}
    for table in (folder.parent / f"{folder.name}.tsv", folder / f"{folder.name}.tsv"):
        if table.is_file():
            return _matched(table, _rows(table), folder, names)
    return {}


def _rows(table: Path) -> list[tuple[str, str]]:
    """File and group of every row that has both."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.reader(lines, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = str(error)
        if isinstance(error, OSError):
            why = reason(error)
        elif isinstance(error, UnicodeDecodeError):
            why = "it is not UTF-8 text"
        raise AudioError(f"The table of groups {table} cannot be read: {why}.") from error
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    found = [header.index(name) for name in _COLUMNS if name in header]
    if "file" not in header or not found:
        raise AudioError(
            f"The table of groups {table} has the columns {', '.join(header) or '(none)'}: it wants one "
            f"named file and one named {', '.join(_COLUMNS[:-1])} or {_COLUMNS[-1]}, separated by tabs."
        )
    file, group = header.index("file"), found[0]
    full = [row for row in rows[1:] if len(row) > max(file, group)]
    both = [(row[file].strip(), row[group].strip()) for row in full]
    return [pair for pair in both if all(pair)]


def _matched(
    table: Path, rows: list[tuple[str, str]], folder: Path, names: Sequence[str]
) -> dict[str, str]:
    """By path where a row has one of a file here, else by the bare name, which must be one file's alone."""
    groups: dict[str, str] = {}
    loose: dict[str, set[str]] = {}
    paths: dict[str, list[str]] = {}
    for name in names:
        paths.setdefault(posixpath.basename(name), []).append(name)
    known = set(names)
    for file, group in rows:
        path = posixpath.normpath(file.replace("\\", "/"))
        inside = path.removeprefix(f"{folder.name}/")  # as seen from where the table lies
        if path in known or inside in known:
            name = path if path in known else inside
            _refuse_another(table, name, groups.setdefault(name, group), group)
            continue
        bare = posixpath.basename(path)
        if bare == path and len(paths.get(bare, [])) > 1:
            raise AudioError(
                f"The table of groups {table} names {bare}, and {len(paths[bare])} files have that name: "
                f"write the path in the folder, such as {paths[bare][0]}."
            )
        if bare == path and bare in paths:
            for before in loose.get(bare, ()):
                _refuse_another(table, bare, before, group)
        loose.setdefault(bare, set()).add(group)
    for bare, wanted in loose.items():
        if len(wanted) == 1 and len(paths.get(bare, [])) == 1:
            groups.setdefault(paths[bare][0], *wanted)
    if not groups:
        raise AudioError(
            f"The table of groups {table} names none of the {len(names)} files in {folder}: write their "
            f"paths in the folder, such as {names[0]}, or take the table away."
        )
    return groups


def _refuse_another(table: Path, name: str, before: str, group: str) -> None:
    if before != group:
        raise AudioError(
            f"The table of groups {table} has {name} in two groups, {before} and {group}: keep the row that "
            "is right."
        )
