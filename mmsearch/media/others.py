"""What a file is that is not indexed, in a few words for people, and what is known to read it."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from mmsearch.media.encoding import looks_textual

CAMERA_RAW = frozenset(
    "3fr arw cr2 cr3 crw dcr dng erf iiq kdc mef mos mrw nef nrw orf pef raf raw rw2 rwl sr2 "
    "srf srw x3f".split()
)
_TIFF = (b"II*\x00", b"MM\x00*")
_RAW_MAGIC = (b"IIU\x00", b"IIRO", b"IIRS", b"MMOR", b"FUJIFILMCCD-RAW", b"FOVb", b"\x00MRM")

_MAGIC = (
    (b"\x1f\x8b", "a gzip file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"\xca\xfe\xba\xbe", "a program"),
    (b"\xcf\xfa\xed\xfe", "a program"),
    (b"SQLite format 3", "a SQLite database"),
    (b"\x1a\x45\xdf\xa3", "a video in Matroska or WebM"),
    (b"FLV\x01", "a video (Flash)"),
    (b"\x00\x00\x01\xba", "a video (MPEG)"),
    (b"\x00\x00\x01\xb3", "a video (MPEG)"),
    (b"%!PS-AdobeFont", "a font"),
    (b"%!PS", "a PostScript document; converted to pdf, it is read"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript document; converted to pdf, it is read"),
    (b"\xd7\xcd\xc6\x9a", "a drawing (WMF); exported as png, it is read"),
    (b"AC10", "a drawing (AutoCAD); exported as pdf, it is read"),
    (b"\xffWPC", "a document (WordPerfect); saved as docx, it is read"),
    (b"ITSF", "a help file (CHM)"),
    (b"\x89HDF", "data (HDF5)"),
    (b"\x00\x01\x00\x00Standard", "a database (Access)"),
    (b"v/1\x01", "a picture (OpenEXR)"),
    (b"#?RADIANCE", "a picture (Radiance HDR)"),
    (b"MP+", "a sound (Musepack)"),
    (b"MPCK", "a sound (Musepack)"),
    (b"AT&TFORM", "a DjVu document"),
    (b"MThd", "a score (MIDI)"),
    (b"wOFF", "a font"),
    (b"wOF2", "a font"),
    (b"OTTO", "a font"),
    (b"\x00\x01\x00\x00\x00", "a font"),
)
_IN_ZIP = {  # what the first entries say, or the suffix -> the kind that is indexed
    **dict.fromkeys("docx docm dotx pptx pptm potx ppsx xlsx xlsm xltx".split(), "office"),
    **dict.fromkeys("odt ott odp otp ods ots odg".split(), "opendocument"),
    "epub": "epub",
}
_IWORK = frozenset("pages numbers key".split())
_PROGRAMS_IN_ZIP = frozenset("jar apk whl xpi ipa".split())
# The names of the first entries, where a program wrote them in the usual order.
_OFFICE = re.compile(rb"(?:word|ppt|xl)/(?:_rels/)?(?:document|presentation|workbook)\.xml")
_OLD_OFFICE = {
    "doc": "a document (Word 97); saved as docx, it is read",
    "dot": "a document (Word 97); saved as docx, it is read",
    "xls": "a spreadsheet (Excel 97); saved as xlsx, it is read",
    "ppt": "slides (PowerPoint 97); saved as pptx, they are read",
    "msg": "a mail (Outlook); saved as eml, it is read",
    "pub": "a publication (Publisher); saved as pdf, it is read",
    "vsd": "a drawing (Visio); saved as pdf, it is read",
    "mpp": "a project plan (Project); saved as pdf, it is read",
}
# Texts of which most is markup: read as they are, they would be found by that.
_MARKUP = {
    "fodt": "a document (flat OpenDocument); saved as odt, it is read",
    "fods": "a spreadsheet (flat OpenDocument); saved as ods, it is read",
    "fodp": "slides (flat OpenDocument); saved as odp, they are read",
    "fodg": "a drawing (flat OpenDocument); exported as pdf or png, it is read",
    "svg": "a drawing (SVG); exported as png, it is read",
    "mht": "a web page with its pictures (MHTML); saved as html, it is read",
    "mhtml": "a web page with its pictures (MHTML); saved as html, it is read",
    "emlx": "a mail (Apple Mail); saved as eml, it is read",
    "fb2": "an e-book (FictionBook); converted to epub, it is read",
    "ipynb": "a notebook (Jupyter); exported as md or html, it is read",
}
_ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"
_SOUND_BRANDS = (b"M4A ", b"M4B ", b"M4P ", b"F4A ", b"aax ")
_SOUND_IN_MP4 = frozenset("m4a m4b m4p m4r aac 3ga".split())
_SOUND_SUFFIXES = {
    "asf": frozenset(("wma",)),
    "matroska": frozenset(("mka", "weba")),
    "aac": frozenset(("aac", "adts")),
    "ac3": frozenset(("ac3",)),
}
_SOUND_MAGIC = (
    (_ASF, "asf"),
    (b"\x1a\x45\xdf\xa3", "matroska"),
    (b"#!AMR", "amr"),
    (b"MAC ", "ape"),
    (b"wvpk", "wv"),
    (b"DSD ", "dsf"),
    (b"TTA1", "tta"),
    (b"\x0b\x77", "ac3"),
)
_SOUNDS = {
    "mov": "a sound in MP4 (AAC, ALAC)",
    "matroska": "a sound in Matroska or WebM",
    "asf": "a sound (Windows Media)",
    "aac": "a sound (AAC)",
    "amr": "a sound (AMR)",
    "ape": "a sound (Monkey's Audio)",
    "wv": "a sound (WavPack)",
    "dsf": "a sound (DSD)",
    "tta": "a sound (True Audio)",
    "ac3": "a sound (AC-3)",
    "ogg": "a sound (Speex)",
    "": "a sound",
}
_HEADER = re.compile(rb"([!-9;-~]{1,60}):")
_HEADERS_OF_MAIL = frozenset(
    b"from to subject date received message-id return-path cc mime-version content-type".split()
)
# What a letter has that was sent, and notes that begin with "From:" and "Subject:" have not.
_SENT = frozenset(b"received message-id mime-version delivered-to return-path".split())
_MAILBOX = re.compile(r"(?:txt|\d*|.*[:;!]2,[a-zA-Z]*)")  # suffixes, also of Maildir's names


def _is_mail(head: bytes, suffix: str) -> bool:
    """Whether a file begins as a letter does; by its headers alone unless its name says so."""
    lines = head.removeprefix(b"\xef\xbb\xbf").lstrip().splitlines()
    named = suffix in ("eml", "mbox")
    if not lines or not (named or _MAILBOX.fullmatch(suffix)):
        return False
    names: set[bytes] = set()
    for line in lines[1:] if lines[0].startswith(b"From ") else lines:
        if not line.strip():
            break
        found = _HEADER.match(line)
        if found is not None:
            names.add(found[1].lower())
        elif not line[:1].isspace() and line is not lines[-1]:  # the last may be cut
            return False
    if named:
        return bool(names & _HEADERS_OF_MAIL) or lines[0].startswith(b"From ")
    return names >= {b"from", b"date"} and bool(names & _SENT)


def is_camera_raw(head: bytes, suffix: str) -> bool:
    """Whether a file holds what a camera's sensor saw, of which decoders of pictures find no more
    than a thumbnail. suffix: of its name, lower case, without a dot."""
    if head.startswith(_TIFF):
        return suffix in CAMERA_RAW or head[8:10] == b"CR"
    return head.startswith(_RAW_MAGIC) or (head[4:8] == b"ftyp" and head[8:12] == b"crx ")


def sound_format(head: bytes) -> str | None:
    """FFmpeg's name for a format of sounds that libsndfile does not read."""
    if head[4:8] == b"ftyp":
        return "mov"
    if head.startswith(b"OggS"):
        return "ogg" if b"Speex   " in head[:256] else None
    if head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xF6 == 0xF0:
        return "aac"
    return next((name for magic, name in _SOUND_MAGIC if head.startswith(magic)), None)


def is_sound(head: bytes, suffix: str) -> bool:
    """Whether a file holds no more than a sound, in a format that libsndfile does not read.

    suffix: of its name, lower case, without a dot; it tells of a container what is in it.
    """
    found = sound_format(head)
    if found == "mov":
        return head[8:12] in _SOUND_BRANDS or suffix in _SOUND_IN_MP4
    if found in _SOUND_SUFFIXES:
        return suffix in _SOUND_SUFFIXES[found]
    return found is not None


def sound_described(head: bytes) -> str:
    """What a file that holds a sound alone is, such as "a sound in MP4"."""
    return _SOUNDS[sound_format(head) or ""]


def described(head: bytes, name: str) -> str:
    """What a file is, such as "a video in MP4 or QuickTime".

    head: its first bytes, one at least. name: its last name or its path. Of a container of videos
    it is taken for granted that ``sound_alone`` was asked.
    """
    suffix = PurePosixPath(name).suffix[1:].lower()
    if PurePosixPath(name).name.startswith("~$"):
        return "an office program's note that a document is open"
    if is_camera_raw(head, suffix):
        return f"a camera's raw picture ({suffix.upper() or 'raw'})"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        if document_kind(head, suffix):
            return "a document"
        if suffix in _IWORK:
            return "a document (Apple iWork); exported as docx, xlsx, pptx or pdf, it is read"
        return "a program" if suffix in _PROGRAMS_IN_ZIP else "a ZIP archive"
    if is_sound(head, suffix):
        return sound_described(head)
    if head[4:8] == b"ftyp":
        return "a video in MP4 or QuickTime"
    if head.startswith(_ASF):
        return "a video (Windows Media)"
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        return _OLD_OFFICE.get(
            suffix,
            "an office document with a password, or from before 2007; saved as docx, xlsx or pptx "
            "without a password, it is read",
        )
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "a video (AVI)"
    if sound_format(head) == "aac" and not suffix:
        return sound_described(head)
    if head.startswith(b"OggS"):
        return "a video (Ogg)"
    if head[60:68] == b"BOOKMOBI":
        return "an e-book (Mobipocket)"
    for magic, what in _MAGIC:
        if head.startswith(magic):
            return what
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head[40:44] == b" EMF" and head.startswith(b"\x01\0\0\0"):
        return "a drawing (EMF); exported as png, it is read"
    if not head.strip(b"\0"):
        return "all zero bytes"
    if looks_textual(head):
        return _text(head, PurePosixPath(name).suffix[1:])
    return f"of an unknown kind (.{suffix})" if suffix else "of an unknown kind"


def document_kind(head: bytes, suffix: str) -> str | None:
    """Which kind of document a file is, by ``media.KINDS``, if it is one that is more than text:
    ``office``, ``opendocument``, ``epub``, ``rtf`` or ``mail``.

    head: its first bytes. suffix: of its name, lower case, without a dot.
    """
    if head.startswith(b"{\\rtf"):
        return "rtf"
    if _is_mail(head, suffix):
        return "mail"
    if not head.startswith(b"PK\x03\x04"):
        return None
    if head[30:38] == b"mimetype":
        if head[38:58] == b"application/epub+zip":
            return "epub"
        if head[38:73] == b"application/vnd.oasis.opendocument.":
            return "opendocument"
    return _IN_ZIP.get(suffix) or ("office" if _OFFICE.search(head) else None)


def _text(head: bytes, suffix: str) -> str:
    if head.startswith(b"#!"):
        return "a script"
    if (markup := _MARKUP.get(suffix.lower())) is not None:
        return markup
    if suffix:
        return f"text; --include '*.{suffix}' reads it"
    return "text"
