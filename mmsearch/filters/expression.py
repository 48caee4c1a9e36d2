"""DuckDB's parse tree of a condition, checked and written anew as SQL.

Nothing of the user's text is ever executed. Each kind of node, operator, function and type
that may occur is listed here, and what is written consists of those, of the columns' own SQL
and of literals that are quoted here; a node with a field that is not expected is refused.
LIKE is not passed on as it is, see ``patterns``.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from functools import partial
from typing import Any

from mmsearch.errors import LimitExceeded, UsageError
from mmsearch.filters.columns import (
    COLUMNS,
    MAX_FILTER_DEPTH,
    META,
    NAMES,
    meta_sql,
    quoted,
)
from mmsearch.filters.patterns import REGEX_CALLS, like_sql, tokens_of

Node = dict[str, Any]

_COMPARISONS = {
    "COMPARE_EQUAL": "=",
    "COMPARE_NOTEQUAL": "<>",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
    "COMPARE_DISTINCT_FROM": "IS DISTINCT FROM",
    "COMPARE_NOT_DISTINCT_FROM": "IS NOT DISTINCT FROM",
}
_CONJUNCTIONS = {"CONJUNCTION_AND": " AND ", "CONJUNCTION_OR": " OR "}
_IS_NULL = {"OPERATOR_IS_NULL": "IS NULL", "OPERATOR_IS_NOT_NULL": "IS NOT NULL"}
_IN = {"COMPARE_IN": "IN", "COMPARE_NOT_IN": "NOT IN"}
# what compares texts -> how it is said of several forms of one; order is left as it is
_OF_FORMS = {
    **dict.fromkeys(("COMPARE_EQUAL", "COMPARE_NOT_DISTINCT_FROM", "COMPARE_IN"), " OR "),
    **dict.fromkeys(("COMPARE_NOTEQUAL", "COMPARE_DISTINCT_FROM", "COMPARE_NOT_IN"), " AND "),
    **dict.fromkeys(("contains", "starts_with", "ends_with"), " OR "),
}
_ARITHMETIC = ("+", "-", "*", "/", "//", "%")
# DuckDB's name of LIKE in its forms -> (negated, whatever the case)
_LIKES = {
    "~~": (False, False),
    "!~~": (True, False),
    "~~*": (False, True),
    "!~~*": (True, True),
    "like_escape": (False, False),
    "not_like_escape": (True, False),
    "ilike_escape": (False, True),
    "not_ilike_escape": (True, True),
}
# name -> types of its arguments. No function here makes a text longer than its arguments, takes a
# pattern, or knows anything but its arguments.
FUNCTIONS = {
    **dict.fromkeys(("lower", "upper", "trim", "length"), ("VARCHAR",)),
    **dict.fromkeys(("contains", "starts_with", "ends_with"), ("VARCHAR", "VARCHAR")),
    **dict.fromkeys(("abs", "floor", "ceil", "round"), ("DOUBLE",)),
    **dict.fromkeys(("year", "month", "day", "hour", "minute", "dayofweek"), ("TIMESTAMP",)),
}
# `extract(year from mtime)` comes as date_part('year', mtime)
_DATE_PARTS = ("year", "month", "day", "hour", "minute", "dayofweek", "dow")
TYPES = (
    *("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "FLOAT", "DOUBLE", "VARCHAR"),
    *("DATE", "TIMESTAMP"),
)
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT")
# what a text under a key of meta is read as beside an operand of that type
_READ_AS = {
    **dict.fromkeys((*_INTEGERS, "FLOAT", "DOUBLE", "DECIMAL"), "DOUBLE"),
    **{name: name for name in ("BOOLEAN", "DATE", "TIMESTAMP")},
}


@dataclass(frozen=True)
class Expression:
    """A condition as SQL over the stored columns, and which of those it needs.

    calls: how many texts it makes or searches for one part; a regular expression counts for
    several. What it may take at once is bounded by that (``engine``).
    """

    sql: str
    stored: tuple[str, ...]
    calls: int


@dataclass(frozen=True)
class _Piece:
    """SQL of a part of the condition; ``type`` where it is known, "META" for a key of meta."""

    sql: str
    type: str | None = None

    def read_as(self, type: str) -> _Piece:
        return _Piece(f"TRY_CAST({self.sql} AS {type})", type) if self.type == "META" else self


def compiled(select: Node) -> Expression:
    """The one expression of a serialised ``SELECT expression``, checked.

    select: the ``node`` that DuckDB's ``json_serialize_sql`` gives, without defaults.
    Raises UsageError for what may not be in a filter, LimitExceeded for what is too deep.
    """
    listed = select.get("select_list", [])
    plain = {"type", "select_list", "from_table", "aggregate_handling"}
    if (
        select.get("type") != "SELECT_NODE"
        or not set(select) <= plain
        or select.get("from_table") != {"type": "EMPTY"}
        or select.get("aggregate_handling") != "STANDARD_HANDLING"
        or len(listed) != 1
    ):
        raise UsageError(
            "a filter is one condition, such as width > 1000 and path like '%holiday%'; "
            "it holds no SELECT, FROM, WHERE or second expression."
        )
    writer = _Writer()
    piece = writer.write(listed[0]).read_as("BOOLEAN")
    return Expression(piece.sql, tuple(sorted(writer.stored)), writer.calls)


class _Writer:
    """Writes nodes as SQL, and notes which stored columns they need."""

    def __init__(self) -> None:
        self.stored: set[str] = set()
        self.calls = 0
        self._depth = 0
        self._form: _Form | None = None  # in which texts are written that names are compared with
        self._kinds: dict[str, tuple[set[str], Callable[[Node], _Piece]]] = {
            # class -> (the fields it may have, what writes it)
            "COLUMN_REF": ({"column_names"}, self._column),
            "CONSTANT": ({"value"}, self._constant),
            "COMPARISON": ({"left", "right"}, self._comparison),
            "CONJUNCTION": ({"children"}, self._conjunction),
            "BETWEEN": ({"input", "lower", "upper"}, self._between),
            "OPERATOR": ({"children"}, self._operator),
            "FUNCTION": (
                {"function_name", "schema", "children", "order_bys", "is_operator"},
                self._function,
            ),
            "CAST": ({"child", "cast_type", "try_cast"}, self._cast),
            "CASE": ({"case_checks", "else_expr"}, self._case),
        }

    def write(self, node: Node) -> _Piece:
        if self._depth == MAX_FILTER_DEPTH:
            raise too_deep()
        kind = node.get("class", "")
        if kind not in self._kinds:
            raise UsageError(_REFUSED.get(kind, f"{kind.lower()} cannot be used in a filter."))
        fields, write = self._kinds[kind]
        extra = set(node) - fields - {"class", "type", "query_location"}
        if "alias" in extra:
            raise UsageError(
                f"a filter is one condition, and {node['alias']!r} follows another word as its "
                "name (AS): is an operator missing between them?"
            )
        if extra:
            raise UsageError(f"{', '.join(sorted(extra))} cannot be used in a filter.")
        self._depth += 1
        piece = self._in_each_form(node, write)
        self._depth -= 1
        return piece

    def _in_each_form(self, node: Node, write: Callable[[Node], _Piece]) -> _Piece:
        """A node as it is; if it compares a name with a text, with each form of the text.

        Making names equal instead would take 6 µs for each that is not ASCII.
        """
        join = _joined_by(node)
        if not join:
            return write(node)
        outside, self._form = self._form, None
        own = list(_operands_in(node))
        if _names_one(own):
            several: list[str] = []
            for form in _FORMS:
                if not several or any(form(text) != text for text in map(_text, own)):
                    self._form = form
                    several.append(write(node).sql)
            different = list(dict.fromkeys(several))
            sql = different[0] if len(different) == 1 else f"({join.join(different)})"
            piece = _Piece(sql, "BOOLEAN")
        else:
            piece = write(node)
        self._form = outside
        return piece

    def _several(self, nodes: list[Node]) -> list[_Piece]:
        """Operands that are compared with each other: what is known of one tells the others."""
        pieces = [self.write(node) for node in nodes]
        types = [_READ_AS[p.type] for p in pieces if p.type in _READ_AS]
        return [p.read_as(types[0]) for p in pieces] if types else pieces

    def _condition(self, node: Node) -> str:
        """An operand of AND, OR, NOT or WHEN: a yes or no."""
        piece = self.write(node).read_as("BOOLEAN")
        if piece.type not in (None, "BOOLEAN"):
            what = f"the text {piece.sql}" if _is_text(node) else f"a {piece.type}"
            raise UsageError(
                f"AND, OR, NOT and WHEN take conditions, and got {what}: write the whole "
                "comparison, as in path like '%a%' or path like '%b%'."
            )
        return piece.sql

    def _column(self, node: Node) -> _Piece:
        first, *keys = node["column_names"]
        name = first.lower()
        if name == META:
            if not keys:
                raise UsageError("meta is an object: name a key of it, as in meta.KEY = 'x'.")
            self.stored.add(META)
            self.calls += 1
            return _Piece(meta_sql(tuple(keys)), "META")
        column = COLUMNS.get(name)
        if column is None or keys:
            raise UsageError(_no_column(".".join([first, *keys])))
        self.stored.update(column.stored)
        self.calls += column.sql != name
        return _Piece(column.sql, column.type)

    def _constant(self, node: Node) -> _Piece:
        type, value = node["value"]["type"], node["value"].get("value")
        name = type["id"]
        if node["value"]["is_null"]:
            return _Piece("NULL")
        if name == "VARCHAR":
            return _Piece(quoted(self._formed(_text(node))), name)
        if name in _INTEGERS and isinstance(value, int):
            return _Piece(f"({value})" if value < 0 else str(value), name)
        if name == "DECIMAL" and isinstance(value, int):
            number = Decimal(value).scaleb(-type["type_info"].get("scale", 0))
            return _Piece(f"({number:f})", name)
        if name == "BOOLEAN" and isinstance(value, bool):
            return _Piece(str(value).upper(), name)
        if name == "DOUBLE" and isinstance(value, float) and math.isfinite(value):
            return _Piece(f"({value!r}::DOUBLE)", name)
        raise UsageError(
            "a filter holds a number that is too large: numbers reach to 1e308, whole ones to 18 "
            "digits."
        )

    def _formed(self, text: str) -> str:
        return text if self._form is None else self._form(text)

    def _comparison(self, node: Node) -> _Piece:
        left, right = self._several([node["left"], node["right"]])
        return _Piece(f"({left.sql} {_COMPARISONS[node['type']]} {right.sql})", "BOOLEAN")

    def _conjunction(self, node: Node) -> _Piece:
        pieces = [self._condition(child) for child in node["children"]]
        return _Piece(f"({_CONJUNCTIONS[node['type']].join(pieces)})", "BOOLEAN")

    def _between(self, node: Node) -> _Piece:
        what, low, high = self._several([node["input"], node["lower"], node["upper"]])
        return _Piece(f"({what.sql} BETWEEN {low.sql} AND {high.sql})", "BOOLEAN")

    def _operator(self, node: Node) -> _Piece:
        kind, children = node["type"], node["children"]
        if kind == "OPERATOR_NOT":
            return _Piece(f"(NOT {self._condition(children[0])})", "BOOLEAN")
        if kind in _IS_NULL:
            return _Piece(f"({self.write(children[0]).sql} {_IS_NULL[kind]})", "BOOLEAN")
        if kind in _IN:
            what, *several = self._several(children)
            inside = ", ".join(p.sql for p in several)
            return _Piece(f"({what.sql} {_IN[kind]} ({inside}))", "BOOLEAN")
        if kind == "OPERATOR_COALESCE":
            pieces = self._several(children)
            return _Piece(f"COALESCE({', '.join(p.sql for p in pieces)})", pieces[0].type)
        if kind == "ARRAY_EXTRACT":
            raise UsageError("[…] cannot be used in a filter: a key of meta is written meta.KEY.")
        raise UsageError(f"{_spelled(kind)} cannot be used in a filter.")

    def _function(self, node: Node) -> _Piece:
        name, children = node["function_name"], node.get("children", [])
        if node.get("schema", "main") != "main" or node["order_bys"] != {"type": "ORDER_MODIFIER"}:
            raise UsageError(_no_function(name))
        if name == "->>" and len(children) == 2:
            return self._key(children)
        if name in _LIKES and len(children) in (2, 3):
            return self._like(name, children)
        if name in _ARITHMETIC and len(children) == 2:
            left, right = (p.read_as("DOUBLE") for p in self._several(children))
            by = f"NULLIF({right.sql}, 0)" if name == "/" else right.sql  # else x / 0 is infinite
            return _Piece(f"({left.sql} {name} {by})", right.type or left.type)
        if name == "-" and len(children) == 1:
            piece = self.write(children[0]).read_as("DOUBLE")
            return _Piece(f"(- {piece.sql})", piece.type)
        if name == "date_part" and len(children) == 2 and _text(children[0]) in _DATE_PARTS:
            when = self.write(children[1]).read_as("TIMESTAMP").sql
            return _Piece(f"date_part({quoted(_text(children[0]))}, {when})", "BIGINT")
        takes = FUNCTIONS.get(name, ())
        if not takes or len(takes) != len(children):
            raise UsageError(_no_function(name, len(children)))
        pieces = zip(children, takes, strict=True)
        inside = ", ".join(self.write(child).read_as(type).sql for child, type in pieces)
        self.calls += 1
        return _Piece(f"{name}({inside})")

    def _key(self, children: list[Node]) -> _Piece:
        """``meta->>'key'``, the other way to write ``meta.key``."""
        left, right = children
        if left.get("column_names", [""])[0].lower() != META or not _is_text(right):
            raise UsageError("->> takes a key out of meta: (meta->>'KEY') = 'x'.")
        names = [*left["column_names"], _text(right)]
        return self.write({"class": "COLUMN_REF", "column_names": names})

    def _like(self, name: str, children: list[Node]) -> _Piece:
        negated, any_case = _LIKES[name]
        what, *texts = children
        if not all(_is_text(t) for t in texts):
            raise UsageError(
                "LIKE takes a pattern in single quotes: path like '%holiday%' (% is any text, "
                "_ one character)."
            )
        pattern, *escapes = map(_text, texts)
        escape = "".join(escapes)
        if escape.isascii():  # others may be in the pattern, and must stay as they are
            pattern = self._formed(pattern)
        sql = like_sql(self.write(what).sql, tokens_of(pattern, escape), any_case)
        self.calls += REGEX_CALLS if sql.startswith("regexp") else 1
        return _Piece(f"(NOT {sql})" if negated else sql, "BOOLEAN")

    def _cast(self, node: Node) -> _Piece:
        child, type = node["child"], node["cast_type"]
        if type.get("id") not in TYPES or set(type) != {"id"}:
            name = type.get("type_info", {}).get("name", type.get("id"))
            raise UsageError(f"{name} is no type of a filter; there are {', '.join(TYPES)}.")
        # what a row holds and cannot be read is NULL; what the user wrote must be right
        self.calls += 1
        how = "CAST" if child.get("class") == "CONSTANT" and "try_cast" not in node else "TRY_CAST"
        return _Piece(f"{how}({self.write(child).sql} AS {type['id']})", type["id"])

    def _case(self, node: Node) -> _Piece:
        checks = [
            f"WHEN {self._condition(c['when_expr'])} THEN {self.write(c['then_expr']).sql}"
            for c in node["case_checks"]
        ]
        return _Piece(f"(CASE {' '.join(checks)} ELSE {self.write(node['else_expr']).sql} END)")


_Form = Callable[[str], str]
_FORMS: tuple[_Form, ...] = (  # as it is written, composed, and with accents apart
    str,
    partial(unicodedata.normalize, "NFC"),
    partial(unicodedata.normalize, "NFD"),
)


def _joined_by(node: Node) -> str:
    """How what a node says of several forms of a text is joined; empty for other nodes."""
    name = str(node.get("function_name", node.get("type", "")))
    if name in _LIKES:
        return " AND " if _LIKES[name][0] else " OR "
    return _OF_FORMS.get(name, "")


def _operands_in(node: Any) -> Iterator[Node]:
    """The nodes that a node compares, and what they are made of; not what compares on its own."""
    for one in node.values() if isinstance(node, dict) else node:
        if isinstance(one, dict) and not _joined_by(one):
            yield one
        if isinstance(one, list) or (isinstance(one, dict) and not _joined_by(one)):
            yield from _operands_in(one)


def _names_one(nodes: list[Node]) -> bool:
    """Whether one of some nodes is the column of a name."""
    columns = (one.get("column_names", ()) for one in nodes)
    return any(len(words) == 1 and words[0].lower() in NAMES for words in columns)


def too_deep() -> LimitExceeded:
    """The error for a condition that is nested too deeply."""
    return LimitExceeded(
        f"the filter is nested too deeply; at most {MAX_FILTER_DEPTH} levels are taken. "
        "Write x in (1, 2, …) for x = 1 or (x = 2 or (…))."
    )


_REFUSED = {
    "SUBQUERY": "a filter cannot ask for other rows: no SELECT inside it.",
    "WINDOW": "a filter looks at one part at a time: no window functions (OVER).",
    "STAR": "a filter is a condition on named columns: * cannot be used in it.",
    "PARAMETER": "a filter has no parameters (?, $1): write the value itself.",
    "LAMBDA": "-> cannot be used in a filter: write meta.KEY or (meta->>'KEY').",
    "COLLATE": "COLLATE cannot be used in a filter: write ilike or lower(x).",
}


def _spelled(kind: str) -> str:
    if kind.startswith(("ARRAY", "STRUCT")):
        return "[…]"
    return kind.removeprefix("OPERATOR_").replace("_", " ")


def _is_text(node: Node) -> bool:
    value = node.get("value", {})
    return (
        node.get("class") == "CONSTANT"
        and value["type"]["id"] == "VARCHAR"
        and not value["is_null"]
    )


def _text(node: Node) -> str:
    """The text of a constant; "" for any other node (and for '', which is left out)."""
    return str(node["value"].get("value", "")) if _is_text(node) else ""


def _no_column(name: str) -> str:
    near = get_close_matches(name.lower(), COLUMNS, 1, 0.6)
    hint = f"; did you mean {near[0]}?" if near else "."
    return (
        f"the filter names {name!r}, and there is no such column{hint} "
        f"There are {', '.join(COLUMNS)}, and meta.KEY for any other key that was stored. "
        "A text stands in single quotes: 'x'."
    )


def _no_function(name: str, n: int | None = None) -> str:
    if name in FUNCTIONS and n is not None:
        return f"{name} takes {len(FUNCTIONS[name])} in its brackets, not {n}."
    note = ""
    if name.startswith(("regexp", "~")):
        note = " Instead of a regular expression or GLOB write like or ilike."
    elif name in ("now", "today", "current_timestamp", "get_current_timestamp", "random"):
        note = " A filter gives the same answer each time: write the date, as in '2026-01-31'."
    return (
        f"{name} cannot be used in a filter. There are {', '.join(FUNCTIONS)}, "
        f"{' '.join(_ARITHMETIC)}, like and ilike.{note}"
    )
