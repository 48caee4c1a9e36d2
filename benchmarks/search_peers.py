"""The engines that are compared: how each builds, opens and asks, and what its knob is.

One class each, one line in ``CONTENDERS``. All get the same mapped float16 vectors of unit
length and rank by inner product; all answer a whole batch by their own batch call, on as many
threads as the run says. Where a library wants float32, converting is part of its build.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Found = NDArray[np.int64]  # (nq, k) row numbers, -1 for none
Note = Callable[[float], None]  # is told the share of a build that is done

_BLOCK_ROWS = 20_000
# More rows a list bring FAISS's lists nothing: its guide says 30 to 256
_TRAIN_PER_LIST = 64
_HNSW_EF = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1280)


def blocks(xb: NDArray[Any], note: Note) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """(first row, float32 rows) of the base, block after block."""
    for start in range(0, len(xb), _BLOCK_ROWS):
        yield start, np.asarray(xb[start : start + _BLOCK_ROWS], np.float32)
        note(min(1.0, (start + _BLOCK_ROWS) / len(xb)))


def lists_for(n: int) -> int:
    """Lists of an inverted file over n rows: 4·√n, a power of two, enough rows for each."""
    wanted: int = 2 ** round(math.log2(4 * math.sqrt(n)))
    return max(1, min(wanted, n // 39))


def sample(xb: NDArray[Any], count: int) -> NDArray[np.float32]:
    """So many rows, drawn evenly, as float32."""
    rows = np.random.default_rng(0).choice(len(xb), min(count, len(xb)), replace=False)
    return np.asarray(xb[np.sort(rows)], np.float32)


class Contender:
    """What the benchmark asks of an engine.

    name: as tables show it. package: what is imported; the contender is left out where it is
    missing. index: name of the saved index; contenders with the same one share the build.
    build_s: about how long a million rows of 512 take on two cores, in seconds.
    """

    name: str
    package: str
    index: str
    build_s: float
    about: str  # parameters, one line

    def load(self) -> None:
        """Imports what is needed, so that it counts to no figure."""
        raise NotImplementedError

    def build(self, xb: NDArray[Any], folder: Path, threads: int, note: Note) -> dict[str, Any]:
        """Builds and saves an index in an empty folder; returns what else is worth keeping."""
        raise NotImplementedError

    def open(self, folder: Path, threads: int) -> None:
        """Opens what ``build`` saved."""
        raise NotImplementedError

    def knobs(self, n: int) -> Sequence[Any]:
        """The settings between speed and recall for n rows, fastest first."""
        raise NotImplementedError

    def search(self, xq: NDArray[np.float32], k: int, knob: Any) -> Found:
        """Row numbers of the k nearest to each query."""
        raise NotImplementedError


class Mmsearch(Contender):
    """This project, through its public door."""

    name, package, index, build_s = "mmsearch", "mmsearch", "mmsearch", 420
    about = "as indexing makes it; knob: the recall that is asked for"

    def load(self) -> None:
        import faiss  # noqa: F401
        import pyarrow  # noqa: F401

        import mmsearch
        from mmsearch import searcher  # noqa: F401

        self._open_index = mmsearch.open

    def build(self, xb: NDArray[Any], folder: Path, threads: int, note: Note) -> dict[str, Any]:
        from search_index import index_of, texts_beside

        return index_of(xb, folder, None, lambda share: note(share / 2), texts_beside(xb))

    def open(self, folder: Path, threads: int) -> None:
        self._index: Any = self._open_index(str(folder))

    def knobs(self, n: int) -> Sequence[Any]:
        return (0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995)

    def search(self, xq: NDArray[np.float32], k: int, knob: Any) -> Found:
        return np.asarray(self._index.search_batch(vectors=xq, k=k, recall=knob).rows)


class _Faiss(Contender):
    package = "faiss"
    flags = 0  # how the file is read

    def load(self) -> None:
        import faiss

        self._faiss = faiss

    def open(self, folder: Path, threads: int) -> None:
        self._faiss.omp_set_num_threads(threads)
        self._index: Any = self._faiss.read_index(str(folder / "index.faiss"), self.flags)


class FaissHnsw(_Faiss):
    """FAISS's HNSW over float32 vectors."""

    name = index = "faiss-hnsw"
    build_s = 1500
    m, ef_construction = 16, 200
    about = "IndexHNSWFlat, M 16, efConstruction 200; knob: efSearch"

    def _empty(self, d: int) -> Any:
        return self._faiss.IndexHNSWFlat(d, self.m, self._faiss.METRIC_INNER_PRODUCT)

    def build(self, xb: NDArray[Any], folder: Path, threads: int, note: Note) -> dict[str, Any]:
        self._faiss.omp_set_num_threads(threads)
        index = self._empty(xb.shape[1])
        index.hnsw.efConstruction = self.ef_construction
        for start, block in blocks(xb, note):
            if start == 0:
                index.train(block)
            index.add(block)
        self._faiss.write_index(index, str(folder / "index.faiss"))
        return {}

    def knobs(self, n: int) -> Sequence[Any]:
        return _HNSW_EF

    def search(self, xq: NDArray[np.float32], k: int, knob: Any) -> Found:
        how = self._faiss.SearchParametersHNSW(efSearch=knob)
        return np.asarray(self._index.search(xq, k, params=how)[1])


class FaissHnswFp16(FaissHnsw):
    """The same over float16 vectors: half the memory."""

    name = index = "faiss-hnsw-fp16"
    about = "IndexHNSWSQ fp16, M 16, efConstruction 200; knob: efSearch"

    def _empty(self, d: int) -> Any:
        kind = self._faiss.ScalarQuantizer.QT_fp16
        return self._faiss.IndexHNSWSQ(d, kind, self.m, self._faiss.METRIC_INNER_PRODUCT)


class FaissIvfPq(_Faiss):
    """FAISS's IVF-PQ with fast scan, re-ranked over float16 vectors, as FAISS ships it."""

    name = index = "faiss-ivfpq"
    build_s = 420
    sub_d = 4  # components that a 4-bit code stands for
    about = "IVF,PQ(d/4)x4fs,Refine(SQfp16); knob: nprobe, k_factor"

    def build(self, xb: NDArray[Any], folder: Path, threads: int, note: Note) -> dict[str, Any]:
        self._faiss.omp_set_num_threads(threads)
        n, d = xb.shape
        factory = f"IVF{lists_for(n)},PQ{max(1, d // self.sub_d)}x4fs,Refine(SQfp16)"
        index = self._faiss.index_factory(d, factory, self._faiss.METRIC_INNER_PRODUCT)
        index.train(sample(xb, _TRAIN_PER_LIST * lists_for(n)))
        for _, block in blocks(xb, note):
            index.add(block)
        self._faiss.write_index(index, str(folder / "index.faiss"))
        return {"factory": factory}

    def knobs(self, n: int) -> Sequence[Any]:
        shares = [(0.002, 4), (0.004, 6), (0.008, 8), (0.012, 10), (0.016, 10), (0.024, 15)]
        shares += [(0.032, 20), (0.05, 30), (0.08, 40), (0.12, 60), (0.2, 80)]
        return [(max(1, round(share * lists_for(n))), factor) for share, factor in shares]

    def search(self, xq: NDArray[np.float32], k: int, knob: Any) -> Found:
        nprobe, factor = knob
        how = self._faiss.IndexRefineSearchParameters(
            k_factor=float(factor),
            base_index_params=self._faiss.SearchParametersIVF(nprobe=nprobe),
        )
        return np.asarray(self._index.search(xq, k, params=how)[1])


class FaissIvfPqMapped(FaissIvfPq):
    """The same file, mapped instead of read."""

    name = "faiss-ivfpq-mapped"
    about = "the same file, read with IO_FLAG_MMAP_IFC"

    def load(self) -> None:
        super().load()
        self.flags = self._faiss.IO_FLAG_MMAP_IFC


class Hnswlib(Contender):
    """hnswlib, float32."""

    name = package = index = "hnswlib"
    build_s = 1500
    about = "M 16, ef_construction 200; knob: ef"

    def load(self) -> None:
        import hnswlib

        self._hnswlib = hnswlib

    def build(self, xb: NDArray[Any], folder: Path, threads: int, note: Note) -> dict[str, Any]:
        n, d = xb.shape
        index = self._hnswlib.Index("ip", d)
        index.init_index(n, M=16, ef_construction=200, random_seed=1)
        for start, block in blocks(xb, note):
            index.add_items(block, np.arange(start, start + len(block)), num_threads=threads)
        index.save_index(str(folder / "index.hnsw"))
        (folder / "d").write_text(str(d))
        return {}

    def open(self, folder: Path, threads: int) -> None:
        self._threads = threads
        self._index = self._hnswlib.Index("ip", int((folder / "d").read_text()))
        self._index.load_index(str(folder / "index.hnsw"))

    def knobs(self, n: int) -> Sequence[Any]:
        return _HNSW_EF

    def search(self, xq: NDArray[np.float32], k: int, knob: Any) -> Found:
        self._index.set_ef(knob)
        found = self._index.knn_query(xq, k, num_threads=self._threads)[0]
        return np.asarray(found, np.int64)
