"""An index of vectors that are at hand, without encoding anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.indexer.quantise import update_ann
from mmsearch.spaces import load_encoder
from mmsearch.store import PartRow, Writer
from mmsearch.types import Modality, Preprocess, Space

COMMIT_ROWS = 65_536
STEPS = ("rows", "merging", "training", "coding", "tuning")


def index_of(
    xb: NDArray[Any],
    folder: Path,
    meta: Sequence[dict[str, Any]] | None = None,
    note: Callable[[float], None] = lambda share: None,
    texts: Sequence[str] | None = None,
) -> dict[str, float]:
    """Makes an index whose n parts, in order, have the rows of ``xb``; approximate by IVF-PQ.

    xb: float16 (n, d), unit rows; of ``mini``'s space where they have its width (its text tower
    then makes the queries that the index is tuned with), else of one without an encoder.
    meta: what is stored with each part. texts: the passages; without them the parts are
    pictures. note: is told the share that is done.
    Returns the seconds of each of ``STEPS``.
    """
    taken = dict.fromkeys(STEPS, 0.0)
    step, since = "rows", time.perf_counter()

    def said(message: str) -> None:
        nonlocal step, since
        now = time.perf_counter()
        taken[step] += now - since
        first = message.split(maxsplit=1)[0]
        step, since = first if first in STEPS else "tuning", now

    space = load_encoder("mini").space
    if space.dimension != xb.shape[1]:
        space = Space("bench", "0" * 64, xb.shape[1], tuple(Modality), Preprocess(1, 16_000, 10.0))
    nothing: dict[str, Any] = {}
    with Writer(folder, space) as writer:
        root = writer.root("/bench")
        for start in range(0, len(xb), COMMIT_ROWS):
            block = np.asarray(xb[start : start + COMMIT_ROWS], np.float16)
            for n, vector in enumerate(block, start):
                row = PartRow(
                    id=f"{n:08d}",
                    root=root,
                    path=f"{n:08d}.txt",
                    modality=Modality.IMAGE if texts is None else Modality.TEXT,
                    part_no=0,
                    start_s=None,
                    end_s=None,
                    text=None if texts is None else texts[n],
                    meta=nothing if meta is None else meta[n],
                    size=0,
                    mtime_ns=0,
                    ctime_ns=0,
                    inode=n,
                    content_hash=bytes(16),
                )
                writer.extend([(row, vector)])
            writer.want("ivfpq")
            writer.commit()
            note((start + len(block)) / len(xb))
        writer.compact()
        update_ann(writer, progress=said)
        writer.finish()
    said("done")
    return taken


def texts_beside(xb: NDArray[Any]) -> list[str] | None:
    """The column ``text`` of the Parquet file beside a mapped .npy, as many as rows; or None."""
    mapped = getattr(xb, "filename", None)
    beside = None if mapped is None else Path(mapped).with_suffix(".parquet")
    if beside is None or not beside.exists():
        return None
    from pyarrow import parquet

    table = parquet.ParquetFile(beside)
    if "text" not in table.schema_arrow.names:
        return None
    found: list[str] = table.read(["text"]).column("text").slice(0, len(xb)).to_pylist()
    return found
