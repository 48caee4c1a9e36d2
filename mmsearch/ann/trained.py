"""The file of a trained, empty quantiser: plain arrays, from which the FAISS index is made.

FAISS's own files hold sizes, types and nested indexes that its reader has to believe. This one
holds numbers only, so whatever stands in it gives an index of the size that was asked for.
Little-endian, one section behind the other:

    header     "mmsquant", version, dimension, lists, pieces of a code, pieces of a coarse code
    codes      float32 (pieces, 16, dimension / pieces): what the 4-bit codes stand for
    coarse     float32, the same for the codes by which lists are found; none if pieces are 0
    packed     uint8: the lists' coarse codes, as FAISS's fast scan reads them; likewise
    centroids  float16 (lists, dimension)
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.ann import exact
from mmsearch.ann.library import faiss_module
from mmsearch.errors import IndexDamaged

_HEADER = struct.Struct("<8sIIIII4x")
_MAGIC, _VERSION = b"mmsquant", 1
_BLOCK = 32  # lists whose coarse codes lie together
_CENTROIDS = 16  # that a 4-bit code tells apart
# Lists whose centroids are compared exactly, for each list wanted, if nobody says otherwise.
COARSE_FACTOR = 4.0
_LONGEST = 8.0  # no number is larger: centroids lie between vectors of length 1


@dataclass(frozen=True)
class Trained:
    """What was trained; ``coarse`` and ``packed`` are empty where lists are compared one by one."""

    codes: NDArray[np.float32]
    coarse: NDArray[np.float32]
    packed: NDArray[np.uint8]
    centroids: NDArray[np.float16]

    @classmethod
    def of(cls, index: Any) -> Trained:
        """The arrays of a trained ``IndexIVFPQFastScan``, whose codes are of 4 bits."""
        faiss = faiss_module()
        values = faiss.vector_to_array
        pq, lists = index.pq, faiss.downcast_index(index.quantizer)
        codes = values(pq.centroids).reshape(pq.M, _CENTROIDS, -1)
        coarse, packed = np.empty((0, _CENTROIDS, 0), np.float32), np.empty(0, np.uint8)
        if isinstance(lists, faiss.IndexRefine):
            found = faiss.downcast_index(lists.base_index)
            coarse = values(found.pq.centroids).reshape(found.pq.M, _CENTROIDS, -1)
            packed = values(found.codes)
            lists = faiss.downcast_index(lists.refine_index)
        centroids = values(lists.codes).view(np.float16).reshape(index.nlist, index.d)
        return cls(codes, coarse, packed, centroids)

    def to_bytes(self) -> NDArray[np.uint8]:
        """The file."""
        nlist, d = self.centroids.shape
        head = _HEADER.pack(_MAGIC, _VERSION, d, nlist, len(self.codes), len(self.coarse))
        arrays = (self.codes.astype("<f4"), self.coarse.astype("<f4"), self.packed,
                  self.centroids.astype("<f2"))  # fmt: skip
        return np.frombuffer(head + b"".join(a.tobytes() for a in arrays), np.uint8)

    @classmethod
    def read(
        cls, content: NDArray[np.uint8], dimension: int | None = None, nlist: int | None = None
    ) -> Trained:
        """The arrays of a file, uncopied. dimension, nlist: what they must be, if that is known.

        Raises IndexDamaged for a file of another kind, and for numbers that no training gives.
        """
        if len(content) < _HEADER.size:
            raise IndexDamaged("the trained quantiser is cut short.")
        magic, version, d, lists, m, coarse = _HEADER.unpack(content[: _HEADER.size].tobytes())
        if (magic, version) != (_MAGIC, _VERSION):
            raise IndexDamaged("the trained quantiser is of another kind: index again.")
        if dimension not in (None, d) or nlist not in (None, lists) or not lists:
            raise IndexDamaged("the trained quantiser does not belong to this index.")
        if not 0 < m <= d or d % m or coarse > d or (coarse and d % coarse):
            raise IndexDamaged("the trained quantiser has codes of an impossible size.")
        sizes = (4 * _CENTROIDS * d, 4 * _CENTROIDS * d if coarse else 0,
                 _packed_bytes(lists, coarse), 2 * lists * d)  # fmt: skip
        if len(content) != _HEADER.size + sum(sizes):
            raise IndexDamaged("the trained quantiser does not have the length that it says.")
        ends = np.cumsum((_HEADER.size, *sizes)).tolist()
        parts = [content[a:b] for a, b in pairwise(ends)]
        found = cls(
            parts[0].view("<f4").reshape(m, _CENTROIDS, d // m),
            parts[1].view("<f4").reshape(coarse, _CENTROIDS, d // coarse if coarse else 0),
            parts[2],
            parts[3].view("<f2").reshape(lists, d),
        )
        # as whole numbers, which is faster; those of infinity and NaN are larger, too
        largest = (found.centroids.view("<u2") & 0x7FFF).max()
        near = [np.abs(values) <= _LONGEST for values in (found.codes, found.coarse)]
        if largest > np.float16(_LONGEST).view(np.uint16) or not all(one.all() for one in near):
            raise IndexDamaged("the trained quantiser holds numbers that no training gives.")
        return found

    def index(self) -> Any:
        """The empty FAISS index. It points into these arrays, which must be kept beside it."""
        faiss = faiss_module()
        nlist, d = self.centroids.shape
        lists = exact.view(self.centroids)
        if len(self.coarse):
            codes = coded(d, self.coarse)
            faiss.copy_array_to_AlignedTable(np.array(self.packed), codes.codes)
            codes.ntotal, codes.ntotal2 = nlist, _whole_blocks(nlist)
            lists = refined(codes, lists)
        index = faiss.IndexIVFPQFastScan(
            lists, d, nlist, len(self.codes), 4, faiss.METRIC_INNER_PRODUCT
        )
        index.own_fields = True
        lists.this.disown()
        faiss.copy_array_to_vector(self.codes.ravel(), index.pq.centroids)
        index.by_residual, index.is_trained = False, True
        return index


def coded(d: int, codes: NDArray[np.float32]) -> Any:
    """An empty FAISS index over 4-bit codes whose meaning was trained."""
    faiss = faiss_module()
    index = faiss.IndexPQFastScan(d, len(codes), 4, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(codes.ravel(), index.pq.centroids)
    index.is_trained = True
    return index


def refined(codes: Any, lists: Any) -> Any:
    """Both as one, which owns them: candidates by their codes, compared exactly."""
    both = faiss_module().IndexRefine(codes, lists)
    both.k_factor = COARSE_FACTOR
    both.own_fields = both.own_refine_index = True
    codes.this.disown()
    lists.this.disown()
    return both


def _whole_blocks(n: int) -> int:
    return -(-n // _BLOCK) * _BLOCK


def _packed_bytes(nlist: int, pieces: int) -> int:
    """Of the coarse codes: half a byte for each piece, of which there is an even number."""
    return _whole_blocks(nlist) * ((pieces + 1) // 2)
