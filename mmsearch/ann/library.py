"""FAISS itself, loaded when it is first needed."""

from __future__ import annotations

from typing import Any

from mmsearch.errors import UsageError, install


def faiss_module() -> Any:
    """The module ``faiss``; UsageError says how to install it."""
    try:
        import faiss
    except ImportError:
        raise UsageError(
            "FAISS is not installed, and approximate search needs it; "
            f"{install('cpu')} (or gpu), or search exactly: index with --ann flat."
        ) from None
    return faiss
