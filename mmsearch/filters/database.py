"""The process's one DuckDB, locked down, and its errors as ours."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mmsearch import forks
from mmsearch.errors import LimitExceeded, UsageError
from mmsearch.filters import columns

_INTERRUPT_EVERY_S = 0.05  # an interrupt that falls between two steps is lost

_SETTINGS = (  # in this order: the last two would forbid the others
    ("threads", columns.THREADS),
    ("memory_limit", f"'{columns.MEMORY_MB}MB'"),
    ("temp_directory", "''"),  # nothing is spilled to disk
    ("autoload_known_extensions", "false"),
    ("autoinstall_known_extensions", "false"),
    ("allow_community_extensions", "false"),
    ("python_enable_replacements", "false"),  # no variable of the program is a table
    # of `x in (a list)` the list is held and the rows are streamed, never the other way round
    ("disabled_optimizers", "'build_side_probe_side,join_order,join_filter_pushdown'"),
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


_DATABASE = _Database()


@contextmanager
def asking(where: str) -> Iterator[Any]:
    """A cursor of its own that is interrupted in time, and DuckDB's errors as ours."""
    cursor = _DATABASE.cursor()
    import duckdb

    started = time.monotonic()
    done = threading.Event()
    timer = threading.Thread(target=_interrupt, args=(cursor.interrupt, done), daemon=True)
    timer.start()
    try:
        yield cursor
    except duckdb.OutOfMemoryException:
        raise LimitExceeded(
            f"the filter {short(where)!r} needs more than {columns.MEMORY_MB} MB: make it simpler."
        ) from None
    except duckdb.InterruptException:
        raise LimitExceeded(
            f"the filter {short(where)!r} was stopped after {time.monotonic() - started:.1f} s; "
            f"at most {columns.MAX_FILTER_S:g} s are given. Make it simpler, or compare columns "
            "other than text."
        ) from None
    except duckdb.OutOfRangeException:
        raise UsageError(
            f"the filter {short(where)!r} calculates a number that is too large. Calculate with "
            "cast(x as DOUBLE), where x is a column of it."
        ) from None
    except duckdb.Error as e:
        raise UsageError(f"the filter {short(where)!r} cannot be used: {_reason(e)}.") from None
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


def short(where: str) -> str:
    """A filter as an error shows it."""
    return where if len(where) <= 200 else where[:199] + "…"
