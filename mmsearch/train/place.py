"""Where a space folder is written, so that nothing of the user's is ever replaced."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from mmsearch.errors import SpaceUnavailable, UsageError
from mmsearch.spaces.folder import is_space_file, read_card, space_of
from mmsearch.train.recipe import Recipe

LOCK = "run.lock"  # in the work folder


def place_of(recipe: Recipe) -> Path:
    """Where the space folder goes, links followed.

    Raises UsageError where that holds anything but a space folder's files, or is what the
    training reads.
    """
    written = recipe.place(recipe.out)
    try:
        out = Path(os.path.realpath(written))
    except OSError as e:  # a loop of links
        raise UsageError(f"{written} cannot be used: {e.strerror}. Choose another `out`.") from None
    if not out.name:
        raise UsageError(f"{out} is no place for a space folder: choose another `out`.")
    read = {"the recipe": recipe.folder / "recipe"}  # any name: its folder is what counts
    read |= {f"pairs, {one.path}": recipe.place(one.path) for one in recipe.pairs}
    if recipe.validation.path:
        read["the pairs held out"] = recipe.place(recipe.validation.path)
    for what, path in read.items():
        if out in Path(os.path.realpath(path)).parents:
            raise UsageError(f"{out} holds what is read ({what}): choose another `out`.")
    for what, name in (("start", recipe.start), ("teacher", recipe.teacher.space)):
        if name and out == Path(os.path.realpath(recipe.place(name))):
            raise UsageError(f"{out} is the {what}: choose another `out`.")
    _refuse_foreign(out)
    return out


def _refuse_foreign(out: Path) -> None:
    """Raises UsageError where writing would replace something that is no space."""
    try:
        if not out.exists():
            return
        if not out.is_dir():
            raise UsageError(f"{out} is a file: choose another `out`.")
        entries = sorted(out.iterdir())
        other = next((e for e in entries if not is_space_file(e.name) or not e.is_file()), None)
    except OSError as e:
        raise UsageError(f"{out} cannot be used: {e.strerror}. Choose another `out`.") from None
    if other is not None:
        raise UsageError(
            f"{out} holds other things than a space ({other.name}): choose another `out`."
        )
    if entries:
        try:
            space_of(read_card(out), out)
        except SpaceUnavailable as e:
            raise UsageError(f"{out} is no space: {e} Choose another `out`.") from None


@contextmanager
def held(out: Path, work: Path) -> Iterator[None]:
    """One run at a time, in a place that can be written.

    Raises UsageError for one that cannot be, and while another run holds it.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent)).rmdir()
        work.mkdir(exist_ok=True)
        lock = FileLock(work / LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(
            f"{out} is being trained by another process: wait until it has finished, or stop it."
        ) from None
    except OSError as e:
        reason = f"{e.strerror or e}: {e.filename or work}"
        raise UsageError(f"{out} cannot be written: {reason}. Choose another `out`.") from None
    try:
        yield
    finally:
        lock.release()


def publish(out: Path, write: Callable[[Path], None]) -> None:
    """Puts a space folder into its place, whole or not at all.

    write: fills an empty folder; what it raises leaves everything as it was.
    """
    own = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    new, old = own / "new", own / "old"
    try:
        new.mkdir()
        write(new)
        _refuse_foreign(out)  # it may have changed meanwhile
        if out.exists():
            out.rename(old)
        try:
            new.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
        if old.exists():
            for path in old.iterdir():
                if is_space_file(path.name):
                    path.unlink()
        with suppress(OSError):  # what came into the old folder meanwhile stays there
            old.rmdir()
        with suppress(OSError):
            own.rmdir()
