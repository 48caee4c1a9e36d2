"""What becomes of the files that others test their readers with, beside what the libraries open.

    python benchmarks/corpora.py FOLDER [--show 20]

FOLDER: the test files of Pillow, image-rs, libheif, mutagen, tinytag, Tika, pdf.js, chardet and the
like. Each file goes through the decoding processes as in a run; then the library behind its kind is
asked directly, in a process of its own, whether it opens it: Pillow (with pi-heif), libsndfile,
FFmpeg (PyAV), PDFium, python-docx, python-pptx and openpyxl. What a library opens and we do not is
listed with our reason.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import save
from mmsearch.media import HEAD_BYTES, sniff
from mmsearch.media.pool import DecodePool, Failed, Finished, PartReady, Skipped, Task
from mmsearch.types import Item, Preprocess
from pdfs import words
from worker import Worker, serve

PREPROCESS = Preprocess(224, 16_000, 10.0)


def pillow(path: str) -> bool:
    """Whether Pillow unpacks a picture."""
    import pi_heif
    from PIL import Image

    pi_heif.register_heif_opener()
    with Image.open(path) as image:
        image.load()
    return True


def sndfile(path: str) -> bool:
    """Whether libsndfile reads a sound to its end."""
    import soundfile

    return sum(len(block) for block in soundfile.blocks(path, 1 << 16)) > 0


def ffmpeg(path: str) -> bool:
    """Whether FFmpeg decodes a sound."""
    import av

    with av.open(path) as file:
        return any(frame.samples for frame in file.decode(audio=0))


def pdfium(path: str) -> bool:
    """Whether PDFium finds text."""
    import pypdfium2

    document = pypdfium2.PdfDocument(path)
    return any(page.get_textpage().get_text_range().strip() for page in document)


def docx(path: str) -> str:
    """The paragraphs and cells that python-docx finds."""
    import docx

    document = docx.Document(path)
    texts = [paragraph.text for paragraph in document.paragraphs]
    tables = list(document.tables)
    while tables:
        cells = {id(c._tc): c for row in tables.pop().rows for c in row.cells}.values()
        texts += [paragraph.text for cell in cells for paragraph in cell.paragraphs]
        tables += [table for cell in cells for table in cell.tables]
    return "\n".join(texts)


def pptx(path: str) -> str:
    """The texts, cells and notes that python-pptx finds."""
    import pptx

    texts = []
    for slide in pptx.Presentation(path).slides:
        for shape in slide.shapes:
            if shape.has_text_frame:
                texts.append(shape.text_frame.text)
            if shape.has_table:
                texts += [cell.text for row in shape.table.rows for cell in row.cells]
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            texts.append(slide.notes_slide.notes_text_frame.text)
    return "\n".join(texts)


def xlsx(path: str) -> str:
    """The texts that openpyxl finds in cells; formulas count as what they gave."""
    import openpyxl

    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    rows = (row for sheet in book for row in sheet.iter_rows(values_only=True))
    return "\n".join(cell for row in rows for cell in row if isinstance(cell, str))


LIBRARIES: dict[str, Callable[[str], bool | str]] = {
    "image": pillow,
    "audio": sndfile,
    "av": ffmpeg,
    "pdf": pdfium,
    "docx": docx,
    "pptx": pptx,
    "xlsx": xlsx,
}


def answer(name: str, path: str) -> Any:
    """What a library says of a file: yes, an error, or the ``text`` of a document."""
    try:
        found = LIBRARIES[name](path)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:200]
    return {"text": found} if isinstance(found, str) else found


def kind_of(path: Path) -> str:
    """What we take a file for, ``ignored`` or ``skipped``."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    try:
        kind = sniff(head, path.name) or "ignored"
    except Exception:
        return "skipped"
    return path.suffix[1:].lower() if kind == "office" and path.suffix[1:] in LIBRARIES else kind


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--show", type=int, default=20)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(answer)
        return
    root = args.folder.resolve()
    names = sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
    outcomes: dict[str, tuple[str, str]] = {}
    texts: dict[str, list[str]] = {}
    started, peak_kb = time.perf_counter(), 0
    with DecodePool(PREPROCESS, workers=2) as pool:
        tasks = (Task(Item(str(root), name, 0, 0, 0, 0)) for name in names)
        for event in pool.run(tasks, lambda task, digest: True):
            match event:
                case PartReady(part=part):
                    if isinstance(part.data, str):
                        texts.setdefault(event.task.item.path, []).append(part.data)
                    continue
                case Finished():
                    outcome = "indexed", ""
                case Skipped(reason=reason):
                    outcome = "skipped", reason
                case Failed(reason=reason):
                    outcome = "failed", reason
                case _:
                    outcome = "ignored", getattr(event, "what", "")
            outcomes[event.task.item.path] = outcome
        peak_kb = max(_peak_kb(pid) for pid in pool.pids)
    took_s = time.perf_counter() - started
    report(root, outcomes, texts, took_s, peak_kb, args.show)


def _peak_kb(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int(next(one for one in status.splitlines() if one.startswith("VmHWM")).split()[1])


def report(
    root: Path,
    outcomes: dict[str, tuple[str, str]],
    texts: dict[str, list[str]],
    took_s: float,
    peak_kb: int,
    show: int,
) -> None:
    """Ask the libraries, print the table, write it down."""
    asked = Worker(__file__)
    counts: dict[str, Counter[str]] = {}
    differences: list[tuple[str, str, str]] = []
    for name, (outcome, reason) in outcomes.items():
        kind = kind_of(root / name)
        count = counts.setdefault(kind, Counter())
        count["files"] += 1
        count[outcome] += 1
        if kind in LIBRARIES:
            opened = asked.ask(kind, str(root / name))
            if isinstance(opened, dict):  # passages overlap: only what is missing counts
                own, theirs = words("\n".join(texts.get(name, ()))), words(opened["text"])
                count["words"] += theirs.total()
                count["words missing"] += (theirs - own).total()
                opened = theirs.total() > 0
            count["library"] += opened is True
            count["ours alone"] += opened is not True and outcome == "indexed"
            if opened is True and outcome != "indexed":
                count["library alone"] += 1
                differences.append((kind, name, f"{outcome}: {reason}"))
    columns = ("files", "indexed", "skipped", "failed", "ignored", "library", "library alone",
               "ours alone", "words", "words missing")  # fmt: skip
    print(f"{'kind':<14}" + "".join(f"{one:>15}" for one in columns))
    for kind, count in sorted(counts.items()):
        print(f"{kind:<14}" + "".join(f"{count[one]:>15,}" for one in columns))
    print(f"{len(outcomes):,} files in {took_s:.0f} s; peak of a decoder {peak_kb / 1024:.0f} MB")
    for kind, name, reason in differences[:show]:
        print(f"  {kind}: {name}: {reason}")
    save(
        "corpora",
        {
            "files": len(outcomes),
            "seconds": took_s,
            "peak_mb": peak_kb / 1024,
            "kinds": {kind: dict(count) for kind, count in sorted(counts.items())},
            "library_alone": [list(one) for one in differences],
            "reasons": dict(
                Counter(r for o, r in outcomes.values() if o == "skipped").most_common(60)
            ),
            "ignored": dict(
                Counter(r for o, r in outcomes.values() if o == "ignored").most_common(60)
            ),
        },
    )


if __name__ == "__main__":
    main()
