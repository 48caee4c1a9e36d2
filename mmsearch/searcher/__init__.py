"""The read path: an index that is open for searching, and the results of asking it.

A question becomes a vector (``query``), a ``View`` of the snapshot finds row numbers for it
and reads the rows, ``Results`` shows them as hits.
"""

from mmsearch.searcher.listing import Page
from mmsearch.searcher.results import BatchResults, Results
from mmsearch.searcher.searcher import Searcher

__all__ = ["BatchResults", "Page", "Results", "Searcher"]
