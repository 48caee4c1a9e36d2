"""The house: who may import whom, and what may be loaded when."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mmsearch

HOUSE = Path(mmsearch.__file__).parent

# room -> layer; a room may import its own room and lower layers (and, where the
# map says so, neighbours of its own layer)
LAYERS = {
    "checking": 0,
    "child_python": 0,
    "errors": 0,
    "given": 0,
    "types": 0,
    "version": 0,
    "cores": 0,
    "forks": 0,
    "once": 0,
    "items": 1,
    "media": 1,
    "store": 1,
    "ann": 1,
    "spaces": 2,
    "query": 3,
    "calibrate": 3,
    "sample_queries": 1,
    "filters": 2,
    "pairs": 4,
    "seen": 4,
    "indexer": 4,
    "searcher": 4,
    "api": 5,
    "evaluation": 6,
    "train": 6,
    "cli": 7,
    "__main__": 8,
    "": 8,
}
# training measures with the measures of evaluation
NEIGHBOURS = {
    ("once", "forks"),
    ("given", "errors"),
    ("checking", "given"),
    ("types", "errors"),
    ("types", "checking"),
    ("types", "once"),
    ("train", "evaluation"),
}

# library -> the rooms that may import it
OWNED = {
    "faiss": {"ann"},
    "duckdb": {"filters"},
    "torch": {"spaces", "train"},
    "open_clip": {"spaces", "train"},
    "onnxruntime": {"spaces", "train"},
    "tokenizers": {"spaces", "train"},
    "PIL": {"media", "train"},
    "soundfile": {"media", "train"},
    "pypdfium2": {"media"},
    "typer": {"cli"},
    "rich": {"cli"},
    "matplotlib": {"evaluation", "train"},
}

FILES = sorted(HOUSE.rglob("*.py"))


def _room(path: Path) -> str:
    first = path.relative_to(HOUSE).parts[0]
    name = first.removesuffix(".py")
    return "" if name == "__init__" else name


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(str(node.module))
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(HOUSE)))
def test_a_room_imports_only_what_the_map_allows(path: Path) -> None:
    room = _room(path)
    assert room in LAYERS, f"{room} is not on the map"
    for name in _imports(path):
        top, *rest = name.split(".")
        if top in OWNED:
            assert room in OWNED[top], f"{path} imports {top}"
        if top != "mmsearch" or not rest or rest[0] not in LAYERS:
            continue
        other = rest[0]
        if other != room and (room, other) not in NEIGHBOURS:
            assert LAYERS[other] < LAYERS[room], f"{path} imports {other}"


HEAVY = ["torch", "open_clip", "faiss", "pyarrow", "onnxruntime", "librosa", "PIL", "numpy"]
HEAVY += ["matplotlib", "duckdb"]


@pytest.mark.parametrize(
    "code",
    [
        "import mmsearch",
        "import sys; sys.argv = ['mmsearch', '--help']; import mmsearch.cli as c\n"
        "try: c.main()\nexcept SystemExit: pass",
        "import sys; sys.argv = ['mmsearch', 'index', '--help']; import mmsearch.cli as c\n"
        "try: c.main()\nexcept SystemExit: pass",
        "import sys; sys.argv = ['mmsearch', 'query', '--help']; import mmsearch.cli as c\n"
        "try: c.main()\nexcept SystemExit: pass",
    ],
    ids=["import mmsearch", "mmsearch --help", "mmsearch index --help", "mmsearch query --help"],
)
def test_nothing_heavy_is_loaded(code: str) -> None:
    program = f"{code}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_public_door_has_exactly_these_names() -> None:
    assert sorted(mmsearch.__all__) == [
        "BatchResults",
        "DecodeError",
        "DimensionMismatch",
        "Embedder",
        "Hit",
        "Index",
        "IndexDamaged",
        "IndexLocked",
        "IndexNotFound",
        "IndexNotReadable",
        "IndexNotWritable",
        "IndexTooNew",
        "LimitExceeded",
        "MmsearchError",
        "Page",
        "ProcessingFailed",
        "Query",
        "Results",
        "SpaceError",
        "SpaceMismatch",
        "SpaceUnavailable",
        "StoreError",
        "UsageError",
        "__version__",
        "create",
        "delete",
        "index",
        "list",
        "load_space",
        "merge",
        "open",
        "verify",
    ]
    for name in mmsearch.__all__:
        assert getattr(mmsearch, name) is not None
    assert not (HOUSE / "index.py").exists() and not (HOUSE / "open.py").exists()
