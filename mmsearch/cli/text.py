"""Text for terminals: nothing in a file's name or content may command one."""

from __future__ import annotations

import os
import sys
import unicodedata
from typing import TextIO

# Joiners that scripts and emoji need; they are format characters, but harmless.
_JOINERS = "\u200c\u200d"


def plain(text: str) -> str:
    """The text with control characters and lone surrogates written out, as \\x1b or \\udcff."""
    return "".join(c if _harmless(c) else repr(c)[1:-1] for c in text)


def _harmless(c: str) -> bool:
    return c.isprintable() or c in _JOINERS or unicodedata.category(c) == "Zs"


def prepare_streams() -> None:
    """Makes both streams write anything: what their encoding lacks is written out."""
    for name in ("stdout", "stderr"):
        stream: TextIO | None = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
