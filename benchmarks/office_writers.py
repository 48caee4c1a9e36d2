"""Is every paragraph, cell and note found in documents of Word, PowerPoint and Excel?

    python benchmarks/office_writers.py

The same marked words are written by three programs for each format: by python-docx, python-pptx and
openpyxl, by pandoc, and by LibreOffice, which makes a document of its own and from that one of
Microsoft's. XlsxWriter stands in for pandoc, which writes no sheets. A program that is missing has
a row that says so.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import save, table
from mmsearch.media import HEAD_BYTES, decode, sniff
from mmsearch.types import Preprocess

PARAGRAPHS, ROWS, COLUMNS, SLIDES = 60, 12, 5, 8


def words(kind: str, n: int) -> list[str]:
    """n words that stand nowhere else."""
    return [f"{kind}x{number}x" for number in range(n)]


PARAGRAPH = words("paragraph", PARAGRAPHS)
CELL = words("cell", ROWS * COLUMNS)
NOTE = words("note", SLIDES)
TITLE = words("title", SLIDES)


def rows() -> list[list[str]]:
    """The cells of a table."""
    return [CELL[at : at + COLUMNS] for at in range(0, len(CELL), COLUMNS)]


def docx_python() -> tuple[bytes, list[str]]:
    """Paragraphs, a table, comments, a header and a footer."""
    import docx

    document = docx.Document()
    for at, word in enumerate(PARAGRAPH):
        one = document.add_paragraph(f"Here is {word} in a sentence.")
        if at < len(NOTE):
            document.add_comment(one.runs, text=NOTE[at])
    grid = document.add_table(ROWS, COLUMNS)
    for row, cells in zip(grid.rows, rows(), strict=True):
        for cell, word in zip(row.cells, cells, strict=True):
            cell.text = word
    document.sections[0].header.paragraphs[0].text = TITLE[0]
    document.sections[0].footer.paragraphs[0].text = TITLE[1]
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue(), [*PARAGRAPH, *CELL, *NOTE, *TITLE[:2]]


def markdown() -> str:
    """Headings, paragraphs, footnotes and a table, for pandoc."""
    lines = [f"# {TITLE[0]}", ""]
    for at, word in enumerate(PARAGRAPH):
        mark = f"[^{at}]" if at < len(NOTE) else ""
        lines += [f"Here is **{word[:4]}**{word[4:]} in a sentence.{mark}", ""]
    lines += [f"[^{at}]: See {word}.\n" for at, word in enumerate(NOTE)]
    lines += ["| " + " | ".join(cells) + " |" for cells in rows()]
    lines.insert(len(lines) - ROWS + 1, "|" + "---|" * COLUMNS)
    return "\n".join(lines) + "\n"


def slides_markdown() -> str:
    """Slides with titles, points and notes, for pandoc."""
    lines = []
    share = PARAGRAPHS // SLIDES
    for at, title in enumerate(TITLE):
        lines += [f"# {title}", ""]
        lines += [f"- {word}" for word in PARAGRAPH[at * share : (at + 1) * share]]
        lines += ["", "::: notes", NOTE[at], ":::", ""]
    lines += ["# Table", "", "| " + " | ".join(rows()[0]) + " |", "|" + "---|" * COLUMNS]
    lines += ["| " + " | ".join(cells) + " |" for cells in rows()[1:]]
    return "\n".join(lines) + "\n"


def pandoc(to: str, source: str, expected: list[str]) -> tuple[bytes, list[str]]:
    """What pandoc makes of Markdown."""
    command = ["pandoc", "-f", "markdown", "-t", to, "-o", "-"]
    done = subprocess.run(command, input=source.encode(), capture_output=True, check=True)
    return done.stdout, expected


def office(data: bytes, was: str, over: str, to: str) -> bytes:
    """A document that LibreOffice opens, writes in its own format, and from that in another's."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / f"x.{was}"
        path.write_bytes(data)
        for suffix in (over, to):
            out = folder / suffix
            command = ["soffice", f"-env:UserInstallation=file://{folder}/profile", "--headless",
                       "--convert-to", suffix, "--outdir", out, path]  # fmt: skip
            subprocess.run(command, capture_output=True, check=True, timeout=300)
            path = out / f"x.{suffix}"
        return path.read_bytes()


def pptx_python() -> tuple[bytes, list[str]]:
    """Slides with titles, points, notes and a table."""
    import pptx

    show = pptx.Presentation()
    share = PARAGRAPHS // SLIDES
    for at, title in enumerate(TITLE):
        slide = show.slides.add_slide(show.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = "\n".join(PARAGRAPH[at * share : (at + 1) * share])
        slide.notes_slide.notes_text_frame.text = NOTE[at]
    grid = show.slides.add_slide(show.slide_layouts[5]).shapes
    cells = grid.add_table(ROWS, COLUMNS, 0, 0, 9_000_000, 5_000_000).table
    for at, word in enumerate(CELL):
        cells.cell(*divmod(at, COLUMNS)).text = word
    buffer = io.BytesIO()
    show.save(buffer)
    return buffer.getvalue(), [*TITLE, *PARAGRAPH[: share * SLIDES], *NOTE, *CELL]


def xlsx_openpyxl() -> tuple[bytes, list[str]]:
    """Two sheets of cells, with notes."""
    import openpyxl
    from openpyxl.comments import Comment

    book = openpyxl.Workbook()
    first, second = book.active, book.create_sheet(TITLE[1])
    first.title = TITLE[0]
    for cells in rows():
        first.append(cells)
    for word in PARAGRAPH:
        second.append([word])
    for at, word in enumerate(NOTE):
        first.cell(at + 1, 1).comment = Comment(word, "somebody")
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue(), [*TITLE[:2], *CELL, *PARAGRAPH, *NOTE]


def xlsx_writer() -> tuple[bytes, list[str]]:
    """The same by XlsxWriter, with a text box beside them."""
    import xlsxwriter

    buffer = io.BytesIO()
    book = xlsxwriter.Workbook(buffer, {"in_memory": True})
    first, second = book.add_worksheet(TITLE[0]), book.add_worksheet(TITLE[1])
    for at, cells in enumerate(rows()):
        first.write_row(at, 0, cells)
    second.write_column(0, 0, PARAGRAPH)
    for at, word in enumerate(NOTE):
        first.write_comment(at, 0, word)
    first.insert_textbox(20, 0, TITLE[2])
    book.close()
    return buffer.getvalue(), [*TITLE[:3], *CELL, *PARAGRAPH, *NOTE]


def through_office(
    made: Callable[[], tuple[bytes, list[str]]], over: str, to: str
) -> tuple[bytes, list[str]]:
    """What another program wrote, written anew by LibreOffice."""
    data, expected = made()
    return office(data, to, over, to), expected


FOOTNOTED = [*TITLE[:1], *PARAGRAPH, *CELL, *NOTE]
OF_SLIDES = [*TITLE, *PARAGRAPH[: PARAGRAPHS // SLIDES * SLIDES], *NOTE, *CELL]
WRITERS: tuple[tuple[str, str, Callable[[], tuple[bytes, list[str]]]], ...] = (
    ("docx", "python-docx", docx_python),
    ("docx", "pandoc", lambda: pandoc("docx", markdown(), FOOTNOTED)),
    ("docx", "LibreOffice", lambda: through_office(docx_python, "odt", "docx")),
    ("pptx", "python-pptx", pptx_python),
    ("pptx", "pandoc", lambda: pandoc("pptx", slides_markdown(), OF_SLIDES)),
    ("pptx", "LibreOffice", lambda: through_office(pptx_python, "odp", "pptx")),
    ("xlsx", "openpyxl", xlsx_openpyxl),
    ("xlsx", "XlsxWriter", xlsx_writer),
    ("xlsx", "LibreOffice", lambda: through_office(xlsx_openpyxl, "ods", "xlsx")),
)


def found(data: bytes, name: str) -> set[str]:
    """The marked words that are indexed."""
    kind = sniff(data[:HEAD_BYTES], name)
    assert kind is not None
    preprocess = Preprocess(image_px=64, sample_rate_hz=16_000, window_s=10.0)
    text = " ".join(str(part.data) for part in decode(data, kind, preprocess))
    return set(re.findall(r"\w+x\d+x", text))


def main() -> None:
    """Prints a table and writes ``results/office_writers.json``."""
    kept: list[dict[str, Any]] = []
    lines = [("document", "marked words", "missing")]
    for suffix, writer, write in WRITERS:
        label = f"{suffix} by {writer}"
        program = {"pandoc": "pandoc", "LibreOffice": "soffice"}.get(writer)
        if program is not None and shutil.which(program) is None:
            lines.append((label, f"{program} is not here", ""))
            continue
        try:
            data, expected = write()
        except ImportError as error:
            lines.append((label, f"{error.name} is not here", ""))
            continue
        missing = sorted(set(expected) - found(data, f"x.{suffix}"))
        kept.append({"document": label, "words": len(expected), "missing": missing})
        lines.append((label, str(len(expected)), ", ".join(missing[:5]) or "none"))
    table(lines)
    save("office_writers", {"rows": kept})


if __name__ == "__main__":
    main()
