"""The queries that an index is likely to be asked."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mmsearch import forks
from mmsearch.errors import MmsearchError
from mmsearch.indexer.refusal import encode_all
from mmsearch.sample_queries import sample_queries
from mmsearch.spaces import Encoder
from mmsearch.spaces.kept import encoder_of
from mmsearch.store import Segment, Snapshot
from mmsearch.store.rows import MODALITIES
from mmsearch.store.sampling import row_sample
from mmsearch.types import Modality, Vectors

_ENCODED = 256  # texts encoded at a time
_FRAGMENT_CHARS = 200
# Sample texts for each that is asked: the half that is nearer to what is stored. Of photos
# captions ask for what is on them, and the nearest are as far as those half's (all of them
# are further, and harder to find the neighbours of: benchmarks/tuner.py).
_MADE_UP = 2
_NEAR_ROWS, _NEAREST = 5_000, 10  # how near: the mean of so many nearest of so many rows


def likely_queries(
    snapshot: Snapshot, encoder: Encoder | None, n: int, lane: int = 0
) -> tuple[Vectors, str]:
    """Queries of the kind that people ask of an index: float32 (n, d), and what they are.

    lane: of the space, whose vectors they are compared with.

    Of texts people ask with words that are in them: as many of the queries as there are
    texts among the parts are fragments of those. Of pictures and sounds they ask for what
    they know to be there: the others are those sample texts that lie nearest to them.
    encoder: of the index's space; None loads it. Where that fails, the queries are stored
    vectors: the index can be built without its encoder, only less well.
    """
    segments, space = snapshot.segments, snapshot.manifest.space
    if Modality.TEXT in space.held[lane]:
        try:
            encoder = encoder or encoder_of(space, snapshot.kept_space, snapshot.check_kept_space)
            own, columns = _fragments(segments, n), space.columns[lane]
            asked, kind = encoded(encoder, own)[:, columns], "fragments of the index's texts"
            if len(own) < n:
                kind = f"{kind} and sample texts" if own else "sample texts"
                some = encoded(encoder, sample_queries(_MADE_UP * (n - len(own))))[:, columns]
                more = _nearest(np.ascontiguousarray(some), segments, n - len(own), lane)
                asked = np.concatenate([asked, more])
            return np.ascontiguousarray(asked), kind
        except MmsearchError:
            pass
    rows = row_sample(segments, max(n, _NEAR_ROWS), None, lane)
    pick = np.random.default_rng(1).choice(len(rows), min(n, len(rows)), replace=False)
    return rows[pick], "stored vectors"


def encoded(encoder: Encoder, texts: Sequence[str]) -> Vectors:
    """Texts as queries, float32 (n, d). Raises as ``refusal.encode_all`` does."""
    blocks = [texts[at : at + _ENCODED] for at in range(0, len(texts), _ENCODED)]
    vectors = [encode_all(encoder, Modality.TEXT, block, asked=True) for block in blocks]
    return np.concatenate([np.empty((0, encoder.space.dimension), np.float32), *vectors])


@forks.native
def _nearest(xq: Vectors, segments: Sequence[Segment], n: int, lane: int) -> Vectors:
    """The n of some vectors, (m, d), that are nearest to a lane's pictures and sounds."""
    text = MODALITIES.index(Modality.TEXT)
    masks = [s.live & (s.modality_codes != text) for s in segments]
    held = [mask if (of := s.rows_of(lane)) is None else mask[of]
            for s, mask in zip(segments, masks, strict=True)]  # fmt: skip
    if not any(mask.any() for mask in held):  # too few different words in the texts
        masks = [s.live for s in segments]
    scores = xq @ row_sample(segments, _NEAR_ROWS, masks, lane).T
    nearness = np.sort(scores, axis=1)[:, -_NEAREST:].mean(axis=1)
    nearest: Vectors = xq[np.sort(np.argsort(-nearness, kind="stable")[:n])]
    return nearest


def _fragments(segments: Sequence[Segment], n: int) -> list[str]:
    """A few words out of each of some stored texts, which people might ask for.

    Of n queries as many as texts are among the live parts, all different.
    """
    rng = np.random.default_rng(2)
    text = MODALITIES.index(Modality.TEXT)
    rows = [np.flatnonzero(s.live & (s.modality_codes == text)) for s in segments]
    n_live = sum(int(np.count_nonzero(s.live)) for s in segments)
    n_texts = sum(map(len, rows))
    wanted = round(n * n_texts / max(1, n_live))
    found: dict[str, None] = {}
    for segment, mine in zip(segments, rows, strict=True):
        # twice as many: short texts give the same words
        take = min(len(mine), math.ceil(2 * wanted * len(mine) / max(1, n_texts)))
        picked = np.sort(rng.choice(mine, take, replace=False)).tolist()
        for row in segment.rows(picked):
            if row.text and (fragment := _fragment(row.text, rng)):
                found[fragment] = None
    return rng.permutation(list(found))[:wanted].tolist() if found else []


def _fragment(text: str, rng: np.random.Generator) -> str:
    """Three to twelve neighbouring words; of a text without spaces as many pairs of signs."""
    size = int(rng.integers(3, 13))
    words = text.split()
    if len(words) >= 3:
        at = int(rng.integers(max(1, len(words) - size + 1)))
        return " ".join(words[at : at + size])[:_FRAGMENT_CHARS]
    joined = " ".join(words)
    at = int(rng.integers(max(1, len(joined) - 2 * size + 1)))
    return joined[at : at + 2 * size]
