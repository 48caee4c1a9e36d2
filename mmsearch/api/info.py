"""Facts about an index and about the spaces at hand, as plain JSON values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from mmsearch.errors import MmsearchError, SpaceUnavailable, StoreError
from mmsearch.searcher import Searcher
from mmsearch.spaces import SPACES, load_encoder, missing_for
from mmsearch.spaces.catalogue import CATALOGUE, SOURCE, Known, languages_of, recommended
from mmsearch.spaces.folder import Reading, languages_in, read_card, reading_of, space_of
from mmsearch.spaces.kept import kept_folders
from mmsearch.spaces.plugins import module_of, plugins
from mmsearch.store.ledger import Outcome, read_ledger
from mmsearch.store.manifest import read
from mmsearch.store.rows import MODALITIES
from mmsearch.store.switching import next_folders
from mmsearch.types import Modality


def describe(index: Searcher) -> dict[str, Any]:
    """What an index holds and how it is searched."""
    snapshot = index.snapshot
    manifest = snapshot.manifest
    counts = np.zeros(len(MODALITIES), np.int64)
    items = 0
    for segment in snapshot.segments:
        counts += np.bincount(segment.modality_codes[segment.live], minlength=len(MODALITIES))
        first = 0
        for batch in segment.batches(["part_no"]):
            part_no = batch.column("part_no").to_numpy()
            items += int(
                np.count_nonzero((part_no == 0) & segment.live[first : first + len(part_no)])
            )
            first += len(part_no)
    lanes = manifest.space.each
    unindexed = Counter(row.outcome for row in read_ledger(snapshot.place, manifest))
    return {
        "schema": 1,
        "index": str(index.path),
        "parts": len(index),
        "items": items,
        "modalities": {str(m): int(n) for m, n in zip(MODALITIES, counts, strict=True)},
        "space": f"{manifest.space.name}@{manifest.space.fingerprint}",
        "dimension": manifest.space.dimension,
        "languages": _languages(index),
        "kept": _kept(index),
        "search": "; ".join(dict.fromkeys(_search(index, i) for i in range(len(lanes)))),
        "ann": manifest.ann.facts if manifest.ann and not manifest.space.lanes else None,
        "lanes": [
            {
                "space": f"{lane.name}@{lane.fingerprint}",
                "dimension": lane.dimension,
                "holds": [str(modality) for modality in held],
                "search": _search(index, i),
                "ann": trained.facts if (trained := manifest.anns.get(lane.fingerprint)) else None,
            }
            for i, (lane, held) in enumerate(zip(lanes, manifest.space.held, strict=True))
            if manifest.space.lanes
        ],
        "segments": len(manifest.segments),
        "bytes": sum(f.bytes for s in manifest.segments for f in s.files.values())
        + sum(trained.file.bytes for trained in manifest.anns.values()),
        "generation": manifest.generation,
        "roots": [r.path for r in manifest.roots if r.path],
        "unfinished": len(manifest.unfinished),
        "next": _next(index),
        "skipped": unindexed[Outcome.SKIPPED],
        "failed": unindexed[Outcome.FAILED],
        "ignored": unindexed[Outcome.IGNORED],
        "include": list(manifest.include),
        "exclude": list(manifest.exclude),
        "follow_links": manifest.follow_links,
        "written_by": manifest.written_by,
    }


def _search(index: Searcher, lane: int) -> str:
    """How a lane is searched."""
    snapshot = index.snapshot
    space = snapshot.manifest.space
    trained = snapshot.manifest.anns.get(space.each[lane].fingerprint)
    if trained is None:
        return "exact: every vector is compared, memory-mapped"
    found = f"{trained.kind}: {trained.facts['nlist']:,} lists, candidates compared exactly"
    files = [segment.lanes[lane] for segment in snapshot.segments]
    missing = sum(one.code_blocks is None and len(one.vectors) > 0 for one in files)
    return found + (f" ({missing} new segments searched exactly)" if missing else "")


def _next(index: Searcher) -> str | None:
    """The space that a ``reencode`` was begun for and not finished."""
    for path in next_folders(index.path):
        try:
            return str(read(path).space)
        except StoreError:
            continue
    return None


def _languages(index: Searcher) -> str:
    """The languages that texts may be in: as published, or as the kept cards list them."""
    kept = _kept_towers(index)
    found = [
        languages_of(lane.name)
        or (languages_in(kept[lane.fingerprint][0]) if lane.fingerprint in kept else "")
        for lane in index.space.each
    ]
    return "; ".join(dict.fromkeys(filter(None, found)))


def _kept_towers(index: Searcher) -> dict[str, tuple[Reading, Sequence[Modality]]]:
    """Fingerprint of each lane -> what its kept card says, and which towers are kept.

    A lane whose card cannot be read is left out.
    """
    where = index.snapshot.kept_space
    found: dict[str, tuple[Reading, Sequence[Modality]]] = {}
    for name, folder in kept_folders(index.space, where).items() if where else ():
        with suppress(MmsearchError):
            card = read_card(folder)
            reading = reading_of(card, folder)
            held = space_of(card, folder).modalities if reading.holds is None else reading.holds
            found[name] = reading, held
    return found


def _kept(index: Searcher) -> dict[str, Any] | None:
    """What the index keeps of its space: its size and, of a model's text tower, in which form its
    weights are stored and the least cosine to the model's own vectors of some texts. Of several
    lanes the towers of all, and the least of these."""
    if index.snapshot.kept_space is None:
        return None
    kept = _kept_towers(index).values()
    least = [one.least_cosine for one, _ in kept if one.least_cosine is not None]
    stored = [one.stored for one, _ in kept if one.stored is not None]
    towers = [str(modality) for _, held in kept for modality in held]
    return {
        "bytes": sum(file.bytes for file in index.snapshot.manifest.query.values()),
        "holds": list(dict.fromkeys(towers)) if kept else None,
        "stored": ", ".join(dict.fromkeys(stored)) or None,
        "least_cosine": min(least, default=None),
    }


def skipped_files(index: Searcher) -> dict[str, Any]:
    """Every file that should have been indexed and was not, by path: under ``skipped_files``
    those whose content cannot be read, under ``failed_files`` those that the next run tries
    again. Of each its path, the stage, the reason, and which decoders tried it. Under
    ``skipped_reasons`` each reason and how many were skipped for it, the most frequent first."""
    found: dict[str, Any] = {"skipped_files": [], "failed_files": []}
    rows = read_ledger(index.snapshot.place, index.snapshot.manifest)
    for row in sorted(rows, key=lambda row: row.path):
        if row.outcome is not Outcome.IGNORED:
            facts = {"path": row.path, "stage": row.stage, "reason": row.reason}
            found[f"{row.outcome}_files"].append({**facts, "decoders": row.decoders})
    reasons = Counter(row["reason"] for row in found["skipped_files"])
    return {"skipped_reasons": dict(reasons.most_common()), **found}


def ignored_files(index: Searcher) -> dict[str, Any]:
    """What was passed over: ``ignored_kinds``, what each is and how many there are, the most
    frequent first; ``ignored_files``, each file's path and what it is, by path."""
    rows = read_ledger(index.snapshot.place, index.snapshot.manifest)
    found = sorted(
        (row.path, row.reason or "unknown") for row in rows if row.outcome is Outcome.IGNORED
    )
    return {
        "ignored_kinds": dict(Counter(what for _, what in found).most_common()),
        "ignored_files": [{"path": path, "what": what} for path, what in found],
    }


def list_spaces() -> list[dict[str, Any]]:
    """Every space by name: what it takes, whether it can be used here, what it needs.

    Of what can be used, or is known, also the ``languages`` of texts; of models that must be
    fetched ``licence``, ``megabytes`` and the published ``recall_at_1`` and ``recall_at_5`` in
    percent, with their ``source``.
    """
    rows = []
    for name, (_, _, needs) in SPACES.items():
        try:
            encoder = load_encoder(name)
        except MmsearchError as e:
            rows.append(
                {
                    "name": name,
                    "available": False,
                    "modalities": [],
                    "dimension": 0,
                    "needs": str(e),
                }
            )
            continue
        rows.append(
            {
                "name": name,
                "available": True,
                "modalities": [str(m) for m in encoder.space.modalities],
                "dimension": encoder.space.dimension,
                "needs": needs,
                "languages": encoder.languages,
                "fingerprint": encoder.space.fingerprint,
            }
        )
    rows += [_known(known) for known in CATALOGUE]
    for family, (_, _, needs) in plugins().items():
        row = {"name": f"{family}:MODEL", "available": True, "modalities": [], "dimension": 0}
        try:
            module_of(family)
        except SpaceUnavailable as e:
            row["available"], needs = False, str(e)
        rows.append({**row, "needs": needs})
    name, why = recommended()
    return [{**row, "recommended": why if row["name"] == name else None} for row in rows]


def _known(known: Known) -> dict[str, Any]:
    missing = missing_for(known.name)
    return {
        "name": known.name,
        "available": missing is None,
        "modalities": [str(m) for m in known.modalities],
        "dimension": known.dimension,
        "needs": missing or "nothing: it is here",
        "licence": known.licence,
        "megabytes": round(known.megabytes),
        "languages": known.languages,
        "recall_at_1": known.recall_at_1,
        "recall_at_5": known.recall_at_5,
        "source": SOURCE if known.recall_at_1 is not None else None,
    }
