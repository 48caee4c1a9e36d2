"""Changing the metadata of items without encoding them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmsearch.errors import UsageError
from mmsearch.given import is_unicode, named_some, one_for_each
from mmsearch.indexer.committing import committer_of
from mmsearch.indexer.deleting import item_ids
from mmsearch.indexer.metadata import checked_meta, refuse_decoded, with_own
from mmsearch.store import PartRow, Writer
from mmsearch.store.lock import SOON_S
from mmsearch.types import Modality


def update_items(folder: Path, ids: str | Iterable[str], meta: Any, wait_s: float = SOON_S) -> None:
    """Merge metadata into that of items, in one commit; vectors, texts and times stay.

    ids: of items, one or several. meta: a dict for one id, else one for each; a key with the value
    None is removed. wait_s: how long to wait for other processes that write, in seconds.
    Raises UsageError, before anything is changed, for ids that nothing has, and for keys that a
    decoder gave.
    """
    wanted = item_ids(ids, "update")
    metas = [meta] if isinstance(ids, str) else one_for_each(meta, len(wanted), "meta")
    checked_meta(metas)
    patches = dict(zip(wanted, metas, strict=True))
    if len(patches) < len(wanted):
        raise UsageError("the same id was given twice in one call of update.")

    def change(writer: Writer) -> tuple[None, set[str]]:
        found = writer.parts_of({item for item in patches if is_unicode(item)})
        if missing := [item for item in patches if item not in found]:
            raise UsageError(f"no item has the id {named_some(missing)}. Nothing was changed.")
        plain = {item for item, parts in found.items() if all(_is_plain(row) for row, _ in parts)}
        for item in found.keys() - plain:
            refuse_decoded(item, patches[item], (row.meta for row, _ in found[item]))
        for item, parts in found.items():
            rows = [row for row, _ in parts]
            new = [replace(r, meta=with_own(r.meta, patches[item], item in plain)) for r in rows]
            if new != rows:
                writer.drop(item)
                writer.extend(zip(new, (vector for _, vector in parts), strict=True))
        return None, set()  # what is unfinished stays so

    if patches:
        committer_of(folder).put(change, None, wait_s)


def _is_plain(row: PartRow) -> bool:
    """Whether a part is of a text without a file, of which no decoder says anything."""
    return row.modality is Modality.TEXT and row.path is None
