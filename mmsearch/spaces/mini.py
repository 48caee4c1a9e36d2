"""The built-in space: pictures, texts and sounds in one, with nothing to download.

Its files lie in ``mini_assets/``; ``mmsearch.train.mini`` makes them.
"""

from __future__ import annotations

from pathlib import Path

from mmsearch.spaces.folder import FolderSpace

ASSETS = Path(__file__).parent / "mini_assets"


class Mini(FolderSpace):
    """The encoder of the space ``mini``; see ``FolderSpace``."""

    def __init__(self, folder: Path = ASSETS, threads: int | None = None) -> None:
        super().__init__(folder, threads)
