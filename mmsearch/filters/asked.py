"""A filter as it is asked: a condition, and the values that its parameters stand for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, TypeAlias

from mmsearch.errors import LimitExceeded, UsageError
from mmsearch.filters.columns import MAX_FILTER_CHARS, META, meta_name, word
from mmsearch.filters.values import Value, checked_together, checked_value
from mmsearch.given import shown

Where: TypeAlias = str | Mapping[str, Any]
Params: TypeAlias = Sequence[Any]
Column = tuple[str, ...]  # as the parser splits it at dots: ("meta", "camera", "maker")

# meta.brand, meta.camera.maker, meta."a.b": what stands between quotes is one key
_META = re.compile(r'meta((?:\.(?:"(?:[^"]|"")*"|[^."]+))+)', re.I | re.S)
_KEY = re.compile(r'\.(?:"((?:[^"]|"")*)"|([^."]+))', re.S)


@dataclass(frozen=True)
class Filter:
    """A condition with its values, which were checked.

    where: the condition; it is read when it is asked. values: what its ``?`` stand for, in their
    order. columns: of a dict, what must equal these values, one for each; the condition is then
    only what people are shown, and is not read. key: 32 bytes that no other filter has.
    """

    where: str
    values: tuple[Value, ...] = ()
    columns: tuple[Column, ...] | None = None
    key: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        digests = b"".join(value.digest + bytes([value.several]) for value in self.values)
        where = repr((self.where, self.columns)).encode()
        key = blake2b(digests + where, digest_size=32, salt=b"%d" % len(self.values)).digest()
        object.__setattr__(self, "key", key)

    def __str__(self) -> str:
        """The filter as people are shown it."""
        if not self.values:
            return self.where
        return f"{self.where} (params: {', '.join(value.shown for value in self.values)})"


def filter_of(where: Any, params: Any = None) -> Filter | None:
    """The filter that was asked for; None if there is none.

    Raises UsageError or LimitExceeded for what is none, and for a value that cannot be compared.
    """
    if where is None:
        if params is not None:
            raise UsageError("params are given, and no filter: give where='meta.KEY = ?', too.")
        return None
    if isinstance(where, Filter) and params is None:
        return where
    if isinstance(where, Mapping):
        if params is not None:
            raise UsageError("a filter that is a dict has its values: leave out params.")
        return _of_dict(where)
    if not isinstance(where, str):
        raise UsageError(f"a filter is a str or a dict, not {type(where).__name__}.")
    return Filter(where, _listed(params))


def _of_dict(where: Mapping[Any, Any]) -> Filter:
    """The filter that all columns and keys of a dict equal its values, or are in its lists."""
    if not where:
        raise UsageError(
            "the filter is an empty dict: give a condition, such as {'meta.brand': 'nike'}."
        )
    columns, values = [], []
    for name, value in where.items():
        columns.append(_column(name))
        values.append(checked_value(value, f"where[{shown(name)}]"))
    checked_together(values)
    each = zip(columns, values, strict=True)
    written = (f"{_written(column)} {'in' if value.several else '='} ?" for column, value in each)
    return Filter(" and ".join(written), tuple(values), tuple(columns))


def _column(name: Any) -> Column:
    """The column or key of meta that a name of a dict means. Raises UsageError."""
    if isinstance(name, str):
        if (found := _META.fullmatch(name)) is not None:
            keys = _KEY.findall(found[1])
            return META, *(plain or quoted.replace('""', '"') for quoted, plain in keys)
        if not name.lower().startswith(f"{META}."):
            return (str.__str__(name),)
    raise UsageError(
        f"a filter's dict has names of columns and of keys, such as id and meta.brand; not "
        f'{shown(name)}. A key with dots or quotes is written meta."a.b".'
    )


def _written(column: Column) -> str:
    """A column or key of meta as a condition names it."""
    return meta_name(column[1:]) if column[0] == META and column[1:] else word(column[0])


def _listed(params: Any) -> tuple[Value, ...]:
    """The values of ``?``, in their order."""
    if params is None:
        return ()
    if isinstance(params, Mapping):
        raise UsageError("params is a dict: write ? for each value, and give them in a list.")
    if not isinstance(params, list | tuple):
        raise UsageError(
            f"params is a list with one value for each ?, not {shown(params)}. Write "
            f"params=[{shown(params)}]."
        )
    if len(params) > MAX_FILTER_CHARS:
        raise LimitExceeded(
            f"params gives {len(params):,} values, and no filter has so many ?. A list behind in "
            "is one value: params=[ids]."
        )
    values = tuple(checked_value(value, f"params[{i}]") for i, value in enumerate(params))
    checked_together(values)
    return values
