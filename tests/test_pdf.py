"""PDFs: written by hand or by pypdf, which shares nothing with the reader."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable

import pypdf
import pytest
from pypdf.annotations import FreeText, Link, Text

from hostile import build_pdf, pdf_stream, pdf_with_text
from mmsearch.errors import DecodeError, LimitExceeded
from mmsearch.media import Limits, decode
from mmsearch.types import Part, Preprocess

PREPROCESS = Preprocess(image_px=64, sample_rate_hz=16000, window_s=10.0)


def parts(data: bytes, preprocess: Preprocess = PREPROCESS) -> list[Part]:
    return list(decode(data, "pdf", preprocess))


def changed(data: bytes, change: Callable[[pypdf.PdfWriter], object]) -> bytes:
    """A document after pypdf did something to it."""
    writer = pypdf.PdfWriter(io.BytesIO(data))
    change(writer)
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def glyphs(text: bytes, to_unicode: str) -> bytes:
    """A page of text in a font that says what each of its glyphs means."""
    cmap = (
        b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap"
        b" /CMapName /A def /CMapType 2 def 1 begincodespacerange <00> <ff> endcodespacerange "
        + to_unicode.encode()
        + b" endcmap CMapName currentdict /CMap defineresource pop end end"
    )
    return build_pdf(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [4 0 R] /Count 1 >>",
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 6 0 R >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 5 0 R"
            b" /Resources << /Font << /F1 3 0 R >> >> >>",
            pdf_stream(b"BT /F1 12 Tf 14 TL 72 720 Td " + text + b" ET"),
            pdf_stream(cmap),
        ]
    )


def test_a_pdf_passage_names_its_page() -> None:
    data = pdf_with_text("The first page.", "The second page.")
    assert [(p.data, p.meta["page"], p.part_no) for p in parts(data)] == [
        ("The first page.", 1, 0),
        ("The second page.", 2, 1),
    ]


def test_a_pdf_of_pictures_and_a_damaged_one_say_why() -> None:
    with pytest.raises(DecodeError, match="no text layer"):
        parts(pdf_with_text(""))
    with pytest.raises(DecodeError, match="damaged or cut short"):
        parts(b"%PDF-1.4\nnothing")


def test_too_many_pages_are_refused() -> None:
    with pytest.raises(LimitExceeded, match="3 pages; at most 2"):
        list(decode(pdf_with_text("a", "b", "c"), "pdf", PREPROCESS, Limits(max_pdf_pages=2)))


def test_a_stream_that_unpacks_to_gigabytes_is_refused() -> None:
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R >>",
        pdf_stream(zlib.compress(bytes(200 << 20), 9), b"/Filter /FlateDecode"),
    ]
    with pytest.raises(DecodeError):
        parts(build_pdf(objects))


@pytest.mark.parametrize("algorithm", ["RC4-40", "RC4-128", "AES-128", "AES-256"])
def test_an_encrypted_pdf_is_read_without_a_password_or_says_that_it_needs_one(
    algorithm: str,
) -> None:
    document = pdf_with_text("open to all")
    free = changed(document, lambda w: w.encrypt("", "owner", algorithm=algorithm))
    assert parts(free)[0].data == "open to all"
    locked = changed(document, lambda w: w.encrypt("password", algorithm=algorithm))
    with pytest.raises(DecodeError, match="encrypted with a password"):
        parts(locked)


def test_letters_are_what_people_search_for() -> None:
    ligatures = "3 beginbfchar <41> <FB01> <42> <FB03> <43> <E001> endbfchar"
    arabic = "2 beginbfchar <41> <FEE7> <42> <2F08> endbfchar"
    assert parts(glyphs(b"(Anal oBce C) Tj", ligatures))[0].data == "final office"
    assert set(str(parts(glyphs(b"(A) Tj T* (B) Tj", arabic))[0].data)) == set("ن人")


def test_a_word_that_is_parted_at_the_end_of_a_line_is_one() -> None:
    document = glyphs(b"(a photo-) Tj T* (graph of a) Tj", "0 beginbfchar endbfchar")
    assert parts(document)[0].data == "a photograph of a"


def test_what_was_written_into_a_form_is_found_and_what_is_hidden_is_not() -> None:
    def field(name: str, what: str) -> bytes:
        place = b"/Subtype /Widget /Rect [10 10 90 30] /P 4 0 R"
        return f"<< /Type /Annot /T ({name}) {what} ".encode() + place + b" >>"

    box = " /AP << /N << /On 11 0 R /Off 11 0 R >> >>"
    document = build_pdf(
        [
            b"<< /Type /Catalog /Pages 2 0 R /AcroForm << /Fields"
            b" [5 0 R 6 0 R 7 0 R 8 0 R 9 0 R 10 0 R] >> >>",
            b"<< /Type /Pages /Kids [4 0 R] /Count 1 >>",
            b"null",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792]"
            b" /Annots [5 0 R 6 0 R 7 0 R 8 0 R 9 0 R 10 0 R] >>",
            field("name", "/FT /Tx /V (Winnie) /F 4"),
            field("colour", "/FT /Ch /Ff 131072 /Opt [(red) (green)] /V (green) /F 4"),
            field("yes", "/FT /Btn /V /On /AS /On /TU (Third party) /F 4" + box),
            field("no", "/FT /Btn /V /Off /AS /Off /TU (Fire) /F 4" + box),
            field("secret", "/FT /Tx /Ff 8192 /V (password) /F 4"),
            field("hidden", "/FT /Tx /V (unseen) /F 2"),
            pdf_stream(b"", b"/Type /XObject /Subtype /Form /BBox [0 0 9 9]"),
        ]
    )
    # What PDFium draws of a password is not what it is.
    assert str(parts(document)[0].data).split() == ["Winnie", "green", "********", "Third", "party"]


def test_what_a_note_or_a_stamp_draws_is_there_once() -> None:
    def drawn(text: str) -> bytes:
        fonts = b"/Resources << /Font << /F1 3 0 R >> >>"
        return pdf_stream(
            f"BT /F1 9 Tf 2 2 Td ({text}) Tj ET".encode(),
            b"/Type /XObject /Subtype /Form /BBox [0 0 200 20] " + fonts,
        )

    note = b"/Subtype /FreeText /Contents (see  chapter two) /AP << /N 6 0 R >>"
    stamp = b"/Subtype /Stamp /AP << /N 8 0 R >>"
    document = build_pdf(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [4 0 R] /Count 1 >>",
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Annots [5 0 R 7 0 R] >>",
            b"<< /Type /Annot /Rect [10 40 210 60] /F 4 " + note + b" >>",
            drawn("see chapter two"),
            b"<< /Type /Annot /Rect [10 10 210 30] /F 4 " + stamp + b" >>",
            drawn("E-signed by Ishmael"),
        ]
    )
    assert parts(document)[0].data == "see chapter two E-signed by Ishmael"


def test_notes_are_found_and_links_are_not() -> None:
    place = (10, 10, 90, 30)

    def annotate(writer: pypdf.PdfWriter) -> None:
        writer.add_annotation(0, FreeText(text="written beside it", rect=place))
        writer.add_annotation(0, Text(text="a sticky note", rect=place))
        writer.add_annotation(0, Link(rect=place, url="https://example.org/never"))

    read = parts(changed(pdf_with_text("the page"), annotate))
    assert [p.data for p in read] == ["the page written beside it a sticky note"]


def test_title_author_and_sections_are_kept() -> None:
    def name(writer: pypdf.PdfWriter) -> None:
        writer.add_metadata({"/Title": "Of Whales", "/Author": "Ishmael"})
        first = writer.add_outline_item(title="Extracts", page_number=0)
        writer.add_outline_item(title="A Paragraph", page_number=1, parent=first)
        writer.add_outline_item(title="Loomings", page_number=2)

    pages = pdf_with_text("Extracts. Some.", "More of it. A Paragraph", "Call me", "and more")
    read = parts(changed(pages, name))
    assert [p.meta.get("section") for p in read] == ["Extracts", "Extracts", "Loomings", "Loomings"]
    assert {(p.meta["title"], p.meta["author"]) for p in read} == {("Of Whales", "Ishmael")}
    small = Preprocess(64, 16000, 10.0, passage_words=3, passage_overlap=0.0)
    read = parts(changed(pages, name), small)
    assert ("A Paragraph", "Extracts › A Paragraph") in [
        (p.data, p.meta.get("section")) for p in read
    ]


def test_an_outline_that_loops_is_left_at_that() -> None:
    document = build_pdf(
        [
            b"<< /Type /Catalog /Pages 2 0 R /Outlines 6 0 R >>",
            b"<< /Type /Pages /Kids [4 0 R] /Count 1 >>",
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 5 0 R"
            b" /Resources << /Font << /F1 3 0 R >> >> >>",
            pdf_stream(b"BT /F1 12 Tf 72 720 Td (words) Tj ET"),
            b"<< /Type /Outlines /First 7 0 R /Last 7 0 R /Count 1 >>",
            b"<< /Title (round) /Parent 6 0 R /First 7 0 R /Next 7 0 R /Dest [4 0 R /Fit] >>",
        ]
    )
    assert [(p.data, p.meta["section"]) for p in parts(document)] == [("words", "round")]


def test_more_text_than_is_read_of_one_document_is_a_limit() -> None:
    with pytest.raises(LimitExceeded, match="more than 9 characters"):
        list(
            decode(pdf_with_text("words", "words"), "pdf", PREPROCESS, Limits(max_pdf_text_chars=9))
        )
