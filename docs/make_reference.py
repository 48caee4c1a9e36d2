"""Writes ``docs/reference.md``: every public name of mmsearch, its arguments and its docstring.

    python docs/make_reference.py [--check]

With ``--check`` nothing is written; the exit code is 1 if the page is out of date.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mmsearch

PAGE = Path(__file__).parent / "reference.md"
FUNCTIONS = ("create", "index", "open", "list", "merge", "verify", "delete", "load_space")
CLASSES = ("Index", "Results", "BatchResults", "Hit", "Page", "Query", "Embedder")
_MODULES = re.compile(r"\b(?:mmsearch|collections|typing|pathlib|numpy)\.(?:\w+\.)*(\w+)")
_PLACES = re.compile(r"<function .*? at 0x[0-9a-f]+>")  # a default that is a function


def reference() -> str:
    """The page."""
    lines = [
        "# Reference",
        "",
        "Made from the docstrings by `python docs/make_reference.py`. Everything here is imported "
        "from `mmsearch`. Types are as the package declares them (`py.typed`).",
        "",
        "## Functions",
        "",
    ]
    for name in FUNCTIONS:
        lines += entry("###", f"mmsearch.{name}", getattr(mmsearch, name))
    for name in CLASSES:
        lines += [f"## {name}", "", *text(getattr(mmsearch, name)), *fields_of(name)]
        for member, value in members(getattr(mmsearch, name)):
            if isinstance(value, property):
                lines += [f"### {name}.{member}", "", *text(value)]
            else:
                lines += entry("###", f"{name}.{member}", value)
    lines += ["## Errors", ""]
    for name in errors():
        error = getattr(mmsearch, name)
        lines += [f"- `{name}` ({error.__mro__[1].__name__}): {summary(error)}"]
    return "\n".join(lines) + "\n"


def errors() -> list[str]:
    """The public exceptions, parents first."""
    found = [n for n in mmsearch.__all__ if inspect.isclass(getattr(mmsearch, n))]
    found = [n for n in found if issubclass(getattr(mmsearch, n), Exception)]
    return sorted(found, key=lambda n: (len(getattr(mmsearch, n).__mro__), n))


def members(cls: Any) -> Iterator[tuple[str, Any]]:
    """The public methods and properties of a class and of those of ours that it is made from, in
    the order of their definition."""
    seen = set()
    for one in cls.__mro__:
        if one.__module__.startswith("mmsearch"):
            for name, value in vars(one).items():
                shown = isinstance(value, property) or inspect.isroutine(value)
                if isinstance(value, classmethod | staticmethod):
                    value = value.__func__
                if shown and not name.startswith("_") and name not in seen:
                    seen.add(name)
                    yield name, value


def fields_of(name: str) -> list[str]:
    """The fields of a dataclass, with their types."""
    cls = getattr(mmsearch, name)
    if not dataclasses.is_dataclass(cls):
        return []
    shown = [one for one in dataclasses.fields(cls) if not one.name.startswith("_")]
    return [*(f"- `{one.name}`: `{plain(one.type)}`" for one in shown), ""]


def entry(level: str, name: str, function: Any) -> list[str]:
    """A function's heading, how it is called, and what it does."""
    signature = inspect.signature(function)
    arguments = []
    for one in signature.parameters.values():
        if one.kind is one.KEYWORD_ONLY and "*" not in arguments:
            arguments.append("*")
        if one.name not in ("self", "cls"):
            arguments.append(str(one))
    arguments = [plain(one) for one in arguments]
    returns = plain(signature.return_annotation)
    call = f"{name}({', '.join(arguments)}) -> {returns}"
    if len(call) > 88:
        call = f"{name}(\n    " + ",\n    ".join(arguments) + f",\n) -> {returns}"
    return [f"{level} {name}", "", "```python", call, "```", "", *text(function)]


def plain(annotation: Any) -> str:
    """Types without the modules that they come from."""
    return _MODULES.sub(r"\1", _PLACES.sub("…", str(annotation)).replace("'", ""))


def text(thing: Any) -> list[str]:
    """A docstring as paragraphs."""
    doc = inspect.getdoc(thing)
    if not doc:
        raise SystemExit(f"{thing} has no docstring")
    return [doc.replace("``", "`"), ""]


def summary(thing: Any) -> str:
    """The first sentence of a docstring."""
    return (inspect.getdoc(thing) or "").replace("``", "`").split("\n\n")[0].replace("\n", " ")


def main() -> None:
    """Writes the page, or checks it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    page = reference()
    if parser.parse_args().check:
        if not PAGE.exists() or PAGE.read_text("utf-8") != page:
            sys.exit("docs/reference.md is out of date: run python docs/make_reference.py")
    else:
        PAGE.write_text(page, "utf-8")


if __name__ == "__main__":
    main()
