"""Evaluating an index, or two against each other, on pairs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmsearch.api import Index
from mmsearch.errors import UsageError
from mmsearch.evaluation.asking import FILES, Asked, Bench, Named
from mmsearch.evaluation.encoding import Progress
from mmsearch.evaluation.intervals import FEW_UNITS, SEED, bootstrap, ends, units_of, wilson
from mmsearch.evaluation.measures import KS, MEANS, MEDIAN, Numbers, Ranks, recall_curve
from mmsearch.evaluation.pairs import read_rows
from mmsearch.evaluation.pool import Held, held
from mmsearch.evaluation.results import (
    Classification,
    Comparison,
    Difference,
    Differences,
    Direction,
    Evaluation,
    Measure,
)
from mmsearch.evaluation.things import Side, Things, gather, places
from mmsearch.evaluation.trained import count_seen, seen_by
from mmsearch.spaces.kept import encoder_of
from mmsearch.store import resolve
from mmsearch.types import Modality

_RECALLS = tuple(f"recall@{k}" for k in KS)
_ACCURACY = "accuracy"

AnyIndex = Index | str | os.PathLike[str]


def evaluate(
    index: AnyIndex,
    pairs: str | os.PathLike[str],
    *,
    strict: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """How well an index finds what belongs together.

    index: open, or its name or folder. pairs: a JSON Lines file, one object a line
    (see ``evaluation.pairs``). Every direction that the pairs allow is measured, with
    the exact ranking of the whole pool and, for an approximate index, by its own search.
    A file that the index does not hold and that cannot be read, or that a model would have
    to be here for, is left out and noted; strict: it is an error.
    Raises UsageError naming file and line, and what opening an index raises.
    """
    return _Run([_opened(index)], Path(pairs), strict, progress).evaluations()[0]


def compare(
    a: AnyIndex,
    b: AnyIndex,
    pairs: str | os.PathLike[str],
    *,
    strict: bool = False,
    progress: Progress | None = None,
) -> Comparison:
    """Two indexes on the same pairs: each one's figures, and B less A.

    Differences are over the queries that both can answer, with paired intervals.
    Arguments and errors are those of ``evaluate``.
    """
    return _Run([_opened(a), _opened(b)], Path(pairs), strict, progress).comparison()


def _opened(index: AnyIndex) -> Index:
    return index if isinstance(index, Index) else Index(resolve(index))


class _Run:
    """Pairs, read once, asked of one or two indexes."""

    def __init__(
        self, indexes: Sequence[Index], pairs: Path, strict: bool, progress: Progress | None
    ) -> None:
        self._pairs = pairs
        rows, ignored = read_rows(pairs)
        self._rows = len(rows)
        snapshots = [index.snapshot for index in indexes]
        roots = [r.path for s in snapshots for r in s.manifest.roots if r.path]
        folder = Path(os.path.abspath(pairs)).parent
        written = {path for row in rows for path in row.paths.values()}
        meant = {path: places(path, folder, dict.fromkeys(roots)) for path in written}
        wanted = {place for several in meant.values() for place in several}
        pools: list[dict[Side, Held]] = [
            {side: held(s, Modality(side), wanted) for side in FILES} for s in snapshots
        ]

        def is_held(side: Side, path: str) -> bool:
            return any(path in own[side].by_path for own in pools)

        self._things: Things = gather(pairs, rows, meant, is_held)
        self._benches = []
        for index, snapshot, own in zip(indexes, snapshots, pools, strict=True):
            encoder = encoder_of(
                snapshot.manifest.space, snapshot.kept_space, snapshot.check_kept_space
            )
            self._benches.append(Bench(index, encoder, own, self._things, strict, progress))
        self._seen = [
            None if (seen := seen_by(snapshot)) is None else count_seen(seen, rows, meant, own)
            for snapshot, own in zip(snapshots, pools, strict=True)
        ]
        self._asked = [bench.ask() for bench in self._benches]
        self._named = [bench.name() for bench in self._benches]
        for bench, asked, named in zip(self._benches, self._asked, self._named, strict=True):
            if ignored:
                bench.notes.append(f"fields without a meaning here: {', '.join(ignored)}.")
            if not asked and not named:
                raise UsageError(
                    f"{pairs}: no pair can be asked of {bench.index.path}: "
                    + (" ".join(bench.notes) or "nothing that was named is in it.")
                )

    def _few(self, directions: Sequence[Direction]) -> list[str]:
        few = [f"{d.name} ({d.units})" for d in directions if 1 < d.units < FEW_UNITS]
        if not few:
            return []
        return [f"fewer than {FEW_UNITS} independent groups, so rough intervals: {', '.join(few)}."]

    def _too_good(self, seen: int | None) -> list[str]:
        if not seen:
            return []
        return [
            f"{seen:,} of {self._rows:,} pairs were seen in training: these figures are too good. "
            "Measure with pairs that the space was not trained on."
        ]

    def evaluations(self) -> list[Evaluation]:
        return [
            self._evaluation(bench, asked, named, seen)
            for bench, asked, named, seen in zip(
                self._benches, self._asked, self._named, self._seen, strict=True
            )
        ]

    def _evaluation(
        self, bench: Bench, asked: Sequence[Asked], named: Sequence[Named], seen: int | None
    ) -> Evaluation:
        manifest = bench.index.snapshot.manifest
        directions = tuple(self._direction(one) for one in asked)
        kind = "exact" if bench.exact or manifest.ann is None else manifest.ann.kind
        return Evaluation(
            index=bench.index.path,
            space=str(manifest.space),
            pairs=self._pairs,
            rows=self._rows,
            search=kind,
            directions=directions,
            classifications=tuple(_classification(one) for one in named),
            not_in_index={str(s): sum(p is None for p in bench.places[s]) for s in FILES},
            unreadable={str(s): len(bench.unreadable[s]) for s in FILES},
            seen_in_training=seen,
            notes=(*self._too_good(seen), *bench.notes, *self._few(directions)),
        )

    def _units(self, query: Side, target: Side, numbers: Sequence[int]) -> Ranks:
        # of the pairs, not of what an index holds of them: the same for both of two indexes
        right = self._things.right[query, target]
        return units_of([right[n] for n in numbers])

    def _direction(self, asked: Asked) -> Direction:
        units = self._units(asked.query, asked.target, asked.numbers.tolist())
        ann = None
        if asked.ann is not None:
            means = _figures(asked.ann, asked.best, units)[:-1]
            ann = dict(zip(_RECALLS, means, strict=True))
        return Direction(
            query=asked.query,
            target=asked.target,
            queries=len(asked.numbers),
            unanswerable=asked.unanswerable,
            units=int(units.max()) + 1,
            pool=asked.pool,
            pool_of=asked.pool_of,
            measures=dict(
                zip((*MEANS, MEDIAN), _figures(asked.values, asked.best, units), strict=True)
            ),
            recall_curve=tuple(recall_curve(asked.best).tolist()),
            ann=ann,
        )

    def comparison(self) -> Comparison:
        first, second = self.evaluations()
        differences = []
        others = {(o.query, o.target): o for o in self._asked[1]}
        for a in self._asked[0]:
            b = others.get((a.query, a.target))
            if b is None:
                continue
            both, at_a, at_b = np.intersect1d(a.numbers, b.numbers, return_indices=True)
            if not len(both):
                continue
            units = self._units(a.query, a.target, both.tolist())
            found = _differences(
                (*MEANS, MEDIAN), (a.values, a.best, at_a), (b.values, b.best, at_b), units
            )
            if a.ann is not None or b.ann is not None:
                means = len(KS)  # where search is exact, its recall is that of the ranking
                ann_a = a.values[:, :means] if a.ann is None else a.ann
                ann_b = b.values[:, :means] if b.ann is None else b.ann
                names = (*(f"ann {name}" for name in _RECALLS), "")
                found |= _differences(names, (ann_a, a.best, at_a), (ann_b, b.best, at_b), units)
                del found[""]
            n_units = int(units.max()) + 1
            differences.append(Differences(a.query, a.target, len(both), n_units, found))
        accuracies = {n.side: n for n in self._named[1]}
        for one in self._named[0]:
            if one.side in accuracies:
                differences.append(_named_difference(one, accuracies[one.side]))
        return Comparison(first, second, tuple(differences))


def _figures(values: Numbers, best: Ranks, units: Ranks) -> list[Measure]:
    """The means of the columns and the median of the best ranks, with intervals."""
    plain = [*values.mean(axis=0).tolist(), float(np.median(best))]
    if units.max() < 1:
        return [Measure(value, None, None) for value in plain]
    low, high = ends(bootstrap(values, best, units, SEED))
    for column in np.flatnonzero(np.ptp(values, axis=0) == 0):
        low[column], high[column] = wilson(plain[column], int(units.max()) + 1)
    return [Measure(*figures) for figures in zip(plain, low.tolist(), high.tolist(), strict=True)]


_Part = tuple[Numbers, Ranks, Ranks]  # values, best ranks, and which of the queries


def _differences(names: Sequence[str], a: _Part, b: _Part, units: Ranks) -> dict[str, Difference]:
    plain, draws = [], []
    for values, best, at in (a, b):
        plain.append(np.array([*values[at].mean(axis=0), np.median(best[at])]))
        if units.max() >= 1:
            draws.append(bootstrap(values[at], best[at], units, SEED))
    values = plain[1] - plain[0]
    if not draws:
        return {n: Difference(v, None, None) for n, v in zip(names, values.tolist(), strict=True)}
    low, high = ends(draws[1] - draws[0])
    each = zip(names, values.tolist(), low.tolist(), high.tolist(), strict=True)
    return {name: Difference(*figures) for name, *figures in each}


def _classification(named: Named) -> Classification:
    n = len(named.numbers)
    accuracy = _figures(named.right, np.ones(n, np.int64), np.arange(n))[0]
    return Classification(named.side, n, named.classes, accuracy)


def _named_difference(a: Named, b: Named) -> Differences:
    both, at_a, at_b = np.intersect1d(a.numbers, b.numbers, return_indices=True)
    units = np.arange(len(both))
    ones = np.ones(max(len(a.numbers), len(b.numbers)), np.int64)
    found = _differences((_ACCURACY, ""), (a.right, ones, at_a), (b.right, ones, at_b), units)
    del found[""]
    return Differences(a.side, "label", len(both), len(both), found)
