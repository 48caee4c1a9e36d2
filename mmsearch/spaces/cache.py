"""What is kept for all indexes of a user: towers that were written, and copies of spaces' files."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from mmsearch.store.confined import AnyPath, ConfinedPath
from mmsearch.store.sharing import same_disk
from mmsearch.types import Space


def cache_folder() -> Path:
    """Where towers are kept: in the user's cache, or until this program ends."""
    home = _home() / "towers"
    return home if _can_be_used(home) else _temporary()


def shared_folder(space: Space, index: AnyPath) -> ConfinedPath | None:
    """Where the files of a space may lie for all indexes of the user; see ``store.sharing``.

    None where the cache cannot be written to, or lies on another disk than the index.
    """
    home = _home() / "spaces"
    if not _can_be_used(home) or not same_disk(home, index):
        return None
    return ConfinedPath(home) / f"{space.fingerprint}-{space.digest[:32]}"


def _home() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("mmsearch"))


@cache
def _can_be_used(home: Path) -> bool:
    """Whether something can be written to a folder, which is made if need be."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            return True
    except OSError:
        return False


@cache
def _temporary() -> Path:
    folder, process = tempfile.mkdtemp(prefix="mmsearch-"), os.getpid()

    def clean_up() -> None:
        if os.getpid() == process:  # and not a forked child, which uses its parent's
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(clean_up)
    return Path(folder)
