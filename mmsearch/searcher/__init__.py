"""The read path: an open index, and the results of asking it.

A question becomes a vector (``query``), a ``View`` of the snapshot finds row numbers for it
and reads the rows, ``Results`` shows them as hits.
"""

from mmsearch.searcher.index import Index
from mmsearch.searcher.results import BatchResults, Results

__all__ = ["BatchResults", "Index", "Results"]
