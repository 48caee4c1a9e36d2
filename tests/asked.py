"""Small indexes of every kind, and one list of questions with their answers.

A process, a thread and a server ask the same questions of them and must get the same answers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import mmsearch
from mmsearch.indexer import Options, run
from tiny_space import COLOURS, SHADES, part, write_pairs, write_space

KINDS = ("flat", "ivfpq", "composite")
TEXTS = 2200  # fewer would be compared one by one, and not through the lists
BATCH = 300  # queries at once: FAISS shares them out to its threads
Answer = list[Any]


@dataclass(frozen=True)
class Corpus:
    """A folder with one index of each kind, and files to ask with."""

    home: Path

    def open(self, kind: str) -> mmsearch.Index:
        return mmsearch.open(self.home / kind)

    @property
    def image(self) -> str:
        return str(self.home / "pairs" / "pale_red.png")

    @property
    def audio(self) -> str:
        return str(self.home / "pairs" / "dark_blue.wav")


def make(home: Path, kinds: Sequence[str] = KINDS, texts: int = TEXTS) -> Corpus:
    """Images, audio and texts in one space, searched exactly and with lists, and in two."""
    write_space(home / "space")
    part(home / "seen", write_space(home / "a", seed=1), "image", "text")
    part(home / "heard", write_space(home / "b", seed=2), "text", "audio")
    write_pairs(home / "pairs", sounds=True).unlink()
    spaces = {"composite": f"{home / 'seen'}+{home / 'heard'}"}
    for kind in kinds:
        space = spaces.get(kind, str(home / "space"))
        ann = "flat" if kind == "flat" else "ivfpq"
        run([home / "pairs"], home / kind, space, Options(ann=ann))
        add_texts(mmsearch.open(home / kind), texts if kind != "flat" else 60)
    return Corpus(home)


def add_texts(index: mmsearch.Index, n: int, first: int = 0) -> list[str]:
    """Adds texts with a number to filter by, no two alike below 5,184; their ids."""
    texts, meta = [], []
    for i in range(first, first + n):
        words = SHADES[i % 6], COLOURS[i // 6 % 12], COLOURS[i // 72 % 12], SHADES[i // 864 % 6]
        texts.append({"text": f"{' '.join(words)} square"})
        meta.append({"number": i})
    return index.add(texts, meta=meta)


Ask = Callable[[mmsearch.Index], Answer]


def questions(corpus: Corpus) -> dict[str, Ask]:
    """What is asked, by name: each takes an open index and gives plain data to compare."""

    def one(**asked: Any) -> Ask:
        return lambda index: [[hit.id, hit.score] for hit in index.search(**asked)]

    def batch(where: str | None = None, **more: Any) -> Ask:
        def ask(index: mmsearch.Index) -> Answer:
            given = {name: value(index) for name, value in more.items()}
            found = index.search_batch(**given, where=where, k=5)
            return [found.ids(), found.scores.tolist()]

        return ask

    def vectors(index: mmsearch.Index) -> np.ndarray:
        found = np.random.default_rng(3).standard_normal((BATCH, index.space.dimension))
        return found.astype(np.float32)

    texts = [f"{shade} {colour}" for shade in SHADES for colour in COLOURS]
    return {
        "text": one(text="a pale red square"),
        "text to image": one(text="dull green", to="image"),
        "image": one(image=corpus.image, to="image"),
        "audio": one(audio=corpus.audio, to="audio"),
        "vector": lambda index: one(vector=vectors(index)[0])(index),
        "filter": one(
            text="a warm blue square", where="meta.number in ('3', '40', '41') or path like '%red%'"
        ),
        "texts": batch(texts=lambda _: texts),
        "vectors": batch(vectors=vectors),
        "filtered vectors": batch(
            "cast(meta.number as int) < 500 or meta.number is null", vectors=vectors
        ),
    }


def answers(corpus: Corpus, index: mmsearch.Index) -> dict[str, Answer]:
    """All questions, answered by one index; as JSON would give them back."""
    found = {name: ask(index) for name, ask in questions(corpus).items()}
    same: dict[str, Answer] = json.loads(json.dumps(found))
    return same
