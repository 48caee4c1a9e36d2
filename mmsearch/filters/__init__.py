"""What may match: a condition over what is stored of each part becomes a mask.

``width > 1000 and meta.brand = ?`` is asked with the values of its parameters (``asked``,
``values``). It is parsed by DuckDB's own parser, the values are put into their places
(``binding``), and the tree is checked node by node (``expression``), written anew from what is
allowed, and evaluated over the rows that the snapshot holds open (``engine``). The only room that
imports duckdb, and only when a filter is used. ``COLUMNS`` is the view that users see.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmsearch.filters.columns import COLUMNS, MAX_FILTER_CHARS, MAX_FILTER_S

if TYPE_CHECKING:
    from mmsearch.filters.asked import Filter, Params, Where
    from mmsearch.filters.cache import Kept, Known, MaskCache, Masks
    from mmsearch.filters.engine import matching
    from mmsearch.filters.keys import absent_keys

_LAZY = {
    "matching": "engine",
    "absent_keys": "keys",
    **dict.fromkeys(("Filter", "Params", "Where"), "asked"),
    **dict.fromkeys(("Kept", "Known", "MaskCache", "Masks"), "cache"),
}

__all__ = [
    "COLUMNS",
    "MAX_FILTER_CHARS",
    "MAX_FILTER_S",
    "Filter",
    "Kept",
    "Known",
    "MaskCache",
    "Masks",
    "Params",
    "Where",
    "absent_keys",
    "filter_of",
    "matching",
]


def filter_of(where: Any, params: Any = None) -> Filter | None:
    """The filter that was asked for; see ``asked``. A query without one loads nothing for it."""
    if where is None and params is None:
        return None
    from mmsearch.filters import asked

    return asked.filter_of(where, params)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f"mmsearch.filters.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'mmsearch.filters' has no attribute {name!r}")
