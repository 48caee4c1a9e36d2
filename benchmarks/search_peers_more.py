"""More of the engines that are compared: those with storage or formats of their own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_peers import (
    _HNSW_EF,
    Contender,
    FaissHnsw,
    FaissHnswFp16,
    FaissIvfPq,
    FaissIvfPqMapped,
    Found,
    Hnswlib,
    Mmsearch,
    Note,
    blocks,
)


class Usearch(Contender):
    """USearch over float16 vectors."""

    name = index = "usearch-f16"
    package = "usearch"
    build_s = 1200
    kind, view = "f16", False
    about = "connectivity 16, expansion_add 128; knob: expansion_search"

    def load(self) -> None:
        from usearch.index import Index

        self._class = Index

    def build(self, xb: NDArray[Any], folder: Path, threads: int, note: Note) -> dict[str, Any]:
        index = self._class(
            ndim=xb.shape[1], metric="ip", dtype=self.kind, connectivity=16, expansion_add=128
        )
        for start, block in blocks(xb, note):
            keys = np.arange(start, start + len(block), dtype=np.uint64)
            index.add(keys, block, copy=True, threads=threads)
        index.save(str(folder / "index.usearch"))
        return {}

    def open(self, folder: Path, threads: int) -> None:
        self._threads = threads
        self._index: Any = self._class.restore(str(folder / "index.usearch"), view=self.view)

    def knobs(self, n: int) -> Sequence[Any]:
        return _HNSW_EF

    def search(self, xq: NDArray[np.float32], k: int, knob: Any) -> Found:
        self._index.expansion_search = knob
        found = self._index.search(xq, k, threads=self._threads)
        return np.asarray(found.keys.reshape(len(xq), -1), np.int64)


class UsearchMapped(Usearch):
    """The same file, mapped instead of read."""

    name = "usearch-f16-mapped"
    view = True
    about = "the same file, opened with view=True"


class UsearchI8(Usearch):
    """USearch over vectors of 8-bit integers."""

    name = index = "usearch-i8"
    kind = "i8"
    build_s = 900


class Scann(Contender):
    """ScaNN: a tree, anisotropic 4-bit codes, re-ranked in float32."""

    name = index = "scann"
    package = "scann"
    build_s = 300
    quantised = False
    about = "2·√n leaves, 2 dimensions a code, reorder float32; knob: leaves, reordered"

    def load(self) -> None:
        from scann import ReorderType
        from scann.scann_ops.py import scann_ops_pybind

        self._kinds = ReorderType
        self._scann = scann_ops_pybind

    def build(self, xb: NDArray[Any], folder: Path, threads: int, note: Note) -> dict[str, Any]:
        n = len(xb)
        whole = np.asarray(xb, np.float32)
        kind = self._kinds.BFLOAT16 if self.quantised else self._kinds.FLOAT32
        builder = self._scann.builder(whole, 10, "dot_product")
        builder = builder.tree(
            num_leaves=self._leaves(n),
            num_leaves_to_search=max(1, self._leaves(n) // 50),
            training_sample_size=min(n, 250_000),
        )
        builder = builder.score_ah(2, anisotropic_quantization_threshold=0.2)
        builder = builder.reorder(100, quantize=kind)
        builder.set_n_training_threads(threads)
        builder.build().serialize(str(folder.absolute()))
        return {"leaves": self._leaves(n)}

    def open(self, folder: Path, threads: int) -> None:
        self._searcher = self._scann.load_searcher(str(folder.absolute()))
        self._searcher.set_num_threads(threads)

    def knobs(self, n: int) -> Sequence[Any]:
        shares = [(0.003, 30), (0.006, 40), (0.01, 60), (0.015, 80), (0.02, 100), (0.03, 120)]
        shares += [(0.05, 150), (0.08, 200), (0.12, 300), (0.2, 400), (0.3, 600), (0.5, 1000)]
        return [(max(1, round(share * self._leaves(n))), count) for share, count in shares]

    def search(self, xq: NDArray[np.float32], k: int, knob: Any) -> Found:
        leaves, reordered = knob
        if len(xq) == 1:
            found = self._searcher.search(
                xq[0],
                final_num_neighbors=k,
                leaves_to_search=leaves,
                pre_reorder_num_neighbors=reordered,
            )[0][None]
        else:
            found = self._searcher.search_batched_parallel(
                xq,
                final_num_neighbors=k,
                leaves_to_search=leaves,
                pre_reorder_num_neighbors=reordered,
            )[0]
        return np.asarray(found, np.int64)

    @staticmethod
    def _leaves(n: int) -> int:
        return max(1, round(2 * math.sqrt(n)))


class ScannBf16(Scann):
    """The same, re-ranked in bfloat16: half the memory."""

    name = index = "scann-bf16"
    quantised = True
    about = "the same with reorder in bfloat16"


class Lance(Contender):
    """LanceDB's IVF-PQ with refining, from its files."""

    name = index = "lancedb-ivfpq"
    package = "lancedb"
    build_s = 900
    about = "√n partitions, d/8 sub-vectors of 8 bits, 15 iterations; knob: nprobes, refine_factor"
    batch = 500  # queries a call: all at once makes a plan of as many parts

    def load(self) -> None:
        import lancedb
        import lancedb.index
        import pyarrow

        self._lancedb, self._pa = lancedb, pyarrow

    def build(self, xb: NDArray[Any], folder: Path, threads: int, note: Note) -> dict[str, Any]:
        n, d = xb.shape
        pa = self._pa
        # float32: building from halffloat took six times as long
        schema = pa.schema([("vector", pa.list_(pa.float32(), d))])

        def batches() -> Iterator[Any]:
            for _, block in blocks(xb, lambda share: None):
                values = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), d)
                yield pa.record_batch([values], schema=schema)

        table = self._lancedb.connect(str(folder)).create_table("t", batches(), schema=schema)
        table.create_index("vector", config=self._config(n, d))
        found = table.search().with_row_id(True).select(["_rowid"]).limit(n).to_arrow()
        first = rows_of_fragments(found["_rowid"].to_numpy())
        np.save(folder / "first.npy", first)
        return {"partitions": self._partitions(n)}

    def _config(self, n: int, d: int) -> Any:
        return self._lancedb.index.IvfPq(
            distance_type="dot",
            num_partitions=self._partitions(n),
            num_sub_vectors=max(1, d // 8),
            max_iterations=15,
        )

    def open(self, folder: Path, threads: int) -> None:
        self._first = np.load(folder / "first.npy")
        self._table: Any = self._lancedb.connect(str(folder)).open_table("t")

    def knobs(self, n: int) -> Sequence[Any]:
        shares = [(0.005, 5), (0.01, 5), (0.01, 10), (0.02, 10), (0.03, 20), (0.05, 20)]
        shares += [(0.1, 30), (0.15, 50)]
        return [(max(1, round(share * self._partitions(n))), factor) for share, factor in shares]

    def asking(self, xq: NDArray[np.float32], k: int, knob: Any) -> Any:
        """The query, to be run; a whole batch in one."""
        nprobes, refine = knob
        what = xq[0] if len(xq) == 1 else xq
        asked = self._table.search(what, vector_column_name="vector", query_type="vector")
        return asked.distance_type("dot").limit(k).nprobes(nprobes).refine_factor(refine)

    def search(self, xq: NDArray[np.float32], k: int, knob: Any) -> Found:
        out = np.full((len(xq), k), -1, np.int64)
        for start in range(0, len(xq), self.batch):
            some = xq[start : start + self.batch]
            asked = self.asking(some, k, knob).with_row_id(True)
            found = asked.select(["_distance", "_rowid"]).to_arrow()
            self._place(found, out[start : start + len(some)])
        return out

    def _place(self, found: Any, out: Found) -> None:
        """Writes an answer of LanceDB, rows by query, into ``out``."""
        ids = found["_rowid"].to_numpy().astype(np.int64)
        rows = self._first[ids >> 32] + (ids & 0xFFFFFFFF)
        which = np.zeros(len(ids), np.int64)
        if len(out) > 1:
            which = found["query_index"].to_numpy().astype(np.int64)
        starts = np.searchsorted(which, np.arange(len(out)))
        out[which, np.arange(len(ids)) - starts[which]] = rows

    @staticmethod
    def _partitions(n: int) -> int:
        return max(1, round(math.sqrt(n)))


class LanceHnsw(Lance):
    """LanceDB's IVF of HNSW graphs over 8-bit vectors, with refining."""

    name = index = "lancedb-hnsw"
    build_s = 1200
    about = "IVF_HNSW_SQ, √n / 16 partitions; knob: nprobes, refine_factor"

    def _config(self, n: int, d: int) -> Any:
        return self._lancedb.index.HnswSq(
            distance_type="dot",
            num_partitions=self._partitions(n),
            max_iterations=15,
            ef_construction=150,
        )

    def knobs(self, n: int) -> Sequence[Any]:
        most = self._partitions(n)
        return [(min(most, p), r) for p, r in ((1, 2), (2, 3), (4, 3), (8, 5), (16, 5), (32, 10))]

    @staticmethod
    def _partitions(n: int) -> int:
        return max(1, round(math.sqrt(n) / 16))


def rows_of_fragments(ids: NDArray[Any]) -> NDArray[np.int64]:
    """The number of the first row of each of LanceDB's fragments.

    ids: the row ids of a table just written: fragment << 32 | row in it.
    Raises ValueError where they are not in the order of writing.
    """
    ids = ids.astype(np.int64)
    fragment = ids >> 32
    counts = np.bincount(fragment)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    if not np.array_equal(np.sort(first[fragment] + (ids & 0xFFFFFFFF)), np.arange(len(ids))):
        raise ValueError("LanceDB's row ids do not count the rows as they were written")
    return first


CONTENDERS: dict[str, type[Contender]] = {
    c.name: c
    for c in (
        Mmsearch,
        FaissIvfPq,
        FaissIvfPqMapped,
        Scann,
        ScannBf16,
        Usearch,
        UsearchMapped,
        UsearchI8,
        Hnswlib,
        FaissHnsw,
        FaissHnswFp16,
        Lance,
        LanceHnsw,
    )
}
