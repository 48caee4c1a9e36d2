"""What files are that are not indexed."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

import command_line
import mmsearch
from command_line import Done
from corpora import settle
from mmsearch.errors import DecodeError
from mmsearch.media import sniff
from mmsearch.media.others import described


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "<x/>")
    return buffer.getvalue()


def mp4(major: bytes, *compatible: bytes) -> bytes:
    brands = b"".join(compatible)
    return (16 + len(brands)).to_bytes(4, "big") + b"ftyp" + major + bytes(4) + brands + bytes(64)


SENT = (
    b"Received: from there\n\tby here\nMessage-ID: <1@x>\nFrom: a@example.org\n"
    b"Date: Mon, 2 Nov 2026 10:00:00 +0100\nSubject: x\n\nwords\n"
)

CASES = [
    (zipped("photo.jpg"), "a.zip", "a ZIP archive"),
    (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
        "a.doc",
        "a document (Word 97); saved as docx, it is read",
    ),
    (mp4(b"isom", b"isom", b"avc1"), "film.mp4", "a video in MP4 or QuickTime"),
    (mp4(b"qt  "), "film.mov", "a video in MP4 or QuickTime"),
    (b"\x1a\x45\xdf\xa3" + bytes(40), "film.mkv", "a video in Matroska or WebM"),
    (b"RIFF\x00\x00\x00\x00AVI LIST", "film.avi", "a video (AVI)"),
    (b"II*\x00\x10\x00\x00\x00CR\x02\x00" + bytes(40), "IMG.CR2", "a camera's raw picture (CR2)"),
    (b"MM\x00*\x00\x00\x00\x08" + bytes(40), "DSC.NEF", "a camera's raw picture (NEF)"),
    (mp4(b"crx "), "IMG.CR3", "a camera's raw picture (CR3)"),
    (b"FUJIFILMCCD-RAW 0201", "DSCF.RAF", "a camera's raw picture (RAF)"),
    (b'{"a": 1}\n', "a.json", "text; --include '*.json' reads it"),
    (b"a,b\n", "A.CSV", "text; --include '*.CSV' reads it"),
    (
        b"\x0bsomebody" + bytes(150),
        "~$letter.docx",
        "an office program's note that a document is open",
    ),
    (
        zipped("Index/Document.iwa"),
        "a.pages",
        "a document (Apple iWork); exported as docx, xlsx, pptx or pdf, it is read",
    ),
    (b"<?xml version='1.0'?>\n", "a.xml", "text; --include '*.xml' reads it"),
    (
        b"<?xml version='1.0'?>\n<office:document>",
        "a.FODT",
        "a document (flat OpenDocument); saved as odt, it is read",
    ),
    (b"<svg>\n</svg>\n", "a.svg", "a drawing (SVG); exported as png, it is read"),
    (
        b"From: <Saved by Blink>\nContent-Type: multipart/related;\n\n",
        "page.mhtml",
        "a web page with its pictures (MHTML); saved as html, it is read",
    ),
    (b"1795\nFrom: a@b\n\nx\n", "1.emlx", "a mail (Apple Mail); saved as eml, it is read"),
    (b"\xd0\xcf\x11\xe0" + bytes(600), "a.vsd", "a drawing (Visio); saved as pdf, it is read"),
    (b"%!PS-Adobe-3.0 EPSF", "a.eps", "a PostScript document; converted to pdf, it is read"),
    (bytes(257) + b"ustar\x0000" + bytes(200), "a.tar", "a tar archive"),
    (b"\x01\0\0\0" + bytes(36) + b" EMF", "a.emf", "a drawing (EMF); exported as png, it is read"),
    (b"\x00\x01\x00\x00Standard Jet DB", "a.mdb", "a database (Access)"),
    (b"\x00\x01\x00\x00\x00\x12", "a.ttf", "a font"),
    (b"#!/bin/sh\necho\n", "run", "a script"),
    (b"\x7fELF\x02\x01", "program", "a program"),
    (bytes(100), "zero.bin", "all zero bytes"),
    (b"\x93\x01\x02\x00\xfe\x81\x00\x01" * 20, "a.dat", "of an unknown kind (.dat)"),
]


@pytest.mark.parametrize(("data", "name", "what"), CASES, ids=[name for _, name, _ in CASES])
def test_what_is_not_indexed_is_named(data: bytes, name: str, what: str) -> None:
    assert sniff(data[:8192], name) is None
    assert described(data[:8192], name) == what


@pytest.mark.parametrize(
    ("data", "name", "kind"),
    [
        (zipped("content.xml", "mimetype"), "rezipped.odt", "opendocument"),
        (zipped("mimetype", "META-INF/container.xml"), "rezipped.epub", "epub"),
        (zipped("[Content_Types].xml", "word/document.xml"), "renamed.bin", "office"),
        (zipped("[Content_Types].xml", "customXml/item1.xml"), "a.docx", "office"),
        (b"{\\rtf1\\ansi words}", "a.doc", "rtf"),
        (b"From: a@example.org\nTo: b@example.org\nSubject: x\n\nwords\n", "a.eml", "mail"),
        (b"From: a@example.org\nTo: b@example.org\nSubject: x\n\nwords\n", "a.txt", "text"),
        (b"\xef\xbb\xbf\r\n\r\nSubject: x\r\n\r\nwords\r\n", "a.eml", "mail"),
        (b"Subject: " + b"x" * 9000, "a.eml", "mail"),
        (SENT, "Inbox", "mail"),
        ((SENT.split(b"Subject")[0] + b"X-Trace: x\n" * 900)[:8192], "a.eml", "mail"),
        (b"From a@b Mon\n" + SENT, "Inbox", "mail"),
        (SENT, "1700000000.M1P2.host:2,S", "mail"),
        (SENT, "mail.py", None),
    ],
)
def test_documents_are_told_by_their_content(data: bytes, name: str, kind: str | None) -> None:
    assert sniff(data, name) == kind


def test_a_tiff_is_a_picture_and_one_that_a_camera_calls_raw_is_not() -> None:
    tiff = b"II*\x00\x08\x00\x00\x00" + bytes(40)
    assert sniff(tiff, "scan.tif") == "image"
    assert sniff(tiff, "DSC.ARW") is None


def test_heif_is_told_from_film_by_what_it_says_that_it_can_be_read_as() -> None:
    assert sniff(mp4(b"MiHE", b"mif1", b"heic"), "x.heic") == "image"
    assert sniff(mp4(b"mif3", b"mif3"), "x.heic") == "image"
    assert sniff(mp4(b"mp42", b"isom", b"mp41"), "x.mp4") is None
    with pytest.raises(DecodeError, match="but is a video"):
        sniff(mp4(b"mp42", b"isom", b"mp41"), "x.heic")


def test_a_run_says_what_it_passed_over_and_info_lists_it(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "note.txt").write_text("A dog on a beach.")
    for number in range(5):
        (folder / f"archive {number}.zip").write_bytes(CASES[0][0])
    (folder / "film.mp4").write_bytes(mp4(b"isom"))
    index = tmp_path / "ix"

    def ran(*args: str) -> Done:
        done = command_line.mmsearch(*args, "--index", str(index), home=tmp_path)
        assert done.returncode == 0
        return done

    settle()
    done = ran("index", str(folder))
    assert "ignored 6" in done.stdout
    assert "not indexed: a ZIP archive (5), a video in MP4 or QuickTime (1)." in done.stderr
    again = ran("index", str(folder))
    assert "ignored 6" in again.stdout and "not indexed" not in again.stderr
    first, second = ran("info", "--ignored").stdout.splitlines()
    assert first.startswith("      5  a ZIP archive: ") and first.endswith("2.zip, …")
    assert second.startswith("      1  a video in MP4 or QuickTime: ")
    body = json.loads(ran("info", "--ignored", "--skipped", "--json").stdout)
    assert body["ignored_kinds"] == {"a ZIP archive": 5, "a video in MP4 or QuickTime": 1}
    assert len(body["ignored_files"]) == 6 and body["skipped_reasons"] == {}
    with pytest.raises(mmsearch.MmsearchError, match=r"not indexed: it is a ZIP archive"):
        mmsearch.open(index).add([folder / "archive 1.zip"])


def test_a_run_tells_kinds_without_what_would_read_them(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.json", "b.json", "c.csv"):
        (folder / name).write_text("1, 2\n")
    (folder / "d.svg").write_text("<svg/>\n")
    settle()
    index = ("--index", str(tmp_path / "ix"))
    done = command_line.mmsearch("index", str(folder), *index, home=tmp_path)
    assert "mmsearch: not indexed: text (3), a drawing (SVG) (1). `mmsearch info" in done.stderr
    told = command_line.mmsearch("info", "--ignored", *index, home=tmp_path).stdout
    assert "  2  text; --include '*.json' reads it: " in told
    assert "  1  a drawing (SVG); exported as png, it is read: " in told
