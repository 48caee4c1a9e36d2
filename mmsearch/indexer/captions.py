"""Writing captions into the metadata of an index's pictures."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmsearch.cores import available_cores
from mmsearch.errors import MmsearchError, ProcessingFailed
from mmsearch.indexer.quantise import update_ann
from mmsearch.media.pool import DecodePool, Finished, PartReady, Task
from mmsearch.spaces import ANYWHERE, Placement
from mmsearch.store import Segment, Snapshot, Writer
from mmsearch.store.snapshot import join
from mmsearch.types import Item, Modality
from mmsearch.version import __version__

KEY = "caption"  # in the metadata
Progress = Callable[[int, int], None]
Wanted = dict[Task, list[tuple[Segment, int]]]  # a file -> the rows of the items that it is
_COMMIT_S = 30.0


@dataclass
class Captioned:
    """What a run did: pictures that got a caption, had one, and could not be read as indexed."""

    written: int = 0
    there: int = 0
    skipped: int = 0
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The object that ``mmsearch caption --json`` prints."""
        return {
            "schema": 1,
            "written": self.written,
            "there": self.there,
            "skipped": self.skipped,
            "seconds": round(self.seconds, 3),
        }


def caption(
    folder: Path,
    model: str,
    placement: Placement = ANYWHERE,
    again: bool = False,
    workers: int | None = None,
    progress: Progress = lambda done, of: None,
) -> Captioned:
    """Writes a caption for each picture of an index that has a file, as ``meta.caption``.

    model: an open_clip CoCa model. again: also where there is a caption. Vectors stay as they
    are. A picture whose file is gone, or was changed since it was indexed, is left as it is
    and counted as skipped. Stopped or killed, the same call goes on.
    Raises UsageError, SpaceUnavailable and what writing raises.
    """
    started = time.monotonic()
    from mmsearch.spaces.captions import Captioner

    known = Snapshot.open(folder)
    done = Captioned()
    with Writer(folder, known.manifest.space, __version__) as writer:
        wanted = _wanted(writer.snapshot, again, done)
        if not wanted:  # nothing that a model is needed for
            done.seconds = time.monotonic() - started
            return done
        captioner = Captioner(model, placement)
        # stopped anywhere, what was not committed is dropped: no row may go without its successor
        _write(writer, captioner, wanted, workers or available_cores(), done, progress)
        writer.commit(unfinished=writer.manifest.unfinished)
        writer.compact()
        update_ann(writer)
        writer.finish()
    done.seconds = time.monotonic() - started
    return done


def _wanted(snapshot: Snapshot, again: bool, done: Captioned) -> Wanted:
    """The files of pictures that are to get a caption, and where their rows are."""
    wanted: Wanted = {}
    for path, segment, row in _pictures(snapshot):
        if not again and KEY in segment.row(row).meta:
            done.there += 1
            continue
        wanted.setdefault(Task(Item("", path, 0, 0, 0, 0), ask=False), []).append((segment, row))
    return wanted


def _write(
    writer: Writer,
    captioner: Any,
    wanted: Wanted,
    workers: int,
    done: Captioned,
    progress: Progress,
) -> None:
    size = captioner.batch_sizes[Modality.IMAGE]
    waiting: list[tuple[Segment, int, Any]] = []
    pixels: dict[Task, Any] = {}
    last = time.monotonic()
    pool = DecodePool(
        captioner.space.preprocess, workers=workers, modalities=(Modality.IMAGE,), queue_parts=size
    )
    with pool:
        for event in pool.run(iter(wanted), lambda task, content: True):
            if isinstance(event, PartReady):
                pixels[event.task] = event.part.data
                continue
            data = pixels.pop(event.task, None)
            for segment, row in wanted[event.task]:
                same = isinstance(event, Finished) and (
                    event.content_hash == segment.row(row).content_hash
                )
                if data is None or not same:
                    done.skipped += 1
                else:
                    waiting.append((segment, row, data))
            if len(waiting) >= size:
                _flush(writer, captioner, waiting, done)
                progress(done.written + done.skipped, len(wanted))
            if time.monotonic() - last >= _COMMIT_S:
                writer.commit(unfinished=writer.manifest.unfinished)
                last = time.monotonic()
    _flush(writer, captioner, waiting, done)
    progress(done.written + done.skipped, len(wanted))


def _flush(
    writer: Writer, captioner: Any, waiting: list[tuple[Segment, int, Any]], done: Captioned
) -> None:
    try:
        texts = captioner.captions([data for *_, data in waiting])
    except MmsearchError:
        raise
    except Exception as e:  # whatever its library raises
        reason = str(e).strip().partition("\n")[0] or type(e).__name__
        raise ProcessingFailed(
            f"the captioning model failed: {reason}. What was committed is kept; run the same "
            "command to go on."
        ) from e
    for (segment, row, _), text in zip(waiting, texts, strict=True):
        segment.check_copied(np.array([row]))
        old = segment.row(row)
        new = replace(old, meta={**old.meta, KEY: text})
        writer.delete(segment, [row])
        writer.extend([(new, segment.stored([row])[0])])
        done.written += 1
    waiting.clear()


def _pictures(snapshot: Snapshot) -> Iterator[tuple[str, Segment, int]]:
    """Every live picture with a file: its path, and where its row is."""
    for segment in snapshot.segments:
        first = 0
        for batch in segment.batches(["modality", "root", "path", "path_bytes"]):
            columns = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            for row, (modality, root, path, raw) in enumerate(columns, first):
                if modality == Modality.IMAGE and path is not None and segment.live[row]:
                    relative = path if raw is None else os.fsdecode(raw)
                    yield join(snapshot.root_path(root), relative), segment, row
            first += batch.num_rows
