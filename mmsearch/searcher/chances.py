"""What queries that were not asked about an index get of its parts, for ``calibrate``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmsearch.calibrate import Chance, chance
from mmsearch.errors import IndexDamaged
from mmsearch.once import Memo, once
from mmsearch.spaces.lanes import MADE_UP
from mmsearch.store import Segment, Snapshot, npy
from mmsearch.store.blocks import KEPT
from mmsearch.store.rows import MODALITIES
from mmsearch.store.sampling import sampled_rows, vectors_at
from mmsearch.types import Modality, Vectors

# vectors, float32 (m, d), and the number of the item that each is of, int64 (m,)
Sample = tuple[Vectors, NDArray[np.int64]]
_MADE_UP_KIND = "<f2"  # as ``spaces.lanes`` writes them
_MOST_MADE_UP = 4096  # it writes 128; all of them are compared with the sample at once
SAMPLE = 2048  # parts of a kind that scores are held against; of fewer, all
_COPY = 0.95  # cosine from which two parts are taken for copies: JPEG at quality 20 leaves 0.96


class Chances:
    """What chance gives in a snapshot of several lanes; each is measured when first asked for.

    Safe to use from several threads.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot, self._space = snapshot, snapshot.manifest.space
        self._samples: Memo[tuple[int, Modality], Sample] = Memo()
        self._found: Memo[tuple[int, Modality, bool], Chance | None] = Memo()

    def of(self, lane: int, modality: Modality, asked: Sequence[int]) -> Chance | None:
        """What a lane's parts of one kind give by chance. asked: the lanes that the query is in,
        which tell a text from a picture or sound.

        Texts: those that the index keeps. Pictures and sounds: of the index, each compared with
        the others; where there are few, texts. None where nothing is known.
        """
        of_texts = [i for i, held in enumerate(self._space.held) if Modality.TEXT in held]
        is_text = list(asked) == of_texts

        def measured() -> Chance | None:
            found = None if is_text else self._among(lane, modality)
            return found or self._texts(lane, modality)

        return self._found.get((lane, modality, is_text), measured)

    def _texts(self, lane: int, modality: Modality) -> Chance | None:
        parts, _ = self._sample(lane, modality)
        texts = self._made_up[:, self._space.columns[lane]].astype(np.float32)
        if not len(parts) or not len(texts):
            return None
        return chance((texts @ parts.T).max(1), len(parts))

    def _among(self, lane: int, modality: Modality) -> Chance | None:
        """Of the lane's own pictures and sounds as queries."""
        (parts, items), found = self._sample(lane, modality), []
        for kind in self._space.held[lane]:
            if kind is Modality.TEXT:
                continue
            asked, own = self._sample(lane, kind)
            scores = asked @ parts.T
            if kind is modality:
                # the part itself, other windows of its item and copies are no chance hits
                scores[(own[:, None] == items) | (scores > _COPY)] = -np.inf
            best = scores.max(1, initial=-np.inf)
            found.append(best[np.isfinite(best)])
        return chance(np.concatenate(found), len(parts)) if found else None

    def _sample(self, lane: int, modality: Modality) -> Sample:
        """An even sample of a lane's live parts of one modality."""
        return self._samples.get((lane, modality), lambda: self._sampled(lane, modality))

    def _sampled(self, lane: int, modality: Modality) -> Sample:
        code, segments = MODALITIES.index(modality), self._snapshot.segments
        masks = [segment.live & (segment.modality_codes == code) for segment in segments]
        if any(mask.any() for mask in masks):
            chosen = sampled_rows(segments, SAMPLE, masks, lane)
            return vectors_at(segments, chosen, lane), _items_of(segments, chosen, lane)
        d = self._space.each[lane].dimension
        return np.empty((0, d), np.float32), np.empty(0, np.int64)

    @once
    def _made_up(self) -> NDArray[np.float16]:
        """The made-up texts that the index keeps: float16 (m, d). Raises IndexDamaged."""
        content = self._snapshot.kept_file(MADE_UP)
        if content is None:
            return np.empty((0, self._space.dimension), np.float16)
        d = self._space.dimension
        rows = npy.rows_in(len(content), _MADE_UP_KIND, d)
        try:
            if rows > _MOST_MADE_UP:
                raise ValueError(f"it holds {rows:,} vectors; at most {_MOST_MADE_UP:,} are taken")
            found: NDArray[np.float16] = npy.array(content, _MADE_UP_KIND, (rows, d))
            if not np.isfinite(found).all():
                raise ValueError("it holds numbers that are not finite")
        except ValueError as e:
            place = self._snapshot.kept_space
            raise IndexDamaged(f"{place and place / MADE_UP} is damaged: {e}. {KEPT}") from None
        return found


def _items_of(
    segments: Sequence[Segment], chosen: Sequence[NDArray[np.int64]], lane: int
) -> NDArray[np.int64]:
    """The number of the item that each of some vectors of a lane is of.

    An item's parts follow each other in a segment; of one that was committed in pieces each piece
    counts as an item.
    """
    found, before = [np.empty(0, np.int64)], 0
    for segment, vectors in zip(segments, chosen, strict=True):
        if not len(vectors):
            continue
        rows = segment.rows_of(lane)
        numbers = [batch.column("part_no").to_numpy() for batch in segment.batches(["part_no"])]
        items = before + np.cumsum(np.concatenate(numbers) == 0)
        before = int(items[-1]) + 1
        found.append(items[vectors if rows is None else rows[vectors]])
    return np.concatenate(found).astype(np.int64)
