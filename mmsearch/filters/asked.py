"""A filter as it is asked: a condition, and the values that its parameters stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, TypeAlias

from mmsearch.errors import LimitExceeded, UsageError
from mmsearch.filters.columns import MAX_FILTER_CHARS
from mmsearch.filters.values import Value, checked_together, checked_value
from mmsearch.given import shown

Where: TypeAlias = str
Params: TypeAlias = Sequence[Any]


@dataclass(frozen=True)
class Filter:
    """A condition with its values, which were checked.

    where: the condition; it is read when it is asked. values: what its ``?`` stand for, in their
    order. key: 32 bytes that no other filter has.
    """

    where: str
    values: tuple[Value, ...] = ()
    key: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        digests = b"".join(value.digest + bytes([value.several]) for value in self.values)
        where = self.where.encode("utf-8", "surrogatepass")
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
    if not isinstance(where, str):
        raise UsageError(f"a filter is a str, not {type(where).__name__}.")
    return Filter(where, _listed(params))


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
