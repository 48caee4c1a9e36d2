"""Patterns of LIKE, written so that they are matched in linear time.

DuckDB matches ILIKE, and patterns with ``_``, by trying every way (a few ``%`` over a page of one
letter run for hours, and cannot be interrupted). Patterns of ``%`` alone are matched piece by
piece, all others by RE2.
"""

from __future__ import annotations

from mmsearch.errors import LimitExceeded, UsageError
from mmsearch.filters.columns import MAX_PATTERN_CHARS, MAX_PATTERN_ONES, quoted

REGEX_CALLS = 8  # the worst pattern that is taken, over pages of one letter: 0.5 ms a part
_ANY, _ONE = object(), object()  # what % and _ stand for in a pattern


def tokens_of(pattern: str, escape: str) -> list[object]:
    """A pattern as characters, ``_ANY`` and ``_ONE``. Raises UsageError, LimitExceeded."""
    if len(escape) > 1:
        raise UsageError(f"ESCAPE takes one character, not {escape!r}.")
    tokens: list[object] = []
    at = 0
    while at < len(pattern):
        c = pattern[at]
        if c == escape:
            at += 1
            if at == len(pattern):
                raise UsageError(f"the pattern {pattern!r} ends with its escape character.")
            tokens.append(pattern[at])
        elif c == "%":
            if not tokens or tokens[-1] is not _ANY:
                tokens.append(_ANY)
        else:
            tokens.append(_ONE if c == "_" else c)
        at += 1
    return tokens


def like_sql(what: str, tokens: list[object], any_case: bool) -> str:
    """Write a pattern as SQL that is matched in linear time. Raises LimitExceeded.

    what: SQL of the text. tokens: see ``tokens_of``. any_case: whether case makes no difference.
    """
    literal = all(t not in ("%", "_") for t in tokens)  # none that was escaped
    if _ONE not in tokens and literal:
        pattern = quoted("".join("%" if t is _ANY else str(t) for t in tokens))
        return f"(lower({what}) LIKE lower({pattern}))" if any_case else f"({what} LIKE {pattern})"
    if len(tokens) > MAX_PATTERN_CHARS:
        raise LimitExceeded(
            f"a pattern with _ or ESCAPE has {len(tokens):,} characters; at most "
            f"{MAX_PATTERN_CHARS} are taken. Leave out what is certain anyway."
        )
    behind = tokens[tokens.index(_ANY) :] if _ANY in tokens else []
    if behind.count(_ONE) > MAX_PATTERN_ONES:
        raise LimitExceeded(
            f"a pattern has {behind.count(_ONE)} times _ behind its first %; at most "
            f"{MAX_PATTERN_ONES} are taken. If _ itself is meant: like '%a!_b%' escape '!'."
        )
    regex = "".join(
        ".*" if t is _ANY else "." if t is _ONE else _regex_literal(str(t)) for t in tokens
    )
    return f"regexp_full_match({what}, {quoted(regex)}, {quoted('si' if any_case else 's')})"


def _regex_literal(c: str) -> str:
    return c if c.isalnum() else f"\\x{{{ord(c):x}}}"
