"""DuckDB's parse tree of a condition, checked and written anew as SQL.

Nothing of the user's text is ever executed. Each kind of node, operator, function and type
that may occur is listed here or in ``functions``, and what is written consists of those, of the
columns' own SQL and of literals that are quoted here; a node with a field that is not expected is
refused.
LIKE is not passed on as it is, see ``patterns``.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from difflib import get_close_matches
from functools import partial
from typing import Any, NamedTuple

from mmsearch.errors import LimitExceeded, UsageError
from mmsearch.filters.binding import LISTED
from mmsearch.filters.columns import (
    ALIKE,
    COLUMNS,
    INEXACT,
    MAX_FILTER_DEPTH,
    MEANT,
    META,
    NAMES,
    meta_sql,
    quoted,
)
from mmsearch.filters.functions import (
    ARITHMETIC,
    FUNCTIONS,
    GIVES,
    REFUSED,
    TYPES,
    no_function,
    spelled,
)
from mmsearch.filters.operands import (
    LARGE,
    Check,
    Piece,
    alike,
    among,
    argument,
    castable,
    compared,
    text_constant,
    with_times,
)
from mmsearch.filters.patterns import REGEX_CALLS, like_sql, tokens_of
from mmsearch.filters.values import Value

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
# `extract(year from mtime)` comes as date_part('year', mtime)
_DATES = ("year", "month", "day", "hour", "minute", "dayofweek", "dow")
_TRUTHS = {"t": "true", "f": "false"}  # which come as cast('t' as BOOLEAN)
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT")


@dataclass(frozen=True)
class Expression:
    """A condition as SQL over the stored columns, and which of those it needs.

    calls: how many texts it makes or searches for one part; a regular expression counts for
    several. What it may take at once is bounded by that (``engine``). checks: what DuckDB must be
    able to read before the condition is evaluated. keys: of meta, which it names. lists: tables
    of one column, ``value``, which it asks, by their names; each with DuckDB's name of its type.
    """

    sql: str
    stored: tuple[str, ...]
    calls: int
    checks: tuple[Check, ...]
    keys: tuple[tuple[str, ...], ...]
    lists: Mapping[str, Listed]


class Listed(NamedTuple):
    """Values that a condition compares with; ``type`` is DuckDB's name of their type."""

    type: str
    values: Sequence[Any]


Near = Callable[[str], str]  # a name that is no column -> which one may be meant, "" for none


def near_column(name: str) -> str:
    """The column that a name means, or is most like; "" for none."""
    nearest = get_close_matches(name.lower(), COLUMNS, 1, ALIKE)
    return MEANT.get(name.lower()) or (nearest[0] if nearest else "")


def compiled(select: Node, near: Near = near_column) -> Expression:
    """The one expression of a serialised ``SELECT expression``, checked.

    select: the ``node`` that DuckDB's ``json_serialize_sql`` gives, without defaults. near: tells
    of a name that is no column which one may be meant.
    Raises UsageError for what may not be in a filter, LimitExceeded for what is too deep.
    """
    listed = select.get("select_list", [])
    if len(listed) > 1:
        raise UsageError(
            "a filter is one condition, and a comma divides it. Write 1000 for 1,000, and a list "
            "in brackets, as in page in (1, 2)."
        )
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
            "it holds no SELECT, FROM, WHERE, LIMIT or second expression."
        )
    return written(listed[0], near)


def written(tree: Node, near: Near = near_column, quotes: bool = True) -> Expression:
    """A condition's tree, checked.

    near: as for ``compiled``. quotes: whether a name that is no column may have been meant as a
    text. Raises as ``compiled`` does.
    """
    writer = _Writer(near, quotes)
    piece = writer.write(tree).read_as("BOOLEAN")
    if piece.type not in (None, "BOOLEAN"):
        raise UsageError(
            f"a filter is a condition, and {piece.told}. Compare it with something, as in "
            "width > 1000."
        )
    checks = tuple(dict.fromkeys(writer.checks))
    keys = tuple(dict.fromkeys(writer.keys))
    stored = tuple(sorted(writer.stored))
    return Expression(piece.sql, stored, writer.calls, checks, keys, writer.lists)


class _Writer:
    """Writes nodes as SQL, and notes which stored columns they need and what must be checked."""

    def __init__(self, near: Near, quotes: bool) -> None:
        self.near = near
        self.quotes = quotes
        self.keys: list[tuple[str, ...]] = []
        self.stored: set[str] = set()
        self.calls = 0
        self.checks: list[Check] = []
        self.lists: dict[str, Listed] = {}
        self._depth = 0
        self._form: _Form | None = None  # in which texts are written that names are compared with
        self._kinds: dict[str, tuple[set[str], Callable[[Node], Piece]]] = {
            # class -> (the fields it may have, what writes it)
            "COLUMN_REF": ({"column_names"}, self._column),
            "CONSTANT": ({"value", "given"}, self._constant),
            "COMPARISON": ({"left", "right"}, self._comparison),
            "CONJUNCTION": ({"children"}, self._conjunction),
            "BETWEEN": ({"input", "lower", "upper"}, self._between),
            "OPERATOR": ({"children"}, self._operator),
            "FUNCTION": (
                {"function_name", "schema", "children", "order_bys", "is_operator"},
                self._function,
            ),
            "CAST": ({"child", "cast_type", "try_cast", "given"}, self._cast),
            "CASE": ({"case_checks", "else_expr"}, self._case),
        }

    def write(self, node: Node) -> Piece:
        if self._depth == MAX_FILTER_DEPTH:
            raise too_deep()
        kind = node.get("class", "")
        if kind not in self._kinds:
            raise UsageError(REFUSED.get(kind, f"{kind.lower()} cannot be used in a filter."))
        fields, write = self._kinds[kind]
        extra = set(node) - fields - {"class", "type", "query_location"}
        if "alias" in extra:
            raise UsageError(
                f"a filter is one condition, and {node['alias']!r} stands behind a value with no "
                "operator between them. Write texts in single quotes, and numbers without units."
            )
        if extra:
            raise UsageError(f"{', '.join(sorted(extra))} cannot be used in a filter.")
        self._depth += 1
        piece = self._in_each_form(node, write)
        self._depth -= 1
        return piece

    def _in_each_form(self, node: Node, write: Callable[[Node], Piece]) -> Piece:
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
            piece = _condition(sql)
        else:
            piece = write(node)
        self._form = outside
        return piece

    def _compared(self, nodes: list[Node]) -> list[Piece]:
        """Operands that are compared with each other: what is known of one tells the others."""
        pieces, checks = compared([self.write(node) for node in nodes])
        self.checks += checks
        return pieces

    def _argument(self, piece: Piece, type: str, function: str) -> Piece:
        """What a function is given, read as the type that it takes."""
        piece, checks = argument(piece, type, function)
        self.checks += checks
        return piece

    def _condition(self, node: Node) -> str:
        """An operand of AND, OR, NOT or WHEN: a yes or no."""
        piece = self.write(node).read_as("BOOLEAN")
        if piece.type not in (None, "BOOLEAN"):
            one = "path like '%{}%'" if piece.sort == "text" else "page = {}"
            raise UsageError(
                f"AND, OR, NOT and WHEN take conditions, and {piece.told}. Write the whole "
                f"comparison, as in {one.format(1)} or {one.format(2)}."
            )
        return piece.sql

    def _column(self, node: Node) -> Piece:
        first, *keys = node["column_names"]
        name = first.lower()
        if name == META:
            if not keys:
                raise UsageError("meta is an object: name a key of it, as in meta.KEY = 'x'.")
            self.stored.add(META)
            self.keys.append(tuple(keys))
            self.calls += 1
            return Piece(meta_sql(tuple(keys)), "META", ".".join([META, *keys]))
        column = COLUMNS.get(name)
        if column is None or keys:
            raise UsageError(self._no_column(".".join([first, *keys])))
        self.stored.update(column.stored)
        self.calls += column.sql != name
        return Piece(column.sql, column.type, name, held=True)

    def _no_column(self, name: str) -> str:
        wrong = f"the filter names {name!r}, and there is no such column"
        quotes = f" If it is a text, put it in single quotes: {text_constant(name).name}."
        quotes = quotes if self.quotes else ""
        if near := self.near(name):
            return f"{wrong}; did you mean {near}?{quotes}"
        return (
            f"{wrong}.{quotes} There are {', '.join(COLUMNS)}, and meta.KEY for any other key "
            "that was stored."
        )

    def _constant(self, node: Node) -> Piece:
        type, value = node["value"]["type"], node["value"].get("value")
        name, given = type["id"], "given" in node
        if node["value"]["is_null"]:
            return Piece("NULL")
        if name == "VARCHAR":
            return text_constant(self._formed(_text(node)), given)
        if name in (*_INTEGERS, LARGE) and isinstance(value, int):
            name = LARGE if abs(value) >= INEXACT else name
            sql = f"({value})" if value < 0 else str(value)
            return Piece(sql, name, str(value), given=given)
        if name == "DECIMAL" and isinstance(value, int):
            number = Decimal(value).scaleb(-type["type_info"].get("scale", 0))
            return Piece(f"({number:f})", name, f"{number:f}")
        if name == "BOOLEAN" and isinstance(value, bool):
            return Piece(str(value).upper(), name, str(value).lower(), given=given)
        if name == "DOUBLE" and isinstance(value, float) and math.isfinite(value):
            return Piece(f"({value!r}::DOUBLE)", name, f"{value:g}", given=given)
        raise UsageError(
            "a filter holds a number that is too large: numbers reach to 1e308, whole ones to 18 "
            "digits."
        )

    def _formed(self, text: str) -> str:
        return text if self._form is None else self._form(text)

    def _comparison(self, node: Node) -> Piece:
        left, right = self._compared([node["left"], node["right"]])
        return _condition(f"({left.sql} {_COMPARISONS[node['type']]} {right.sql})")

    def _conjunction(self, node: Node) -> Piece:
        pieces = [self._condition(child) for child in node["children"]]
        return _condition(f"({_CONJUNCTIONS[node['type']].join(pieces)})")

    def _between(self, node: Node) -> Piece:
        what, low, high = self._compared([node["input"], node["lower"], node["upper"]])
        return _condition(f"({what.sql} BETWEEN {low.sql} AND {high.sql})")

    def _operator(self, node: Node) -> Piece:
        kind, children = node["type"], node["children"]
        if kind == "OPERATOR_NOT":
            return _condition(f"(NOT {self._condition(children[0])})")
        if kind in _IS_NULL:
            return _condition(f"({self.write(children[0]).sql} {_IS_NULL[kind]})")
        if kind in _IN and children[-1].get("class") == LISTED:
            return self._listed(kind, *children)
        if kind in _IN:
            what, *several = self._compared(children)
            inside = ", ".join(p.sql for p in several)
            return _condition(f"({what.sql} {_IN[kind]} ({inside}))")
        if kind == "OPERATOR_COALESCE":
            pieces = self._compared(children)
            inside = ", ".join(p.sql for p in pieces)
            return Piece(f"COALESCE({inside})", pieces[0].type, "coalesce(…)")
        if kind == "ARRAY_EXTRACT":
            raise UsageError("[…] cannot be used in a filter: a key of meta is written meta.KEY.")
        raise UsageError(f"{spelled(kind)} cannot be used in a filter.")

    def _listed(self, kind: str, what: Node, listed: Node) -> Piece:
        """Whether something is one of the values of a list, however many these are."""
        value: Value = listed["listed"]
        values = value.values
        if self._form is not None and value.type == "VARCHAR":
            values = tuple(dict.fromkeys(form(text) for text in values for form in _FORMS))
        name = f"listed{len(self.lists)}"
        self.lists[name] = Listed(value.type, values)
        piece, several, checks = among(self.write(what), value, name)
        self.checks += checks
        return _condition(f"({piece.sql} {_IN[kind]} ({several}))")

    def _function(self, node: Node) -> Piece:
        name, children = node["function_name"], node.get("children", [])
        if node.get("schema", "main") != "main" or node["order_bys"] != {"type": "ORDER_MODIFIER"}:
            raise UsageError(no_function(name))
        if name == "->>" and len(children) == 2:
            return self._key(children)
        if name in _LIKES and len(children) in (2, 3):
            return self._like(name, children)
        if name in ARITHMETIC and len(children) == 2:
            return self._calculated(name, children)
        if name == "-" and len(children) == 1:
            piece = self._argument(self.write(children[0]), "DOUBLE", "-")
            return replace(piece, sql=f"(- {piece.sql})", name=f"-{piece.name}")
        if name == "date_part" and len(children) == 2 and (part := _text(children[0])) in _DATES:
            when = self._argument(self.write(children[1]), "TIMESTAMP", part).sql
            return Piece(f"date_part({quoted(part)}, {when})", "BIGINT", f"{part}(…)")
        takes = FUNCTIONS.get(name, ())
        if not takes or len(takes) != len(children):
            raise UsageError(no_function(name, len(children)))
        pieces = zip(map(self.write, children), takes, strict=True)
        inside = ", ".join(self._argument(piece, type, name).sql for piece, type in pieces)
        self.calls += 1
        return Piece(f"{name}({inside})", GIVES[name], f"{name}(…)")

    def _calculated(self, sign: str, children: list[Node]) -> Piece:
        """Two operands of ``+``, ``-``, …: numbers, or times and what is added to them."""
        left, right = alike([self.write(child) for child in children])
        if "time" in (left.sort, right.sort):
            type: str | None = with_times(left, sign, right)
        else:
            left, right = (self._argument(p, "DOUBLE", sign) for p in (left, right))
            type = right.type or left.type
        by = f"NULLIF({right.sql}, 0)" if sign == "/" else right.sql  # else x / 0 is infinite
        return Piece(f"({left.sql} {sign} {by})", type, f"{left.name} {sign} {right.name}")

    def _key(self, children: list[Node]) -> Piece:
        """``meta->>'key'``, the other way to write ``meta.key``."""
        left, right = children
        if left.get("column_names", [""])[0].lower() != META or not _is_text(right):
            raise UsageError("->> takes a key out of meta: (meta->>'KEY') = 'x'.")
        names = [*left["column_names"], _text(right)]
        return self.write({"class": "COLUMN_REF", "column_names": names})

    def _like(self, name: str, children: list[Node]) -> Piece:
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
        told = "ilike" if any_case else "like"
        text = self._argument(self.write(what), "VARCHAR", told).sql
        sql = like_sql(text, tokens_of(pattern, escape), any_case)
        self.calls += REGEX_CALLS if sql.startswith("regexp") else 1
        return _condition(f"(NOT {sql})" if negated else sql)

    def _cast(self, node: Node) -> Piece:
        child, type = node["child"], node["cast_type"]
        if type.get("id") not in TYPES or set(type) != {"id"}:
            name = type.get("type_info", {}).get("name", type.get("id"))
            raise UsageError(f"{name} is no type of a filter; there are {', '.join(TYPES)}.")
        # what a row holds and cannot be read is NULL; what the user wrote must be right
        self.calls += 1
        piece, how = self.write(child), "TRY_CAST"
        if child.get("class") == "CONSTANT" and "try_cast" not in node:
            self.checks.append(castable(piece, type["id"]))
            how = "CAST"
        name = f"cast({piece.name} as …)"
        if type["id"] == "BOOLEAN" and piece.text in _TRUTHS:
            name = _TRUTHS[piece.text]
        given = "given" in node
        sql = f"{how}({piece.sql} AS {type['id']})"
        return Piece(sql, type["id"], piece.name if given else name, given=given)

    def _case(self, node: Node) -> Piece:
        checks = node["case_checks"]
        pieces = self._compared([*(c["then_expr"] for c in checks), node["else_expr"]])
        whens = [self._condition(c["when_expr"]) for c in checks]
        branches = zip(whens, pieces[:-1], strict=True)
        inside = " ".join(f"WHEN {when} THEN {piece.sql}" for when, piece in branches)
        types = {piece.sort: piece.type for piece in pieces if piece.type is not None}
        type = next(iter(types.values())) if len(types) == 1 else None
        return Piece(f"(CASE {inside} ELSE {pieces[-1].sql} END)", type, "case … end")


def _condition(sql: str) -> Piece:
    return Piece(sql, "BOOLEAN", "a comparison")


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
