"""A filter's text, read by DuckDB's own parser."""

from __future__ import annotations

import json
import re
from typing import Any

from mmsearch.errors import LimitExceeded, UsageError
from mmsearch.filters import columns
from mmsearch.filters.asked import Filter
from mmsearch.filters.binding import bound, equal
from mmsearch.filters.database import asking, short
from mmsearch.filters.expression import Expression, Near, compiled, near_column, too_deep, written

_SELECT = "SELECT "
_STATEMENT = re.compile(r"\s*(?:select|where)\s", re.I)
_HINTS = (  # what is in a filter that cannot be read -> what may help
    (
        re.compile(r"(?:[=<>(,]|\s(?:in|like|ilike))\s*(?:%s|:[a-z_]|@[a-z_]|\{)", re.I),
        "Write ? for a value, and give the values in their order: params=['x', 2].",
    ),
    (
        re.compile(r"\s(?:not\s+)?i?like\s+[^'?$\s]", re.I),
        "Put the pattern in single quotes: like '%a%'.",
    ),
    (re.compile(r"\scontains\s", re.I), "Write contains(text, 'word'), or text ilike '%word%'."),
    (re.compile(r"\sin\s+[^(?$\s]", re.I), "Put the list in brackets: page in (1, 2)."),
    (re.compile(r"&&|\|\|"), "Write and for &&, and or for ||."),
)


def parsed(asked: str | Filter, near: Near = near_column) -> Expression:
    """The condition with its values, parsed by DuckDB and checked.

    near: tells of a name that is no column which one may be meant.
    Raises UsageError or LimitExceeded.
    """
    asked = asked if isinstance(asked, Filter) else Filter(asked)
    where = asked.where
    if len(where) > columns.MAX_FILTER_CHARS:
        raise LimitExceeded(
            f"the filter has {len(where):,} characters; at most {columns.MAX_FILTER_CHARS:,} are "
            "taken. Ask several times, or store what you filter by with the parts (meta)."
        )
    if not where.strip():
        raise UsageError("the filter is empty: give a condition, such as width > 1000.")
    if "\0" in where or where != where.encode("utf-8", "replace").decode():
        raise UsageError("the filter is no valid text: it holds a NUL or half a character.")
    try:
        if asked.columns is not None:
            return written(equal(asked.columns, asked.values), near, quotes=False)
        with asking(where) as cursor:
            cursor.execute(
                "SELECT json_serialize_sql(?, skip_null := true, skip_empty := true, "
                "skip_default := true)",
                [_SELECT + where],
            )
            answer = json.loads(cursor.fetchone()[0])
    except RecursionError:
        raise too_deep() from None
    if answer.get("error"):
        raise _syntax_error(where, answer)
    statements = answer["statements"]
    if len(statements) != 1 or set(statements[0]) - {"node", "named_param_map"}:
        raise UsageError("a filter is one condition, not several statements.")
    try:
        return compiled(bound(statements[0]["node"], asked.values), near)
    except RecursionError:
        raise too_deep() from None


def _syntax_error(where: str, answer: dict[str, Any]) -> UsageError:
    message = str(answer.get("error_message", "")).split("\n")[0].rstrip(".!")
    if _STATEMENT.match(where):
        return UsageError("a filter is the condition alone: leave out SELECT, FROM and WHERE.")
    if message.startswith("Max expression depth"):
        return too_deep()
    if "position" not in answer:
        return UsageError("a filter is one condition, such as width > 1000, and no statement.")
    at = int(answer["position"]) - len(_SELECT)
    place = f"at character {at + 1}, before {where[at : at + 20]!r}"
    if at >= len(where.rstrip()):
        place = "at its end"
    why = "" if message.startswith("syntax error") else f": {message}"
    remedy = "Example: width > 1000 and path like '%holiday%'."
    remedy = next((said for sign, said in _HINTS if sign.search(where)), remedy)
    if message.startswith("unterminated quoted string"):
        why, remedy = ", where a quote is not closed", "Write '' for a ' inside a text: 'it''s'."
    return UsageError(f"the filter {short(where)!r} cannot be read {place}{why}. {remedy}")
