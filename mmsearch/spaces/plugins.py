"""Families of models that other packages bring.

A package names its class in its own ``pyproject.toml``, and a space is then called ``mine:MODEL``:

    [project.entry-points."mmsearch.spaces"]
    mine = "my_package.space:MySpace"

``MySpace(name, placement)`` meets ``Encoder``, and raises SpaceUnavailable where it cannot be
loaded. Its module may have ``check_here(name)``, ``names()`` and ``pull(name)``, as ``clap`` has.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from mmsearch.errors import SpaceUnavailable

BUILT_IN = ("openclip", "clap", "gemma", "bridge")  # names that nobody takes over


@cache
def plugins() -> dict[str, tuple[str, str, str]]:
    """Family -> (module, class, what it needs), of every package that is installed."""
    from importlib.metadata import entry_points

    found = {}
    for point in entry_points(group="mmsearch.spaces"):
        if point.name in BUILT_IN:
            continue
        module, _, cls = point.value.partition(":")
        package = point.dist.name if point.dist is not None else module
        found[point.name] = (module, cls, f"the package {package}, which is installed")
    return found


def module_of(family: str) -> Any:
    """The module of a family that a package brings.

    Raises SpaceUnavailable where it cannot be imported, or has no such class.
    """
    module, cls, _ = plugins()[family]
    try:
        found = import_module(module)
        getattr(found, cls)
    except Exception as e:  # whatever a stranger's module does when it is imported
        raise SpaceUnavailable(
            f"{family}: {module}:{cls} cannot be loaded ({type(e).__name__}: {e}): "
            "ask who makes it."
        ) from None
    return found
