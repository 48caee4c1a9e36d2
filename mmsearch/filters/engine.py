"""Conditions evaluated by DuckDB over the rows that a snapshot holds open.

DuckDB reads no file: it is handed the mapped Arrow batches (the same rows as
``parts.parquet``), so a snapshot whose files were replaced since it was opened is filtered
like any other, and access to files, network, extensions and settings is switched off whole.
One database in memory for the process, so that its memory and threads are bounded together.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa

from mmsearch import forks
from mmsearch.errors import LimitExceeded, UsageError
from mmsearch.filters import columns, rows
from mmsearch.filters.database import asking, short
from mmsearch.filters.expression import Expression, compiled, too_deep
from mmsearch.filters.operands import Check
from mmsearch.store import Segment, Snapshot
from mmsearch.types import Mask

_SELECT = "SELECT "


# Each time, DuckDB looks for modules that are not there (pandas), under Python's locks of modules.
# Who forks meanwhile has a child that waits for one for ever.
@forks.native
def matching(
    snapshot: Snapshot, where: str, segments: Sequence[Segment] | None = None
) -> list[Mask]:
    """For each segment, bool (rows,): True where a live part meets the condition.

    segments: which of the snapshot's; None is all. NULL counts as not met. Raises UsageError for
    a condition that is none, and LimitExceeded for one that is too long, too deep, too slow or
    needs too much memory.
    """
    expression = parsed(where)
    segments = snapshot.segments if segments is None else segments
    ends = list(accumulate(s.ref.rows for s in segments))
    met = np.zeros(ends[-1] if ends else 0, np.bool_)
    with asking(where) as cursor:
        _check(cursor, expression.checks)
        cursor.register("nothing", pa.Table.from_batches([], rows.schema(expression.stored)))
        cursor.execute(f"DESCRIBE SELECT {expression.sql} FROM nothing")
        if (asked := cursor.fetchone()[1]) != "BOOLEAN":
            raise UsageError(
                f"the filter {short(where)!r} gives {asked} and no yes or no: compare it with "
                "something, as in width > 1000."
            )
        given = rows.reader(snapshot, segments, expression.stored, expression.calls)
        cursor.register("rows", given)
        # IS TRUE: what stands under it is not handed down to Arrow, which compares otherwise
        cursor.execute(f"SELECT number FROM rows WHERE {expression.sql} IS TRUE")
        met[cursor.fetchnumpy()["number"]] = True
    return [met[end - segment.ref.rows : end] for end, segment in zip(ends, segments, strict=True)]


def _check(cursor: Any, checks: Sequence[Check]) -> None:
    """Raises UsageError for a constant that DuckDB cannot read as what it is compared with."""
    if checks:
        asked = ", ".join(f"TRY_CAST({check.sql} AS {check.type}) IS NULL" for check in checks)
        wrong = cursor.execute(f"SELECT {asked}").fetchone()
        for check, is_wrong in zip(checks, wrong, strict=True):
            if is_wrong:
                raise UsageError(check.message)


def parsed(where: str) -> Expression:
    """The condition, parsed by DuckDB and checked. Raises UsageError or LimitExceeded."""
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
        return compiled(statements[0]["node"])
    except RecursionError:
        raise too_deep() from None


def _syntax_error(where: str, answer: dict[str, Any]) -> UsageError:
    message = str(answer.get("error_message", "")).split("\n")[0].rstrip(".!")
    if where.lstrip().lower().startswith("where "):
        return UsageError("a filter is the condition alone: leave out the word WHERE.")
    if message.startswith("Max expression depth"):
        return too_deep()
    if "position" not in answer:
        return UsageError("a filter is one condition, such as width > 1000, and no statement.")
    at = int(answer["position"]) - len(_SELECT)
    place = f"at character {at + 1}, before {where[at : at + 20]!r}"
    if at >= len(where.rstrip()):
        place = "at its end"
    return UsageError(
        f"the filter {short(where)!r} cannot be read {place}: {message}. "
        "Example: width > 1000 and path like '%holiday%'."
    )
