"""The values of parameters, put into DuckDB's parse tree of a condition as typed constants.

A value never becomes text that is parsed: it takes the place of one node of the tree, and that
tree is checked afterwards as any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mmsearch.errors import UsageError
from mmsearch.filters.values import Value

Node = dict[str, Any]

LISTED = "LISTED"  # the class of a node that holds the values of a list; DuckDB has no such class
_IN = ("COMPARE_IN", "COMPARE_NOT_IN")
_PLAIN_CALL = (
    *(("function_name", "contains"), ("schema", "main"), ("is_operator", True)),
    ("order_bys", {"type": "ORDER_MODIFIER"}),
)
_NAMES = {"->>": 1, "date_part": 0}  # functions that take a name, and which argument it is


def bound(tree: Any, values: Sequence[Value]) -> Any:
    """The tree with the values of its parameters in their places.

    Raises UsageError if there is not one value for each, and for a value where none may stand.
    """
    _check_number(set(_parameters_in(tree)), len(values))
    return _Binding(values).bind(tree)


def equal(columns: Sequence[Sequence[str]], values: Sequence[Value]) -> Node:
    """A tree that says that columns equal values, or are in their lists, one for each."""
    children: list[Node] = []
    for names, value in zip(columns, values, strict=True):
        column = {"class": "COLUMN_REF", "type": "COLUMN_REF", "column_names": list(names)}
        if value.several:
            children.append(_in("COMPARE_IN", column, value))
        else:
            sides = {"left": column, "right": _constant(value)}
            children.append({"class": "COMPARISON", "type": "COMPARE_EQUAL", **sides})
    return {"class": "CONJUNCTION", "type": "CONJUNCTION_AND", "children": children}


def _parameters_in(tree: Any) -> Iterator[str]:
    """What the parameters of a tree are called: ? are called 1, 2, … in their order."""
    if isinstance(tree, list):
        for one in tree:
            yield from _parameters_in(one)
    elif isinstance(tree, dict):
        if _is_parameter(tree):
            yield tree["identifier"]
        yield from _parameters_in(list(tree.values()))


def _check_number(names: set[str], n: int) -> None:
    """Raises UsageError unless the parameters are called 1 to n."""
    for name in sorted(names):
        if not (name.isascii() and name.isdecimal()):
            raise UsageError(
                f"${name} cannot be used in a filter. Write ? for each value, and give the values "
                "in their order: params=['x', 2]."
            )
    wanted = max(map(int, names), default=0)
    given = f"{n:,} value{'s' * (n != 1)}" if n else "no value"
    if n and not wanted:
        raise UsageError(
            f"params gives {given}, and the filter has no ?. Write ? for each value, without "
            "quotes around it: meta.KEY = ?."
        )
    if wanted != n:
        raise UsageError(
            f"the filter has {wanted:,} parameter{'s' * (wanted != 1)} (?), and params gives "
            f"{given}. Give one value for each ?, in their order: params=['x', 2], or --param x "
            "--param 2. A list behind in is one value: params=[ids]."
        )
    if len(names) < n:
        unused = next(i for i in range(1, n + 1) if str(i) not in names)
        raise UsageError(f"params[{unused - 1}] stands nowhere in the filter: leave it out.")


class _Binding:
    """Puts values into a tree that has one place or more for each."""

    def __init__(self, values: Sequence[Value]) -> None:
        self._values = values

    def bind(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self.bind(one) for one in node]
        if not isinstance(node, dict):
            return node
        if _is_parameter(node):
            value = self._value(node)
            if value.several:
                raise UsageError(
                    f"{value.name} is a list, and a list stands behind in: meta.KEY in ?."
                )
            return _constant(value)
        return self._in_list(node) or self._checked(node)

    def _checked(self, node: Node) -> Node:
        name, children = node.get("function_name", ""), node.get("children", ())
        at = _NAMES.get(name)
        if at is not None and at < len(children) and _is_parameter(children[at]):
            raise UsageError(
                "? stands for a value, and here stands a name. Write the name itself: meta.KEY, "
                "year(mtime)."
            )
        return {key: self.bind(one) for key, one in node.items()}

    def _in_list(self, node: Node) -> Node | None:
        """``x in ?`` and ``x in (?)`` with a list, as one node; None for anything else."""
        what, kind, children = node.get("class"), node.get("type"), node.get("children", ())
        # DuckDB reads x in ? as contains(?, x), and x not in ? as not contains(?, x)
        name = node.get("function_name")
        if what == "FUNCTION" and name == "contains" and len(children) == 2:
            if not _is_parameter(children[0]):
                return None
            value = self._value(children[0])
            if not value.several:
                raise UsageError(
                    f"{value.name} is one value, and in takes a list: [{value.shown}]. For one "
                    "value write meta.KEY = ?; for a text inside another, contains(text, ?)."
                )
            return self._membership("COMPARE_IN", children[1], value, node)
        if what == "OPERATOR" and kind in _IN and len(children) == 2 and _is_parameter(children[1]):
            value = self._value(children[1])
            if value.several:
                return self._membership(kind, children[0], value, node)
        return None

    def _membership(self, kind: Any, what: Node, value: Value, instead: Node) -> Node:
        """A node for IN or NOT IN. instead: the node whose place it takes."""
        # what else it has, such as a word behind it, is refused later
        more = {k: v for k, v in instead.items() if (k, v) not in _PLAIN_CALL}
        return {**more, **_in(kind, self.bind(what), value)}

    def _value(self, parameter: Node) -> Value:
        return self._values[int(parameter["identifier"]) - 1]


def _is_parameter(node: Node) -> bool:
    return node.get("class") == "PARAMETER"


def _in(kind: str, what: Node, value: Value) -> Node:
    children = [what, {"class": LISTED, "listed": value}]
    return {"class": "OPERATOR", "type": kind, "children": children}


def _constant(value: Value) -> Node:
    """A node as DuckDB's parser gives it for a literal of that type."""
    (own,) = value.values
    if value.type in ("DATE", "TIMESTAMP"):
        text, type = _literal("VARCHAR", own.isoformat(), value), {"id": value.type}
        return {"class": "CAST", "child": text, "cast_type": type, "given": value.name}
    return _literal(value.type, own, value)


def _literal(type: str, own: Any, value: Value) -> Node:
    inside = {"type": {"id": type}, "is_null": False, "value": own}
    return {"class": "CONSTANT", "type": "VALUE_CONSTANT", "value": inside, "given": value.name}
