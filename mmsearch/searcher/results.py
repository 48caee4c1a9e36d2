"""What comes back: the hits of one query, and of many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from mmsearch.query import Query
from mmsearch.searcher.view import View
from mmsearch.types import Hit, Ids, Modality, Scores, Space

if TYPE_CHECKING:
    from mmsearch.filters import Filter

SCHEMA = 1  # of Results.to_json


class Results(Sequence[Hit]):
    """The hits of one query, best first, and what was asked of what.

    Those of a ``BatchResults`` read their hits when the first of them is looked at, and show
    what the index held when it was asked, whatever was written since. ``took_ms`` is what
    finding them took, in a batch this query's share of it; ``filter_ms`` is the part of it
    that the filter took, None without one. ``out_of_reach``: in an index of several spaces, kinds
    of parts that no space takes together with what was asked. ``unknown``: the share of a text's
    letters that the space does not know, and that count for nothing. Results of a batch have
    neither.
    """

    def __init__(
        self,
        view: View,
        scores: Scores,
        rows: Ids,
        query: Query,
        folder: Path,
        took_ms: float = 0.0,
        filter_ms: float | None = None,
        surprises: Scores | None = None,
        out_of_reach: frozenset[Modality] = frozenset(),
        unknown: float = 0.0,
    ) -> None:
        """scores: float32 (k,), best first. rows: int64 (k,) numbers of rows in the view;
        -1, at the end, where fewer than k were found. surprises: float32 (k,), where lanes
        met."""
        self.query = query
        self.folder = folder
        self.took_ms = took_ms
        self.filter_ms = filter_ms
        self._found = scores, rows, surprises
        self.out_of_reach = tuple(sorted(out_of_reach))
        self.unknown = unknown
        self._hits: tuple[Hit, ...] | None = None
        self._view: View | None = view
        self.space: Space = view.snapshot.manifest.space

    @property
    def hits(self) -> tuple[Hit, ...]:
        """The hits, best first. Raises IndexDamaged where a row cannot be read."""
        view = self._view  # before _hits: another thread sets them in the other order
        hits = self._hits
        if hits is None:
            assert view is not None
            hits = self._hits = view.hits(*self._found)
            self._view = None  # which holds the files of its snapshot open
        return hits

    @overload
    def __getitem__(self, at: int) -> Hit: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, at: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[at]

    def __len__(self) -> int:
        hits = self._hits
        return int(np.count_nonzero(self._found[1] >= 0)) if hits is None else len(hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __repr__(self) -> str:
        return f"Results({len(self)} hits in {str(self.folder)!r}, {self.took_ms:.1f} ms)"

    def to_json(self) -> dict[str, Any]:
        """The object that ``mmsearch query --json`` prints; its form is ``schema``."""
        beyond = [str(modality) for modality in self.out_of_reach]
        return {
            "schema": SCHEMA,
            "query": self.query.to_json(),
            "index": str(self.folder),
            "space": self.space.name,
            "took_ms": round(self.took_ms, 3),
            "filter_ms": None if self.filter_ms is None else round(self.filter_ms, 3),
            **({"out_of_reach": beyond} if beyond else {}),
            **({"unknown": round(self.unknown, 4)} if self.unknown else {}),
            "hits": [hit.to_json() for hit in self.hits],
        }


class BatchResults(Sequence[Results]):
    """The results of many queries, in their order: arrays, and a Results made when asked for.

    ``scores`` float32 (nq, k): cosines, best first; -inf where fewer than k were found.
    ``rows`` int64 (nq, k): the numbers of the rows that were found, counted over all segments
    of the snapshot that was asked; -1 where fewer were found.
    ``surprises`` float32 (nq, k): what decided the order, see ``Hit``; NaN for a query for which
    no lanes met, None where they met for none.
    ``took_ms`` float64 (nq,): each query's share of the block that it was asked in.
    A slice is a BatchResults of some of the queries. The snapshot is held open as long as the
    batch is: it shows what was asked, whatever was written since.
    """

    def __init__(
        self,
        view: View,
        folder: Path,
        kind: str,
        asked: Sequence[str] | NDArray[Any],
        like: tuple[Modality | None, int, Filter | None, float | None],
        scores: Scores,
        rows: Ids,
        took_ms: NDArray[np.float64],
        filter_ms: float | None,
        surprises: Scores | None = None,
    ) -> None:
        """kind: what was asked with, as ``Query`` names it. asked: the texts, the paths or types
        of pictures or sounds, or the vectors (nq, d). like: ``to``, ``k``, ``filter`` and
        ``recall`` of each query. filter_ms: one query's share of what the filter took."""
        self.scores = scores
        self.rows = rows
        self.surprises = surprises
        self.took_ms = took_ms
        self.filter_ms = filter_ms
        self.folder = folder
        self._view = view
        self._kind = kind
        self._asked = asked
        self._like = like

    @property
    def space(self) -> Space:
        """The space that the vectors live in."""
        return self._view.snapshot.manifest.space

    @overload
    def __getitem__(self, at: int) -> Results: ...
    @overload
    def __getitem__(self, at: slice) -> BatchResults: ...
    def __getitem__(self, at: int | slice) -> Results | BatchResults:
        scores, rows, took_ms = self.scores[at], self.rows[at], self.took_ms[at]
        surprises, filter_ms = None, self.filter_ms
        if self.surprises is not None:
            surprises = self.surprises[at]
        if isinstance(at, slice):
            found = scores, rows, took_ms
            return BatchResults(
                self._view,
                self.folder,
                self._kind,
                self._asked[at],
                self._like,
                *found,
                filter_ms,
                surprises,
            )
        to, k, asked, recall = self._like
        query = Query(**{self._kind: self._asked[at]}, to=to, k=k, filter=asked, recall=recall)
        took = float(took_ms), filter_ms
        return Results(self._view, scores, rows, query, self.folder, *took, surprises)

    def __len__(self) -> int:
        return len(self.rows)

    def __eq__(self, other: object) -> bool:
        """As lists of Results compare, which equal only themselves: empty ones are equal."""
        if isinstance(other, BatchResults | list):
            return self is other or not (len(self) or len(other))
        return NotImplemented

    def __repr__(self) -> str:
        n, k = self.rows.shape
        return (
            f"BatchResults({n:,} queries of {k} in {str(self.folder)!r}, "
            f"{self.took_ms.sum():.1f} ms)"
        )

    def ids(self) -> list[list[str]]:
        """The part ids of each query's hits, best first: no Hit is made for them."""
        there = self.rows >= 0
        flat = self._view.ids(self.rows[there])
        ends = np.cumsum(np.count_nonzero(there, axis=1)).tolist()
        return [flat[a:b] for a, b in zip([0, *ends], ends, strict=False)]
