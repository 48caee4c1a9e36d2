"""What a stranger may do to an index folder: one function a case, with valid checksums.

Add one by writing a function with ``@case`` above it in one of the modules below. It gets a
``Forged`` copy of an honest index and ``forged.outside``, a folder that nothing may be read,
written or removed in.
"""

from __future__ import annotations

import forged_links
import forged_rows
import forged_towers
import forged_vectors
from forged import CASES

__all__ = ["CASES", "MODULES", "READS_WHAT_IS_NAMED"]

MODULES = (forged_links, forged_rows, forged_vectors, forged_towers)  # each adds to ``CASES``
READS_WHAT_IS_NAMED = {"space_lies_elsewhere"}
