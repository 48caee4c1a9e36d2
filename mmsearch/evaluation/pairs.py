"""PAIRS.jsonl, read whole: no more of it than an evaluation can hold in memory."""

from __future__ import annotations

from pathlib import Path

from mmsearch.errors import LimitExceeded, UsageError
from mmsearch.pairs import Row, lines, parsed

# Every test set in use has fewer (COCO 5 k, WavCaps 400 k captions). Captions are held
# as float32 vectors: 500,000 of 512 numbers are 1 GB.
MAX_ROWS = 200_000
MAX_CAPTIONS = 500_000


def read_rows(path: Path) -> tuple[list[Row], list[str]]:
    """The rows of a pairs file, and the names of fields that stand for nothing here.

    Raises UsageError naming file, line and field; LimitExceeded past a stated limit.
    """
    rows: list[Row] = []
    ignored: set[str] = set()
    captions = 0
    for line, raw in lines(path):
        row = parsed(f"{path}:{line}", line, raw, ignored)
        captions += sum(map(len, row.captions.values()))
        if len(rows) == MAX_ROWS or captions > MAX_CAPTIONS:
            raise LimitExceeded(
                f"{path}:{line}: more than {MAX_ROWS:,} rows or {MAX_CAPTIONS:,} captions. "
                "Evaluate on a part of them, drawn at random."
            )
        rows.append(row)
    if not rows:
        raise UsageError(f"{path} is empty: it needs one JSON object a line.")
    return rows, sorted(ignored)
