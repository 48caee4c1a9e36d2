"""Bytes of unknown encoding → str, or the knowledge that they are no text."""

from __future__ import annotations

import codecs
import re
import unicodedata

from mmsearch.errors import DecodeError

BOMS = (  # UTF-32 before UTF-16: the little-endian marks start alike
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)

SAMPLE_BYTES = 8 * 1024
"""Enough for a detector to be sure."""

# The encodings of people's old files. The detector knows more of them, and is wrong more often if
# it may choose among all (``benchmarks/legacy_encodings.py``).
ENCODINGS = (
    *("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp874"),
    *("iso8859_2", "iso8859_5", "iso8859_6", "iso8859_7", "iso8859_9", "tis_620"),
    *("koi8_r", "koi8_u", "cp437", "cp850", "cp852", "cp855", "cp866"),
    *("mac_roman", "mac_cyrillic", "mac_latin2"),
    *("gb18030", "gbk", "big5", "cp932", "shift_jis", "euc-jp", "cp949", "euc_kr", "johab"),
    *("iso-2022-jp", "iso2022_kr", "utf-8", "ascii"),
)
# An encoding -> a larger one with the same letters, which programs write under the first's name.
_LARGER = {
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "iso8859-9": "cp1254",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "tis-620": "cp874",
}
_ISO_2022 = (b"\x1b$", b"\x1b(J", b"\x1b(I")  # they begin Japanese, Korean or Chinese in 7 bits

_CONTROL = bytes(set(range(32)) - set(b"\t\n\v\f\r\b\x1b\x1a")) + b"\x7f"
MAX_CONTROL_SHARE = 0.02  # terminal logs have a few; compressed data has 10%
_FEW_CONTROLS = 2  # a stray one makes no binary file of a short note
_BAD_CONTROL = {c: None for c in range(32) if c not in b"\t\n\r\f"} | {0x7F: None}
_ASCII_RUN = re.compile(rb"[\x00-\x7f]+")


def looks_textual(head: bytes) -> bool:
    """Whether the first bytes of a file can be text in some encoding; costs about 10 µs."""
    if any(head.startswith(bom) for bom, _ in BOMS):
        return True
    if b"\x00" in head:
        return _wide_without_bom(head) is not None
    if _is_iso_2022(head):
        return True
    controls = len(head) - len(head.translate(None, _CONTROL))
    most = max(MAX_CONTROL_SHARE * len(head), _FEW_CONTROLS if len(head) >= 32 else 0)
    return controls <= most or _wide_without_bom(head) is not None


def decode_text(data: bytes, declared: str | None = None) -> str:
    """The text in ``data``: byte order mark, UTF-8, ``declared`` (HTML's meta), then a guess.

    A few broken UTF-8 sequences become U+FFFD. Control characters are dropped.
    Raises DecodeError where the bytes are no text.
    """
    for bom, encoding in BOMS:
        if data.startswith(bom):
            return _clean(data.decode(encoding, errors="replace"))
    if not looks_textual(data[:SAMPLE_BYTES]):
        raise DecodeError("holds binary data, not text")
    try:
        if b"\x00" in data[:SAMPLE_BYTES] or _is_iso_2022(data):
            raise ValueError  # all bytes of UTF-16 English are valid UTF-8, too
        return _clean(data.decode("utf-8"))
    except ValueError:  # UnicodeDecodeError is one
        pass
    if (wide := _wide_without_bom(data)) is not None:
        return _clean(data.decode(wide, errors="replace"))
    if not _is_iso_2022(data) and _is_damaged_utf8(data):
        return _clean(data.decode("utf-8", errors="replace"))
    return _clean(data.decode(declared or guess_legacy(data), errors="replace"))


def guess_legacy(data: bytes) -> str:
    """The likeliest encoding of ``data``, which is not UTF-8; cp1252 where none fits."""
    import chardet

    sample = data[:SAMPLE_BYTES] if _is_iso_2022(data) else _informative_sample(data)
    found = chardet.detect(sample, include_encodings=ENCODINGS)["encoding"]
    try:
        name = codecs.lookup(found or "cp1252").name
    except LookupError:
        return "cp1252"
    if name == "mac-cyrillic" and _has_capitals_of_cp1251(sample):
        name = "cp1251"
    return _LARGER.get(name, name)


def _has_capitals_of_cp1251(sample: bytes) -> bool:
    """Whether capitals lie where cp1251 has them. Small letters are Mac Cyrillic's, but for я."""
    theirs = sum(0xC0 <= byte <= 0xDC for byte in sample)
    return theirs > sum(0x80 <= byte <= 0x9F for byte in sample)


def _is_iso_2022(data: bytes) -> bool:
    sample = data[:SAMPLE_BYTES]
    return b"\x1b" in sample and any(mark in sample for mark in _ISO_2022)


def _informative_sample(data: bytes) -> bytes:
    """Up to SAMPLE_BYTES around the first byte that is not ASCII, cut at line ends."""
    run = _ASCII_RUN.match(data)
    first = run.end() if run else 0
    begin = data.rfind(b"\n", 0, first) + 1 if first else 0
    begin = max(begin, first - 256)
    sample = data[begin : begin + SAMPLE_BYTES]
    if len(data) - begin > SAMPLE_BYTES:
        cut = sample.rfind(b"\n")
        if cut > SAMPLE_BYTES // 2:
            sample = sample[:cut]
    return sample


def _is_common_wide(c: str) -> bool:
    return (
        "\u4e00" <= c <= "\u9fff"
        or "\u3000" <= c <= "\u30ff"
        or "\uac00" <= c <= "\ud7a3"
        or "\uff01" <= c <= "\uff5e"
        or "\u2010" <= c <= "\u2027"
    )


def _is_damaged_utf8(data: bytes) -> bool:
    """UTF-8 with a few flipped or missing bytes: most multi-byte sequences still hold."""
    text = data[: 1 << 20].decode("utf-8", errors="replace")
    broken = text.count("\ufffd")
    whole = sum(c > "\x7f" for c in text) - broken
    return whole >= 4 * broken or (broken <= 2 and len(text) > 200 * broken and whole > 0)


def _wide_without_bom(data: bytes) -> str | None:
    """UTF-32 or UTF-16 of one order if nearly every unit of ``data`` is a usual character.

    The first 64 units settle it for programs and the like, in some 30 µs.
    """
    for encoding in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        if _is_usual(data[:128], encoding, 0.85, 0.0) and _is_usual(
            data[:4096], encoding, 0.97, 0.02
        ):
            return encoding
    return None


def _is_usual(sample: bytes, encoding: str, least_usual: float, least_marks: float) -> bool:
    sample = sample[: len(sample) & (~3 if "32" in encoding else ~1)]
    if len(sample) < 8:
        return False
    text = sample.decode(encoding, errors="replace")
    usual = sum(
        " " <= c <= "\u024f" or c in "\r\n\t" or _is_common_wide(c) or "\u0370" <= c <= "\u06ff"
        for c in text
    )
    # Two-byte text read as UTF-16 looks like rare Han without a space, digit or stop.
    marks = sum(c < "\x7f" or "\u3000" <= c <= "\u303f" or "\uff01" <= c <= "\uff1f" for c in text)
    return usual >= least_usual * len(text) and marks >= least_marks * len(text)


def _clean(text: str) -> str:
    """Drop control characters; refuse what holds nothing that can be read."""
    sample = text[:SAMPLE_BYTES]
    controls = sum(
        unicodedata.category(c) in ("Cc", "Cn", "Co") and c not in "\t\n\r\f" for c in sample
    )
    if controls > 0.1 * len(sample):
        raise DecodeError("holds binary data, not text")
    return (
        text.translate(_BAD_CONTROL)
        if any(map(text.__contains__, map(chr, _BAD_CONTROL)))
        else text
    )
