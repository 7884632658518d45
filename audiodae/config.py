"""Plain data to nested frozen dataclasses and back, with an error for every key that is not known."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar, Union

T = TypeVar("T")
_WORDS: dict[Any, str] = {
    bool: "true or false",
    dict: "a table",
    float: "a number",
    int: "a whole number",
    str: "a text",
    tuple: "a list",
}


def from_plain(cls: type[T], data: Mapping[str, Any], where: str = "") -> T:
    """Read a mapping (from TOML or JSON) into the dataclass `cls`.

    Raises `ValueError` with the full key (`mix.snr_db`) and, for an unknown key, the nearest known one.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"{where or 'the top level'} should be a table of keys, not {data!r}.")
    hints = typing.get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values = {}
    for key, value in data.items():
        name = f"{where}.{key}" if where else key
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = (
                f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}."
            )
            raise ValueError(f"unknown key {name!r}: {hint}")
        values[key] = _value(hints[key], value, name)
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(f"{where or 'the top level'}: {error}.") from error


def to_plain(config: Any) -> dict[str, Any]:
    """The dataclass as nested dicts and lists, ready for JSON."""
    plain = dataclasses.asdict(config)
    return {key: list(v) if isinstance(v, tuple) else v for key, v in plain.items()}


def in_json(value: Any) -> Any:
    """Plain data without the numbers that JSON has no word for (NaN, infinities).

    Entries of theirs are left out, as what was not measured; in a list None keeps their place.
    """
    if isinstance(value, Mapping):
        return {key: in_json(v) for key, v in value.items() if _has_word(v)}
    if isinstance(value, list | tuple):
        return [in_json(v) if _has_word(v) else None for v in value]
    return value


def _has_word(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def check_range(config: Any, low: float, high: float, *names: str, below: bool = False) -> None:
    """Raise `ValueError` where a value of the dataclass, or one of a tuple, is not in `low` to `high`.

    With `below` it has to be less than `high`. A pair is a range of its own and has to rise.
    """
    to = "to below" if below else "to"
    wanted = f"from {low:g} {to} {high:g}" if math.isfinite(high) else f"of {low:g} or more"
    for name in names:
        value = getattr(config, name)
        values = value if isinstance(value, tuple) else (value,)
        if not all(low <= v <= high and not (below and v == high) for v in values):
            kind = "numbers" if len(values) > 1 else "a number"
            raise ValueError(f"{name} is {value}, and not {kind} {wanted}.")
        if list(values) != sorted(values):
            raise ValueError(f"{name} is {value}: the lower number goes first.")


def as_number(value: Any) -> float:
    """A setting as a float, and NaN, which no range has in it, where it is no number."""
    try:
        return math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _value(hint: Any, value: Any, name: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return from_plain(typing.cast("type[Any]", hint), value, name)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _value(next(a for a in arguments if a is not type(None)), value, name)
    if origin is tuple and isinstance(value, list | tuple):
        if arguments[-1] is Ellipsis:
            return tuple(_value(arguments[0], v, f"{name}[{i}]") for i, v in enumerate(value))
        if len(value) != len(arguments):
            raise ValueError(f"{name} has {len(value)} values, {len(arguments)} are wanted.")
        pairs = zip(arguments, value, strict=True)
        return tuple(_value(a, v, f"{name}[{i}]") for i, (a, v) in enumerate(pairs))
    if origin is dict and isinstance(value, Mapping):
        return {str(k): _value(arguments[1], v, f"{name}.{k}") for k, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise ValueError(f"{name} is {value}, which is too large a number.") from None
    if isinstance(hint, type) and type(value) is hint:
        return value
    if origin is tuple and dataclasses.is_dataclass(arguments[0]) and isinstance(value, Mapping):
        raise ValueError(f"{name} is one table, and a list of them is wanted: write [[{name}]].")
    wanted = _WORDS.get(origin or hint, str(hint))
    raise ValueError(f"{name} is {value!r}, which is not {wanted}.")
