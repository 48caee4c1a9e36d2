"""PDF: text, forms and notes page by page; passages do not cross pages, so a hit can name its page.

PDFium reads them (BSD and Apache licences). Against MuPDF's text of the files that pdf.js is tested
with, its words agree better than pypdf's, at a tenth of the time (``benchmarks/pdfs.py``).
"""

from __future__ import annotations

import ctypes
import re
import time
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as c

from mmsearch import forks
from mmsearch.errors import DecodeError, LimitExceeded
from mmsearch.media.cutting import normalised
from mmsearch.media.headings import MAX_TITLE_CHARS, Heading, passages_below
from mmsearch.media.limits import Limits
from mmsearch.types import Modality, Part, Preprocess

_MAX_OUTLINE = 10_000
_UNSEEN = 0x02 | 0x20  # flags of an annotation: hidden, not shown on a screen
_PASSWORD_FIELD = 1 << 13
# Annotations whose text belongs to another thing: links, pop-ups (their parent's), form fields.
_NOT_NOTES = frozenset((c.FPDF_ANNOT_LINK, c.FPDF_ANNOT_POPUP, c.FPDF_ANNOT_WIDGET))
_BOXES = frozenset((c.FPDF_FORMFIELD_CHECKBOX, c.FPDF_FORMFIELD_RADIOBUTTON))
_WRITTEN = frozenset(
    (c.FPDF_FORMFIELD_TEXTFIELD, c.FPDF_FORMFIELD_COMBOBOX, c.FPDF_FORMFIELD_LISTBOX)
)

# PDFium marks a hyphen that parts a word at the end of a line.
_HYPHEN_AT_LINE_END = re.compile("[\x02\ufffe]\\s*")
# What a font says of glyphs that mean no character: controls, private use, what is none.
_NO_CHARACTER = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ue000-\uf8ff\ufdd0-\ufdef\ufffe\uffff]")
# Forms of letters for typesetting: ligatures, Arabic and Hebrew shapes, Chinese radicals. People
# search for the letters themselves.
_FORMS = re.compile("[\u2e80-\u2fdf\uf900-\ufdcf\ufdf0-\ufdff\ufe70-\ufefc]+")

_NO_NAMES = frozenset(("", "untitled", "anonymous", "unspecified", "(anonymous)", "(unspecified)"))

# PDFium is for one thread at a time in a process.
_one_at_a_time = forks.Lock()


def parts(
    data: bytes, preprocess: Preprocess, limits: Limits, skip_parts: int = 0
) -> Iterator[Part]:
    """The passages of a document. meta: page (from 1), offset on it, section, title and author
    where there are any.

    A page that cannot be read is passed over as long as others give text.
    """
    deadline = time.monotonic() + limits.max_pdf_s
    with _one_at_a_time:
        document = _opened(data)
    try:
        with _one_at_a_time:
            pages = _count(document, limits)
            about, outline = _about(document), _Outline(document)
        number, characters, complaint = -1, 0, ""
        for page_no in range(pages):
            if time.monotonic() > deadline:
                raise LimitExceeded(
                    f"took more than {limits.max_pdf_s:.0f} s, at page {page_no + 1} of {pages}"
                )
            try:
                with _one_at_a_time:
                    text = _page_text(document, page_no, limits.max_pdf_text_chars - characters)
            except pdfium.PdfiumError as error:
                complaint = complaint or f"page {page_no + 1}: {error}"
                continue
            characters += len(text)
            if characters > limits.max_pdf_text_chars:
                raise LimitExceeded(
                    f"gives more than {limits.max_pdf_text_chars:,} characters of text"
                )
            headings = outline.on(page_no, text)
            for start, end, section in passages_below(text, preprocess, headings):
                number += 1
                if number >= skip_parts:
                    meta: dict[str, Any] = {"page": page_no + 1, "offset": start} | about
                    if section:
                        meta["section"] = section
                    yield Part(Modality.TEXT, number, normalised(text[start:end]), meta=meta)
        if number < 0:
            raise DecodeError(
                f"no page can be read ({complaint})"
                if complaint
                else "has no text layer, as a scan has none; run OCR on it first"
            )
    finally:
        with _one_at_a_time:
            document.close()


def _opened(data: bytes) -> pdfium.PdfDocument:
    """Many documents are encrypted with an empty password, only to forbid printing: they open."""
    try:
        document = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        if error.err_code == c.FPDF_ERR_PASSWORD:
            raise DecodeError("is encrypted with a password") from error
        if error.err_code == c.FPDF_ERR_SECURITY:
            raise DecodeError("is encrypted in a way that PDFium does not know") from error
        raise DecodeError("the PDF is damaged or cut short") from error
    with suppress(pdfium.PdfiumError):  # forms that are damaged: the pages may still be whole
        document.init_forms()
    return document


def _count(document: pdfium.PdfDocument, limits: Limits) -> int:
    pages = len(document)
    if pages > limits.max_pdf_pages:
        raise LimitExceeded(f"has {pages:,} pages; at most {limits.max_pdf_pages:,} are read")
    if pages == 0:
        raise DecodeError("has no pages")
    return pages


def _page_text(document: pdfium.PdfDocument, page_no: int, most: int) -> str:
    """The text layer of a page with what its forms and notes draw, then what these hold and do
    not draw; of the notes of a page that has more than ``most`` characters only the first."""
    page = document[page_no]
    try:
        notes = list(_annotations(document, page, most))
        if c.FPDFPage_Flatten(page, c.FLAT_NORMALDISPLAY) == c.FLATTEN_SUCCESS:
            page.close()
            page = document[page_no]
        layer = page.get_textpage()
        try:
            text = _plain(layer.get_text_range())
        finally:
            layer.close()
    finally:
        page.close()
    drawn = _without_spaces(text) if notes else ""
    missing = [note for note in notes if _without_spaces(note) not in drawn]
    return "\n\n".join([text, *missing])


def _without_spaces(text: str) -> str:
    return "".join(text.split())


def _plain(text: str) -> str:
    text = _HYPHEN_AT_LINE_END.sub("", text)
    text = _FORMS.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    text = _NO_CHARACTER.sub(" ", text).replace("\r\n", "\n").replace("\r", "\n")
    # Fonts without a proper map give lone surrogates, which no file can hold.
    return text.encode("utf-8", "replace").decode("utf-8")


def _annotations(document: pdfium.PdfDocument, page: pdfium.PdfPage, most: int) -> Iterator[str]:
    for number in range(c.FPDFPage_GetAnnotCount(page)):
        annotation = c.FPDFPage_GetAnnot(page, number)
        if not annotation:
            continue
        try:
            if c.FPDFAnnot_GetFlags(annotation) & _UNSEEN:
                continue
            kind = c.FPDFAnnot_GetSubtype(annotation)
            if kind == c.FPDF_ANNOT_WIDGET and document.formenv is not None:
                text = _field(document.formenv, annotation)
            elif kind in _NOT_NOTES:
                continue
            else:
                text = _string(c.FPDFAnnot_GetStringValue, annotation, b"Contents")
        finally:
            c.FPDFPage_CloseAnnot(annotation)
        if text.strip():
            yield _plain(text)
            most -= len(text)
            if most < 0:
                return


def _field(form: pdfium.PdfFormEnv, annotation: Any) -> str:
    """What somebody wrote; of a box that is ticked what it is for."""
    kind = c.FPDFAnnot_GetFormFieldType(form, annotation)
    if kind in _BOXES:
        ticked = c.FPDFAnnot_IsChecked(form, annotation)
        return _string(c.FPDFAnnot_GetFormFieldAlternateName, form, annotation) if ticked else ""
    if kind not in _WRITTEN or c.FPDFAnnot_GetFormFieldFlags(form, annotation) & _PASSWORD_FIELD:
        return ""
    return _string(c.FPDFAnnot_GetFormFieldValue, form, annotation)


def _string(function: Any, *arguments: Any) -> str:
    """What a function of PDFium's says in UTF-16, asked for its length in bytes first."""
    length = function(*arguments, None, 0)
    if length <= 2:
        return ""
    buffer = ctypes.create_string_buffer(length)
    function(*arguments, ctypes.cast(buffer, ctypes.POINTER(c.FPDF_WCHAR)), length)
    return buffer.raw[: length - 2].decode("utf-16-le", "replace")


def _about(document: pdfium.PdfDocument) -> dict[str, str]:
    """Title and author as the document names them."""
    fields = {key: document.get_metadata_value(key.title()) for key in ("title", "author")}
    plain = {key: normalised(_plain(value))[:MAX_TITLE_CHARS] for key, value in fields.items()}
    return {key: value for key, value in plain.items() if value.casefold() not in _NO_NAMES}


class _Outline:
    """The outline of a document: which section a place on a page belongs to."""

    def __init__(self, document: pdfium.PdfDocument) -> None:
        self._by_page: dict[int, list[tuple[int, str]]] = {}
        self._open: list[tuple[int, str]] = []  # (level, title) of those around the page
        with suppress(pdfium.PdfiumError):
            for mark in islice(document.get_toc(), _MAX_OUTLINE):
                place = mark.get_dest()
                page_no = place.get_index() if place else None
                title = normalised(_plain(mark.get_title() or ""))[:MAX_TITLE_CHARS]
                if page_no is not None and title:
                    self._by_page.setdefault(page_no, []).append((mark.level, title))

    def on(self, page_no: int, text: str) -> list[Heading]:
        """The headings that hold on a page, asked for page by page: those still open at its top,
        and where its own begin (at the top where their words are not found)."""
        headings = [Heading(0, 0, level, title) for level, title in self._open]
        at = 0
        for level, title in self._by_page.get(page_no, ()):
            words = r"\s+".join(re.escape(word) for word in title.split())
            found = re.compile(words, re.IGNORECASE).search(text, at)
            start, at = found.span() if found else (at, at)
            headings.append(Heading(start, at, level, title))
            self._open = [one for one in self._open if one[0] < level] + [(level, title)]
        return headings
