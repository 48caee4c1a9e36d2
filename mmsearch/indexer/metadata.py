"""Metadata that applications give: what it may be, and how it meets what decoders say.

A key of ``META_KEYS`` is a decoder's where it gave that key, and anybody's elsewhere: an
application may say who wrote a note, but not how wide a picture is. Which of those keys an
application gave stands in the metadata under ``OWN_KEY``, which hits do not show. A text without a
file needs no such note, for no decoder says anything of it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

from mmsearch.errors import UsageError
from mmsearch.given import named, shown
from mmsearch.media import META_KEYS
from mmsearch.store.rows import MAX_META_DEPTH, OWN_KEY, depth_of

Meta = dict[str, Any]


def checked_meta(given: Iterable[Any]) -> None:
    """Raises UsageError for metadata that cannot be stored."""
    for one in given:
        if not isinstance(one, dict):
            raise UsageError(f"meta is a dict for each item, not {shown(one)}.")
        try:
            _check_keys(one)
            text = json.dumps(one, allow_nan=False)
            deep = depth_of(json.loads(text)) > MAX_META_DEPTH
        except RecursionError:
            deep = True
        except (TypeError, ValueError) as e:
            raise UsageError(f"meta must hold plain JSON values: {e}.") from None
        if deep:
            raise UsageError(f"meta has at most {MAX_META_DEPTH} levels of lists and dicts.")
        if OWN_KEY in one:
            raise UsageError(f"meta: mmsearch keeps {OWN_KEY!r} for itself. Choose another key.")


def _check_keys(value: Any) -> None:
    """Raises UsageError for a key that is no str: JSON would make one of it, maybe of another's
    name. Raises RecursionError where the value is too deep."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise UsageError(f"meta: a key is a str, not {shown(key)}.")
            _check_keys(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_keys(inner)


def refuse_decoded(item: str, given: Meta, metas: Iterable[Meta]) -> None:
    """Raises UsageError for a key that a decoder gave of this very item.

    given: an application's metadata. metas: of the item's parts.
    """
    wanted = META_KEYS.intersection(given)
    if not wanted:
        return
    for meta in metas:
        for key in sorted(wanted.intersection(meta).difference(_own(meta))):
            raise UsageError(
                f"meta of {named(item)}: {key!r} was read out of the item itself "
                f"({shown(meta[key])}). Choose another key."
            )


def with_own(meta: Meta, given: Meta, plain: bool) -> Meta:
    """A part's metadata with an application's over it, at the top level; None removes a key.

    plain: whether it is of a text without a file.
    """
    merged = {**meta, **given}
    left = {key: value for key, value in merged.items() if given.get(key, 0) is not None}
    return left if plain else noted(left, _own(meta) | given.keys())


def noted(meta: Meta, own: Collection[str]) -> Meta:
    """Metadata with a note of which of some keys, that an application gave, decoders use."""
    left = {key: value for key, value in meta.items() if key != OWN_KEY}
    mine = sorted(META_KEYS.intersection(left, own))
    return {**left, OWN_KEY: mine} if mine else left


def _own(meta: Meta) -> set[str]:
    """The keys of decoders that an application gave."""
    own = meta.get(OWN_KEY)
    return {key for key in own if isinstance(key, str)} if isinstance(own, list) else set()
