"""How well the words of PDFs are read: ours, PDFium's and pypdf's beside MuPDF's.

    python benchmarks/pdfs.py FOLDER [--most 2000]

FOLDER: documents that others test their readers with, such as test/pdfs of
https://github.com/mozilla/pdf.js and https://github.com/py-pdf/sample-files. Each reader runs in a
process of its own, which is started anew where a document kills it or takes more than a minute.
Words are compared as bags, by the harmonic mean of precision and recall, on documents in which
MuPDF finds 10 words or more; letters of scripts without spaces count as words. pymupdf and pypdf
are compared where they are installed.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import save
from worker import Worker, serve

LEAST_WORDS = 10
CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e01-\u0eff"
WORD = re.compile(f"[{CJK}]|[^\\W_{CJK}]+")
MARKS = re.compile("[\u064b-\u065f\u0640\u200b-\u200f\u00ad]")
SCRIPTS = {
    "Chinese, Japanese, Korean": re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]"),
    "Arabic, Hebrew": re.compile("[\u0590-\u06ff\ufb1d-\ufdff\ufe70-\ufefc]"),
    "Cyrillic, Greek": re.compile("[\u0370-\u03ff\u0400-\u04ff]"),
}


def ours(data: bytes) -> tuple[int, str]:
    """What is indexed of a document."""
    from mmsearch.media import decode
    from mmsearch.types import Preprocess

    passages = list(decode(data, "pdf", Preprocess(224, 16_000, 10.0, passage_overlap=0.0)))
    return max(int(p.meta["page"]) for p in passages), "\n".join(str(p.data) for p in passages)


def pdfium(data: bytes) -> tuple[int, str]:
    """PDFium's text layer as it is."""
    import pypdfium2

    document = pypdfium2.PdfDocument(data)
    return len(document), "\n".join(page.get_textpage().get_text_range() for page in document)


def pypdf(data: bytes) -> tuple[int, str]:
    """The text layer as pypdf reads it."""
    import io

    import pypdf

    reader = pypdf.PdfReader(io.BytesIO(data))
    if reader.is_encrypted and not reader.decrypt(""):
        raise ValueError("password")
    texts = []
    for page in reader.pages:
        try:
            texts.append(page.extract_text())
        except Exception:
            texts.append("")
    return len(texts), "\n".join(texts)


def mupdf(data: bytes) -> tuple[int, str]:
    """The text as MuPDF reads it, with what is drawn of forms and notes."""
    import pymupdf

    pymupdf.TOOLS.mupdf_display_errors(False)
    document = pymupdf.open(stream=data, filetype="pdf")
    if document.needs_pass:
        raise ValueError("password")
    flags = pymupdf.TEXTFLAGS_TEXT | pymupdf.TEXT_DEHYPHENATE
    return len(document), "\n".join(page.get_text(flags=flags) for page in document)


READERS: dict[str, Callable[[bytes], tuple[int, str]]] = {
    "mmsearch": ours,
    "PDFium": pdfium,
    "pypdf": pypdf,
    "MuPDF": mupdf,
}


def answer(name: str, path: str) -> dict[str, Any]:
    """What a reader gives of a document, or an ``error``."""
    data = Path(path).read_bytes()
    started = time.process_time()
    result: dict[str, Any]
    try:
        pages, text = READERS[name](data)
        result = {"pages": pages, "text": text}
    except Exception as error:
        result = {"error": f"{type(error).__name__}: {error}"[:300]}
    return {**result, "cpu_s": time.process_time() - started}


def words(text: str) -> Counter[str]:
    """The words of a text and how often each is there."""
    plain = MARKS.sub("", unicodedata.normalize("NFKC", text)).casefold()
    return Counter(WORD.findall(plain))


def agreement(one: Counter[str], other: Counter[str]) -> float:
    """The harmonic mean of precision and recall of two bags of words."""
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--most", type=int, default=2000)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(answer)
        return
    paths = sorted(args.folder.rglob("*.pdf"))[: args.most]
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name in READERS:
        worker, gone = Worker(__file__), {"error": "died, or took more than a minute"}
        found[name] = {str(path): worker.ask(name, str(path)) or gone for path in paths}
        worker.close()
        read_ones = [one for one in found[name].values() if "text" in one]
        print(f"-- {name}: {len(read_ones)} of {len(paths)}", file=sys.stderr)
    bags = {
        name: {path: words(one["text"]) for path, one in results.items() if "text" in one}
        for name, results in found.items()
    }
    report(paths, found, bags)


def report(
    paths: list[Path],
    found: dict[str, dict[str, dict[str, Any]]],
    bags: dict[str, dict[str, Counter[str]]],
) -> None:
    """Print the figures, and write them down."""
    groups: dict[str, list[str]] = {"all": [], **{script: [] for script in SCRIPTS}}
    for path, bag in bags["MuPDF"].items():
        if bag.total() >= LEAST_WORDS:
            groups["all"].append(path)
            for script, letters in SCRIPTS.items():
                if len(letters.findall(found["MuPDF"][path]["text"])) >= LEAST_WORDS:
                    groups[script].append(path)
    rows: list[tuple[str, ...]] = [("what", *READERS)]
    rows.append(("documents read", *(f"{len(bags[name])} of {len(paths)}" for name in READERS)))
    figures: dict[str, Any] = {"documents": len(paths), "agreement": {}}
    for group, members in groups.items():
        means = {
            name: statistics.fmean(
                agreement(bags[name].get(path, Counter()), bags["MuPDF"][path]) for path in members
            )
            for name in READERS
            if members
        }
        figures["agreement"][group] = {"documents": len(members), **means}
        what = f"agreement with MuPDF, {group} ({len(members)})"
        rows.append((what, *(f"{100 * means.get(name, 0):.1f}" for name in READERS)))
    near = {
        name: sum(
            agreement(bags[name].get(path, Counter()), bags["MuPDF"][path]) >= 0.9
            for path in groups["all"]
        )
        for name in READERS
    }
    rows.append(("documents that agree by 90%", *(str(near[name]) for name in READERS)))
    figures["near"] = near
    times = {
        name: sum(one["cpu_s"] for one in results.values() if "text" in one)
        / max(1, sum(one["pages"] for one in results.values() if "text" in one))
        for name, results in found.items()
    }
    figures["ms_a_page"] = {name: 1000 * s for name, s in times.items()}
    rows.append(("ms a page", *(f"{1000 * times[name]:.1f}" for name in READERS)))
    figures["errors"] = {
        name: dict(
            Counter(one["error"] for one in results.values() if "error" in one).most_common(20)
        )
        for name, results in found.items()
    }
    worst = sorted(
        groups["all"],
        key=lambda path: agreement(bags["mmsearch"].get(path, Counter()), bags["MuPDF"][path]),
    )
    figures["worst"] = {
        Path(path).name: round(
            agreement(bags["mmsearch"].get(path, Counter()), bags["MuPDF"][path]), 3
        )
        for path in worst[:40]
    }
    save("pdfs", figures)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))


if __name__ == "__main__":
    main()
