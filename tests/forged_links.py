"""Cases of a forged index: links at every level, and names and values in the manifest."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from forged import CASES, SECRET, Forged, case

# -- links ---------------------------------------------------------------------------


def _moved_out(forged: Forged, path: Path) -> None:
    """Moves a file or folder out of the index and leaves a link to it: what is read is right."""
    target = forged.outside / "moved" / path.name
    target.parent.mkdir(exist_ok=True)
    shutil.move(path, target)
    path.symlink_to(target)


def _link(find: Callable[[Forged], Path], forged: Forged) -> None:
    _moved_out(forged, find(forged))


_LINKED: dict[str, Callable[[Forged], Path]] = {
    "segments": lambda f: f.folder / "segments",
    "segment": lambda f: f.path("parts.arrow").parent,
    "arrow": lambda f: f.path("parts.arrow"),
    "arrow_blocks": lambda f: f.path("parts.arrow").with_name("parts.arrow.blocks"),
    "parquet": lambda f: f.path("parts.parquet"),
    "vectors": lambda f: f.path("vectors-"),
    "lists": lambda f: f.path("codes-"),
    "deletions": lambda f: f.path("deleted-"),
    "ann": lambda f: f.folder / "ann",
    "quantiser": lambda f: f.quantiser,
    "query": lambda f: f.folder / "query",
    "kept": lambda f: f.kept,
    "tower": lambda f: f.kept / "text.onnx",
    "tokenizer": lambda f: f.kept / "tokenizer.json",
    "card": lambda f: f.kept / "card.json",
    "manifest": lambda f: f.folder / "manifest.json",
    "ledger": lambda f: f.ledger,
}
for _name, _find in _LINKED.items():
    CASES[f"link_{_name}"] = partial(_link, _find)


def _fifo(find: Callable[[Forged], Path], forged: Forged) -> None:
    path = find(forged)
    path.unlink(missing_ok=True)
    os.mkfifo(path)


for _name in ("arrow", "vectors", "parquet", "quantiser", "tower", "card", "manifest", "ledger"):
    CASES[f"fifo_{_name}"] = partial(_fifo, _LINKED[_name])
for _name in ("writer.lock", "writer.json"):
    CASES[f"fifo_{_name}"] = partial(_fifo, lambda f, name=_name: f.folder / name)


@case
def link_lock_to_a_file(forged: Forged) -> None:
    (forged.folder / "writer.lock").unlink(missing_ok=True)
    (forged.folder / "writer.lock").symlink_to(forged.outside / "Documents/letter.txt")


@case
def link_lock_to_nowhere(forged: Forged) -> None:
    (forged.folder / "writer.lock").unlink(missing_ok=True)
    (forged.folder / "writer.lock").symlink_to(forged.outside / "Documents/new.txt")


@case
def lock_is_another_name_of_a_file(forged: Forged) -> None:
    (forged.folder / "writer.lock").unlink(missing_ok=True)
    os.link(forged.outside / "Documents/letter.txt", forged.folder / "writer.lock")


@case
def link_holder_to_a_file(forged: Forged) -> None:
    (forged.folder / "writer.json").symlink_to(forged.outside / "Documents/letter.txt")


@case
def link_holder_to_nowhere(forged: Forged) -> None:
    (forged.folder / "writer.json").symlink_to(forged.outside / "Documents/new.txt")


@case
def link_temporary_manifest(forged: Forged) -> None:
    for pid in range(1, 4000):  # names that a writer would take
        (forged.folder / f"manifest.json.{pid}.tmp").symlink_to(
            forged.outside / "Documents/new.txt"
        )


@case
def retired_leads_through_a_link(forged: Forged) -> None:
    (forged.folder / "x").symlink_to(forged.outside)
    forged.body["retired"] = ["x/Documents"]


@case
def retired_segment_is_a_link(forged: Forged) -> None:
    (forged.folder / "segments/000077-abcd").symlink_to(forged.outside / "Documents")
    forged.body["retired"] = ["segments/000077-abcd"]


@case
def retired_file_lies_in_a_linked_segment(forged: Forged) -> None:
    victim = forged.outside / "Documents/parts.arrow"
    victim.write_bytes(SECRET)
    (forged.folder / "segments/000077-abcd").symlink_to(victim.parent)
    forged.body["retired"] = ["segments/000077-abcd/parts.arrow"]


@case
def retired_climbs_out(forged: Forged) -> None:
    up = os.path.relpath(forged.outside, forged.folder)
    forged.body["retired"] = [f"{up}/Documents", f"segments/../{up}/Documents", "..", "."]


@case
def retired_is_a_user_file(forged: Forged) -> None:
    (forged.folder / "notes.txt").write_bytes(SECRET)
    forged.body["retired"] = ["notes.txt"]


@case
def stray_segment_is_a_link(forged: Forged) -> None:
    (forged.folder / "segments/000078-abcd").symlink_to(forged.outside / "Documents")


@case
def stray_segment_holds_links(forged: Forged) -> None:
    stray = forged.folder / "segments/000079-abcd"
    stray.mkdir()
    (stray / "up").symlink_to(forged.outside)
    (stray / "parts.arrow").symlink_to(forged.outside / "Documents/letter.txt")


@case
def stray_segment_is_deep(forged: Forged) -> None:
    where = forged.folder / "segments/000080-abcd"
    where.mkdir()
    above = os.open(where, os.O_RDONLY)
    for _ in range(1200):  # 2,400 bytes of path, as an archive may hold
        os.mkdir("a", dir_fd=above)
        below = os.open("a", os.O_RDONLY, dir_fd=above)
        os.close(above)
        above = below
    os.close(above)


@case
def next_is_a_link_to_a_folder(forged: Forged) -> None:
    for name in ("next-00000000", f"next-{forged.kept.name}"):
        (forged.folder / name).symlink_to(forged.outside / "Documents")


@case
def next_is_a_link_to_an_index(forged: Forged) -> None:
    shutil.copytree(forged.folder, forged.outside / "other index")
    (forged.folder / "next-00000000").symlink_to(forged.outside / "other index")


@case
def every_next_is_a_link(forged: Forged) -> None:
    from mmsearch.spaces import load_encoder

    space = load_encoder(str(forged.folder.parent / "space2")).space
    (forged.folder / f"next-{space.fingerprint}").symlink_to(forged.outside / "Documents")


@case
def folder_in_place_of_a_file(forged: Forged) -> None:
    path = forged.path("parts.arrow")
    path.unlink()
    path.mkdir()


@case
def link_loop(forged: Forged) -> None:
    path = forged.folder / "ann"
    shutil.rmtree(path)
    path.symlink_to("ann")


# -- the manifest --------------------------------------------------------------------


@case
def manifest_is_deep(forged: Forged) -> None:
    body = '{"checksum": "", "schema": 5, "x": ' + "[" * 200_000 + "]" * 200_000 + "}"
    (forged.folder / "manifest.json").write_text(body)
    forged.body = {}
    forged.save = lambda: None  # type: ignore[method-assign]


@case
def manifest_is_large(forged: Forged) -> None:
    forged.body["include"] = ["a"] * 4_000_000


@case
def manifest_is_much_in_little(forged: Forged) -> None:
    forged.body["include"] = [{}] * 1_500_000


@case
def manifest_is_not_utf8(forged: Forged) -> None:
    (forged.folder / "manifest.json").write_bytes(b'{"checksum": "\xff\xfe", "schema": 5}')
    forged.save = lambda: None  # type: ignore[method-assign]


@case
def rows_without_end(forged: Forged) -> None:
    forged.segment["rows"] = 2**31 - 1


@case
def deleted_without_end(forged: Forged) -> None:
    forged.segment["rows"], forged.segment["deleted"] = 2**31 - 1, 2**31 - 2


@case
def every_part_twice(forged: Forged) -> None:
    forged.body["segments"].append(dict(forged.segment))


@case
def the_same_files_under_many_names(forged: Forged) -> None:
    here = forged.path("parts.arrow").parent
    for n in range(60):
        name = f"{n + 100:06d}-abcd"
        shutil.copytree(here, here.parent / name)
        forged.body["segments"].append({**forged.segment, "name": name})


@case
def facts_without_end(forged: Forged) -> None:
    facts = forged.ann["facts"]
    facts["curve"] = [
        {"recall": 0.99, "nprobe": 1 << 23, "candidates": 2**31 - 1, "queries_per_s": 1.0}
    ]


@case
def facts_that_divide_by_nothing(forged: Forged) -> None:
    facts = forged.ann["facts"]
    facts |= {"depths": {"10": 1e-3, "30": 1e9}, "error": 0.0, "errors": {}, "curve": []}


@case
def facts_of_other_types(forged: Forged) -> None:
    forged.ann["facts"] = {"nlist": "many", "curve": {"a": 1}}


@case
def facts_that_lack_all(forged: Forged) -> None:
    forged.ann["facts"] = {}


@case
def dimension_without_end(forged: Forged) -> None:
    forged.body["space"]["dimension"] = 2**40


@case
def pictures_without_end(forged: Forged) -> None:
    forged.body["space"]["preprocess"]["image_px"] = 2**20


@case
def roots_are_relative(forged: Forged) -> None:
    forged.body["roots"] = [{"id": 0, "path": "../../x"}, {"id": 1, "path": ""}]


@case
def roots_are_not_those_of_rows(forged: Forged) -> None:
    forged.body["roots"] = [{"id": 7, "path": "/nowhere"}, {"id": 8, "path": ""}]


@case
def terminal_sequences_in_names(forged: Forged) -> None:
    forged.body["written_by"] = "\x1b]0;pwned\x07\x1b[2J"
    forged.body["space"]["name"] = "\x1b[31mtiny\u202e"
    forged.body["include"] = ["\x1b[2J", "*" * 60_000]


@case
def include_is_slow(forged: Forged) -> None:
    forged.body["include"] = ["*a" * 5_000 + "b"]


@case
def unfinished_is_strange(forged: Forged) -> None:
    unfinished = {"item_id": "x", "content_hash": "0" * 32, "parts": 2**52}
    forged.body["unfinished"] = [unfinished] * 1000


@case
def space_of_another_name(forged: Forged) -> None:
    forged.body["space"]["name"] = "mini"


@case
def space_is_lanes_of_itself(forged: Forged) -> None:
    space = forged.body["space"]
    forged.body["space"] = {**space, "lanes": [{**space}, {**space, "lanes": [space]}]}
