"""The write path: plan → decode → encode → segments → ANN → commit."""

from mmsearch.indexer.add import add_items
from mmsearch.indexer.captions import Captioned, caption
from mmsearch.indexer.deleting import delete_items, delete_named, delete_paths, delete_where
from mmsearch.indexer.given_vectors import add_vectors
from mmsearch.indexer.options import Options, Report
from mmsearch.indexer.reencode import Reencoded, reencode
from mmsearch.indexer.update import run
from mmsearch.indexer.updating import update_items
from mmsearch.indexer.upkeep import Compacted, Merged, compact, merge, tune, verify

__all__ = [
    "Captioned",
    "Compacted",
    "Merged",
    "Options",
    "Reencoded",
    "Report",
    "add_items",
    "add_vectors",
    "caption",
    "compact",
    "delete_items",
    "delete_named",
    "delete_paths",
    "delete_where",
    "merge",
    "reencode",
    "run",
    "tune",
    "update_items",
    "verify",
]
