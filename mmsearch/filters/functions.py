"""What a condition may be made of, and what is said of anything else."""

from __future__ import annotations

ARITHMETIC = ("+", "-", "*", "/", "//", "%")
# name -> types of its arguments. No function here makes a text longer than its arguments, takes a
# pattern, or knows anything but its arguments.
FUNCTIONS = {
    **dict.fromkeys(("lower", "upper", "trim", "length"), ("VARCHAR",)),
    **dict.fromkeys(("contains", "starts_with", "ends_with"), ("VARCHAR", "VARCHAR")),
    **dict.fromkeys(("abs", "floor", "ceil", "round"), ("DOUBLE",)),
    **dict.fromkeys(("year", "month", "day", "hour", "minute", "dayofweek"), ("TIMESTAMP",)),
}
GIVES = {  # name -> type of what it gives
    **dict.fromkeys(("lower", "upper", "trim"), "VARCHAR"),
    **dict.fromkeys(("contains", "starts_with", "ends_with"), "BOOLEAN"),
    **dict.fromkeys(("abs", "floor", "ceil", "round"), "DOUBLE"),
    **dict.fromkeys(("length", "year", "month", "day", "hour", "minute", "dayofweek"), "BIGINT"),
}
TYPES = (
    *("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "FLOAT", "DOUBLE", "VARCHAR"),
    *("DATE", "TIMESTAMP"),
)
_NOT_TWICE_THE_SAME = frozenset(
    "now today current_date current_timestamp get_current_timestamp random".split()
)
_AGGREGATES = frozenset("count count_star sum avg min max first last string_agg list".split())

REFUSED = {
    "SUBQUERY": "a filter cannot ask for other rows: no SELECT inside it.",
    "WINDOW": "a filter looks at one part at a time: no window functions (OVER).",
    "STAR": "a filter is a condition on named columns: * cannot be used in it.",
    "PARAMETER": "? cannot stand there: it stands for a value, as in meta.KEY = ?.",
    "LAMBDA": "-> cannot be used in a filter: write meta.KEY or (meta->>'KEY').",
    "COLLATE": "COLLATE cannot be used in a filter: write ilike or lower(x).",
}


def spelled(kind: str) -> str:
    """An operator that cannot be used, as people write it."""
    if kind.startswith(("ARRAY", "STRUCT")):
        return "[…]"
    return kind.removeprefix("OPERATOR_").replace("_", " ")


def no_function(name: str, n: int | None = None) -> str:
    """What is said of a function that there is not, or not with n arguments."""
    if name in FUNCTIONS and n is not None:
        takes = len(FUNCTIONS[name])
        return f"{name} takes {takes} argument{'s' * (takes > 1)}, not {n}."
    if name.startswith(("regexp", "~")):
        return (
            "regular expressions, ~ and GLOB cannot be used in a filter. Write like or ilike, as "
            "in path ilike '%holiday%'."
        )
    if name in _NOT_TWICE_THE_SAME:
        return (
            f"{name} cannot be used in a filter, which gives the same answer each time. Write a "
            "time, as in mtime > '2026-01-31'."
        )
    if name in _AGGREGATES:
        shown = name.replace("_star", "(*)")
        return f"{shown} cannot be used in a filter, which looks at one part at a time."
    return (
        f"{name} cannot be used in a filter. There are {', '.join(FUNCTIONS)}, "
        f"{' '.join(ARITHMETIC)}, like and ilike."
    )
