"""Values from JSON are checked against the annotations of a dataclass."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Required, TypedDict

import pytest

from mmsearch.checking import Holds, Like, Matches, Within, Wrong, made


class Colour(StrEnum):
    RED = "red"


class Facts(TypedDict, total=False):
    n: Required[Annotated[int, Within(1, 9)]]
    pairs: dict[str, tuple[int, float]]


@dataclass(frozen=True)
class Inner:
    size: Annotated[int, Within(0, 10)]
    name: Annotated[str, Matches("[a-z]+")] = "x"


@dataclass(frozen=True)
class Outer:
    inner: Inner
    several: Annotated[tuple[Inner, ...], Holds(3)] = ()
    share: Annotated[float, Within(0, 1)] | None = None
    colour: Colour = Colour.RED
    named: dict[Annotated[str, Matches("[a-z]")], Inner] = field(default_factory=dict)
    facts: Annotated[dict[str, Any], Like(Facts)] = field(default_factory=lambda: {"n": 1})
    flag: bool = False
    again: tuple[Outer, ...] = ()

    def __post_init__(self) -> None:
        if self.flag and self.inner.size == 0:
            raise ValueError("has nothing to flag")


GOOD: dict[str, Any] = {"inner": {"size": 3}}


def test_what_is_right_becomes_the_dataclass() -> None:
    value = {
        "inner": {"size": 3, "name": "abc"},
        "several": [{"size": 1}, {"size": 2}],
        "share": 1,
        "colour": "red",
        "named": {"a": {"size": 0}},
        "facts": {"n": 2, "pairs": {"x": [1, 0.5]}},
        "again": [{"inner": {"size": 1}, "again": [GOOD]}],
    }
    found = made(Outer, value)
    assert found.inner == Inner(3, "abc") and found.several == (Inner(1), Inner(2))
    assert found.share == 1 and found.colour is Colour.RED and found.named == {"a": Inner(0)}
    assert found.facts == {"n": 2, "pairs": {"x": [1, 0.5]}}  # as it came
    assert found.again[0].again == (made(Outer, GOOD),)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"inner": None}, "inner is None"),
        ({"inner": {}}, "inner lacks size"),
        ({"inner": {"size": "3"}}, "inner.size is '3'"),
        ({"inner": {"size": True}}, "inner.size is True"),
        ({"inner": {"size": 3.0}}, "inner.size is 3.0"),
        ({"inner": {"size": -1}}, "inner.size is -1, not 0 to 10"),
        ({"inner": {"size": 10**400}}, "inner.size is too large"),
        ({"inner": {"size": 1, "more": 2}}, "inner holds 'more'"),
        ({"inner": {"size": 1, "name": "a\nb"}}, "inner.name"),
        ({"inner": {"size": 1, "name": "a\0"}}, "inner.name"),
        ({"several": {"size": 1}}, "several"),
        ({"several": [{"size": 1}, {"size": 11}]}, r"several\[1\].size is 11"),
        ({"several": [{"size": 1}] * 4}, "several has a length of 4"),
        ({"share": float("nan")}, "share is nan"),
        ({"share": float("inf")}, "share is inf"),
        ({"share": "1"}, "share is '1'"),
        ({"share": 2}, "share is 2"),
        ({"colour": "blue"}, "colour is 'blue', not one of: red"),
        ({"colour": []}, "colour"),
        ({"named": {"A": {"size": 1}}}, "named.'A'"),
        ({"named": {"a": {"size": "x"}}}, "named.'a'.size"),
        ({"named": []}, "named is"),
        ({"facts": {}}, "facts lacks n"),
        ({"facts": {"n": 10}}, "facts.n is 10"),
        ({"facts": {"n": 1, "pairs": {"x": [1]}}}, "facts.pairs.'x' is"),
        ({"facts": {"n": 1, "pairs": {"x": [1, "y"]}}}, r"facts.pairs.'x'\[1\] is 'y'"),
        ({"facts": {"n": 1, "more": 1}}, "facts holds 'more'"),
        ({"flag": 1}, "flag is 1"),
        ({"flag": True, "inner": {"size": 0}}, "has nothing to flag"),
        ({"again": [{"inner": {"size": 99}}]}, r"again\[0\].inner.size is 99"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], place: str) -> None:
    with pytest.raises(Wrong, match=place):
        made(Outer, {**GOOD, **change})


@pytest.mark.parametrize("value", [None, [], "x", 5, {"inner": [[[]]]}])
def test_what_is_no_object_at_all_is_wrong(value: object) -> None:
    with pytest.raises(Wrong):
        made(Outer, value)


def test_a_long_value_is_told_in_short() -> None:
    with pytest.raises(Wrong) as e:
        made(Outer, {"inner": {"size": "x" * 100_000}})
    assert len(str(e.value)) < 200


def test_a_number_that_python_will_not_write_is_told_too() -> None:
    with pytest.raises(Wrong, match="flag is <int>"):
        made(Outer, {**GOOD, "flag": 10**5000})
