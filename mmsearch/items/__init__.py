"""Where items come from: for now folders and files."""

from mmsearch.items.folder import Folder, Found, Scope, Unreadable, scope_of

__all__ = ["Folder", "Found", "Scope", "Unreadable", "scope_of"]
