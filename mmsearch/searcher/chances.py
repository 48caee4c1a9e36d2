"""What queries that were not asked about an index get of its parts, for ``calibrate``."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmsearch.calibrate import Chance, chance
from mmsearch.once import Memo, once
from mmsearch.spaces.lanes import MADE_UP
from mmsearch.store import Snapshot
from mmsearch.store.rows import MODALITIES
from mmsearch.store.sampling import row_sample
from mmsearch.types import Modality, Vectors

SAMPLE = 2048  # parts of a kind that scores are held against; of fewer, all


class Chances:
    """What chance gives in a snapshot of several lanes; each is measured when first asked for.

    Safe to use from several threads.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot, self._space = snapshot, snapshot.manifest.space
        self._samples: Memo[tuple[int, Modality], Vectors] = Memo()
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
        parts = self._sample(lane, modality)
        texts = self._made_up[:, self._space.columns[lane]].astype(np.float32)
        if not len(parts) or not len(texts):
            return None
        return chance((texts @ parts.T).max(1), len(parts))

    def _among(self, lane: int, modality: Modality) -> Chance | None:
        """Of the lane's own pictures and sounds as queries."""
        parts, found = self._sample(lane, modality), []
        for kind in self._space.held[lane]:
            if kind is Modality.TEXT:
                continue
            scores = self._sample(lane, kind) @ parts.T
            if kind is modality:
                np.fill_diagonal(scores, -np.inf)  # itself
            if scores.shape[1] > 1:
                found.append(scores.max(1))
        return chance(np.concatenate(found), len(parts)) if found else None

    def _sample(self, lane: int, modality: Modality) -> Vectors:
        """Vectors of an even sample of a lane's live parts of one kind: float32 (m, d)."""
        return self._samples.get((lane, modality), lambda: self._sampled(lane, modality))

    def _sampled(self, lane: int, modality: Modality) -> Vectors:
        code, segments = MODALITIES.index(modality), self._snapshot.segments
        masks = [segment.live & (segment.modality_codes == code) for segment in segments]
        if any(mask.any() for mask in masks):
            return row_sample(segments, SAMPLE, masks, lane)
        return np.empty((0, self._space.each[lane].dimension), np.float32)

    @once
    def _made_up(self) -> NDArray[np.float16]:
        """The made-up texts that the index keeps: float16 (m, d). Raises IndexDamaged."""
        content = self._snapshot.kept_file(MADE_UP)
        if content is None:
            return np.empty((0, self._space.dimension), np.float16)
        found: NDArray[np.float16] = np.load(io.BytesIO(content), allow_pickle=False)
        return found
