"""Every question that the pairs allow, asked of one index: exactly, and as it searches."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmsearch.api import Index
from mmsearch.errors import UsageError
from mmsearch.evaluation.encoding import (
    Progress,
    encode_files,
    encode_texts,
    number_of,
    tells_apart,
)
from mmsearch.evaluation.measures import KS, Numbers, Ranks, per_query
from mmsearch.evaluation.pool import Captions, Held, Pool, exact_ranks
from mmsearch.evaluation.things import Side, Things
from mmsearch.spaces import Encoder
from mmsearch.types import Modality, Vectors

ANN_HITS = 100  # parts asked of the index's own search where an item may have several
FILES: tuple[Side, ...] = (str(Modality.IMAGE), str(Modality.AUDIO))
NAMED = 10  # files that are left out have a note of their own, up to this many
_PART_SUFFIX = re.compile(r"#\d+$")


@dataclass
class Asked:
    """One direction's questions and how each went."""

    query: Side
    target: Side
    numbers: NDArray[np.int64]  # (nq,) of the things that were asked with
    values: Numbers  # (nq, 6), see measures.per_query
    best: Ranks  # (nq,)
    ann: Numbers | None  # (nq, 3): recall@k of the index's own search, if that may differ
    unanswerable: int
    pool: int
    pool_of: str


@dataclass
class Named:
    """One modality's files, and whether the nearest label is right."""

    side: Side
    numbers: NDArray[np.int64]  # (n,)
    right: Numbers  # (n, 1), 0 or 1
    classes: int


class Bench:
    """One index, the things of a pairs file in its space, and the questions."""

    def __init__(
        self,
        index: Index,
        encoder: Encoder,
        pools: dict[Side, Held],
        things: Things,
        strict: bool,
        progress: Progress | None,
    ) -> None:
        self.index = index
        self.things = things
        self.pools = pools
        self._encoder = encoder
        self._progress = progress
        self.notes: list[str] = []
        self.unreadable: dict[Side, dict[int, str]] = {side: {} for side in FILES}
        self._vectors: dict[Side, Vectors] = {}
        able = encoder.space.modalities
        for side in FILES:
            if things.files[side] and side in able:
                found = encode_files(encoder, things, side, pools[side], progress)
                self._vectors[side], self.unreadable[side] = found
                self._note_unreadable(self.unreadable[side], strict)
            elif things.files[side]:
                self.notes.append(f"{encoder.space.name} has no {side}: those pairs are left out.")
        for side, captions in things.captions.items():
            if Modality.TEXT in able:
                what = f"encoding captions ({side})"
                self._vectors[side] = encode_texts(encoder, captions, what, progress)
        to_find = {target for _, target in things.right} & self._vectors.keys() - set(FILES)
        self._stored = {side: self._vectors[side] for side in to_find}  # texts, to be found
        if to_find and tells_apart(encoder):
            for side in to_find:
                what = f"encoding captions ({side}), as stored"
                texts = things.captions[side]
                self._stored[side] = encode_texts(encoder, texts, what, progress, asked=False)
        # -> number in the index's pool, or None
        self.places = {
            side: [number_of(file, pools[side]) for file in things.files[side]] for side in FILES
        }

    def _note_unreadable(self, unreadable: dict[int, str], strict: bool) -> None:
        reasons = [reason.rstrip(".") for reason in dict.fromkeys(unreadable.values())]
        if strict and reasons:
            raise UsageError(f"{reasons[0]}. Mend the file or leave the line out.")
        self.notes += [f"left out: {reason}." for reason in reasons[:NAMED]]
        if len(reasons) > NAMED:
            self.notes.append(f"left out: {len(reasons) - NAMED:,} more files.")

    @property
    def exact(self) -> bool:
        """Whether the index itself searches exactly, in all of its segments."""
        segments = self.index.snapshot.segments
        return all(lane.code_blocks is None for segment in segments for lane in segment.lanes)

    def ask(self) -> list[Asked]:
        """All directions, texts first."""

        def order(pair: tuple[Side, Side]) -> tuple[bool, Side, bool]:
            caption = next((side for side in pair if side not in FILES), None)
            return caption is None, caption or "", pair[0] in FILES

        asked = []
        for pair in sorted(self.things.right, key=order):
            if pair[0] in self._vectors and pair[1] in self._vectors:
                if not self._meets(*pair):
                    name = self._encoder.space.name
                    self.notes.append(f"{pair[0]} → {pair[1]}: no lane of {name} takes both.")
                    continue
                one = self._ask(*pair)
                if one is None:
                    self.notes.append(
                        f"{pair[0]} → {pair[1]}: none of the {pair[1]} files is in the index."
                    )
                else:
                    asked.append(one)
        return asked

    def _meets(self, query: Side, target: Side) -> bool:
        """Whether a lane of the space holds both, captions being texts."""
        both = {Modality(side) if side in FILES else Modality.TEXT for side in (query, target)}
        return any(both <= {*held} for held in self._encoder.space.held)

    def _ask(self, query: Side, target: Side) -> Asked | None:
        pool: Pool
        if target in FILES:
            pool, pool_of = self.pools[target], f"all {target} items of the index"
        else:
            pool, pool_of = Captions(self._stored[target]), f"the {target} captions of the pairs"
        numbers, targets = [], []
        right = self.things.right[query, target]
        unreadable = self.unreadable.get(query, {})
        for number in sorted(right.keys() - unreadable.keys()):
            own = [self.places[target][i] if target in FILES else i for i in right[number]]
            there = list(dict.fromkeys(i for i in own if i is not None))
            if there:
                numbers.append(number)
                targets.append(there)
        if not numbers:
            return None
        if self._progress:
            self._progress(f"ranking {query} → {target}", 0, len(numbers))
        xq = self._vectors[query][numbers]
        values, best = per_query(exact_ranks(pool, xq, targets))
        ann = None
        if target in FILES and not self.exact:
            ann = self._ann(f"{query} → {target}", Modality(target), xq, targets)
        at = np.array(numbers, np.int64)
        left_out = len(right.keys() - unreadable.keys()) - len(numbers)
        return Asked(query, target, at, values, best, ann, left_out, len(pool), pool_of)

    def _ann(
        self, name: str, to: Modality, xq: Vectors, targets: Sequence[Sequence[int]]
    ) -> Numbers:
        """recall@k of what the index itself answers: float64 (nq, 3)."""
        pool = self.pools[str(to)]
        several = sum(len(rows) for rows, _ in pool.rows) > len(pool)
        k = ANN_HITS if several else max(KS)
        out = np.zeros((len(xq), len(KS)))
        for i, (vector, own) in enumerate(zip(xq, targets, strict=True)):
            hits = self.index.search(vector=vector, to=to, k=k)
            found = dict.fromkeys(pool.ids.get(_PART_SUFFIX.sub("", hit.id), -1) for hit in hits)
            rank = next((r for r, item in enumerate(found, 1) if item in own), None)
            out[i] = [rank is not None and rank <= k for k in KS]
            if self._progress:
                self._progress(f"asking the index {name}", i + 1, len(xq))
        return out

    def name(self) -> list[Named]:
        """Naming by label, for each modality that has labels."""
        named = []
        for side in FILES:
            bad = self.unreadable[side]
            own = {n: named for n, named in self.things.labels[side].items() if n not in bad}
            if not own or side not in self._vectors:
                continue
            if Modality.TEXT not in self._encoder.space.modalities:
                self.notes.append(f"{self._encoder.space.name} has no text to name {side} with.")
                continue
            classes = sorted({label for labels in own.values() for label in labels})
            if len(classes) < 2:
                self.notes.append(f"{side}: a single label ({classes[0]}) leaves nothing to tell.")
                continue
            xb = encode_texts(self._encoder, classes, "encoding labels", self._progress)
            numbers = np.array(sorted(own), np.int64)
            nearest = (self._vectors[side][numbers] @ xb.T).argmax(axis=1)
            right = [classes[c] in own[n] for c, n in zip(nearest, numbers.tolist(), strict=True)]
            named.append(Named(side, numbers, np.array(right, np.float64)[:, None], len(classes)))
        return named
