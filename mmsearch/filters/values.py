"""Values that a filter's parameters stand for, checked when they are given."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from hashlib import blake2b
from typing import Any

import numpy as np

from mmsearch.errors import LimitExceeded, UsageError
from mmsearch.filters.columns import (
    INEXACT,
    MAX_PARAM_BYTES,
    MAX_PARAM_CHARS,
    MAX_PARAM_VALUES,
    MAX_SINGLE_BYTES,
)
from mmsearch.given import shown

_SHOWN_VALUES = 3  # of a list, to people
_WRITTEN_VALUES = 100  # of a list, in JSON; longer ones are only counted
_INT32, _INT64 = 1 << 31, 1 << 63
_LISTS = (list, tuple, set, frozenset)
_ARRAYS = "biufUO"  # NumPy's kinds whose values become Python's as they are; times do not


@dataclass(frozen=True)
class Value:
    """What one parameter stands for: one value, or a list of values of one type.

    name: how an error calls it, such as ``params[0]``. type: DuckDB's name of its type. several:
    whether it is a list. size: how many bytes its values take. digest: 32 bytes that no other
    values have.
    """

    name: str
    type: str
    values: tuple[Any, ...] = field(repr=False)
    several: bool
    size: int
    digest: bytes = field(repr=False)

    @property
    def shown(self) -> str:
        """The value as people are shown it: in a few words."""
        if not self.several:
            return shown(_plain(self.values[0]))
        some = [shown(_plain(value)) for value in self.values[:_SHOWN_VALUES]]
        if (n := len(self.values)) > len(some):
            some.append(f"… {n:,} values")
        return f"[{', '.join(some)}]"

    def to_json(self) -> Any:
        """The value as JSON: times as texts; of a long list how many values it has."""
        if not self.several:
            return _plain(self.values[0])
        if len(self.values) > _WRITTEN_VALUES:
            return {"values": len(self.values)}
        return [_plain(value) for value in self.values]


def checked_value(value: Any, name: str) -> Value:
    """Return what a parameter stands for. Raises UsageError or LimitExceeded.

    name: how an error calls it.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind in _ARRAYS:
        value = value.tolist()
    if not isinstance(value, _LISTS):
        return _made([value], name, False)
    if not value:
        raise UsageError(
            f"{name} is an empty list, and nothing is in it. Give at least one value, or do not "
            "search."
        )
    if len(value) > MAX_PARAM_VALUES:
        raise LimitExceeded(
            f"{name} holds {len(value):,} values; at most {MAX_PARAM_VALUES:,} are taken. "
            "Ask several times, or store what you filter by with the parts (meta)."
        )
    return _made(list(value), name, True)


def checked_together(values: Sequence[Value]) -> None:
    """Raises LimitExceeded for values that are too many, or too long, all together."""
    if (n := sum(len(value.values) for value in values)) > MAX_PARAM_VALUES:
        raise LimitExceeded(
            f"a filter's parameters hold {n:,} values; at most {MAX_PARAM_VALUES:,} are taken."
        )
    if (n := sum(value.size for value in values)) > MAX_PARAM_BYTES:
        raise _too_long("a filter's parameters", n)
    if (n := sum(value.size for value in values if not value.several)) > MAX_SINGLE_BYTES:
        raise LimitExceeded(
            f"a filter's single values take {n:,} bytes; at most {MAX_SINGLE_BYTES:,} are taken. "
            "Give many values as one list: meta.KEY in ?."
        )


def _made(values: list[Any], name: str, several: bool) -> Value:
    """The values of one parameter. Raises as ``checked_value`` does."""
    type, own = _typed(values, name)
    texts = own if type == "VARCHAR" else map(repr, own)
    try:
        written = "\0".join(texts).encode()  # which no other values give: none holds a NUL
    except UnicodeEncodeError:
        raise UsageError(f"{name} is no valid text: it holds half a character.") from None
    if written.count(b"\0") != len(own) - 1:
        raise UsageError(f"{name} is no valid text: it holds a NUL.")
    digest = blake2b(written, digest_size=32, person=type.encode()).digest()
    return Value(name, type, own, several, len(written), digest)


def _typed(values: list[Any], name: str) -> tuple[str, tuple[Any, ...]]:
    """The values as Python's own types, and DuckDB's name of what all of them are."""
    kinds = {_kind(kind, values, name) for kind in dict.fromkeys(map(type, values))}
    if kinds == {int, float}:
        if any(isinstance(v, int) and int(float(v)) != v for v in _small(values, name)):
            raise UsageError(
                f"{name} holds whole numbers beyond 2^53 and fractions. Give a list of each."
            )
        kinds = {float}
    if len(kinds) > 1:
        told = " and ".join(sorted(_KINDS[kind] for kind in kinds))
        raise UsageError(f"{name} holds {told}. A list holds values of one kind.")
    (kind,) = kinds
    return _READ[kind](values, name)


def _kind(own: type, values: list[Any], name: str) -> type:
    """Which of ``_KINDS`` values of a type are. Raises UsageError for any other type."""
    for base, kind in _BASES:
        if issubclass(own, base):
            return kind
    value = next(v for v in values if type(v) is own)
    if value is None:
        raise UsageError(
            f"{name} gives None, which equals nothing. To find parts without a value: "
            "where='meta.KEY is null'."
        )
    if issubclass(own, _LISTS):
        raise UsageError(f"{name} holds a list in a list: give one list of texts or numbers.")
    remedy = "Give a str, int, float, bool, date or datetime, or a list of such."
    if issubclass(own, dict):
        remedy += " For other comparisons: where='year > ?', params=[2020]."
    raise UsageError(f"{name} is no value of a filter: {shown(value)}. {remedy}")


def _texts(values: list[Any], name: str) -> tuple[str, tuple[Any, ...]]:
    lengths = list(map(len, values))
    longest = max(lengths)
    if longest > MAX_PARAM_CHARS:
        raise LimitExceeded(
            f"{name} holds a text of {longest:,} characters; at most {MAX_PARAM_CHARS:,} are taken."
        )
    if (n := sum(lengths)) > MAX_PARAM_BYTES:
        raise _too_long(name, n)
    # of a subclass, what it holds
    return "VARCHAR", tuple(v if type(v) is str else str.__str__(v) for v in values)


def _truths(values: list[Any], name: str) -> tuple[str, tuple[Any, ...]]:
    return "BOOLEAN", tuple(map(bool, values))


def _small(values: list[Any], name: str) -> list[Any]:
    """Numbers as Python's own. Raises UsageError for a whole one that is too large."""
    own = [v if type(v) in (int, float) else _own_number(v) for v in values]
    whole = [v for v in own if isinstance(v, int)]
    if whole and not -_INT64 <= min(whole) <= max(whole) < _INT64:
        large = next(v for v in whole if not -_INT64 <= v < _INT64)
        raise UsageError(f"{name}: {shown(large)} is too large; whole numbers have 64 bits.")
    return own


def _own_number(value: Any) -> int | float:
    return int(value) if isinstance(value, int | np.integer) else float(value)


def _whole(values: list[Any], name: str) -> tuple[str, tuple[Any, ...]]:
    own = _small(values, name)
    furthest = max(abs(min(own)), abs(max(own)))
    type = "INTEGER" if furthest < _INT32 else "BIGINT" if furthest < INEXACT else "HUGEINT"
    return type, tuple(own)


def _fractions(values: list[Any], name: str) -> tuple[str, tuple[Any, ...]]:
    own = [float(v) for v in _small(values, name)]
    for value in own:
        if not math.isfinite(value):
            raise UsageError(
                f"{name} gives {value}, and a filter compares finite numbers. For what has no "
                "value, write so: where='meta.KEY is null'."
            )
    return "DOUBLE", tuple(own)


def _times(values: list[Any], name: str) -> tuple[str, tuple[Any, ...]]:
    own = []
    for value in values:
        try:
            aware = value.tzinfo is not None and value.utcoffset() is not None
            utc = value.astimezone(UTC) if aware else value
            own.append(datetime.fromisoformat(utc.replace(tzinfo=None).isoformat()))
        except (ValueError, OverflowError, TypeError):  # such as pandas' NaT
            raise UsageError(f"{name}: {shown(value)} is no time that can be compared.") from None
    return "TIMESTAMP", tuple(own)


def _dates(values: list[Any], name: str) -> tuple[str, tuple[Any, ...]]:
    return "DATE", tuple(date(v.year, v.month, v.day) for v in values)


# in this order: a bool is an int, and a datetime is a date
_BASES: tuple[tuple[Any, type], ...] = (
    ((bool, np.bool_), bool),
    ((int, np.integer), int),
    ((float, np.floating), float),
    (str, str),
    (datetime, datetime),
    (date, date),
)
_KINDS = {
    bool: "truth values",
    int: "whole numbers",
    float: "fractions",
    str: "texts",
    datetime: "times",
    date: "dates",
}
_READ: dict[type, Callable[[list[Any], str], tuple[str, tuple[Any, ...]]]] = {
    bool: _truths,
    int: _whole,
    float: _fractions,
    str: _texts,
    datetime: _times,
    date: _dates,
}


def _too_long(what: str, n: int) -> LimitExceeded:
    return LimitExceeded(f"{what} take {n:,} bytes; at most {MAX_PARAM_BYTES:,} are taken.")


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, datetime):
        return value.isoformat(" ")
    return value.isoformat() if isinstance(value, date) else value
