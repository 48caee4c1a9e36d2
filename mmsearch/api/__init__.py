"""What applications, the command line and the server call: an ``Index`` with every verb.

Index      an open index: search it, add to it, look after it
Embedder   an embedding space: encode texts, pictures and sounds
"""

from mmsearch.api.embedder import Embedder
from mmsearch.api.index import Index

__all__ = ["Embedder", "Index"]
