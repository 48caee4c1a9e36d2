"""Adding and removing single things, for applications and for ``mmsearch remove``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from mmsearch.errors import DecodeError, UsageError
from mmsearch.indexer.encoding import BATCH
from mmsearch.indexer.plan import item_id
from mmsearch.indexer.quantise import update_ann
from mmsearch.indexer.update import available_cores, open_writer
from mmsearch.media.pool import DecodePool, Failed, Finished, Ignored, PartReady, Task
from mmsearch.query import audio_parts, image_part, text_parts
from mmsearch.spaces import Encoder
from mmsearch.store import PartRow, Writer, manifest
from mmsearch.store.segment import part_id
from mmsearch.store.snapshot import join
from mmsearch.types import Item, Modality, Part

MAX_ID_CHARS = 512


def add_items(
    folder: Path,
    items: Sequence[Any],
    ids: Sequence[str] | None = None,
    meta: Sequence[dict[str, Any]] | None = None,
) -> list[str]:
    """Adds things to an index in one commit, and returns their ids.

    items: paths of files, or ``{"text": str}``, ``{"image": path or PIL image}``,
    ``{"audio": path or (samples, sample_rate_hz)}``. ids: one for each; an id that
    is there already is replaced. Without ids, a file has that of its path and
    anything else one made from its content. meta: a JSON object for each.
    Raises DecodeError, naming the item, before anything is changed.
    """
    ids_given = _checked(ids, len(items), "ids")
    metas = _checked(meta, len(items), "meta")
    for given in ids_given or ():
        if not isinstance(given, str) or not 0 < len(given) <= MAX_ID_CHARS:
            raise UsageError(f"an id is a text of 1 to {MAX_ID_CHARS} characters, not {given!r}.")
    if ids_given and len(set(ids_given)) != len(ids_given):
        raise UsageError("the same id was given twice in one call of add.")
    manifest.read(folder)  # nothing is added to an index that is not there
    writer, encoder = open_writer(folder, None)
    with writer:
        done: dict[str, list[tuple[PartRow, Any]]] = {}  # id -> rows and vectors
        for i, thing in enumerate(items):
            rows = list(_rows(writer, encoder, thing, ids_given[i] if ids_given else None))
            for row, _ in rows:
                row.meta.update(metas[i] if metas else {})
            done[rows[0][0].item_id] = rows
        writer.drop(*done)
        for rows in done.values():
            for row, vector in rows:
                writer.append(row, vector)
        writer.commit(unfinished=writer.manifest.unfinished)
        writer.compact()
        update_ann(writer)
        writer.finish()
    return list(done)


def remove_items(folder: Path, what: Iterable[str | os.PathLike[str]]) -> int:
    """Removes items by id or by the path of a file or folder; returns how many.

    A file that is still there comes back with the next run over its folder.
    """
    manifest.read(folder)
    writer, _ = open_writer(folder, None)
    with writer:
        wanted = {os.fspath(w) for w in what}
        paths = {_absolute(w) for w in wanted}
        removed = writer.drop(*wanted, *(item_id(p) for p in paths))
        below = tuple(join(p, "") for p in paths)
        for segment in writer.snapshot.segments:
            rows = {}  # row -> item id
            first = 0
            for batch in segment.batches():
                columns = zip(
                    batch.column("root").to_pylist(),
                    batch.column("path").to_pylist(),
                    batch.column("path_bytes").to_pylist(),
                    strict=True,
                )
                for row, (root, path, raw) in enumerate(columns, first):
                    if path is None or not segment.live[row]:
                        continue
                    path = path if raw is None else os.fsdecode(raw)
                    absolute = join(writer.snapshot.root_path(root), path)
                    if absolute in paths or absolute.startswith(below):
                        rows[row] = item_id(absolute)
                first += batch.num_rows
            writer.delete(segment, rows)
            removed.update(rows.values())
        unfinished = [u for u in writer.manifest.unfinished if u.item_id not in removed]
        writer.commit(unfinished=unfinished)
        writer.compact()
        update_ann(writer)
        writer.finish()
    return len(removed)


def _absolute(path: str) -> str:
    here = Path(path).expanduser()
    try:
        return str(here.resolve())
    except (OSError, RuntimeError, ValueError):
        return str(here.absolute())


def _checked(given: Sequence[Any] | None, n: int, name: str) -> list[Any] | None:
    if given is None:
        return None
    if len(given) != n:
        raise UsageError(f"{n} items came with {len(given)} {name}: give one for each item.")
    return list(given)


def _rows(
    writer: Writer, encoder: Encoder, thing: Any, given_id: str | None
) -> Iterator[tuple[PartRow, Any]]:
    """An item's rows and vectors; at least one."""
    preprocess = encoder.space.preprocess
    signature: tuple[int, int, int, int] = (0, 0, 0, 0)
    root, path = writer.root(""), None
    if isinstance(thing, str | os.PathLike):
        absolute = _absolute(os.fspath(thing))
        parts, content, signature = _decode_file(encoder, absolute)
        parent, path = str(Path(absolute).parent), Path(absolute).name
        root, ident = writer.root(parent), item_id(absolute)
    else:
        kind, value = _kind(thing)
        if kind == "text":
            parts = list(text_parts(value, preprocess))
        elif kind == "image":
            parts = [image_part(value, preprocess)]
        else:
            parts = list(audio_parts(value, preprocess))
        content = _content_hash(parts)
        ident = content.hex()
    if not parts:
        raise DecodeError(f"there is nothing in {thing!r} to index")
    ident = given_id or ident
    for vectors, some in _encoded(encoder, parts):
        for part, vector in zip(some, vectors, strict=True):
            text = str(part.data) if part.modality is Modality.TEXT else None
            row = PartRow(
                part_id(ident, part.part_no),
                root,
                path,
                part.modality,
                part.part_no,
                part.start_s,
                part.end_s,
                text,
                dict(part.meta),
                *signature,
                content,
            )
            yield row, vector


def _encoded(encoder: Encoder, parts: list[Part]) -> Iterator[tuple[Any, list[Part]]]:
    modality = parts[0].modality
    size = BATCH[modality]
    for start in range(0, len(parts), size):
        some = parts[start : start + size]
        yield encoder.encode(modality, [p.data for p in some]), some


def _kind(thing: Any) -> tuple[str, Any]:
    if isinstance(thing, dict) and len(thing) == 1:
        kind, value = next(iter(thing.items()))
        if kind in ("text", "image", "audio"):
            return kind, value
    if type(thing).__module__.startswith("PIL."):
        return "image", thing
    raise UsageError(
        f"{thing!r} cannot be added: give a path, or a dict with one of the keys "
        "'text', 'image' and 'audio'."
    )


def _content_hash(parts: list[Part]) -> bytes:
    digest = blake2b(digest_size=16)
    for part in parts:
        data = part.data.encode("utf-8", "replace") if isinstance(part.data, str) else part.data
        digest.update(part.modality.encode() + b"\0")
        digest.update(data if isinstance(data, bytes) else data.tobytes())
    return digest.digest()


def _decode_file(
    encoder: Encoder, absolute: str
) -> tuple[list[Part], bytes, tuple[int, int, int, int]]:
    parent, name = str(Path(absolute).parent), Path(absolute).name
    task = Task(Item(parent, name, 0, 0, 0, 0), ask=False)
    parts: list[Part] = []
    with DecodePool(encoder.space.preprocess, workers=min(1, available_cores())) as pool:
        for event in pool.run(iter([task]), lambda task, content: True):
            match event:
                case PartReady(part=part):
                    parts.append(part)
                case Finished():
                    return parts, event.content_hash, event.signature
                case Failed(reason=reason, stage=stage):
                    raise DecodeError(f"{absolute}: {reason}", stage=stage)
                case Ignored():
                    break
    raise DecodeError(f"{absolute} is of a kind that is not indexed.", stage="sniff")
