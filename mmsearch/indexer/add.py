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
from mmsearch.given import checked_path, expanded, is_unicode, listed, one_for_each, shown
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
from mmsearch.types import Item, Modality, Part, Signature, Vectors

MAX_ID_CHARS = 512
_PART_SUFFIX = re.compile(r"#\d+$")  # what tells an item's parts apart
_UNSETTLED = -1  # the number of a root that is given when the item is committed
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
                str(part.data) if part.modality is Modality.TEXT else None,
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
) -> list[str]:
    """Adds things to an index in one commit, and returns the id of each.

    items: paths of files, or ``{"text": str}``, ``{"image": path or PIL image}``,
    ``{"audio": path or (samples, sample_rate_hz)}``. ids: one for each; an id that
    is there already is replaced. Without ids, a file has that of its path and
    anything else one made from its content. What has an id of the caller's is
    never touched by runs over folders. meta: a JSON object for each, without what a decoder says
    of that item. encoder: of the index's space;
    None loads it. wait_s: how long to wait for other processes that write, in seconds.
    Raises UsageError, DecodeError naming the item, or ProcessingFailed, before anything is
    changed.
    """
    items = listed(items, "items")
    given = _checked_ids(ids, len(items))
    metas = _checked_meta(meta, len(items))
    if encoder is None:
        known = Snapshot.open(folder)
        encoder = encoder_of(known.manifest.space, known.kept_space, known.check_kept_space)
    new = []
    for item, own in zip(_encoded(encoder, items, given), metas, strict=True):
        refuse_decoded(
            item.absolute or item.path or item.id, own, (part.meta for part in item.parts)
        )
        new.append(item)
    metas = [
        own if item.is_plain else noted(own, own) for item, own in zip(new, metas, strict=True)
    ]
    last = {item.id: i for i, item in enumerate(new)}  # of equal ids the last counts

    def change(writer: Writer) -> tuple[None, set[str]]:
        writer.drop(*last)
        for i, item in enumerate(new):
            if last[item.id] == i:
                item.settle(writer)
                writer.extend(item.rows(metas[i]))
        return None, set(last)

    committer_of(folder).put(change, encoder.space, wait_s)
    return [item.id for item in new]


def _checked_ids(ids: Sequence[str] | None, n: int) -> list[str | None]:
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


def _checked_meta(meta: Sequence[dict[str, Any]] | None, n: int) -> list[dict[str, Any]]:
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
        else:
            _kind(thing)
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

    new = New("", _UNSETTLED, None)
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
        new = New(given, _UNSETTLED, absolute)
    else:
        new = New(item_id(absolute), _UNSETTLED, None, absolute)
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
