"""The vectors that the search benchmarks use: real passages, crops of real photos, and mixtures.

    python benchmarks/search_data.py passages --docs DOCS … [--captions FILE …] --out DATA
    python benchmarks/search_data.py crops --photos TAR_OR_FOLDER … --pairs JSONL … --out DATA
    python benchmarks/search_data.py interpolated --base DATA/passages.npy --out FILE

Needs mmsearch with the extra ``cpu`` and nothing else. DOCS is a folder of documentation:
HTML, XML, man pages, info, plain text, dictd dictionaries and WordNet's ``data.*``, gzipped or
not; each folder in it counts as one source. On Debian, for each package that is wanted:

    apt-get download PACKAGE && dpkg -x PACKAGE_*.deb DOCS/PACKAGE

and the packages' own descriptions, ``apt-cache show '.*' > DOCS/descriptions.txt`` (long ones only
where apt may fetch translations, which Docker images forbid). Captions are JSONL(.gz) with a
list under ``en``, pairs the same with the photo's file name under ``image``.

Vectors are those of the built-in space, 512 numbers, rows of unit length. A run that was
stopped goes on where it was: what is encoded lies in DATA/shards, which may be removed at the
end. Texts and boxes follow from the seed and the files alone. No vector is a jittered copy.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import multiprocessing
import re
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from html import unescape
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

import mmsearch

SEED = 1
SHARD = 20_000  # passages: about half a minute's work on two cores
BLOCK = 200_000  # passages that are sorted by length together, because padding costs
CROP_SHARD = 2_500
CROPS_PARTIAL = 50_000
MIXED = 100_000  # interpolated rows held at a time
SHORTEST, LONGEST, FEWEST_WORDS = 30, 300, 5
ENOUGH = 80  # characters after which a passage takes no further sentence
SAME_START = 200  # passages that may begin with the same four words: "Returns the number of …"

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels

_SKIPPED = re.compile(  # pages of names, not of sentences
    r"(class|package)-(use|tree)|index-\d|genindex|-members\.|_source\.|/src-html/|/_sources/|/src/"
    r"|changelog|copyright$|allclasses|search|NEWS|\.(js|css|json|png|svg|gif|jpe?g|pdf|index)$",
    re.I,
)
_HIDDEN = re.compile(r"<(script|style|pre|head|nav|svg|math|select)\b.*?</\1\s*>", re.S | re.I)
_COMMENT = re.compile(r"<!--.*?-->", re.S)
_INLINE = re.compile(
    r"</?(?:a|abbr|acronym|b|cite|code|command|dfn|em|emphasis|font|gui\w*|i|key|kbd|link|literal"
    r"|q|s|samp|small|span|strong|sub|sup|tt|u|var)(?:\s[^>]*)?/?>",
    re.I,
)
_TAG = re.compile(r"<[^>]*>")
_ROFF_LINE = re.compile(r"^[.'](?:B|I|BR|IR|BI|IB|RB|RI|SM|SB|Nm|Xr|Ar|Fl|Em|Li|Sy)(?: |$)", re.M)
_ROFF_BREAK = re.compile(r"^[.'].*$", re.M)
_ROFF_ESCAPE = re.compile(r"\\f(?:\[\w*\]|\(..|.)|\\[&/,|^:%]|\\s[+-]?\d")
_PARAGRAPH = re.compile(r"\n\s*(?:[.%]\s*)?\n|\n%\n")
_SENTENCE = re.compile(  # not after an initial
    r"(?:(?<=[^A-Z][.!?])|(?<=[.!?][\"')\]]))\s+(?=[\"'(]?[A-Z])"
)
_BULLET = re.compile(r"^(?:[-*+•–]+|\(?\d{1,3}[.)]|[a-z][.)])\s+")
_CODE = re.compile(
    r"[{}\\|<>=~^$@#�]|::|;$|->|//|\.\.\.\.|\w\.\w+\(|__|[A-Z_]{25}|\b(?:[0-9a-f]{2} ){3}"
)
_ENGLISH = re.compile(
    r"\b(?:the|of|to|and|is|are|for|with|that|by|from|this|be|it|as|was|not|which|has|you|can)\b",
    re.I,
)
_ENDS = re.compile(r"[.!?][\"')\]]*$")
_NO_LETTER = re.compile(r"[^a-zA-Z]+")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("passages", help="distinct passages of documentation and captions")
    one.add_argument("--docs", type=Path, nargs="+", required=True)
    one.add_argument("--captions", type=Path, nargs="*", default=[])
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--count", type=int, default=1_000_000)
    one.add_argument("--queries", type=int, default=10_000)
    one = commands.add_parser("crops", help="distinct crops of photos, captions as queries")
    one.add_argument("--photos", type=Path, nargs="+", required=True)
    one.add_argument("--pairs", type=Path, nargs="+", required=True)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--count", type=int, default=200_000)
    one.add_argument("--queries", type=int, help="so many of the captions; default: all")
    one = commands.add_parser("interpolated", help="rows between random pairs of real ones")
    one.add_argument("--base", type=Path, required=True)
    one.add_argument("--count", type=int, default=10_000_000)
    one.add_argument("--dimension", type=int, help="project to so many numbers first")
    one.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    {"passages": passages, "crops": crops, "interpolated": interpolated}[args.command](args)


# Passages


def passages(args: argparse.Namespace) -> None:
    """Writes passages.npy and .parquet, passage_queries.npy and .txt; first, what is partial."""
    out: Path = args.out
    shards = out / "shards" / f"passages-{args.count}-{args.queries}"
    shards.mkdir(parents=True, exist_ok=True)
    wanted, kept = args.count + args.queries, shards / "texts.parquet"
    if not kept.exists():
        texts, sources = collected(args.docs, args.captions)
        print(f"{len(texts):,} distinct passages")
        if len(texts) < wanted:
            raise SystemExit(f"{len(texts):,} passages, {wanted:,} wanted: add documentation.")
        order = np.random.default_rng(SEED).permutation(len(texts))[:wanted]
        columns = {"text": [texts[i] for i in order], "source": [sources[i] for i in order]}
        write_whole(kept, lambda path: pq.write_table(pa.table(columns), path))
    table = pq.read_table(kept)
    for name, n in Counter(table["source"].to_pylist()).most_common():
        print(f"  {n:9,} {100 * n / wanted:5.1f} %  {name}")
    texts = table["text"].to_pylist()
    (out / "passage_queries.txt").write_text("".join(f"{x}\n" for x in texts[: args.queries]))
    base = table.slice(args.queries)
    write_whole(out / "passages.parquet", lambda path: pq.write_table(base, path))
    space = mmsearch.load_space("mini")
    clock = Clock(wanted, "passages")
    queries = sorted_block(space, texts[: args.queries], shards / "queries", clock)
    save_rows(out / "passage_queries.npy", queries, np.float32)
    blocks = []  # float16 (at most BLOCK, 512)
    for start in range(args.queries, wanted, BLOCK):
        name = shards / f"passages-{start - args.queries:08}"
        some = sorted_block(space, texts[start : start + BLOCK], name, clock)
        blocks.append(some.astype(np.float16))
        if len(blocks) == 1 and wanted > start + BLOCK:
            save_rows(out / "partial.npy", blocks[0], np.float16)
            save_rows(out / "partial_queries.npy", queries, np.float32)
    save_rows(out / "passages.npy", np.concatenate(blocks), np.float16)


def sorted_block(
    space: mmsearch.Embedder, texts: Sequence[str], name: Path, clock: Clock
) -> NDArray[np.float32]:
    """One vector for each text, in order; encoded in order of length, SHARD at a time.

    name: where the shards lie and how their names begin.
    """
    order = np.argsort([len(text) for text in texts], kind="stable")
    rows = np.empty((len(texts), 512), np.float32)
    for at in range(0, len(texts), SHARD):
        some = order[at : at + SHARD]
        path = name.with_name(f"{name.name}-{at:06}.npy")
        if fresh := not path.exists():
            save_rows(path, space.encode_document([texts[i] for i in some]), np.float32)
        rows[some] = np.load(path)
        clock.tick(len(some), fresh)
    return rows


def collected(docs: Iterable[Path], captions: Iterable[Path]) -> tuple[list[str], list[str]]:
    """The distinct passages of all files and where each comes from, in the files' order."""
    texts: list[str] = []
    sources: list[str] = []
    seen: set[int] = set()  # hash of what makes a passage distinct
    starts: Counter[int] = Counter()  # hash of the first four words -> passages
    for source, text in found(docs, captions):
        lower = " ".join(text.lower().split())
        key, start = hash(re.sub(r"\d", "0", lower)), hash(tuple(lower.split()[:4]))
        limited = not source.startswith("captions")
        if key in seen or (limited and starts[start] >= SAME_START):
            continue
        seen.add(key)
        starts[start] += limited
        texts.append(text)
        sources.append(source)
    return texts, sources


def found(docs: Iterable[Path], captions: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """(source, passage) of the captions, then of all documentation files in order of name."""
    for path in captions:
        for row in json_rows(path):
            yield from (("captions", text) for x in row["en"] if good(text := " ".join(x.split())))
    since = time.monotonic()
    for root in docs:
        files = sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink())
        files = [p for p in files if not _SKIPPED.search(p.relative_to(root).as_posix())]
        source = ""
        with multiprocessing.get_context("spawn").Pool() as pool:
            for path, texts in zip(files, pool.imap(_listed, files, 64), strict=True):
                if source != (source := path.relative_to(root).parts[0]):
                    print(f"reading {source} after {time.monotonic() - since:.0f} s", flush=True)
                yield from ((source, text) for text in texts)


def _listed(path: Path) -> list[str]:
    return list(passages_of(path))


def json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file, gzipped or not."""
    opened: Any = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as f:
        for line in f:
            yield json.loads(line)


def passages_of(path: Path) -> Iterator[str]:
    """The passages of a documentation file; none of one that holds no text."""
    try:
        data = path.read_bytes()
        if path.suffix in (".gz", ".dz"):
            data, path = gzip.decompress(data), path.with_suffix("")
    except (OSError, EOFError):
        return
    if b"\0" in data[:4096]:
        return
    text = data.decode("utf-8", "replace")
    if path.parent.name == "wordnet" and path.name.startswith("data."):
        yield from filter(good, (line.partition(" | ")[2].strip() for line in text.splitlines()))
    elif text.startswith("Package: "):
        for description in re.findall(r"^Description(?:-en)?: (.*\n(?: .*\n)*)", text, re.M):
            short, _, rest = description.partition("\n")
            yield from filter(good, [short.strip()])
            yield from prose(rest.replace("\n .\n", "\n\n"))
    elif re.search(r"/man\d\w*$", path.parent.as_posix()):
        yield from prose(without_roff(text))
    elif path.suffix.lower() in (".html", ".htm", ".xhtml", ".xml", ".page"):
        yield from prose(without_tags(text))
    else:
        yield from prose(text)


def without_tags(markup: str) -> str:
    """What a reader of a page sees, blocks as paragraphs. Regular expressions: a parser
    takes too long for gigabytes, and what they get wrong ``good`` throws away."""
    markup = _HIDDEN.sub("\n\n", _COMMENT.sub("", markup))
    return unescape(_TAG.sub("\n\n", _INLINE.sub("", markup)))


def without_roff(text: str) -> str:
    """The sentences of a man page, roughly."""
    text = _ROFF_ESCAPE.sub("", text).replace("\\-", "-").replace("\\(aq", "'")
    return _ROFF_BREAK.sub("\n\n", _ROFF_LINE.sub("", text)).replace("\\", "")


def prose(text: str) -> Iterator[str]:
    """A few neighbouring English sentences of one paragraph at a time, most often one or two."""
    for paragraph in _PARAGRAPH.split(text):
        if len(paragraph) >= SHORTEST and _ENGLISH.search(paragraph):
            one_line = _BULLET.sub("", " ".join(paragraph.split()))
            yield from filter(good_prose, joined(_SENTENCE.split(one_line)))


def joined(sentences: Iterable[str]) -> Iterator[str]:
    """Sentences put together until they are long enough, never beyond what is allowed."""
    held = ""
    for sentence in sentences:
        if held and (len(held) >= ENOUGH or len(held) + 1 + len(sentence) > LONGEST):
            yield held
            held = ""
        held = f"{held} {sentence}" if held else sentence
    yield held


def good_prose(text: str) -> bool:
    """Whether a passage is English and made of whole sentences."""
    whole = (text[:1].isupper() or text[:1] in "\"'(") and _ENDS.search(text)
    return good(text) and bool(whole and _ENGLISH.search(text))


def good(text: str) -> bool:
    """Whether a passage has the right length and is mostly letters, with no code in it."""
    if not SHORTEST <= len(text) <= LONGEST or _CODE.search(text):
        return False
    words, letters = text.split(), len(_NO_LETTER.sub("", text))
    return (
        len(words) >= FEWEST_WORDS
        and 0.72 * len(text) <= letters <= 9 * len(words)
        and max(map(len, words)) <= 30
    )


# Crops


def crops(args: argparse.Namespace) -> None:
    """Writes crops.npy and .parquet, crop_queries.npy and .txt; first, what is partial."""
    out: Path = args.out
    shards = out / "shards" / f"crops-{args.count}"
    shards.mkdir(parents=True, exist_ok=True)
    pairs = [row for path in args.pairs for row in json_rows(path)]
    captions = [" ".join(x.split()) for row in pairs for x in row["en"]][: args.queries]
    space = mmsearch.load_space("mini")
    clock = Clock(args.count + len(captions), "crops")
    queries = sorted_block(space, captions, shards / f"captions-{len(captions)}", clock)
    save_rows(out / "crop_queries.npy", queries, np.float32)
    (out / "crop_queries.txt").write_text("".join(f"{x}\n" for x in captions))
    names = sorted({row["image"] for row in pairs})
    names = [names[i] for i in np.random.default_rng(SEED).permutation(len(names))]
    files = photo_files(args.photos)
    each, more = divmod(args.count, len(names))
    # (photo, box), photo after photo: every beginning of the list is a fair sample
    all_boxes: list[tuple[str, Box]] = []
    for i, name in enumerate(names):
        some = boxes(picture(files[name]).size, each + (i < more), np.random.default_rng([SEED, i]))
        all_boxes += [(name, box) for box in some]
    columns = {
        "photo": [name for name, _ in all_boxes],
        "box": pa.array([box for _, box in all_boxes], pa.list_(pa.int32(), 4)),
    }
    write_whole(out / "crops.parquet", lambda path: pq.write_table(pa.table(columns), path))
    rows = np.empty((args.count, 512), np.float16)
    for at in range(0, args.count, CROP_SHARD):
        part = all_boxes[at : at + CROP_SHARD]
        path = shards / f"crops-{at:08}.npy"
        if fresh := not path.exists():
            vectors = []
            for name, same in groupby(part, itemgetter(0)):
                photo = picture(files[name]).convert("RGB")
                vectors.append(space.encode_images([photo.crop(box) for _, box in same]))
            save_rows(path, np.concatenate(vectors), np.float16)
        rows[at : at + len(part)] = np.load(path)
        clock.tick(len(part), fresh)
        if at < CROPS_PARTIAL <= at + len(part):
            save_rows(out / "crops_partial.npy", rows[:CROPS_PARTIAL], np.float16)
    save_rows(out / "crops.npy", rows, np.float16)


def photo_files(places: Iterable[Path]) -> dict[str, Callable[[], bytes]]:
    """What reads a photo, by file name; from folders and tar files, which stay open."""
    files: dict[str, Callable[[], bytes]] = {}
    for place in places:
        if place.is_dir():
            files.update((p.name, p.read_bytes) for p in place.rglob("*") if p.is_file())
        else:
            tar = tarfile.open(place)  # noqa: SIM115
            files.update((Path(m.name).name, partial(member, tar, m)) for m in tar if m.isfile())
    return files


def member(tar: tarfile.TarFile, which: tarfile.TarInfo) -> bytes:
    """The content of a file in a tar file."""
    opened = tar.extractfile(which)
    return opened.read() if opened else b""


def picture(read: Callable[[], bytes]) -> Image.Image:
    """An opened picture; its pixels are decoded when they are first needed."""
    return Image.open(io.BytesIO(read()))


def boxes(size: tuple[int, int], count: int, random: np.random.Generator) -> list[Box]:
    """``count`` boxes inside a photo, any two with intersection over union below 0.8.

    The longer side is 40–100 % of the photo's shorter one, width : height 3:4 to 4:3.
    """
    out: list[Box] = []
    while len(out) < count:
        longer = min(size) * random.uniform(0.4, 1.0)
        ratio = (3 / 4) ** random.uniform(-1, 1)  # width : height
        width, height = round(longer * min(1, ratio)), round(longer / max(1, ratio))
        left = int(random.integers(0, size[0] - width + 1))
        top = int(random.integers(0, size[1] - height + 1))
        box = (left, top, left + width, top + height)
        if all(overlap(box, other) < 0.8 for other in out):
            out.append(box)
    return out


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


# Between real ones


def interpolated(args: argparse.Namespace) -> None:
    """Writes float16 (count, d): w·a + (1 - w)·b of random rows a, b, w in 0.5–0.8, unit length.

    With ``--dimension`` the base is projected first onto the leading directions of a sample,
    uncentred, so that inner products change least; OUT-projection.npy keeps them, float32
    (512, d), for the queries: ``xq @ projection``, then unit length again.
    """
    base = np.load(args.base, mmap_mode="r")
    projection = None
    if args.dimension:
        random = np.random.default_rng(SEED)
        sample = unit(base[random.choice(len(base), min(len(base), 100_000), False)])
        directions = np.linalg.eigh(sample.T @ sample)[1]  # ascending
        projection = np.ascontiguousarray(directions[:, : -args.dimension - 1 : -1])
        save_rows(args.out.with_name(f"{args.out.stem}-projection.npy"), projection, np.float32)
    clock = Clock(args.count, "interpolated")

    def write(path: Path) -> None:
        shape = (args.count, args.dimension or base.shape[1])
        rows = np.lib.format.open_memmap(path, "w+", np.float16, shape)
        for start in range(0, args.count, MIXED):
            n = min(MIXED, args.count - start)
            random = np.random.default_rng([SEED, start])
            first = random.integers(0, len(base), n)
            second = (first + random.integers(1, len(base), n)) % len(base)  # never the same
            weight = random.uniform(0.5, 0.8, (n, 1)).astype(np.float32)
            a, b = unit(base[first], projection), unit(base[second], projection)
            rows[start : start + n] = unit(weight * a + (1 - weight) * b)
            clock.tick(n, True)
        rows.flush()

    write_whole(args.out, write)


def unit(
    rows: NDArray[np.floating[Any]], projection: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Rows projected where there is a projection, scaled to unit length, float32."""
    out = rows.astype(np.float32)
    out = out if projection is None else out @ projection
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    return out


# Files and time


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Writes beside it and renames: a file that is there is whole."""
    beside = path.with_name(f"part-{path.name}")
    write(beside)
    beside.replace(path)


def save_rows(path: Path, rows: NDArray[Any], dtype: type[np.floating[Any]]) -> None:
    """Writes an .npy file whole."""
    write_whole(path, lambda beside: np.save(beside, rows.astype(dtype, copy=False)))


class Clock:
    """Prints how far the work is and when it will be done."""

    def __init__(self, total: int, what: str) -> None:
        self._total, self._what, self._since = total, what, time.monotonic()
        self._done = self._fresh = 0

    def tick(self, n: int, fresh: bool) -> None:
        """n more are done; fresh: made now, not found done."""
        self._done += n
        self._fresh += n * fresh
        speed = self._fresh / max(time.monotonic() - self._since, 1e-6)
        left = f", {(self._total - self._done) / speed / 60:.0f} minutes left" if speed else ""
        now = f"{self._what}: {self._done:,} of {self._total:,}"
        print(f"{now}, {speed:,.0f} a second{left}", flush=True)


if __name__ == "__main__":
    main()
