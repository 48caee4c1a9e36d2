"""How many texts in legacy encodings are read right, beside what the detectors say themselves.

    python benchmarks/legacy_encodings.py [--files FOLDER] [--man FOLDER] [--pages 30]

--files: texts in folders that are called by their encoding and language, such as the folder
``tests`` of https://github.com/chardet/chardet. --man: translated manual pages by language (of
Debian's packages manpages-cs, -da, -de, …, unpacked: usr/share/man), which no detector was trained
with; pieces of 150, 600 and 4,000 characters are written in the encodings of their language. A
text is right if at most 2 of 1,000 characters differ. charset-normalizer is compared where it is
installed.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import random
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import chardet

from common import save, table
from mmsearch.errors import DecodeError
from mmsearch.media.encoding import decode_text

WEST, CENTRAL = ("cp1252", "mac_roman", "cp850"), ("cp1250", "iso8859_2")
RUSSIAN = ("cp1251", "koi8_r", "iso8859_5", "cp866", "mac_cyrillic")
LANGUAGES = {
    **dict.fromkeys(("da", "de", "es", "fi", "fr", "it", "nl", "pt_BR", "sv"), WEST),
    **dict.fromkeys(("cs", "hu", "pl", "ro"), CENTRAL),
    "ru": RUSSIAN,
    "uk": ("cp1251", "koi8_u"),
    "sr": ("cp1251", "iso8859_5"),
    "el": ("cp1253", "iso8859_7"),
    "tr": ("cp1254",),
    "ja": ("cp932", "euc_jp", "iso2022_jp"),
    "zh_CN": ("gb18030",),
    "zh_TW": ("big5",),
}
LENGTHS = (150, 600, 4000)
ROMANIAN = str.maketrans("șțȘȚ", "şţŞŢ")  # as cp1250 has them
LARGER = {"gb2312": "gb18030", "macroman": "mac_roman", "maccyrillic": "mac_cyrillic"}
NAMED = ("croatian czech hungarian polish slovak slovene romanian bulgarian russian arabic greek "
         "turkish hebrew").split()  # fmt: skip


class Case(NamedTuple):
    """A text in an encoding."""

    kind: str
    data: bytes
    text: str


def files(folder: Path) -> Iterator[Case]:
    """The texts of a folder whose folders say their encoding."""
    for path in sorted(folder.glob("*/*")):
        name = path.parent.name.lower()
        for language in NAMED:
            name = name.removesuffix(f"-{language}")
        try:
            data = path.read_bytes()
            yield Case(path.parent.name, data, data.decode(LARGER.get(name, name), "replace"))
        except LookupError:
            print(f"-- Python has no {name}: {path.name} is left out")


def pages(folder: Path, most: int) -> Iterator[Case]:
    """Pieces of manual pages in the encodings of their languages."""
    rng = random.Random(1)
    for language, encodings in LANGUAGES.items():
        paths = sorted((folder / language).rglob("*.gz"))
        rng.shuffle(paths)
        taken = 0
        for path in paths:
            page = gzip.decompress(path.read_bytes()).decode("utf-8", "ignore")
            lines = [line for line in page.split("\n") if line and line[0] not in ".'"]
            text = re.sub(r"\\[a-zA-Z(].?", "", "\n".join(lines)).translate(ROMANIAN)
            if len(text) < 1500 or sum(c > "\x7f" for c in text) < 20:
                continue
            for length in LENGTHS:
                start = rng.randrange(max(1, len(text) - length))
                for encoding in encodings:
                    data = text[start : start + length].encode(encoding, "ignore")
                    piece = data.decode(encoding)
                    if sum(c > "\x7f" for c in piece) >= 3:
                        yield Case(encoding, data, piece)
            taken += 1
            if taken == most:
                break


def detectors() -> dict[str, Callable[[bytes], str]]:
    """Name -> what makes a text of bytes."""
    found: dict[str, Callable[[bytes], str]] = {
        "mmsearch": decode_text,
        "chardet": lambda data: data.decode(
            chardet.detect(data)["encoding"] or "cp1252", "replace"
        ),
    }
    try:
        import charset_normalizer as normalizer
    except ImportError:
        print("-- charset-normalizer is not installed: it is left out")
    else:
        found["charset-normalizer"] = lambda data: str(normalizer.from_bytes(data).best() or "")
    return found


def is_right(found: str, text: str) -> bool:
    """Whether two texts are the same but for spaces, control characters and width."""
    a, b = (
        [c for c in unicodedata.normalize("NFKC", t.lstrip("\ufeff")) if c > " " and c != "\x7f"]
        for t in (found, text)
    )
    return len(a) == len(b) and sum(x != y for x, y in zip(a, b, strict=True)) <= 0.002 * len(a)


def measured(cases: list[Case]) -> dict[str, dict[str, object]]:
    """Reader -> how many it reads right, of each kind, and how long one takes."""
    found = {}
    for name, read in detectors().items():
        right: Counter[str] = Counter()
        started = time.perf_counter()
        for case in cases:
            with contextlib.suppress(DecodeError, LookupError):
                right[case.kind] += is_right(read(case.data), case.text)
        took_ms = (time.perf_counter() - started) / len(cases) * 1e3
        found[name] = {"right": right.total(), "ms": round(took_ms, 2), "by_kind": dict(right)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=Path)
    parser.add_argument("--man", type=Path)
    parser.add_argument("--pages", type=int, default=30)
    args = parser.parse_args()
    result = {}
    for name, cases in (
        ("files", list(files(args.files)) if args.files else []),
        ("man", list(pages(args.man, args.pages)) if args.man else []),
    ):
        if cases:
            of = Counter(case.kind for case in cases)
            readers = measured(cases)
            result[name] = {"texts": len(cases), "of_kind": dict(of), "readers": readers}
            table(
                [(name, f"right of {len(cases):,}", "ms a text")]
                + [(reader, str(one["right"]), str(one["ms"])) for reader, one in readers.items()]
            )
    if not result:
        parser.error("say where the texts are: --files FOLDER, --man FOLDER, or both")
    save("legacy_encodings", result)


if __name__ == "__main__":
    main()
