"""Large indexes of what somebody encoded, or of made-up vectors, written in minutes.

Parts go straight into the store and the ANN room is trained as ``mmsearch index`` trains it;
nothing is decoded or encoded. Passages carry text, a title and where they stand in their file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice, repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmsearch.indexer.quantise import update_ann
from mmsearch.spaces import load_encoder
from mmsearch.store import PartRow, Writer
from mmsearch.types import Modality, Vectors

_COMMIT_ROWS = 65_536
_A_FILE = 20  # passages of one file
_SUBJECTS = 64  # made-up vectors lie about points between these many
_MADE_UP = "Passage {n:,}: what is written here stands for some two hundred words of a file. "


def made_up(n: int, d: int, seed: int = 0) -> NDArray[np.float16]:
    """Clustered unit vectors, float16 (n, d), rows in no order.

    Each lies near a point between three of a few subjects, all about one mean: a cosine of
    0.3 to 0.9 between neighbours, as passages have them.
    """
    rng = np.random.default_rng(7)
    mean = rng.standard_normal(d).astype(np.float32)
    subjects = rng.standard_normal((_SUBJECTS, d)).astype(np.float32)
    rng = np.random.default_rng(seed)
    out = np.empty((n, d), np.float16)
    for at in range(0, n, _COMMIT_ROWS):
        m = min(_COMMIT_ROWS, n - at)
        mixed = np.zeros((m, d), np.float32)
        for weight in rng.dirichlet((1.0, 1.0, 1.0), m).astype(np.float32).T:
            mixed += weight[:, None] * subjects[rng.integers(_SUBJECTS, size=m)]
        mixed += 0.4 * mean + 0.5 * rng.standard_normal((m, d), np.float32)
        out[at : at + m] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    return out


def texts_of(path: Path | None) -> Iterator[str]:
    """The column ``text`` of a Parquet file, row by row; without a file, made-up passages."""
    if path is None:
        return (_MADE_UP.format(n=n) * 8 for n, _ in enumerate(repeat(None)))
    from pyarrow import parquet

    batches = parquet.ParquetFile(path).iter_batches(8192, columns=["text"])
    return chain.from_iterable(batch.column(0).to_pylist() for batch in batches)


def fill(
    folder: Path,
    vectors: Sequence[NDArray[np.float16]] | NDArray[np.float16],
    texts: Iterator[str],
    ann: str = "auto",
    segments: int = 1,
) -> None:
    """Makes an index of ``mini``'s space in that folder, one text passage a vector.

    segments: so many of equal size are left, where there is to be more than one.
    """
    encoder = load_encoder("mini")
    rows = _COMMIT_ROWS if segments == 1 else -(-len(vectors) // segments)
    with Writer(folder, encoder.space, "benchmark") as writer:
        writer.keep_space(encoder.files)
        root = writer.root("/corpus")
        parts = enumerate(zip(vectors, islice(texts, len(vectors)), strict=True))
        while some := list(islice(parts, rows)):
            for n, (vector, text) in some:
                writer.extend([(_row(n, root, text), vector)])
            writer.want(ann)
            writer.commit()
        if segments == 1:
            writer.compact()
        update_ann(writer)
        writer.finish()


def _row(n: int, root: int, text: str) -> PartRow:
    file, place = divmod(n, _A_FILE)
    item = f"{file:016x}"
    return PartRow(
        id=item if place == 0 else f"{item}#{place}",
        root=root,
        path=f"{file % 997:03d}/{file:07d}.txt",
        modality=Modality.TEXT,
        part_no=place,
        start_s=None,
        end_s=None,
        text=text,
        meta={"title": f"File {file:,}", "offset": place * 1000},
        size=_A_FILE * 1000,
        mtime_ns=1_700_000_000_000_000_000,
        ctime_ns=1_700_000_000_000_000_000,
        inode=file,
        content_hash=file.to_bytes(16, "little"),
    )


def questions(vectors: NDArray[np.float16], parts: int, n: int) -> Vectors:
    """Unit vectors to ask with, float32 (n, d), in no order: n of those after the parts, which
    are in no index; where there are fewer, parts moved by a fifth of their length."""
    rng = np.random.default_rng(1)
    held = vectors[parts:]
    if len(held) >= n:
        xq = held[np.sort(rng.choice(len(held), n, replace=False))].astype(np.float32)
    else:
        xq = vectors[np.sort(rng.choice(parts, n, replace=n > parts))].astype(np.float32)
        xq += rng.standard_normal(xq.shape, np.float32) * np.float32(0.2 / xq.shape[1] ** 0.5)
    rng.shuffle(xq)
    unit: Vectors = xq / np.linalg.norm(xq, axis=1, keepdims=True)
    return unit
