"""Values out of JSON, checked against the annotations of a dataclass and made into one.

A manifest or a card may come from a stranger, so every value in it is of a stated type and within
stated bounds before anybody uses it. What is allowed stands at the field:

    rows: Annotated[int, Within(0, 2**31 - 1)]
    name: Annotated[str, Matches(r"[a-z]+")]
    facts: Annotated[dict[str, Any], Like(Facts)]  # stays a dict
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    NotRequired,
    Required,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from mmsearch.given import shown

T = TypeVar("T")
MAX_INT = (1 << 63) - 1  # what NumPy and Arrow hold; of an int without bounds
MAX_CHARS = 1 << 16  # of a text without bounds

Check = Callable[[Any], Any]  # the value as it is to be used; raises Wrong


class Wrong(ValueError):
    """A value that is not what it has to be; says where and what."""

    def __init__(self, what: str, place: str = "") -> None:
        super().__init__(f"{place} {what}".strip() if place else what)
        self.what, self.place = what, place

    def inside(self, name: str) -> Wrong:
        """The same, seen from what holds it under a name."""
        dot = "." if self.place and not self.place.startswith("[") else ""
        return Wrong(self.what, f"{name}{dot}{self.place}")


@dataclass(frozen=True)
class Within:
    """A number from ``least`` to ``most``, both included."""

    least: float
    most: float = MAX_INT

    def __call__(self, value: Any) -> None:
        """Raises Wrong."""
        if not self.least <= value <= self.most:
            raise Wrong(f"is {shown(value)}, not {self.least:,} to {self.most:,}")


@dataclass(frozen=True)
class Matches:
    """A text that a regular expression matches as a whole."""

    pattern: str

    def __call__(self, value: Any) -> None:
        """Raises Wrong."""
        if _compiled(self.pattern)(value) is None:
            raise Wrong(f"is {shown(value)}, which cannot stand here")


@dataclass(frozen=True)
class Holds:
    """A text, list or object of at most so many characters or values."""

    most: int

    def __call__(self, value: Any) -> None:
        """Raises Wrong."""
        if len(value) > self.most:
            raise Wrong(f"has a length of {len(value):,}; at most {self.most:,} are taken")


@dataclass(frozen=True)
class Like:
    """An object of the form of a ``TypedDict``, which stays an object."""

    form: Any

    def __call__(self, value: Any) -> None:
        """Raises Wrong."""
        _check_of(self.form)(value)


@cache
def _compiled(pattern: str) -> Callable[[str], Any]:
    return re.compile(pattern).fullmatch


def made(form: type[T], value: Any) -> T:
    """A value from JSON as a dataclass. Raises Wrong, a ValueError that names the place."""
    check: Check = _check_of(form)  # type: ignore[arg-type]
    found: T = check(value)
    return found


@cache
def _check_of(kind: Any) -> Check:
    if get_origin(kind) is Annotated:
        inner, *rules = get_args(kind)
        return _annotated(_check_of(inner), [rule for rule in rules if callable(rule)])
    if kind in _PLAIN:
        return _PLAIN[kind]
    if is_dataclass(kind):
        return _of_dataclass(kind)
    if is_typeddict(kind):
        return _of_typed_dict(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _of_enum(kind)
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType) and len(inside) == 2 and NoneType in inside:
        return _or_none(_check_of(next(one for one in inside if one is not NoneType)))
    if origin is tuple:
        if inside[-1] is Ellipsis:
            return _list_of(_check_of(inside[0]))
        return _fixed([_check_of(one) for one in inside])
    if origin is dict:
        return _dict_of(*(_check_of(one) for one in inside))
    raise TypeError(f"{kind} has no check")


def _annotated(inner: Check, rules: list[Callable[[Any], None]]) -> Check:
    if len(rules) == 1:  # mostly, and called for each number and name
        (only,) = rules

        def check_one(value: Any) -> Any:
            found = inner(value)
            only(found)
            return found

        return check_one

    def check(value: Any) -> Any:
        found = inner(value)
        for rule in rules:
            rule(found)
        return found

    return check


def _int(value: Any) -> int:
    if type(value) is not int:
        raise Wrong(f"is {shown(value)}, not a whole number")
    if not -MAX_INT <= value <= MAX_INT:
        raise Wrong("is too large a number")
    return value


def _float(value: Any) -> Any:
    if type(value) not in (int, float) or not -MAX_INT <= value <= MAX_INT:
        raise Wrong(f"is {shown(value)}, not a number")
    return value  # as it is: a fingerprint tells 10 from 10.0


def _str(value: Any) -> str:
    if type(value) is not str:
        raise Wrong(f"is {shown(value)}, not a text")
    if len(value) > MAX_CHARS or "\0" in value:
        raise Wrong("is too long a text, or holds a NUL")
    return value


def _bool(value: Any) -> bool:
    if type(value) is not bool:
        raise Wrong(f"is {shown(value)}, not true or false")
    return value


_PLAIN: dict[Any, Check] = {int: _int, float: _float, str: _str, bool: _bool, Any: lambda v: v}


def _of_enum(kind: type[Enum]) -> Check:
    def check(value: Any) -> Any:
        try:
            return kind(value)
        except ValueError:
            known = ", ".join(str(one.value) for one in kind)
            raise Wrong(f"is {shown(value)}, not one of: {known}") from None

    return check


def _or_none(inner: Check) -> Check:
    return lambda value: None if value is None else inner(value)


def _list_of(inner: Check) -> Check:
    def check(value: Any) -> Any:
        if type(value) not in (list, tuple):
            raise Wrong(f"is {shown(value)}, not a list")
        found: list[Any] = []
        try:
            for one in value:
                found.append(inner(one))
        except Wrong as e:
            raise e.inside(f"[{len(found)}]") from None
        return tuple(found)

    return check


def _fixed(inner: list[Check]) -> Check:
    def check(value: Any) -> Any:
        if type(value) not in (list, tuple) or len(value) != len(inner):
            raise Wrong(f"is {shown(value)}, not a list of {len(inner)}")
        found: list[Any] = []
        try:
            for own, one in zip(inner, value, strict=True):
                found.append(own(one))
        except Wrong as e:
            raise e.inside(f"[{len(found)}]") from None
        return tuple(found)

    return check


def _dict_of(of_key: Check, of_value: Check) -> Check:
    def check(value: Any) -> Any:
        found, given = {}, _object(value)
        try:
            for key, one in given.items():
                found[of_key(key)] = of_value(one)
        except Wrong as e:
            raise e.inside(shown(key)) from None
        return found

    return check


def _of_dataclass(kind: Any) -> Check:
    hints = get_type_hints(kind, include_extras=True)
    checks: dict[str, Check] = {}
    required = set()
    for field in fields(kind):
        checks[field.name] = _later(hints[field.name])
        if field.default is MISSING and field.default_factory is MISSING:
            required.add(field.name)
    form = _form(checks, required)

    def check(value: Any) -> Any:
        try:
            return kind(**form(value))
        except Wrong:
            raise
        except ValueError as e:  # of its own checks
            raise Wrong(str(e)) from None

    return check


def _of_typed_dict(kind: Any) -> Check:
    checks: dict[str, Check] = {}
    required = set()
    for name, hint in get_type_hints(kind, include_extras=True).items():
        marked = get_origin(hint) in (Required, NotRequired)
        checks[name] = _later(get_args(hint)[0] if marked else hint)
        if get_origin(hint) is Required or (kind.__total__ and not marked):
            required.add(name)
    return _form(checks, required)


def _form(checks: dict[str, Check], required: set[str]) -> Check:
    def check(value: Any) -> Any:
        given = _object(value)
        if missing := required - given.keys():
            raise Wrong(f"lacks {', '.join(sorted(missing))}")
        if unknown := given.keys() - checks.keys():
            raise Wrong(f"holds {shown(min(map(str, unknown)))}, which nobody knows")
        found = {}
        try:
            for name, one in given.items():
                found[name] = checks[name](one)
        except Wrong as e:
            raise e.inside(name) from None
        return found

    return check


def _later(kind: Any) -> Check:
    """The check of a type that may hold itself."""
    found: list[Check] = []

    def check(value: Any) -> Any:
        if not found:
            found.append(_check_of(kind))
        return found[0](value)

    return check


def _object(value: Any) -> dict[Any, Any]:
    if type(value) is not dict:
        raise Wrong(f"is {shown(value)}, not an object")
    return value
