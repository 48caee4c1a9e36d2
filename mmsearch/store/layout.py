"""The names that a writer gives to what lies in an index's folder.

A manifest may come from a stranger, and what it names is opened and removed: so each name in it
must be one of these, and nothing that is called otherwise is ever removed.
"""

from __future__ import annotations

import re

_FINGERPRINT = "[0-9a-f]{8}"  # of a space
SEGMENT = "[0-9]{6,12}-[0-9a-f]{4}"
QUANTISER = f"{_FINGERPRINT}-q[0-9]{{3,9}}"
DELETIONS = r"deleted-[0-9]{6,12}\.npy"
LEDGER = r"ledger-[0-9]{6,12}\.arrow"
SEGMENT_FILE = (
    rf"(parts\.parquet|parts\.arrow(\.blocks)?|vectors-{_FINGERPRINT}\.npy(\.blocks)?"
    rf"|codes-{QUANTISER}\.lists(\.blocks)?|{DELETIONS})"
)
# The files of a space that an index keeps; of several lanes, each in a folder of its own.
KEPT_FILE = (
    rf"(({_FINGERPRINT}/)?((image|text|audio)\.(onnx|bin)|tokenizer\.json|card\.json|seen\.npy)"
    r"|made-up\.npy)"
)
_KEPT = f"query/{_FINGERPRINT}(-[0-9]{{1,9}})?"
# What one generation replaces and the next one removes.
RETIRED = (
    rf"(segments/{SEGMENT}(/{SEGMENT_FILE})?|ann/{QUANTISER}\.quantiser|{_KEPT}(/{KEPT_FILE})?"
    rf"|{LEDGER})"
)
# What else a writer that was killed may leave.
_LEFT = (
    rf"query|{_KEPT}/{_FINGERPRINT}|next-{_FINGERPRINT}"
    rf"|(ann/|segments/{SEGMENT}/|{_KEPT}/({_FINGERPRINT}/)?)[^/]+\.[0-9]+\.tmp"
    rf"|((manifest|writer)\.json|{LEDGER})\.[0-9]+\.tmp"
)
_OURS = re.compile(f"{RETIRED}|{_LEFT}")
NEXT = re.compile(f"next-{_FINGERPRINT}")  # content in another space on its way, see switching


def is_ours(relative: str) -> bool:
    """Whether a path below the folder, ``/`` between names, is one that a writer makes."""
    return _OURS.fullmatch(relative) is not None
