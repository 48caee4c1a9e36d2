"""Adding single things, for applications."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from mmsearch.errors import (
    DecodeError,
    LimitExceeded,
    ProcessingFailed,
    UsageError,
)
from mmsearch.given import (
    checked_path,
    expanded,
    is_unicode,
    listed,
    named_some,
    one_for_each,
    shown,
)
from mmsearch.indexer.committing import committer_of
from mmsearch.indexer.metadata import checked_meta, noted, refuse_decoded
from mmsearch.indexer.plan import item_id
from mmsearch.indexer.refusal import encode_all
from mmsearch.media.pool import DecodePool, Failed, Finished, Ignored, PartReady, Skipped, Task
from mmsearch.query import audio_parts, image_part, text_parts
from mmsearch.spaces import Encoder
from mmsearch.spaces.kept import encoder_of
from mmsearch.store import PartRow, Snapshot, Writer
from mmsearch.store.lock import SOON_S
from mmsearch.store.rows import part_id
from mmsearch.store.snapshot import join
from mmsearch.types import Item, Modality, Part, Signature, Space, Vectors

MAX_ID_CHARS = 512
CONFLICTS = ("replace", "error", "skip")
_PART_SUFFIX = re.compile(r"#\d+$")  # what tells an item's parts apart
UNSETTLED = -1  # the number of a root that is given when the item is committed
# As ``plan.item_id`` makes them. One of digits alone is rare, and numbers of 16 digits are not.
_FILE_ID = re.compile(r"(?=.*[a-f])[0-9a-f]{16}")


@dataclass
class New:
    """An item on its way in."""

    id: str
    root: int
    path: str | None
    absolute: str | None = None  # of a file, until its root is known
    parts: list[Part] = field(default_factory=list)
    vectors: list[Vectors] = field(default_factory=list)
    content_hash: bytes = bytes(16)
    signature: Signature = (0, 0, 0, 0)

    @property
    def label(self) -> str:
        """What errors call it: its id, or the path that that is made of."""
        return self.absolute or self.id

    @property
    def is_plain(self) -> bool:
        """Whether it is a text without a file."""
        here = self.path is None and self.absolute is None
        return here and all(part.modality is Modality.TEXT for part in self.parts)

    def settle(self, writer: Writer) -> None:
        """Finds the root that the item lies in, and its path below that."""
        if self.absolute is None:
            self.root = writer.root("")
            return
        roots = [r.path for r in writer.manifest.roots if r.path]
        root = next((r for r in roots if self.absolute.startswith(join(r, ""))), None)
        root = root or str(Path(self.absolute).parent)
        self.root = writer.root(root)
        self.path = self.absolute[len(join(root, "")) :].replace(os.sep, "/")

    def rows(self, meta: dict[str, Any]) -> Iterator[tuple[PartRow, Any]]:
        for part, vector in zip(self.parts, self.vectors, strict=True):
            row = PartRow(
                part_id(self.id, part.part_no),
                self.root,
                self.path,
                part.modality,
                part.part_no,
                part.start_s,
                part.end_s,
                (str(part.data) or None) if part.modality is Modality.TEXT else None,
                {**part.meta, **meta},
                *self.signature,
                self.content_hash,
            )
            yield row, vector


def add_items(
    folder: Path,
    items: Iterable[Any],
    ids: Sequence[str] | None = None,
    meta: Sequence[dict[str, Any]] | None = None,
    encoder: Encoder | None = None,
    wait_s: float = SOON_S,
    on_conflict: str = "replace",
) -> list[str]:
    """Adds things to an index in one commit, and returns the id of each.

    items: paths of files, or ``{"text": str}``, ``{"image": path, bytes or PIL image}``,
    ``{"audio": path or (samples, sample_rate_hz)}``. ids: one for each. Without ids, a file has
    that of its path and anything else one made from its content. What has an id of the caller's is
    never touched by runs over folders. meta: a JSON object for each, without what a decoder says
    of that item. encoder: of the index's space; None loads it. wait_s: how long to wait for other
    processes that write, in seconds. on_conflict: see ``put_new``; what is known to be there
    before it is encoded is not encoded.
    Raises UsageError, DecodeError naming the item, or ProcessingFailed, before anything is
    changed.
    """
    items = listed(items, "items")
    given = checked_ids(ids, len(items))
    metas = metas_of(meta, len(items))
    check_conflict(on_conflict)
    known = [_known_id(thing, own) for thing, own in zip(items, given, strict=True)]
    there: set[str] = set()
    if on_conflict != "replace":
        there = {*Snapshot.open(folder).find_all({one for one in known if one is not None})}
        if there and on_conflict == "error":
            raise _conflict([_label(x, i) for x, i in zip(items, known, strict=True) if i in there])
    left = [i for i, one in enumerate(known) if one not in there]
    new: dict[int, New] = {}  # place in items -> what it became
    if left:
        if encoder is None:
            at = Snapshot.open(folder)
            encoder = encoder_of(at.manifest.space, at.kept_space, at.check_kept_space)
        encoded = _encoded(encoder, [items[i] for i in left], [given[i] for i in left])
        for i, item in zip(left, encoded, strict=True):
            refuse_decoded(item.label, metas[i], (part.meta for part in item.parts))
            new[i] = item
        both = [(item, metas[i]) for i, item in new.items()]
        put_new(folder, both, encoder.space, wait_s, on_conflict)
    return [new[i].id if i in new else str(one) for i, one in enumerate(known)]


def put_new(
    folder: Path,
    new: Sequence[tuple[New, dict[str, Any]]],
    space: Space,
    wait_s: float,
    on_conflict: str,
) -> None:
    """Commits items that are encoded, with their metadata. Of equal ids the last one counts.

    on_conflict: what happens if an id is there at that moment: ``replace`` its item, ``skip`` the
    new one, or ``error``: UsageError naming the ids, and nothing is changed.
    """
    last = {item.id: (item, meta) for item, meta in new}

    def change(writer: Writer) -> tuple[None, set[str]]:
        there = set() if on_conflict == "replace" else writer.present(set(last))
        if there and on_conflict == "error":
            raise _conflict([last[one][0].label for one in last if one in there])
        wanted = {one: last[one] for one in last if one not in there}
        writer.drop(*wanted)
        for item, meta in wanted.values():
            item.settle(writer)
            writer.extend(item.rows(meta if item.is_plain else noted(meta, meta)))
        return None, set(wanted)

    committer_of(folder).put(change, space, wait_s)


def check_conflict(on_conflict: Any) -> None:
    """Raises UsageError for what cannot be done with an id that is there."""
    if not isinstance(on_conflict, str) or on_conflict not in CONFLICTS:
        raise UsageError(f"on_conflict is one of {', '.join(CONFLICTS)}; not {shown(on_conflict)}.")


def _conflict(labels: Sequence[str]) -> UsageError:
    return UsageError(f"there already: {named_some(labels)}. Nothing was added.")


def _known_id(thing: Any, given: str | None) -> str | None:
    """The id of a thing, as far as it is known before that is decoded.

    Raises UsageError for what cannot be added.
    """
    if isinstance(thing, str | os.PathLike):
        real = _real(thing)
        return given or item_id(real)
    _kind(thing)
    return given


def _label(thing: Any, known: str | None) -> str:
    """As ``New.label``, of a thing whose id is known."""
    is_file = isinstance(thing, str | os.PathLike)
    return _real(thing) if is_file and known == item_id(_real(thing)) else str(known)


def checked_ids(ids: Sequence[str] | None, n: int) -> list[str | None]:
    """Return the ids for n new items; None for one that has none yet. Raises UsageError."""
    if ids is None:
        return [None] * n
    given = one_for_each(ids, n, "ids")
    for one in given:
        if not isinstance(one, str) or not 0 < len(one) <= MAX_ID_CHARS:
            raise UsageError(
                f"an id is a text of 1 to {MAX_ID_CHARS} characters, not {shown(one)}."
            )
        if _PART_SUFFIX.search(one):
            raise UsageError(
                f"the id {one!r} ends like that of a part (#1, #2, …): choose another."
            )
        if _FILE_ID.fullmatch(one):
            raise UsageError(
                f"the id {one!r} has the form of a file's (16 hexadecimal digits): choose another, "
                "or give the file's path and no id."
            )
        if not is_unicode(one):
            raise UsageError(f"the id {one!r} is no valid text.")
    if len(set(given)) != len(given):
        raise UsageError("the same id was given twice in one call of add.")
    return given


def metas_of(meta: Sequence[dict[str, Any]] | None, n: int) -> list[dict[str, Any]]:
    """Return the metadata of n new items. Raises UsageError."""
    if meta is None:
        return [{} for _ in range(n)]
    given = one_for_each(meta, n, "meta")
    checked_meta(given)
    return given


def _encoded(encoder: Encoder, items: Sequence[Any], ids: list[str | None]) -> Iterator[New]:
    """The items with their vectors, in order."""
    files = {}  # place in items -> absolute path
    for i, thing in enumerate(items):
        if isinstance(thing, str | os.PathLike):
            files[i] = _real(thing)
    decoded = decoded_files(encoder, list(files.values()))
    for i, thing in enumerate(items):
        if i in files:
            yield _from_file(encoder, files[i], ids[i], decoded)
        else:
            yield _from_object(encoder, thing, ids[i])


def _real(path: str | os.PathLike[str]) -> str:
    """The absolute path of a file, with links followed as runs over folders do: a file that is
    reached in two ways is one item. Raises UsageError for what is no path."""
    return os.path.realpath(expanded(checked_path(path, "an item")))


def _from_object(encoder: Encoder, thing: Any, given: str | None) -> New:
    preprocess = encoder.space.preprocess
    kind, value = _kind(thing)
    parts: Iterable[Part]
    if kind == "text":
        parts = text_parts(value, preprocess)
    elif kind == "image":
        parts = [image_part(value, preprocess)]
    else:
        parts = audio_parts(value, preprocess)
    digest = blake2b(digest_size=16)

    def hashed() -> Iterator[Part]:
        for part in parts:
            data = part.data
            raw = data.encode("utf-8", "replace") if isinstance(data, str) else data.tobytes()
            digest.update(part.modality.encode() + b"\0" + raw)
            yield part

    new = New("", UNSETTLED, None)
    encode_parts(encoder, hashed(), new)
    if not new.parts:
        raise DecodeError(f"there is nothing in {shown(thing)} to index")
    new.content_hash = digest.digest()
    new.id = given or new.content_hash.hex()
    return new


def _from_file(
    encoder: Encoder,
    absolute: str,
    given: str | None,
    decoded: Iterator[Part | Finished],
) -> New:
    if given is not None:
        new = New(given, UNSETTLED, absolute)
    else:
        new = New(item_id(absolute), UNSETTLED, None, absolute)
    end: list[Finished] = []

    def parts() -> Iterator[Part]:
        for event in decoded:
            if isinstance(event, Finished):
                end.append(event)
                return
            yield event

    encode_parts(encoder, parts(), new)
    if not new.parts:
        raise DecodeError(f"{absolute}: there is nothing in it to index")
    new.content_hash, new.signature = end[0].content_hash, end[0].signature
    return new


def encode_parts(encoder: Encoder, parts: Iterable[Part], new: New) -> None:
    """Encodes parts as they come; of what was decoded no more than a batch is held."""
    waiting: list[Part] = []

    def flush() -> None:
        if waiting:
            modality = waiting[0].modality
            new.vectors.extend(encode_all(encoder, modality, [p.data for p in waiting]))
            for p in waiting:
                data = p.data if p.modality is Modality.TEXT else ""
                new.parts.append(
                    Part(p.modality, p.part_no, data, p.start_s, p.end_s, dict(p.meta))
                )
            waiting.clear()

    for part in parts:
        waiting.append(part)
        # of a kind that has no tower at once: encoding it says so
        if len(waiting) >= encoder.batch_sizes.get(part.modality, 1):
            flush()
    flush()


def decoded_files(encoder: Encoder, paths: list[str]) -> Iterator[Part | Finished]:
    """Each file's parts, then its Finished, in the order of ``paths``.

    Raises DecodeError for a file that cannot be read, LimitExceeded for one that is too large,
    ProcessingFailed if decoding it failed
    for another reason.
    """
    if not paths:
        return
    with DecodePool(encoder.space.preprocess, workers=1) as pool:
        for path in paths:
            item = Item(str(Path(path).parent), Path(path).name, 0, 0, 0, 0)
            for event in pool.run(iter([Task(item, ask=False)]), lambda task, content: True):
                match event:
                    case PartReady(part=part):
                        yield part
                    case Finished():
                        yield event
                    case Skipped(reason=reason, over_limit=True):
                        raise LimitExceeded(f"{path}: {reason}")
                    case (
                        Skipped(stage=stage, reason=reason)
                        | Failed(stage="read" as stage, reason=reason)
                    ):
                        raise DecodeError(f"{path}: {reason}", stage=stage)
                    case Failed(reason=reason):
                        raise ProcessingFailed(f"{path}: {reason}")
                    case Ignored(what=what):
                        raise DecodeError(f"{path} is not indexed: it is {what}.", "sniff")


def _kind(thing: Any) -> tuple[str, Any]:
    if isinstance(thing, dict) and len(thing) == 1:
        kind, value = next(iter(thing.items()))
        if kind in ("text", "image", "audio"):
            return kind, value
    if type(thing).__module__.startswith("PIL."):
        return "image", thing
    raise UsageError(
        f"{shown(thing)} cannot be added: give a path, or a dict with one of the keys "
        "'text', 'image' and 'audio'."
    )
