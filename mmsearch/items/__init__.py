"""Where items come from. One class a kind of source, one line in ``SOURCES``."""

from mmsearch.items.folder import Folder, Found, Scope, Unreadable, scope_of

SOURCES = {"folder": Folder}

__all__ = ["SOURCES", "Folder", "Found", "Scope", "Unreadable", "scope_of"]
