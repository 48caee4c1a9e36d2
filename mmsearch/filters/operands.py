"""Operands of a condition: of which sort they are, and what is said of two that do not fit."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mmsearch.errors import UsageError
from mmsearch.filters.columns import quoted
from mmsearch.filters.values import Value

LARGE = "HUGEINT"  # the type of whole constants that doubles cannot tell apart
_EXACT = "DECIMAL(38, 12)"  # what keys of meta are read as beside them
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT")
_NUMBER, _TIME, _SPAN, _TRUTH, _TEXT = "number", "time", "span of time", "truth value", "text"
_SORTS = {  # DuckDB's name of a type -> what an error calls its values
    **dict.fromkeys((*_INTEGERS, "FLOAT", "DOUBLE", "DECIMAL", LARGE, _EXACT), _NUMBER),
    **dict.fromkeys(("DATE", "TIMESTAMP"), _TIME),
    "INTERVAL": _SPAN,
    "BOOLEAN": _TRUTH,
    "VARCHAR": _TEXT,
}
# what a text under a key of meta is read as beside an operand of that type
_READ_AS = {
    **{name: "DOUBLE" for name, sort in _SORTS.items() if sort == _NUMBER},
    LARGE: _EXACT,
    **{name: name for name in ("BOOLEAN", "DATE", "TIMESTAMP", "INTERVAL")},
}
_DAYS = ("TINYINT", "SMALLINT", "INTEGER")  # what DuckDB adds to a date
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")
_MAX_NAME_CHARS = 60
_A_TIME = "'2026-01-31' or '2026-01-31 18:30'"
_REMEDIES = {  # what helps where a constant text is none of that sort
    _TIME: f"Write a time as in {_A_TIME}.",
    _SPAN: "Write a span of time as in '7 days' or '12 hours'.",
    _TRUTH: "Write true or false.",
}


@dataclass(frozen=True)
class Piece:
    """SQL of a part of the condition.

    type: DuckDB's name of its type where it is known, "META" for a key of meta. name: what an
    error calls it. text: what a constant text says. held: whether it is a
    column. read: whether it is a key of meta that is read as of its type. given: whether it is the
    value of a parameter.
    """

    sql: str
    type: str | None = None
    name: str = "the other side"
    text: str | None = None
    held: bool = False
    read: bool = False
    given: bool = False

    @property
    def sort(self) -> str | None:
        """What an error calls values of its type; None where that is not known."""
        return _SORTS.get(self.type or "")

    @property
    def told(self) -> str:
        """Of which sort it is, as an error says it."""
        how = "holds {}s" if self.held else "is read as a {}" if self.read else "is a {}"
        return f"{self.name} {how.format(self.sort)}"

    def read_as(self, type: str) -> Piece:
        """A key of meta as a value of that type; anything else as it is."""
        if self.type != "META":
            return self
        return replace(self, sql=f"TRY_CAST({self.sql} AS {type})", type=type, read=True)


@dataclass(frozen=True)
class Check:
    """A constant that must be readable as a type, and what is said if it is not."""

    sql: str
    type: str
    message: str


def text_constant(text: str, given: bool = False) -> Piece:
    """A text that the filter holds. given: as the value of a parameter."""
    return Piece(quoted(text), "VARCHAR", f"'{_cut(text)}'", text, given=given)


def alike(pieces: Sequence[Piece]) -> list[Piece]:
    """Operands with keys of meta read as the others are."""
    types = [_READ_AS[p.type] for p in pieces if p.type in _READ_AS]
    if not types:
        return list(pieces)
    return [p.read_as(_EXACT if _EXACT in types else types[0]) for p in pieces]


def compared(pieces: Sequence[Piece]) -> tuple[list[Piece], list[Check]]:
    """Operands that are compared with each other, and what must be checked of them.

    What is known of one tells how the others are read. Raises UsageError for a text beside a
    number that is none, and for two of different sorts.
    """
    found: list[Piece] = []
    checks: list[Check] = []
    pieces = alike(pieces)
    # a column tells more of what is meant than a constant, and a text constant tells nothing
    told = [p for p in pieces if p.sort is not None and p.text is None]
    first = next((p for p in told if p.held), told[0] if told else None)
    for piece in pieces:
        if first is None or piece.sort in (None, first.sort):
            found.append(piece)
        elif piece.text is not None:
            example = f"{first.name} = 2" if first.held else "2"
            remedy = f"Write a number without quotes, as in {example}."
            if piece.given:
                remedy = "Give a number, such as 2."
            piece, more = _constant(piece, first, f"{first.told}; {piece.name} is none.", remedy)
            found.append(piece)
            checks += more
        elif {piece.sort, first.sort} == {_NUMBER, _TRUTH}:  # true is 1
            found.append(piece)
        else:
            raise UsageError(f"{first.told}, and {piece.told}. {_beside(first, piece)}")
    return found, checks


def argument(piece: Piece, type: str, function: str) -> tuple[Piece, list[Check]]:
    """What a function is given, as the type that it takes, and what must be checked of it.

    Raises UsageError for what is of another sort.
    """
    piece, wanted = piece.read_as(type), Piece("", type)
    takes = f"{function} takes a {wanted.sort}"
    if piece.sort in (None, wanted.sort):
        return piece, []
    if piece.text is not None:
        return _constant(piece, wanted, f"{takes}; {piece.name} is none.", "")
    remedy = ""
    if wanted.sort == _TIME:
        remedy = f"Name a column of times, as in {function}(mtime)."
    elif piece.held:
        is_year = piece.sort == _TIME and wanted.sort == _NUMBER
        remedy = f"Write {f'year({piece.name})' if is_year else f'cast({piece.name} as {type})'}."
    raise UsageError(f"{takes}, and {piece.told}. {remedy}".strip())


def among(what: Piece, value: Value, table: str) -> tuple[Piece, str, list[Check]]:
    """What is looked for in a list, as the list's values are; and SQL that gives these.

    table: the name of the list's table, which has them as ``value``. Raises UsageError for values
    of another sort.
    """
    listed = Piece("value", value.type, value.name)
    read = alike([what, listed])[0]
    if read.sort in (None, listed.sort) or {read.sort, listed.sort} == {_NUMBER, _TRUTH}:
        return read, f"SELECT value FROM {table}", []
    wrong = f"{read.told}, and {value.name} holds {listed.sort}s."
    if read.sort in (_TIME, _SPAN) and listed.sort == _TEXT:
        assert read.type is not None
        cast = f"TRY_CAST(value AS {read.type})"
        # the first that cannot be read, or any
        first = f"(SELECT value FROM {table} ORDER BY {cast} IS NOT NULL LIMIT 1)"
        wrong = f"{read.told}; {value.name} holds a text that is none. {_REMEDIES[read.sort]}"
        checks = [Check(first, read.type, wrong)]
        return read, f"SELECT {cast} FROM {table}", checks
    raise UsageError(f"{wrong} Give a list of {read.sort}s.")


def castable(piece: Piece, type: str) -> Check:
    """The check of a constant that the filter casts."""
    remedy = _REMEDIES.get(_SORTS[type], "")
    return Check(piece.sql, type, f"{piece.name} cannot be read as {type}. {remedy}".strip())


def with_times(left: Piece, sign: str, right: Piece) -> str:
    """The type of what is calculated with a time. Raises UsageError for what cannot be."""
    if sign == "-" and left.sort == right.sort == _TIME:
        return "BIGINT" if left.type == right.type == "DATE" else "INTERVAL"
    if sign in "+-" and left.type == "DATE" and right.type in _DAYS:
        return "DATE"
    time = left if left.sort == _TIME else right
    raise UsageError(
        f"{left.name} {sign} {right.name} cannot be calculated: {time.told}. Days are added to a "
        "date, as in cast(mtime as DATE) + 7, and one time is taken from another, as in "
        "mtime - timestamp '2026-01-31'."
    )


def _constant(piece: Piece, like: Piece, wrong: str, remedy: str) -> tuple[Piece, list[Check]]:
    """A constant text read as another operand is. wrong: what is said if it cannot be.
    remedy: what helps if a number is wanted."""
    if like.sort == _NUMBER:
        number = _number(piece.text or "")
        if number is None:
            raise UsageError(f"{wrong} {remedy}".strip())
        return Piece(number, "DOUBLE", piece.name), []
    assert like.type is not None
    wrong = f"{wrong} {_REMEDIES.get(like.sort or '', '')}".strip()
    read = replace(piece, sql=f"CAST({piece.sql} AS {like.type})", type=like.type)
    return read, [Check(piece.sql, like.type, wrong)]


def _beside(first: Piece, other: Piece) -> str:
    """What helps where two operands are of different sorts."""
    if first.sort == _TEXT and other.given:
        plain = other.name.strip("'")
        return f"Give a text: '{plain}' (on the command line --param '\"{plain}\"')."
    if first.sort == _TEXT and not other.held:
        return f"Put it in single quotes: '{other.name}'."
    if {first.sort, other.sort} == {_TIME, _NUMBER}:
        time, number = (first, other) if first.sort == _TIME else (other, first)
        year = f"year({time.name if time.held else '…'})"
        return f"Compare {year}" + ("." if number.held else f", or write a time as in {_A_TIME}.")
    text = next((p for p in (first, other) if p.sort == _TEXT), None)
    if text is not None:
        as_type = "TIMESTAMP" if _TIME in (first.sort, other.sort) else "DOUBLE"
        return f"Read the text so: cast({text.name if text.held else '…'} as {as_type})."
    return _REMEDIES.get(first.sort or "", "Compare each with what is of its sort.")


def _number(text: str) -> str | None:
    """SQL of the number that a text is; None for one that is none."""
    if _WHOLE.fullmatch(text):
        return f"({int(text)})"
    try:
        value = float(text)
    except ValueError:
        return None
    return f"({value!r}::DOUBLE)" if math.isfinite(value) else None


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_NAME_CHARS else text[: _MAX_NAME_CHARS - 1] + "…"
