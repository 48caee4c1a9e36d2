"""Damages files of an index, one at a time, and asks: mutations.py FOLDER N SEED.

After each damage a query must answer as it did before or raise an error that names the
file, and ``verify`` must report exactly the files that were changed. Prints one JSON
object. A process of its own, for damage that was not seen may crash it.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import re
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mmsearch import Hit, Index, StoreError
from mmsearch.indexer.quantise import update_ann
from mmsearch.store import PartRow, Writer, verify
from mmsearch.store.ledger import LedgerRow, Outcome
from mmsearch.types import Modality, Preprocess, Space

D = 64
SPACE = Space("kept-only", "0" * 64, D, tuple(Modality), Preprocess(224, 16000, 10.0))
SEGMENTS = (2600, 260, 150)  # not merged; the first is large enough to be searched by its lists
PAGE, BLOCK = 4096, 8192
READ_IN_PARTS = re.compile(r"(\.npy|parts\.arrow|codes-.*\.lists)$")
NOT_THE_INDEXES = {"writer.lock", "writer.turn", "writer.json"}  # nothing is read from them

Ask = Callable[[Index, float | None], list[Hit]]  # an index and a recall


@dataclass
class Built:
    """An index, its files as they were written, and what it answers."""

    folder: Path
    files: dict[str, bytes] = field(default_factory=dict)  # path below the folder -> content
    asks: dict[str, Ask] = field(default_factory=dict)
    answers: dict[str, list[list[Hit]]] = field(default_factory=dict)  # by lists, and exact


def part(n: int, seed: int) -> PartRow:
    modality = tuple(Modality)[n % 3]
    return PartRow(
        f"{seed}-item{n}",
        0,
        f"folder {n % 7}/{n}.bin" if n % 9 else None,
        modality,
        0,
        n / 8 if modality is Modality.AUDIO else None,
        n / 8 + 10 if modality is Modality.AUDIO else None,
        f"passage {n} of {seed}, " * (n % 30 + 1) if modality is Modality.TEXT else None,
        {"width": n * 7 % 1000, "format": "JPEG"} if n % 2 else {},
        n,
        *(n + 1, n + 2, n + 3),
        (n * seed).to_bytes(16, "little"),
    )


def build(folder: Path, seed: int, ann: str) -> Built:
    """An index of several segments, one with deletions, with a ledger and a kept space."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((12, D))
    xb = centres[rng.integers(12, size=sum(SEGMENTS))]
    xb = xb + 0.7 * rng.standard_normal(xb.shape)
    xb = (xb / np.linalg.norm(xb, axis=1, keepdims=True)).astype(np.float32)
    made = folder.with_name(folder.name + "-space")
    made.mkdir()
    for name, size in (("text.onnx", 30_000), ("tokenizer.json", 9_000), ("card.json", 700)):
        (made / name).write_bytes(rng.bytes(size))
    with Writer(folder, SPACE) as writer:
        writer.keep_space({p.name: p for p in made.iterdir()})
        writer.root("/pictures")
        n = 0
        for rows in SEGMENTS:
            writer.extend((part(i, seed), xb[i]) for i in range(n, n + rows))
            writer.commit()
            n += rows
        writer.drop(*(f"{seed}-item{i}" for i in range(3, 400, 9)))
        ledger = [
            LedgerRow(f"/pictures/{i}", Outcome.SKIPPED, "decode", f"{i}", None, i, 2, 3, 4)
            for i in range(200)
        ]
        writer.want(ann)
        writer.commit(ledger=ledger)
        update_ann(writer)
        writer.finish()
    built = Built(folder)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in NOT_THE_INDEXES:
            built.files[path.relative_to(folder).as_posix()] = path.read_bytes()
    live = [i for i in range(len(xb)) if i not in range(3, 400, 9)]
    xq = xb[rng.choice(live, 3, replace=False)] + 0.2 * rng.standard_normal((3, D))
    built.asks = {
        "vector": lambda ix, r: list(ix.search(vector=xq[0], k=10, recall=r)),
        "filter": lambda ix, r: list(ix.search(vector=xq[1], k=50, where="width > 500", recall=r)),
        "texts": lambda ix, r: list(ix.search(vector=xq[2], to="text", k=5, recall=r)),
        "get": lambda ix, r: [h for h in (ix.get(f"{seed}-item700"),) if h is not None],
    }
    index = Index(folder)
    # lists that cannot be used are done without: then the exact answer is right as well
    built.answers = {name: [ask(index, None), ask(index, 1)] for name, ask in built.asks.items()}
    exact = np.array(live)[np.argsort(-(xb[live].astype(np.float16) @ xq[0]))[:10]]
    assert [h.id for h in built.answers["vector"][1]] == [f"{seed}-item{i}" for i in exact]
    assert [len(hits) for hits, _ in built.answers.values()] == [10, 50, 5, 1]
    assert (index.snapshot.manifest.ann is not None) == (ann != "flat")
    assert verify(folder) == []
    return built


# -- the ways to damage a file: its content and a source of chance -> other content, None: gone


def flip_bit(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]


def flip_byte(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ rng.randrange(1, 256)]) + content[at + 1 :]


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.choice((0, len(content) - 1, rng.randrange(len(content))))]


def extend(content: bytes, rng: random.Random) -> bytes:
    n = rng.choice((1, 8, PAGE, rng.randrange(1, 9000)))
    return content + rng.choice((bytes(n), b" " * n, rng.randbytes(n), content[:n] or b"x"))


def zero_page(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(-(-len(content) // PAGE)) * PAGE
    return content[:at] + bytes(len(content[at : at + PAGE])) + content[at + PAGE :]


def swap_inside(content: bytes, rng: random.Random) -> bytes:
    size = rng.choice((8, 512, BLOCK)) if len(content) < 2 * BLOCK else BLOCK
    n = len(content) // size
    if n < 2:
        return content
    a, b = sorted(rng.sample(range(n), 2))
    pieces = [content[i * size : (i + 1) * size] for i in range(n)] + [content[n * size :]]
    pieces[a], pieces[b] = pieces[b], pieces[a]
    return b"".join(pieces)


def delete(content: bytes, rng: random.Random) -> None:
    return None


INSIDE: list[Callable[[bytes, random.Random], bytes | None]] = [
    flip_bit,
    flip_byte,
    cut,
    extend,
    zero_page,
    swap_inside,
    delete,
]
SWAPS = ("swap", "swap with its checks")

Change = dict[tuple[int, str], bytes | None]  # (index, path below it) -> new content


def kind(name: str) -> str:
    """What a file is, whichever segment and generation it is of."""
    return re.sub(r"[0-9]{6}(-[0-9a-f]{4})?", "N", name)


def changed(indexes: list[Built], rng: random.Random) -> tuple[str, str, Change]:
    """(what was done, to which kind of file, the files' new content), of one random damage."""
    while True:
        at = rng.randrange(len(indexes))
        files = indexes[at].files
        kinds = sorted({kind(name) for name in files})
        wanted = rng.choice([k for k in kinds for _ in range(3 if READ_IN_PARTS.search(k) else 1)])
        name = rng.choice([name for name in files if kind(name) == wanted])
        how = rng.choice([*INSIDE, *SWAPS])
        change: Change = {}
        if isinstance(how, str):
            others = [
                (i, other)
                for i, index in enumerate(indexes)
                for other in index.files
                if kind(other) == wanted and (i, other) != (at, name)
            ]
            if not others:
                continue
            i, other = rng.choice(others)
            change = {(at, name): indexes[i].files[other], (i, other): files[name]}
            if how == "swap with its checks" and f"{name}.blocks" in files:
                sums = indexes[i].files[f"{other}.blocks"]
                change |= {(at, f"{name}.blocks"): sums}
                change |= {(i, f"{other}.blocks"): files[f"{name}.blocks"]}
        else:
            change = {(at, name): how(files[name], rng)}
        change = {(i, n): new for (i, n), new in change.items() if new != indexes[i].files[n]}
        if change:
            return how if isinstance(how, str) else how.__name__, wanted, change


def put(path: Path, content: bytes | None) -> None:
    """As damage comes between two runs: what is mapped keeps its bytes."""
    if content is None:
        path.unlink()
        return
    temporary = path.with_name("mutated.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def named(text: str, folder: Path, names: list[str]) -> bool:
    """Whether an error names one of the files or the folder that it lies in."""
    return any(str(p) in text for n in names for p in (folder / n, (folder / n).parent))


def same(answer: list[Hit], wanted: list[Hit]) -> bool:
    """Whether two answers differ only in the last digit of scores: NumPy's sums are not FAISS's."""
    if [replace(hit, score=0.0) for hit in answer] != [replace(hit, score=0.0) for hit in wanted]:
        return False
    return all(abs(a.score - b.score) < 1e-6 for a, b in zip(answer, wanted, strict=True))


def examine(built: Built, names: list[str], raised: Counter[str], what: str) -> list[str]:
    """What is wrong with the way that an index with these damaged files answers."""
    wrong = []
    for question, ask in built.asks.items():
        try:
            index = Index(built.folder)
        except StoreError as e:
            raised[what] += 1
            if not named(str(e), built.folder, names):
                wrong.append(f"{question}: the error names no file: {e}")
            continue
        for _ in range(2):  # what was seen to be damaged stays so
            try:
                answer = ask(index, None)
                if not any(same(answer, wanted) for wanted in built.answers[question]):
                    wrong.append(f"{question}: another answer")
            except StoreError as e:
                raised[what] += 1
                if not named(str(e), built.folder, names):
                    wrong.append(f"{question}: the error names no file: {e}")
    if any(name.startswith("query/") for name in names):
        try:  # the only encoder of that space is the kept one
            Index(built.folder).search("a dog")
            wrong.append("an altered encoder was used")
        except StoreError as e:
            raised[what] += 1
            if not named(str(e), built.folder, names):
                wrong.append(f"encoder: the error names no file: {e}")
    try:
        reported = {problem.path for problem in verify(built.folder)}
    except StoreError as e:
        reported = (
            {str(built.folder / "manifest.json")} if named(str(e), built.folder, names) else set()
        )
    expected = {str(built.folder / name) for name in names}
    if "manifest.json" in names:  # another index's: then its files are missed, and ours strays
        if not reported:
            wrong.append("verify reports nothing")
    elif reported != expected:
        wrong.append(f"verify reports {sorted(reported)}, wanted {sorted(expected)}")
    return wrong


def main(folder: Path, n: int, seed: int) -> None:
    faulthandler.enable()
    rng = random.Random(seed)
    indexes = [build(folder / "flat", 1, "flat"), build(folder / "lists", 2, "ivfpq")]
    done: Counter[str] = Counter()  # "what: which kind of file"
    raised: Counter[str] = Counter()  # kind of file -> errors
    failures = []
    for number in range(n):
        how, what, change = changed(indexes, rng)
        done[f"{how}: {what}"] += 1
        for (i, name), content in change.items():
            put(indexes[i].folder / name, content)
        for i in sorted({i for i, _ in change}):
            names = [name for j, name in change if j == i]
            try:
                wrong = examine(indexes[i], names, raised, what)
            except Exception:
                wrong = [traceback.format_exc()]
            failures += [f"{number}. {how} {i} {names}: {line}" for line in wrong]
        for i, name in change:
            put(indexes[i].folder / name, indexes[i].files[name])
    for built in indexes:
        index = Index(built.folder)
        for name, ask in built.asks.items():
            assert same(ask(index, None), built.answers[name][0])
        assert verify(built.folder) == []
    print(json.dumps({"done": done, "raised": raised, "failures": failures}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
