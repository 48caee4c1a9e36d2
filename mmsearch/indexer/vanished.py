"""Which items go when a walk no longer meets their files.

A folder that is gone or empty may be a drive that is not there just now. So its items stay if
there are many of them; only ``prune`` removes those.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from mmsearch.store.snapshot import join

# Encoding fewer items again takes a minute at most, so a vanished folder of them is taken for
# deleted, unless it held this share of all items; in a small index that share is a few files,
# and then so many are needed.
KEPT_ITEMS, KEPT_SHARE, KEPT_SHARE_LEAST = 1_000, 0.25, 20


def inside(path: str, folder: str) -> bool:
    """Whether an absolute path is a folder or lies below it."""
    return path == folder or path.startswith(join(folder, ""))


class MetFolders:
    """The folders in which a walk met a file, there or further below."""

    def __init__(self) -> None:
        self._met: set[str] = set()
        self._last = ""

    def add(self, path: str) -> None:
        """Notes a file by its absolute path."""
        folder = path[: path.rfind(os.sep)]
        if folder == self._last:  # a walk goes folder by folder
            return
        self._last = folder
        while folder not in self._met:
            self._met.add(folder)
            folder = os.path.dirname(folder)

    def highest_without(self, path: str) -> str | None:
        """The highest folder above a file in which none was met; None if its own has one."""
        found, folder = None, os.path.dirname(path)
        while folder not in self._met and folder != os.path.dirname(folder):
            found, folder = folder, os.path.dirname(folder)
        return found


def kept_folders(
    gone: Mapping[int, str], met: MetFolders, tops: Iterable[str], n_items: int
) -> dict[int, str]:
    """Items whose whole folder vanished and that are too many to be removed: item -> folder.

    gone: absolute paths of the items that were not met. tops: the folders that were walked; one
    of them stands for a folder above it. n_items: how many items a walk could have met.
    """
    tops = list(tops)
    below: dict[str, list[int]] = {}  # vanished folder -> items
    for item, path in gone.items():
        folder = met.highest_without(path)
        if folder is not None:
            folder = next((top for top in tops if inside(top, folder)), folder)
            below.setdefault(folder, []).append(item)
    kept = {}
    for folder, items in below.items():
        large_share = len(items) >= max(KEPT_SHARE_LEAST, KEPT_SHARE * n_items)
        if len(items) >= KEPT_ITEMS or large_share:
            kept.update(dict.fromkeys(items, folder))
    return kept
