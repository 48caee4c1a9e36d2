"""Documents of office programs, e-books and mail: written by other packages, or by hand."""

from __future__ import annotations

import io
import random
import re
import zipfile
import zlib
from contextlib import suppress
from datetime import date, datetime, time

import pytest
from PIL import Image

from documents import (
    LETTER,
    ODF,
    ODF_CHART,
    ODF_FRAME,
    RTF,
    W,
    book,
    harmed,
    open_document,
    paragraph,
    slides,
    whole,
    word,
    zipped,
)
from mmsearch.errors import DecodeError, LimitExceeded
from mmsearch.media import Limits, decode, sniff
from mmsearch.media.alt_text import alt_text
from mmsearch.types import Part, Preprocess

PREPROCESS = Preprocess(image_px=64, sample_rate_hz=16000, window_s=10.0)


def parts(data: bytes, name: str, limits: Limits | None = None, skip: int = 0) -> list[Part]:
    kind = sniff(data[:8192], name)
    assert kind is not None
    return list(decode(data, kind, PREPROCESS, limits, skip))


def said(data: bytes, name: str) -> str:
    return "\n".join(str(part.data) for part in parts(data, name))


# -- as other packages write them -----------------------------------------------------


def test_a_document_that_python_docx_wrote_is_read_whole() -> None:
    docx = pytest.importorskip("docx")
    document = docx.Document()
    document.core_properties.title, document.core_properties.author = "Of Whales", "Ishmael"
    document.add_heading("Loomings", 1)
    opening = document.add_paragraph("Call me ")
    opening.add_run("Ishmael").bold = True
    table = document.add_table(2, 2)
    for at, cell in enumerate(("north", "south", "east", "west")):
        table.cell(*divmod(at, 2)).text = cell
    document.add_comment(opening.runs, text="who is it?")
    document.sections[0].header.paragraphs[0].text = "the header"
    buffer = io.BytesIO()
    document.save(buffer)
    (part,) = parts(buffer.getvalue(), "x.docx")
    text = str(part.data)
    assert text.startswith("Loomings Call me Ishmael")
    for words in ("north south east west", "who is it?", "the header"):
        assert words in text
    assert part.meta == {
        "title": "Of Whales",
        "author": "Ishmael",
        "offset": part.meta["offset"],
        "section": "Loomings",
    }


def test_slides_that_python_pptx_wrote_have_their_page_and_notes() -> None:
    pptx = pytest.importorskip("pptx")
    show = pptx.Presentation()
    first = show.slides.add_slide(show.slide_layouts[1])
    first.shapes.title.text, first.placeholders[1].text = "Sails", "main\nmizzen"
    first.notes_slide.notes_text_frame.text = "say this aloud"
    second = show.slides.add_slide(show.slide_layouts[5])
    second.shapes.title.text = "Ropes"
    cells = second.shapes.add_table(1, 2, 0, 0, 9, 9).table
    cells.cell(0, 0).text, cells.cell(0, 1).text = "left", "right"
    ids = show.slides._sldIdLst  # shown in another order than they were written
    ids.append(ids[0])
    buffer = io.BytesIO()
    show.save(buffer)
    found = [
        (p.data, p.meta["page"], p.meta["section"]) for p in parts(buffer.getvalue(), "x.pptx")
    ]
    assert found == [
        ("Ropes left right", 1, "Ropes"),
        ("Sails main mizzen say this aloud", 2, "Sails"),
    ]


def test_sheets_that_openpyxl_wrote_are_read_row_by_row() -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Fruit"
    sheet.append(["name", "kilos", True])
    sheet.append(["apple", 3.5])
    sheet["A2"].comment = openpyxl.comments.Comment("from the garden", "somebody")
    book.create_sheet("Vegetables").append(["carrot", 2])
    buffer = io.BytesIO()
    book.save(buffer)
    found = [(p.data, p.meta["section"]) for p in parts(buffer.getvalue(), "x.xlsx")]
    assert found == [
        ("Fruit name kilos TRUE apple 3.5 from the garden", "Fruit"),
        ("Vegetables carrot 2", "Vegetables"),
    ]


def test_cells_say_what_people_see_in_them() -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    sheet = book.active
    cells = [
        (date(2024, 3, 17), "yyyy-mm-dd"),
        (datetime(2024, 3, 18, 13, 45), "dd.mm.yy hh:mm"),
        (time(9, 30), "h:mm"),
        (0.25, "0%"),
        (19.99, '"$"0.00'),
        (3, '0 "days"'),
        (False, "General"),
    ]
    for column, (value, format) in enumerate(cells, 1):
        sheet.cell(1, column, value).number_format = format
    buffer = io.BytesIO()
    book.save(buffer)
    expected = "Sheet 2024-03-17 2024-03-18 13:45 09:30 25% 19.99 3 FALSE"
    assert said(buffer.getvalue(), "x.xlsx") == expected


def test_dates_of_a_workbook_that_counts_from_1904_are_right() -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.epoch = openpyxl.utils.datetime.MAC_EPOCH
    book.active.append([date(2024, 3, 17)])
    buffer = io.BytesIO()
    book.save(buffer)
    assert said(buffer.getvalue(), "x.xlsx") == "Sheet 2024-03-17"


# -- what they do not write -----------------------------------------------------------


def test_notes_and_text_boxes_are_read_once_and_deleted_text_is_not() -> None:
    box = "<w:txbxContent>" + paragraph("in a box") + "</w:txbxContent>"
    drawn = (
        "<w:p><w:r><w:t>around </w:t></w:r><w:r><mc:AlternateContent>"
        f"<mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback>"
        "</mc:AlternateContent></w:r><w:r><w:t> it</w:t></w:r></w:p>"
    )
    changed = (
        "<w:p><w:del><w:r><w:delText>gone</w:delText></w:r></w:del>"
        "<w:moveFrom><w:r><w:t>moved</w:t></w:r></w:moveFrom>"
        "<w:ins><w:r><w:t>new</w:t></w:r></w:ins>"
        "<w:r><w:instrText>PAGE</w:instrText></w:r></w:p>"
    )
    notes = f"<w:footnotes {W}>{paragraph('below')}</w:footnotes>"
    text = said(word(drawn + changed, {"word/footnotes.xml": notes}), "x.docx")
    assert text.split() == "around in a box it new below".split()


WHALE = "A grey whale &amp; a boat"


def test_what_is_said_of_pictures_is_read_once() -> None:
    seen = WHALE.replace("&amp;", "&")
    drawn = (
        f'<w:r><w:drawing><w:docPr name="Picture 1" descr="{WHALE}"/>'
        f'<w:cNvPr name="Picture 1" descr="{WHALE}"/></w:drawing></w:r>'
    )
    styles = {"word/styles.xml": f"<w:styles {W}>{HEADING_STYLE}</w:styles>"}
    body = paragraph("Whales", "S").replace("</w:p>", drawn + "</w:p>") + paragraph("words")
    (part,) = parts(word(body, styles), "x.docx")
    assert (part.data, part.meta["section"]) == (f"Whales {seen} words", "Whales")

    picture = f'<p:pic><p:cNvPr name="Picture 2" descr="{WHALE}"/></p:pic>'
    shape = "<p:sp><a:p><a:r><a:t>{}</a:t></a:r></a:p></p:sp>"
    show = slides(shape.format("before") + picture + shape.format("behind"))
    assert said(show, "x.pptx") == f"before {seen} behind"

    frame = (
        "<draw:frame draw:name='Image1'><svg:title>whale.jpg</svg:title>"
        f"<svg:desc>{WHALE}</svg:desc></draw:frame>"
    )
    body = f"<office:text><text:p>before{frame}behind</text:p></office:text>"
    assert said(open_document("text", body), "x.odt") == f"before {seen} behind"
    body = f"<office:presentation><draw:page>{frame}</draw:page></office:presentation>"
    assert said(open_document("presentation", body), "x.odp") == seen


def test_what_is_said_of_a_picture_in_a_sheet_is_read() -> None:
    openpyxl = pytest.importorskip("openpyxl")
    drawn = io.BytesIO()
    Image.new("RGB", (9, 9)).save(drawn, "PNG")
    book = openpyxl.Workbook()
    book.active.add_image(openpyxl.drawing.image.Image(drawn))
    buffer = io.BytesIO()
    book.save(buffer)
    with zipfile.ZipFile(buffer) as archive:
        entries = {one: archive.read(one) for one in archive.namelist()}
    name = "xl/drawings/drawing1.xml"
    changed = re.sub(rb"(<(?:\w+:)?cNvPr) [^>]*?(/?>)", rb'\1 descr="A whale"\2', entries[name])
    data = zipped({**entries, name: changed})
    assert said(data, "x.xlsx") == "Sheet A whale"


def test_titles_of_charts_in_sheets_are_read() -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (("fish", "kilos"), ("cod", 3)):
        sheet.append(row)
    chart = openpyxl.chart.BarChart()
    chart.title, chart.y_axis.title = "Landings", "tonnes"
    chart.add_data(openpyxl.chart.Reference(sheet, 2, 1, 2, 2), titles_from_data=True)
    sheet.add_chart(chart)
    buffer = io.BytesIO()
    book.save(buffer)
    assert said(buffer.getvalue(), "x.xlsx") == "Sheet fish kilos cod 3 Landings tonnes"
    with zipfile.ZipFile(buffer) as archive:
        entries = {one: archive.read(one) for one in archive.namelist()}
    damaged = zipped({**entries, "xl/charts/chart1.xml": "<c:chart"})
    assert said(damaged, "x.xlsx") == "Sheet fish kilos cod 3"


def test_charts_of_open_documents_are_read_where_they_stand() -> None:
    more = {"Object 1/content.xml": ODF_CHART}
    heading = f"<text:h text:outline-level='1'>Fish{ODF_FRAME}</text:h><text:p>words</text:p>"
    text = f"<office:text>{heading}</office:text>"
    (part,) = parts(open_document("text", text, more), "x.odt")
    assert (part.data, part.meta["section"]) == ("Fish Landings cod words", "Fish")

    page = "<draw:page>{}<text:p>words</text:p></draw:page>"
    show = "<office:presentation>" + page.format(ODF_FRAME) + page.format("")
    data = open_document("presentation", f"{show}</office:presentation>", more)
    found = [(p.data, p.meta["page"]) for p in parts(data, "x.odp")]
    assert found == [("Landings cod words", 1), ("words", 2)]

    cell = f"<table:table-cell><text:p>cod</text:p>{ODF_FRAME}</table:table-cell>"
    row = f"<table:table-row>{cell}<table:table-cell><text:p>3</text:p></table:table-cell>"
    sheet = f"<table:table table:name='A'>{row}</table:table-row></table:table>"
    other = "<table:table table:name='B'></table:table>"
    body = f"<office:spreadsheet>{sheet}{other}</office:spreadsheet>"
    found = [p.data for p in parts(open_document("spreadsheet", body, more), "x.ods")]
    assert found == ["A cod 3 Landings", "B"]


@pytest.mark.parametrize(
    "damaged",
    [
        ODF_CHART[:-60],
        "<!DOCTYPE x [<!ENTITY a 'ha'>]>" + ODF_CHART,
        "<?xml version='1.0' encoding='nonsense'?>" + ODF_CHART,
        "<?xml version='1.0' encoding='gb18030'?>" + ODF_CHART,
        "",
        "<x/>",
    ],
)
def test_a_chart_that_is_damaged_does_not_cost_the_document(damaged: str) -> None:
    body = f"<office:text><text:h>Fish{ODF_FRAME}</text:h><text:p>words</text:p></office:text>"
    (part,) = parts(open_document("text", body, {"Object 1/content.xml": damaged}), "x.odt")
    assert part.meta["section"] == "Fish"
    assert set(str(part.data).split()) >= {"Fish", "words"}


def test_headers_and_footers_of_an_open_text_are_read_once() -> None:
    def master(more: str) -> str:
        header = "<style:header><text:h text:outline-level='1'>Above</text:h></style:header>"
        return f"<style:master-page>{header}{more}</style:master-page>"

    foot = (
        "<style:footer><text:p>Below <text:page-number>9</text:page-number></text:p></style:footer>"
    )
    left = "<style:header-left style:display='false'><text:p>never</text:p></style:header-left>"
    styles = (
        f"<office:document-styles {ODF}><office:styles><text:p>a style</text:p></office:styles>"
        f"<office:master-styles>{master(foot)}{master(left)}"
    )
    more = {"styles.xml": styles + "</office:master-styles></office:document-styles>"}
    body = "<office:text><text:h>One</text:h><text:p>words</text:p></office:text>"
    (part,) = parts(open_document("text", body, more), "x.odt")
    assert (part.data, part.meta["section"]) == ("One words Above Below", "One")
    (part,) = parts(open_document("text", body, {"styles.xml": styles}), "x.odt")
    assert part.data == "One words Above Below"
    body = (
        "<office:presentation><draw:page><text:p>words</text:p></draw:page></office:presentation>"
    )
    assert said(open_document("presentation", body, more), "x.odp") == "words"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("  A grey\n whale ", "A grey whale"),
        ("A red square\n\nAI-generated content may be incorrect.", "A red square"),
        ("一只鲸鱼\n\nAI 生成的内容可能不正确。", "一只鲸鱼"),
        ("Description: A whale", "A whale"),
        ("A whale\n\nand a boat", "A whale and a boat"),
        ("Picture 3 of whales", "Picture 3 of whales"),
        *((noise, "") for noise in ("", " ", "*", "Picture 3", "image", "IMG_1234", "图片 1")),
        *((noise, "") for noise in ("image1.png", "My whale.JPG", "Description: C:\\x\\y.jpeg")),
        *((noise, "") for noise in ("https://example.org/a?b", "banner_white-2", "2024-05-01")),
        ("whale " * 1000, ("whale " * 83).strip()),
        ("A " + "鲸" * 1000, "A " + "鲸" * 498),
    ],
)
def test_what_programs_say_of_pictures_is_left_out(written: str, read: str) -> None:
    assert alt_text(written) == read


HEADING_STYLE = '<w:style w:styleId="S"><w:name w:val="heading 2"/></w:style>'


def test_a_table_behind_the_number_of_a_slide_is_read_and_the_number_is_not() -> None:
    words = "<a:p><a:r><a:t>{}</a:t></a:r></a:p>"
    number = f'<p:sp><p:ph type="sldNum"/>{words.format(7)}</p:sp>'
    cell = f"<a:tbl><a:tr><a:tc>{words.format('north')}</a:tc></a:tr></a:tbl>"
    assert said(slides(f"{number}<p:graphicFrame>{cell}</p:graphicFrame>"), "x.pptx") == "north"


@pytest.mark.parametrize(
    "style",
    [
        HEADING_STYLE,
        '<w:style w:styleId="S"><w:name w:val="Mine"/><w:pPr><w:outlineLvl w:val="1"/></w:pPr>'
        "</w:style>",
    ],
)
def test_headings_are_told_by_their_style_whatever_it_is_called(style: str) -> None:
    body = paragraph("A heading", "S") + paragraph("words")
    data = word(body, {"word/styles.xml": f"<w:styles {W}>{style}</w:styles>"})
    assert [(p.data, p.meta["section"]) for p in parts(data, "x.docx")] == [
        ("A heading words", "A heading")
    ]


def test_a_heading_that_holds_a_text_box_is_a_heading_of_its_own_words() -> None:
    styles = f"<w:styles {W}>{HEADING_STYLE}</w:styles>"
    box = "<w:r><w:txbxContent>" + paragraph("in a box") + "</w:txbxContent></w:r>"
    body = paragraph("A heading", "S").replace("</w:p>", box + "</w:p>") + paragraph("words")
    (part,) = parts(word(body, {"word/styles.xml": styles}), "x.docx")
    assert (part.data, part.meta["section"]) == ("A heading in a box words", "A heading")
    body = (
        '<office:text><text:h text:outline-level="1">A heading<draw:frame><draw:text-box>'
        "<text:p>in a box</text:p></draw:text-box></draw:frame></text:h><text:p>words</text:p>"
        "</office:text>"
    )
    (part,) = parts(open_document("text", body), "x.odt")
    assert (part.data, part.meta["section"]) == ("A heading in a box words", "A heading")


def test_how_a_paragraph_was_before_a_change_makes_no_heading_of_it() -> None:
    styles = f"<w:styles {W}>{HEADING_STYLE}</w:styles>"
    change = '<w:pPrChange><w:pPr><w:pStyle w:val="S"/></w:pPr></w:pPrChange></w:pPr>'
    body = paragraph("No heading", "Text").replace("</w:pPr>", change)
    (part,) = parts(word(body, {"word/styles.xml": styles}), "x.docx")
    assert (part.data, part.meta.get("section")) == ("No heading", None)


def test_an_open_document_is_read_whole() -> None:
    body = (
        "<office:text><text:tracked-changes><text:p>deleted</text:p></text:tracked-changes>"
        '<text:h text:outline-level="1">Loomings</text:h>'
        "<text:p>Call<text:s text:c='3'/>me<text:tab/>Ishmael"
        "<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>below"
        "</text:p></text:note-body></text:note>.</text:p>"
        "<table:table><table:table-row><table:table-cell><text:p>north</text:p>"
        "</table:table-cell><table:table-cell><text:p>south</text:p></table:table-cell>"
        "</table:table-row></table:table></office:text>"
    )
    (part,) = parts(open_document("text", body), "x.odt")
    assert part.data == "Loomings Call me Ishmael below . north south"
    assert (part.meta["title"], part.meta["section"]) == ("T", "Loomings")


@pytest.mark.parametrize(
    ("named", "author"),
    [
        ("<m:initial-creator>A</m:initial-creator><m:creator>B</m:creator>", "A"),
        ("<m:creator>B</m:creator><m:initial-creator>A</m:initial-creator>", "A"),
        ("<m:creator>B</m:creator>", "B"),
        ("", None),
    ],
)
def test_the_author_of_an_open_document_is_who_began_it(named: str, author: str | None) -> None:
    body = "<office:text><text:p>words</text:p></office:text>"
    more = {"meta.xml": f'<x xmlns:m="m">{named}</x>'}
    (part,) = parts(open_document("text", body, more), "x.odt")
    assert part.meta.get("author") == author and "last" not in part.meta


def test_slides_of_an_open_document_have_their_page() -> None:
    page = (
        "<draw:page><draw:frame presentation:class='title'><text:p>{}</text:p></draw:frame>"
        "<draw:frame><text:p>words <text:page-number>9</text:page-number></text:p></draw:frame>"
        "</draw:page>"
    )
    body = f"<office:presentation>{page.format('One')}{page.format('Two')}</office:presentation>"
    found = parts(open_document("presentation", body), "x.odp")
    assert [(p.data, p.meta["page"], p.meta["section"]) for p in found] == [
        ("One words", 1, "One"),
        ("Two words", 2, "Two"),
    ]


def test_sheets_of_an_open_document_are_read_row_by_row() -> None:
    row = "<table:table-row>" + "<table:table-cell><text:p>{}</text:p></table:table-cell>" * 2
    sheet = "<table:table table:name='Fruit'>" + row.format("apple", 3) + "</table:table-row>"
    body = f"<office:spreadsheet>{sheet}</table:table></office:spreadsheet>"
    (part,) = parts(open_document("spreadsheet", body), "x.ods")
    assert (part.data, part.meta["section"]) == ("Fruit apple 3", "Fruit")


def test_a_book_is_read_in_the_order_of_its_chapters() -> None:
    found = parts(book(), "x.epub")
    assert [(p.data, p.meta["section"]) for p in found] == [
        ("One Call me.", "One"),
        ("Two Aboard.", "Two"),
    ]
    assert {(p.meta["title"], p.meta["author"]) for p in found} == {("Of Whales", "Ishmael")}
    two = book(
        **{
            "in/a.opf": '<p xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:creator>A</dc:creator>'
            '<dc:creator>B</dc:creator><item id="a" href="first.xhtml" '
            'media-type="application/xhtml+xml"/><itemref idref="a"/></p>'
        }
    )
    assert parts(two, "x.epub")[0].meta["author"] == "A; B"
    damaged = parts(book(**{"in/first.xhtml": random.Random(1).randbytes(2000)}), "x.epub")
    assert [p.data for p in damaged] == ["Two Aboard."]
    with pytest.raises(DecodeError, match="locked"):
        parts(book(**{"META-INF/rights.xml": "<x/>"}), "x.epub")


def test_rich_text_is_read_in_its_encodings_with_its_notes() -> None:
    (part,) = parts(RTF, "x.rtf")
    assert str(part.data).split() == "top Hello world café, naïve Привет seven below 🙀 {x}".split()
    assert (part.meta["title"], part.meta["author"]) == ("A Title", "Ishmael")


def test_who_changed_rich_text_last_is_not_its_author() -> None:
    (part,) = parts(rb"{\rtf1{\info{\author Ishmael}{\author Queequeg}}words}", "x.rtf")
    assert part.meta["author"] == "Ishmael"


def test_the_author_of_rich_text_is_read_as_unicode_has_it() -> None:
    names = rb"{\upr{\author Ishma?l}{\*\ud{\author Ishma\u235?l}}}"
    (part,) = parts(rb"{\rtf1{\info" + names + rb"{\author Queequeg}}words}", "x.rtf")
    assert (part.data, part.meta["author"]) == ("words", "Ishmaël")


STYLES = (
    rb"{\stylesheet{\ql Normal;}{\s1\outlinelevel0{\*\keycode x}heading 1;}{\s2 Heading 2;}"
    rb"{\s7 Title;}{\s8\outlinelevel1 Mine;}{\*\cs9 heading 3 Char;}}"
)


@pytest.mark.parametrize(
    ("heading", "section"),
    [
        (rb"\pard\s1 Of {\b ships}\par", "Of ships"),
        (rb"\pard\s2{\listtext\pard\tab 1. }{Sails{\footnote\pard sewn\par}}\par", "1. Sails"),
        (rb"\pard\s8 Ropes\par", "Ropes"),
        (rb"{\pard\outlinelevel1\b Masts\par}", "Masts"),
        (rb"\pard\s1 Of ships\par\pard\s2 Sails\par", "Of ships"),
        (b"\\pard\\s7 Of\\line ships\\\n", "Of ships"),
        (rb"\pard\outlinelevel9 words\par", None),
        (rb"\pard\cs9 words\par", None),
        (rb"\trowd\pard\intbl\s1 north\par south\cell\row", None),
        (rb"{\header\pard\s1 top\par}", None),
    ],
)
def test_headings_of_rich_text_are_told_by_their_style_or_level(
    heading: bytes, section: str | None
) -> None:
    (part,) = parts(rb"{\rtf1" + STYLES + heading + rb"\pard words\par}", "x.rtf")
    assert (part.meta.get("section"), str(part.data).split()[-1]) == (section, "words")


def test_sections_of_rich_text_begin_behind_each_other() -> None:
    read = rb"{\rtf1" + STYLES
    for heading in (rb"\s7 Boats", rb"\s1 Sails", rb"\s2 Jibs", rb"\s1 Oars"):
        read += rb"\pard" + heading + rb"\par\pard\s0 " + b"words " * 150 + rb"\par"
    assert [(str(p.data)[:5], p.meta["section"]) for p in parts(read + b"}", "x.rtf")] == [
        ("Boats", "Boats"),
        ("Sails", "Boats › Sails"),
        ("Jibs ", "Boats › Sails › Jibs"),
        ("Oars ", "Boats › Oars"),
    ]


def test_a_letter_is_read_once_and_what_is_attached_is_named() -> None:
    (part,) = parts(LETTER, "x.eml")
    assert part.data == (
        "Grüße from the sea From: Jürgen <j@example.org> To: b@example.org "
        "Date: Mon, 2 Nov 2026 10:00:00 +0100 The sea is grün. Attached: chart.pdf"
    )
    assert part.meta["title"] == "Grüße from the sea"
    assert part.meta["author"] == "Jürgen <j@example.org>"


def test_headers_that_are_not_encoded_are_read_all_the_same() -> None:
    for charset in ("utf-8", "iso-8859-1"):
        letter = (
            f"From: Müller <m@x.y>\nSubject: Grüße\nContent-Type: text/plain; charset={charset}"
        )
        (part,) = parts((letter + "\n\nschön\n").encode(charset), "x.eml")
        assert (part.meta["title"], part.meta["author"]) == ("Grüße", "Müller <m@x.y>")


def test_what_was_forwarded_keeps_its_subject_and_sender() -> None:
    letter = (
        b"From: me@x.y\nSubject: Fwd\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b"
        b"\n\n--b\nContent-Type: text/plain\n\nsee below\n--b\nContent-Type: message/rfc822\n\n"
        b"From: air@x.y\nSubject: Your flight to Lisbon\nContent-Type: text/plain\n\nSeat 12A"
        b"\n--b--\n"
    )
    assert said(letter, "x.eml") == (
        "Fwd From: me@x.y Forwarded: Your flight to Lisbon, air@x.y see below Seat 12A"
    )


def test_what_is_no_text_in_a_letter_does_not_cost_the_letter() -> None:
    letter = (
        b"From: a@x.y\nSubject: \x00\x01\xff\xfe\x02\x03\nMIME-Version: 1.0\n"
        b"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nwords\n"
        b"--b\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n\nAAECAwQFBgcAAQID"
        b"\n--b--\n"
    )
    assert said(letter, "x.eml").endswith("From: a@x.y words")


def test_a_note_that_there_is_a_page_is_not_taken_for_the_letter() -> None:
    page = b"<p>The elephant show begins at nine, " + b"and it is long. " * 20 + b"</p>"
    letter = (
        b"From: a@x.y\nSubject: s\nMIME-Version: 1.0\n"
        b"Content-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/plain\n\n"
        b"Your program cannot show HTML.\n--b\nContent-Type: text/html\n\n" + page + b"\n--b--\n"
    )
    text = said(letter, "x.eml")
    assert "elephant show" in text and "cannot show" not in text


def test_a_box_of_letters_is_taken_apart() -> None:
    second = b"From: c@d\nTo: e@f\nSubject: two\n\nSecond.\n>From here on nothing.\n"
    box = b"From a@b Mon Nov  2\n" + LETTER + b"\nFrom c@d Mon Nov  2\n" + second
    titles = [(p.meta["title"], p.part_no) for p in parts(box, "x.mbox")]
    assert titles == [("Grüße from the sea", 0), ("two", 1)]
    assert str(parts(box, "x.mbox", skip=1)[0].data).endswith("Second. From here on nothing.")


# -- what was made to harm ------------------------------------------------------------


def test_entities_are_not_expanded_and_nothing_else_is_opened() -> None:
    laughs = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
    outside = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    for kind in (laughs, outside):
        data = zipped(
            {"[Content_Types].xml": "", "word/document.xml": f"{kind}<x><t>&b;&a;</t></x>"}
        )
        with pytest.raises(DecodeError, match="a DTD"):
            parts(data, "x.docx")


def test_what_unpacks_to_more_than_is_read_is_a_limit() -> None:
    data = word(paragraph("word " * 400_000))
    assert len(data) < 20_000
    with pytest.raises(LimitExceeded, match="unpacks to more than 1,000,000 bytes"):
        parts(data, "x.docx", Limits(max_unpacked_bytes=1_000_000))
    with pytest.raises(LimitExceeded, match="more than 1,000,000 characters"):
        parts(data, "x.docx", Limits(max_document_chars=1_000_000))
    with pytest.raises(LimitExceeded, match="more than 1,000 bytes"):
        parts(data, "x.docx", Limits(max_document_bytes=1_000))


def test_very_many_slides_are_read_in_linear_time() -> None:
    pages = "<draw:page/>" * 100_000 + "<draw:page><text:p>words</text:p></draw:page>"
    data = open_document("presentation", f"<office:presentation>{pages}</office:presentation>")
    assert said(data, "x.odp") == "words"


def test_a_document_that_needs_a_password_says_so() -> None:
    data = bytearray(word(paragraph("secret")))
    for at in (m for m in range(len(data)) if data[m : m + 4] == b"PK\x01\x02"):
        data[at + 8] |= 1
    with pytest.raises(DecodeError, match="encrypted with a password"):
        parts(bytes(data), "x.docx")
    old = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)
    with pytest.raises(DecodeError, match="with a password, or from before 2007"):
        sniff(old, "x.xlsx")


def test_a_way_of_packing_that_is_not_known_is_not_taken_for_a_password() -> None:
    data = bytearray(word(paragraph("words")))
    for at in range(len(data)):
        if data[at : at + 4] == b"PK\x01\x02":
            data[at + 10] = 97
        if data[at : at + 4] == b"PK\x03\x04":
            data[at + 8] = 97
    with pytest.raises(DecodeError, match="cannot be unpacked"):
        parts(bytes(data), "x.docx")


def test_deep_documents_are_read_or_refused() -> None:
    deep = "<w:sdt>" * 100_000 + paragraph("deep") + "</w:sdt>" * 100_000
    assert said(word(deep), "x.docx") == "deep"
    headings = "<w:p><w:pPr><w:outlineLvl w:val='1'/></w:pPr><w:r><w:t>deep</w:t></w:r>" * 20_000
    assert said(word(headings + "</w:p>" * 20_000), "x.docx").startswith("deep deep")
    with pytest.raises(DecodeError, match="nested too deeply"):
        parts(b"{\\rtf1" + b"{" * 100_000 + b"x", "x.rtf")


@pytest.mark.parametrize(
    "data",
    [
        b"{\\rtf1 " + b"{\\field{\\*\\fldinst{" * 100_000 + b"x",
        b"{\\rtf1 " + b"\\'" * 500_000 + b"x",
        b"{\\rtf1\\outlinelevel1 " + b"{\\footnote x\\par " * 9_000 + b"}\\par" * 9_000,
        b"From: a\nTo: b\nSubject: c\n\n" + b"\nFrom " * 200_000 + b"x",
        b"From: a\nTo: b\nSubject: " + b"=?utf-8?q?" * 50_000 + b"\n\nx",
    ],
    ids=["fields", "escapes", "notes", "letters", "words"],
)
def test_no_pattern_takes_more_than_linear_time(data: bytes) -> None:
    name = "x.rtf" if data.startswith(b"{") else "x.mbox"
    with suppress(DecodeError):
        parts(data, name)


@pytest.mark.parametrize("name", whole())
def test_a_damaged_copy_is_read_or_refused(name: str) -> None:
    rng = random.Random(zlib.crc32(name.encode()))
    data = whole()[name]
    kind = sniff(data[:8192], name)
    assert kind is not None
    for _ in range(150):
        copy = harmed(data, rng)
        try:
            assert list(decode(copy, kind, PREPROCESS))
        except (DecodeError, LimitExceeded) as error:
            assert str(error) and "Error" not in str(error)


def test_headers_and_footers_of_sheets_are_read_without_their_codes() -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active["A1"] = "cell"
    book.active.oddHeader.center.text = "Quarterly ledger"
    book.active.oddHeader.center.font = "Arial,Bold"
    book.active.oddFooter.left.text = "page &P of &N"
    buffer = io.BytesIO()
    book.save(buffer)
    text = said(buffer.getvalue(), "x.xlsx")
    assert "Quarterly ledger" in text and "page of" in text and "Arial" not in text


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"From a@b Mon Jan  1 00:00:00 2024\nContent-Type: text/plain\n\nhello words\n", "x.mbox"),
        (b"MIME-Version: 1.0\nContent-Type: text/plain\n\nhello words\n", "x.eml"),
        (b"From a@b Mon Jan  1 00:00:00 2024\n\nhello words\n", "x.mbox"),
    ],
)
def test_a_letter_of_few_headers_is_one_by_its_name(data: bytes, name: str) -> None:
    assert sniff(data, name) == "mail" and "hello words" in said(data, name)
