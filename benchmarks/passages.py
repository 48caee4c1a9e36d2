"""How many passages are longer than a text tower reads: what their ends say cannot be found.

    python benchmarks/passages.py FILE... [--tokens 77 --tokens 64]

Cuts each text as an open_clip space with such a context would, and counts the tokens of its own
byte pairs. Files of one suffix in one folder make a row. Needs the extra ``torch``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from common import save
from mmsearch.media.encoding import decode_text
from mmsearch.media.text import normalised, spans
from mmsearch.spaces.openclip import passage_lengths
from mmsearch.types import Preprocess


def measured(texts: list[str], context: int) -> dict[str, Any]:
    """Passages of some texts, and their tokens with both marks."""
    from open_clip.tokenizer import SimpleTokenizer

    words, signs = passage_lengths(context)
    preprocess = Preprocess(224, 16_000, 10.0, passage_words=words, passage_cjk_chars=signs)
    tokenizer = SimpleTokenizer()
    tokens = np.array(
        [
            len(tokenizer.encode(normalised(text[start:end]))) + 2
            for text in texts
            for start, end in spans(text, preprocess)
        ]
    )
    return {
        "context": context,
        "words": words,
        "signs": signs,
        "passages": len(tokens),
        "cut": int((tokens > context).sum()),
        "tokens_mean": round(float(tokens.mean()), 1),
        "tokens_max": int(tokens.max()),
    }


def main() -> None:
    """Prints a table and writes ``results/passages.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--tokens", type=int, action="append")
    args = parser.parse_args()
    kinds: dict[str, list[str]] = {}
    for path in args.files:
        text = decode_text(path.read_bytes())
        kinds.setdefault(f"{path.absolute().parent.name}/*{path.suffix}", []).append(text)
    rows = []
    for kind, texts in kinds.items():
        for context in args.tokens or [77, 64]:
            row = {"texts": kind, **measured(texts, context)}
            rows.append(row)
            print("  ".join(f"{name} {value}" for name, value in row.items()))
    save("passages", {"rows": rows})


if __name__ == "__main__":
    main()
