"""PDF: the text layer page by page; passages do not cross pages, so a hit can name its page.

pypdf (6 and later) refuses streams that unpack to more than 75 MB, page trees that loop or
are deeper than 100, and content of more than 2 million operands: its defaults are kept.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Any

import pypdf
from pypdf.errors import PyPdfError

from mmsearch.errors import DecodeError, LimitExceeded
from mmsearch.media.limits import Limits
from mmsearch.media.text import normalised, spans
from mmsearch.types import Modality, Part, Preprocess

_MAX_TITLE_CHARS = 300


def parts(
    data: bytes, preprocess: Preprocess, limits: Limits, skip_parts: int = 0
) -> Iterator[Part]:
    """The passages of a document. meta: page (from 1), offset on it, title where there is one.

    A page that cannot be read is passed over as long as others give text.
    """
    reader, pages = _opened(data, limits)
    title = _title(reader)
    deadline = time.monotonic() + limits.max_pdf_s
    number, characters, complaint = -1, 0, ""
    for page_no in range(pages):
        if time.monotonic() > deadline:
            raise LimitExceeded(
                f"took more than {limits.max_pdf_s:.0f} s, at page {page_no + 1} of {pages}"
            )
        try:
            # Fonts without a proper map give lone surrogates, which no file can hold.
            text = reader.pages[page_no].extract_text().encode("utf-8", "replace").decode("utf-8")
        except MemoryError:
            raise
        except Exception as error:  # a damaged page raises nearly anything
            complaint = complaint or f"page {page_no + 1}: {error or type(error).__name__}"
            continue
        characters += len(text)
        if characters > limits.max_pdf_text_chars:
            raise LimitExceeded(f"gives more than {limits.max_pdf_text_chars:,} characters of text")
        for start, end in spans(text, preprocess):
            number += 1
            if number >= skip_parts:
                meta: dict[str, Any] = {"page": page_no + 1, "offset": start}
                passage = normalised(text[start:end])
                yield Part(
                    Modality.TEXT, number, passage, meta=meta | ({"title": title} if title else {})
                )
    if number < 0:
        raise DecodeError(
            f"no page can be read ({complaint})" if complaint else "has no text layer (scanned?)"
        )


def _opened(data: bytes, limits: Limits) -> tuple[pypdf.PdfReader, int]:
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not _opens_without_password(reader):
            raise DecodeError("is encrypted with a password")
        pages = len(reader.pages)
    except (DecodeError, MemoryError):
        raise
    except Exception as error:
        what = str(error) if isinstance(error, PyPdfError) else f"{type(error).__name__}: {error}"
        raise DecodeError(f"the PDF is damaged or cut short ({what.rstrip('.')})") from error
    if pages > limits.max_pdf_pages:
        raise LimitExceeded(f"has {pages:,} pages; at most {limits.max_pdf_pages:,} are read")
    if pages == 0:
        raise DecodeError("has no pages")
    return reader, pages


def _opens_without_password(reader: pypdf.PdfReader) -> bool:
    """Many documents are encrypted with an empty password, only to forbid printing."""
    try:
        return bool(reader.decrypt(""))
    except pypdf.errors.DependencyError:
        raise DecodeError("is encrypted (AES), which needs a password or another reader") from None


def _title(reader: pypdf.PdfReader) -> str | None:
    try:
        title = reader.metadata.title if reader.metadata else None
    except Exception:  # the catalogue of a damaged file; the pages may still be whole
        return None
    return normalised(str(title))[:_MAX_TITLE_CHARS] if title and str(title).strip() else None
