"""Documents of each kind, written by hand, and ways to harm them."""

from __future__ import annotations

import io
import random
import zipfile


def zipped(entries: dict[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            how = zipfile.ZIP_STORED if name == "mimetype" else None
            archive.writestr(name, content, compress_type=how)
    return buffer.getvalue()


W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
MC = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'


DRAWN = (
    'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
    'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main"'
)


def word(body: str, more: dict[str, str] | None = None) -> bytes:
    return zipped(
        {
            "[Content_Types].xml": "<Types/>",
            "word/document.xml": f"<w:document {W} {MC}><w:body>{body}</w:body></w:document>",
            **(more or {}),
        }
    )


def paragraph(text: str, style: str = "") -> str:
    looks = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{looks}<w:r><w:t>{text}</w:t></w:r></w:p>"


ODF = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
    for name in ("office", "text", "table", "draw", "presentation", "chart", "style")
)
ODF += ' xmlns:svg="urn:oasis:names:tc:opendocument:xmlns:svg-compatible:1.0"'
ODF += ' xmlns:xlink="http://www.w3.org/1999/xlink"'


ODF_CHART = (
    f"<office:document-content {ODF}><office:body><office:chart><chart:chart><chart:title><text:p>"
    "Landings</text:p></chart:title><table:table><table:table-row><table:table-cell "
    "office:value-type='string'><text:p>cod</text:p><draw:g><svg:desc>Fish.A2</svg:desc></draw:g>"
    "</table:table-cell><table:table-cell office:value-type='float'><text:p>3</text:p>"
    "</table:table-cell></table:table-row></table:table></chart:chart></office:chart>"
    "</office:body></office:document-content>"
)
ODF_FRAME = "<draw:frame><draw:object xlink:href='./Object 1'/></draw:frame>"


def open_document(kind: str, body: str, more: dict[str, str] | None = None) -> bytes:
    return zipped(
        {
            "mimetype": f"application/vnd.oasis.opendocument.{kind}",
            "content.xml": f"<office:document-content {ODF}><office:body>{body}"
            "</office:body></office:document-content>",
            "meta.xml": '<m xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>T</dc:title></m>',
            **(more or {}),
        }
    )


def slides(*trees: str, **more: str) -> bytes:
    """A show of PowerPoint. trees: what is drawn on each slide. more: entries, by their names."""
    each = range(1, len(trees) + 1)
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    leads = "".join(
        f'<Relationship Id="r{n}" Type="{kind}/slide" Target="slides/slide{n}.xml"/>' for n in each
    )
    listed = "".join(f'<p:sldId r:id="r{n}"/>' for n in each)
    return zipped(
        {
            "[Content_Types].xml": "<Types/>",
            "ppt/presentation.xml": f'<p:presentation {DRAWN} xmlns:r="{kind}">{listed}'
            "</p:presentation>",
            "ppt/_rels/presentation.xml.rels": f"<Relationships>{leads}</Relationships>",
            **{
                f"ppt/slides/slide{n}.xml": f"<p:sld {DRAWN}>{tree}</p:sld>"
                for n, tree in zip(each, trees, strict=True)
            },
            **more,
        }
    )


def book(**more: str | bytes) -> bytes:
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": '<c><rootfile full-path="in/a.opf"/></c>',
            "in/a.opf": '<package xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata>'
            "<dc:title>Of Whales</dc:title><dc:creator>Ishmael</dc:creator></metadata><manifest>"
            '<item id="b" href="second%20one.xhtml" media-type="application/xhtml+xml"/>'
            '<item id="a" href="first.xhtml" media-type="application/xhtml+xml"/>'
            '<item id="c" href="cover.jpg" media-type="image/jpeg"/></manifest>'
            '<spine><itemref idref="a"/><itemref idref="b"/><itemref idref="c"/></spine></package>',
            "in/first.xhtml": "<!DOCTYPE html><html><h1>One</h1><p>Call me.</p></html>",
            "in/second one.xhtml": "<html><body><h1>Two</h1><p>Aboard.</p></body></html>",
            **more,
        }
    )


RTF = rb"""{\rtf1\ansi\ansicpg1252\uc1{\fonttbl{\f0\fcharset0 Arial;}{\f1\fcharset204 Times;}}
{\info{\title A Title}{\author Ishmael}}{\stylesheet{\s1 heading 1;}}{\header top\par}
\pard\f0 Hello \b world\b0\par caf\u233?, na\'efve\par\f1 \'cf\'f0\'e8\'e2\'e5\'f2\par
{
\*\unknown hidden}{\field{\*\fldinst PAGE}{\fldrslt seven}}{\footnote below}
{\pict\bin4 }{}\\\'zz}\u-10179?\u-8640? \{x\}\par}"""


LETTER = (
    b"From: =?utf-8?q?J=C3=BCrgen?= <j@example.org>\nTo: b@example.org\n"
    b"Subject: =?iso-8859-1?q?Gr=FC=DFe?= from the sea\nDate: Mon, 2 Nov 2026 10:00:00 +0100\n"
    b"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n--x\n"
    b"Content-Type: multipart/alternative; boundary=y\n\n--y\n"
    b"Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\n"
    b"The sea is gr=FCn.\n--y\nContent-Type: text/html\n\n<p>The sea is green</p>\n--y--\n--x\n"
    b'Content-Type: application/pdf\nContent-Disposition: attachment; filename="chart.pdf"\n'
    b"Content-Transfer-Encoding: base64\n\nQUFBQUFBQUE=\n--x--\n"
)


def harmed_bytes(data: bytes, rng: random.Random) -> bytes:
    """A copy that is cut, or has bytes overwritten, put in or taken out."""
    copy = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 20))):
        at = rng.randrange(len(copy))
        match rng.randrange(4):
            case 0:
                copy[at] = rng.randrange(256)
            case 1:
                del copy[at : at + rng.randrange(1, 40)]
            case 2:
                copy[at:at] = rng.randbytes(rng.randrange(1, 40))
            case 3:
                del copy[max(100, at) :]
        if not copy:
            break
    return bytes(copy)


def whole() -> dict[str, bytes]:
    """A document of each kind."""
    body = paragraph("Heading", "S") + paragraph("words " * 50)
    return {
        "x.docx": word(body),
        "x.odt": open_document(
            "text",
            f"<office:text><text:h>Fish{ODF_FRAME}</text:h><text:p>words</text:p></office:text>",
            {
                "Object 1/content.xml": ODF_CHART,
                "styles.xml": f"<x {ODF}><style:header><text:p>top</text:p></style:header></x>",
            },
        ),
        "x.pptx": slides('<p:sp><a:p><a:t>words</a:t></a:p></p:sp><p:cNvPr descr="A whale"/>'),
        "x.epub": book(),
        "x.rtf": RTF,
        "x.eml": LETTER,
        "x.mbox": b"From a@b Mon\n" + LETTER,
    }


def harmed(data: bytes, rng: random.Random) -> bytes:
    """A copy that is damaged; of an archive mostly what is inside."""
    if not data.startswith(b"PK") or rng.random() < 0.3:
        return harmed_bytes(data, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries: dict[str, str | bytes] = {one: archive.read(one) for one in archive.namelist()}
    chosen = rng.choice([one for one in entries if entries[one] and one != "mimetype"])
    inside = entries[chosen]
    assert isinstance(inside, bytes)
    return zipped(entries | {chosen: harmed_bytes(inside, rng)})
