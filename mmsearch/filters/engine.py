"""Conditions evaluated by DuckDB over the rows that a snapshot holds open.

DuckDB reads no file: it is handed the mapped Arrow batches (the same rows as
``parts.parquet``), so a snapshot whose files were replaced since it was opened is filtered
like any other, and access to files, network, extensions and settings is switched off whole.
One database in memory for the process, so that its memory and threads are bounded together.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa

from mmsearch import forks
from mmsearch.errors import LimitExceeded, UsageError
from mmsearch.filters import columns
from mmsearch.filters.expression import Expression, compiled, too_deep
from mmsearch.store import PARTS_SCHEMA, Segment, Snapshot
from mmsearch.store.rows import split_path
from mmsearch.store.snapshot import join
from mmsearch.types import Mask

_INTERRUPT_EVERY_S = 0.05  # an interrupt that falls between two steps is lost
_SELECT = "SELECT "
# DuckDB looks for an interrupt, and gives memory back, after each batch (of 2,048 rows at
# most), and what functions make of texts is not counted in its memory limit: 700 times
# lower(text) took 13 GB. So no batch makes more texts than this.
_CALLS_A_BATCH = 8192
# Beside PARTS_SCHEMA: the number of the row over all segments, and what roots stand for.
_NUMBER = pa.field("number", pa.int64())
_OF_ROOTS = {name: pa.dictionary(pa.int32(), pa.string()) for name in ("prefix", "folder")}


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
    with _asking(where) as cursor:
        schema = pa.schema([_NUMBER, *map(_field, expression.stored)])
        cursor.register("nothing", pa.Table.from_batches([], schema))
        cursor.execute(f"DESCRIBE SELECT {expression.sql} FROM nothing")
        if (asked := cursor.fetchone()[1]) != "BOOLEAN":
            raise UsageError(
                f"the filter {_short(where)!r} gives {asked} and no yes or no: compare it with "
                "something, as in width > 1000."
            )
        # all checked before DuckDB reads: an error that it met would come back as its own
        stored = sorted({"root" if n in _OF_ROOTS else n for n in expression.stored})
        parts = [(segment, segment.batches(stored)) for segment in segments]
        batches = _rows(snapshot, parts, schema, expression)
        cursor.register("rows", pa.RecordBatchReader.from_batches(schema, batches))
        # IS TRUE: what stands under it is not handed down to Arrow, which compares otherwise
        cursor.execute(f"SELECT number FROM rows WHERE {expression.sql} IS TRUE")
        met[cursor.fetchnumpy()["number"]] = True
    return [met[end - segment.ref.rows : end] for end, segment in zip(ends, segments, strict=True)]


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
        with _asking(where) as cursor:
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
        f"the filter {_short(where)!r} cannot be read {place}: {message}. "
        "Example: width > 1000 and path like '%holiday%'."
    )


def _short(where: str) -> str:
    return where if len(where) <= 200 else where[:199] + "…"


_SETTINGS = (  # in this order: the last two would forbid the others
    ("threads", columns.THREADS),
    ("memory_limit", f"'{columns.MEMORY_MB}MB'"),
    ("temp_directory", "''"),  # nothing is spilled to disk
    ("autoload_known_extensions", "false"),
    ("autoinstall_known_extensions", "false"),
    ("allow_community_extensions", "false"),
    ("python_enable_replacements", "false"),  # no variable of the program is a table
    ("enable_external_access", "false"),
    ("lock_configuration", "true"),
)


class _Database:
    """The process's one database, locked down; opened when it is first asked."""

    def __init__(self) -> None:
        self._opening = threading.Lock()
        self._opened: Any = None
        self._default: Any = None  # DuckDB's own connection, which it makes to read Arrow's types
        forks.renewed(self, _Database._renew)

    def _renew(self) -> None:
        """See ``forks.renewed``."""
        if self._opened is not None:
            forks.abandon(self._opened, self._default)
        self._opening, self._opened, self._default = threading.Lock(), None, None

    def cursor(self) -> Any:
        """A connection to it, for one thread."""
        with self._opening:
            if self._opened is None:
                self._opened = self._open()
            return self._opened.cursor()

    def _open(self) -> Any:
        try:
            import duckdb
        except ImportError:
            raise UsageError(
                "DuckDB is not installed, and a filter needs it: pip install 'duckdb>=1.3,<2', "
                "or ask without a filter."
            ) from None
        database = duckdb.connect(":memory:")
        for name, value in _SETTINGS:
            database.execute(f"SET {name} = {value}")
        self._default = duckdb.default_connection()
        return database


_database = _Database()


@contextmanager
def _asking(where: str) -> Iterator[Any]:
    """A cursor of its own that is interrupted in time, and DuckDB's errors as ours."""
    cursor = _database.cursor()
    import duckdb

    started = time.monotonic()
    done = threading.Event()
    timer = threading.Thread(target=_interrupt, args=(cursor.interrupt, done), daemon=True)
    timer.start()
    try:
        yield cursor
    except duckdb.OutOfMemoryException:
        raise LimitExceeded(
            f"the filter {_short(where)!r} needs more than {columns.MEMORY_MB} MB: make it simpler."
        ) from None
    except duckdb.InterruptException:
        raise LimitExceeded(
            f"the filter {_short(where)!r} was stopped after {time.monotonic() - started:.1f} s; "
            f"at most {columns.MAX_FILTER_S:g} s are given. Make it simpler, or compare columns "
            "other than text."
        ) from None
    except duckdb.Error as e:
        raise UsageError(
            f"the filter {_short(where)!r} cannot be used: {_reason(e)}. A text is read as a "
            "number by cast(x as DOUBLE), as a time by cast(x as TIMESTAMP)."
        ) from None
    except RuntimeError as e:
        if "interrupted" in str(e):  # how DuckDB passes on Ctrl-C
            raise KeyboardInterrupt from None
        raise
    finally:
        done.set()
        timer.join()
        cursor.close()


def _interrupt(interrupt: Callable[[], None], done: threading.Event) -> None:
    if done.wait(columns.MAX_FILTER_S):
        return
    while not done.wait(_INTERRUPT_EVERY_S):
        interrupt()


def _reason(error: Exception) -> str:
    """DuckDB's message without its kind and without our SQL."""
    line = str(error).split("\n")[0]
    _, _, message = line.partition(": ")
    return (message or line).strip().rstrip(".!")


def _field(name: str) -> pa.Field:
    if name in _OF_ROOTS:
        return pa.field(name, _OF_ROOTS[name])
    field = PARTS_SCHEMA.field(name)
    return pa.field(name, field.type)


def _rows(
    snapshot: Snapshot,
    parts: Iterable[tuple[Segment, Iterator[pa.RecordBatch]]],
    schema: pa.Schema,
    expression: Expression,
) -> Iterator[pa.RecordBatch]:
    """The live rows with the stored columns that are needed, batch by batch.

    parts: segments, each with those columns.
    """
    roots = sorted(snapshot.manifest.roots, key=lambda r: r.id)
    ids = np.array([r.id for r in roots], np.int32)
    texts = {
        "prefix": [split_path(join(r.path, ""))[0] for r in roots],
        "folder": [split_path(r.path)[0] if r.path else None for r in roots],
    }
    of_roots = {name: pa.array(texts[name], pa.string()) for name in texts}
    step = max(1, _CALLS_A_BATCH // max(1, expression.calls))
    first = 0  # number of the segment's first row over all these segments
    for segment, batches in parts:
        at = 0
        for batch in batches:
            n = batch.num_rows
            arrays = [pa.array(np.arange(first + at, first + at + n))]
            for name in expression.stored:
                if name in of_roots:
                    places = np.searchsorted(ids, batch.column("root").to_numpy())
                    place = pa.array(places.astype(np.int32))
                    arrays.append(pa.DictionaryArray.from_arrays(place, of_roots[name]))
                else:
                    arrays.append(batch.column(name))
            rows = pa.RecordBatch.from_arrays(arrays, schema=schema)
            if len(segment.dead):
                rows = rows.filter(pa.array(segment.live[at : at + n]))
            for begin in range(0, rows.num_rows, step):
                yield rows.slice(begin, step)
            at += n
        first += segment.ref.rows
