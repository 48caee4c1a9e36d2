"""Conditions evaluated by DuckDB over the rows that a snapshot holds open.

DuckDB reads no file: it is handed the mapped Arrow batches (the same rows as
``parts.parquet``), so a snapshot whose files were replaced since it was opened is filtered
like any other, and access to files, network, extensions and settings is switched off whole.
One database in memory for the process, so that its memory and threads are bounded together.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa

from mmsearch import forks
from mmsearch.errors import UsageError
from mmsearch.filters import rows
from mmsearch.filters.asked import Filter
from mmsearch.filters.database import asking, short
from mmsearch.filters.expression import Listed
from mmsearch.filters.keys import near_name
from mmsearch.filters.operands import Check
from mmsearch.filters.parsing import parsed
from mmsearch.store import Segment, Snapshot
from mmsearch.types import Mask

_ARROW = {  # DuckDB's name of a type -> Arrow's type
    "VARCHAR": pa.string(),
    "BOOLEAN": pa.bool_(),
    **dict.fromkeys(("INTEGER", "BIGINT", "HUGEINT"), pa.int64()),
    "DOUBLE": pa.float64(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us"),
}


# Each time, DuckDB looks for modules that are not there (pandas), under Python's locks of modules.
# Who forks meanwhile has a child that waits for one for ever.
@forks.native
def matching(
    snapshot: Snapshot, asked: str | Filter, segments: Sequence[Segment] | None = None
) -> list[Mask]:
    """For each segment, bool (rows,): True where a live part meets the condition.

    asked: the condition, with the values of its parameters if it has such. segments: which of the
    snapshot's; None is all. NULL counts as not met. Raises UsageError for a condition that is none,
    and LimitExceeded for one that is too long, too deep, too slow or needs too much memory.
    """
    asked = asked if isinstance(asked, Filter) else Filter(asked)
    expression, where = parsed(asked, partial(near_name, snapshot)), asked.where
    segments = snapshot.segments if segments is None else segments
    ends = list(accumulate(s.ref.rows for s in segments))
    met = np.zeros(ends[-1] if ends else 0, np.bool_)
    with asking(where) as cursor:
        for name, listed in expression.lists.items():
            cursor.register(name, _table(listed))
        _check(cursor, expression.checks)
        cursor.register("nothing", pa.Table.from_batches([], rows.schema(expression.stored)))
        cursor.execute(f"DESCRIBE SELECT {expression.sql} FROM nothing")
        if (gives := cursor.fetchone()[1]) != "BOOLEAN":
            raise UsageError(
                f"the filter {short(where)!r} gives {gives} and no yes or no: compare it with "
                "something, as in width > 1000."
            )
        given = rows.reader(snapshot, segments, expression.stored, expression.calls)
        cursor.register("rows", given)
        # IS TRUE: what stands under it is not handed down to Arrow, which compares otherwise
        cursor.execute(f"SELECT number FROM rows WHERE {expression.sql} IS TRUE")
        met[cursor.fetchnumpy()["number"]] = True
    return [met[end - segment.ref.rows : end] for end, segment in zip(ends, segments, strict=True)]


def _table(listed: Listed) -> pa.Table:
    """The values of a list, as DuckDB is handed them."""
    return pa.table({"value": pa.array(listed.values, _ARROW[listed.type])})


def _check(cursor: Any, checks: Sequence[Check]) -> None:
    """Raises UsageError for a constant that DuckDB cannot read as what it is compared with."""
    if checks:
        asked = ", ".join(f"TRY_CAST({check.sql} AS {check.type}) IS NULL" for check in checks)
        wrong = cursor.execute(f"SELECT {asked}").fetchone()
        for check, is_wrong in zip(checks, wrong, strict=True):
            if is_wrong:
                raise UsageError(check.message)
