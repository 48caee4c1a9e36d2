"""How many passages are longer than a text tower reads: what their ends say cannot be found.

    python benchmarks/passages.py FOLDER... [--tokens 77 --tokens 64]

Cuts the texts in each folder (documents, too) as an open_clip space of such a context would, and
counts the tokens of its own byte pairs; then as the built-in space does, by its own tokenizer.
Needs the extra ``torch``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from common import save
from mmsearch.errors import MmsearchError
from mmsearch.media import HEAD_BYTES, decode, modality_of, sniff
from mmsearch.spaces import load_encoder
from mmsearch.spaces.mini import ASSETS
from mmsearch.spaces.openclip import passage_lengths
from mmsearch.types import Modality, Preprocess

MOST_CHARS = 1_000_000  # of a folder's texts


def passages(folder: Path, preprocess: Preprocess) -> Iterator[str]:
    """Those of a folder's files that can be read, up to a million characters."""
    left = MOST_CHARS
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        try:
            kind = sniff(data[:HEAD_BYTES], path.name, ("*",))
            if kind is None or modality_of(kind) is not Modality.TEXT:
                continue
            for part in decode(data, kind, preprocess):
                text = str(part.data)
                left -= len(text)
                if left < 0:
                    return
                yield text
        except MmsearchError:
            continue


def measured(
    folder: Path, context: int, preprocess: Preprocess, tokens: Callable[[str], int]
) -> dict[str, Any]:
    """The passages of a folder, and their tokens beside what a tower reads."""
    counts = np.array([tokens(passage) for passage in passages(folder, preprocess)])
    lost = np.maximum(counts - context, 0)
    return {
        "texts": folder.name,
        "context": context,
        "words": preprocess.passage_words,
        "signs": preprocess.passage_cjk_chars,
        "passages": len(counts),
        "cut": int((lost > 0).sum()),
        "tokens_lost": round(float(lost.sum() / counts.sum()), 4),
        "tokens_mean": round(float(counts.mean()), 1),
        "tokens_max": int(counts.max()),
    }


def main() -> None:
    """Prints a table and writes ``results/passages.json``."""
    from open_clip.tokenizer import SimpleTokenizer
    from tokenizers import Tokenizer

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--tokens", type=int, action="append")
    args = parser.parse_args()
    clip = SimpleTokenizer()
    mini = load_encoder("mini").space.preprocess
    own = Tokenizer.from_file(str(ASSETS / "tokenizer.json"))
    own.no_truncation()
    own_context = json.loads((ASSETS / "card.json").read_text())["max_tokens"]
    rows = []
    for folder in args.folders:
        for context in args.tokens or [77, 64]:
            words, signs = passage_lengths(context)
            preprocess = Preprocess(224, 16_000, 10.0, words, signs)
            rows.append(measured(folder, context, preprocess, lambda t: len(clip.encode(t)) + 2))
        rows.append(measured(folder, own_context, mini, lambda t: len(own.encode(t).ids)))
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    save("passages", {"rows": rows})


if __name__ == "__main__":
    main()
