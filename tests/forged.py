"""Index folders as a stranger could make them: whole by every checksum, and hostile."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from PIL import Image

import mmsearch
from mmsearch.indexer.quantise import update_ann
from mmsearch.store import PARTS_SCHEMA, PartRow, Writer, manifest
from mmsearch.store.blocks import summed
from mmsearch.store.confined import ConfinedPath
from mmsearch.store.files import checksum
from mmsearch.types import Modality
from tiny_space import PX, RATE_HZ, WIDTH, write_space

ROWS, LATER_ROWS = 1300, 90  # of the segment with lists, and of one more
SECRET = b"nobody may read this: 4711\n"


def write_documents(folder: Path) -> Path:
    """A few files of each kind, and one that cannot be read."""
    import soundfile

    folder.mkdir(parents=True)
    rng = np.random.default_rng(4)
    for name in ("red", "green"):
        pixels = rng.integers(0, 255, (PX, PX, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    tone = 0.3 * np.sin(np.arange(RATE_HZ) / 9)
    soundfile.write(folder / "tone.wav", tone.astype(np.float32), RATE_HZ)
    (folder / "note.txt").write_text("a red square, and a blue one")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    return folder


def part(n: int) -> PartRow:
    """A row as an application adds one."""
    kind = tuple(Modality)[n % 3]
    sound = kind is Modality.AUDIO
    text = f"the note {n} is about a red square" if kind is Modality.TEXT else None
    more = {"n": n, "tags": ["a", "b"]} if n % 2 else {}
    times = (n / 4, n / 4 + 1) if sound else (None, None)
    return PartRow(f"own{n}", 1, None, kind, 0, *times, text, more, n, n, n, n, bytes(16))


def build(work: Path) -> Path:
    """The honest index that others are forged from, with what it was made of beside it."""
    docs, space = write_documents(work / "docs"), write_space(work / "space")
    folder = work / "base"
    index = mmsearch.index(docs, folder, str(space))
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((12, WIDTH))
    xb = centres[rng.integers(12, size=ROWS + LATER_ROWS)]
    xb = xb + 0.5 * rng.standard_normal(xb.shape)
    xb = (xb / np.linalg.norm(xb, axis=1, keepdims=True)).astype(np.float32)
    with Writer(folder, index.space, mmsearch.__version__) as writer:
        assert writer.root("") == 1
        writer.want("ivfpq")
        for start, stop in ((0, ROWS), (ROWS, ROWS + LATER_ROWS)):
            writer.extend((part(n), xb[n]) for n in range(start, stop))
            writer.commit()
            update_ann(writer)
        writer.drop(*(f"own{n}" for n in range(0, 200, 9)))
        writer.commit()
        writer.finish()
    now = manifest.read(folder)
    assert len(now.segments) == 2 and now.ann is not None and now.segments[0].deleted
    return folder


class Forged:
    """A copy of an index that is being altered. ``body``: its manifest, as JSON has it."""

    def __init__(self, base: Path, folder: Path, outside: Path) -> None:
        shutil.copytree(base, folder, symlinks=True)
        self.folder, self.outside = folder, outside
        self.body: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
        del self.body["checksum"]

    @property
    def segment(self) -> dict[str, Any]:
        """The manifest's entry of the segment that has lists and deletions."""
        found: dict[str, Any] = self.body["segments"][0]
        return found

    def path(self, name: str) -> Path:
        """A file of that segment, by the beginning of its name; any other by its path."""
        for file in self.segment["files"]:
            if file == name or (file.startswith(name) and not file.endswith(".blocks")):
                return self.folder / "segments" / self.segment["name"] / file
        return self.folder / name

    @property
    def quantiser(self) -> Path:
        """The file of the trained quantiser."""
        return next(self.folder.glob("ann/*.quantiser"))

    @property
    def ann(self) -> dict[str, Any]:
        """The manifest's entry of the trained quantiser."""
        (found,) = self.body["anns"].values()
        return found  # type: ignore[no-any-return]

    @property
    def ledger(self) -> Path:
        """A file of the ledger."""
        return self.folder / str(self.body["ledger"][0]["name"])

    @property
    def kept(self) -> Path:
        """The folder of the space's files."""
        return next(self.folder.glob("query/*"))

    def put(self, path: Path, content: bytes) -> None:
        """Writes a file with valid checksums in the manifest, and of its blocks."""
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        self.sign(path)

    def sign(self, path: Path) -> None:
        """Makes the manifest's checksums those of a file, and those of its blocks."""
        confined = ConfinedPath(path.parent) / path.name
        size, digest = checksum(confined)
        ref = {"bytes": size, "checksum": digest}
        name = path.name
        for segment in self.body["segments"]:
            if path.parent.name == segment["name"]:
                segment["files"][name] = ref
                if f"{name}.blocks" in segment["files"]:
                    self.put(path.with_name(f"{name}.blocks"), summed(confined)[1])
        for ann in self.body["anns"].values():
            if name == f"{ann['name']}.quantiser":
                ann["file"] = ref
        if name in self.body["query"]:
            self.body["query"][name] = ref
        for run in self.body["ledger"]:
            if name == run["name"]:
                run["file"] = ref

    def save(self) -> None:
        """Writes the manifest, with its checksum, unless something else took its place."""
        path = self.folder / "manifest.json"
        if path.is_symlink() or not path.is_file():
            return
        body = json.loads(json.dumps(self.body))
        claimed = manifest._checksum(body)
        path.write_bytes(manifest._text({"checksum": claimed, **body}))

    # -- Arrow --------------------------------------------------------------------

    def arrow(self, change: Callable[[pa.Table], pa.Table]) -> None:
        """Rewrites ``parts.arrow`` and ``parts.parquet`` with other columns."""
        from pyarrow import parquet as pq

        path = self.path("parts.arrow")
        with pa.ipc.open_file(pa.BufferReader(path.read_bytes())) as file:
            table = change(file.read_all())
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=4096)
        self.put(path, sink.getvalue().to_pybytes())
        out = pa.BufferOutputStream()
        pq.write_table(table, out)
        self.put(self.path("parts.parquet"), out.getvalue().to_pybytes())

    def column(self, name: str, values: Callable[[list[Any]], pa.Array]) -> None:
        """Puts other values into a column."""

        def change(table: pa.Table) -> pa.Table:
            place = table.schema.get_field_index(name)
            new = values(table.column(name).to_pylist())
            return table.set_column(place, table.schema.field(name).with_type(new.type), new)

        self.arrow(change)

    def patch(self, column: str, buffer: int, kind: str, at: int, value: int) -> None:
        """Changes a number in a buffer of a column in place, whatever Arrow thinks of it."""
        path = self.path("parts.arrow")
        content = np.frombuffer(path.read_bytes(), np.uint8).copy()
        with pa.ipc.open_file(pa.BufferReader(pa.py_buffer(content))) as file:
            array = file.get_batch(0).column(PARTS_SCHEMA.get_field_index(column))
            start = array.buffers()[buffer].address - content.ctypes.data
            size = array.buffers()[buffer].size
        content[start : start + size].view(kind)[at] = value
        self.put(path, content.tobytes())


Case = Callable[[Forged], None]
CASES: dict[str, Case] = {}  # name -> what is done to the index


def case(function: Case) -> Case:
    """Makes a function a case under its own name."""
    CASES[function.__name__] = function
    return function
