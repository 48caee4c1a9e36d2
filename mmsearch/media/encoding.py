"""Bytes of unknown encoding → str, or the knowledge that they are no text."""

from __future__ import annotations

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

# Two-byte encodings -> the lead bytes of their everyday characters and punctuation. The
# standards order by frequency: text read in its own encoding stays in these rows, another's
# scatters. charset-normalizer 3.5 took 你好，世界 for Korean and 中文 for Big5; this does not,
# and costs 5–15 ms. It still decides between alphabets of one byte.
EVERYDAY = {  # encoding -> ranges of lead bytes
    "gb18030": ((0xA1, 0xA3), (0xB0, 0xD7)),
    "big5": ((0xA1, 0xA3), (0xA4, 0xC6)),
    "cp932": ((0x81, 0x83), (0x88, 0x97)),
    "euc_jp": ((0xA1, 0xA5), (0xB0, 0xCF)),
    "cp949": ((0xA1, 0xA3), (0xB0, 0xC8)),
}
ALPHABETS = ["cp1252", "cp1251", "koi8_r", "cp1250", "cp1253", "cp1254", "cp1255", "cp1256"]
CENTRAL_EUROPE = "Polish Czech Hungarian Slovak Slovene Croatian Romanian".split()
CP1250_LETTERS = (b"\xb3", b"\xb9", b"\xbf", b"\x9c", b"\x9f", b"\xec", b"\xf8")
"""ł ą ż ś ź ě ř: signs or rare letters in cp1252, where most letters of both agree."""

_CONTROL = bytes(set(range(32)) - set(b"\t\n\v\f\r\b\x1b\x1a")) + b"\x7f"
MAX_CONTROL_SHARE = 0.02  # terminal logs have a few; compressed data has 10%
_BAD_CONTROL = {c: None for c in range(32) if c not in b"\t\n\r\f"} | {0x7F: None}
_ASCII_RUN = re.compile(rb"[\x00-\x7f]+")


def looks_textual(head: bytes) -> bool:
    """Whether the first bytes of a file can be text in some encoding; costs about 10 µs."""
    if any(head.startswith(bom) for bom, _ in BOMS):
        return True
    if b"\x00" in head:
        return _utf16_without_bom(head) is not None
    controls = len(head) - len(head.translate(None, _CONTROL))
    return controls <= MAX_CONTROL_SHARE * len(head) or _utf16_without_bom(head) is not None


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
        if b"\x00" in data[:SAMPLE_BYTES]:
            raise ValueError  # all bytes of UTF-16 English are valid UTF-8, too
        return _clean(data.decode("utf-8"))
    except ValueError:  # UnicodeDecodeError is one
        pass
    if (wide := _utf16_without_bom(data)) is not None:
        return _clean(data.decode(wide, errors="replace"))
    if _is_damaged_utf8(data):
        return _clean(data.decode("utf-8", errors="replace"))
    return _clean(data.decode(declared or guess_legacy(data), errors="replace"))


def guess_legacy(data: bytes) -> str:
    """The likeliest encoding of ``data``, which is not UTF-8; cp1252 where none fits."""
    sample = _informative_sample(data)
    scores = {name: _everyday_share(sample, name) for name in EVERYDAY}
    best = max(scores, key=lambda name: scores[name])
    if scores[best] >= 0.85:
        return best
    from charset_normalizer import from_bytes

    found = from_bytes(sample, cp_isolation=ALPHABETS, preemptive_behaviour=False).best()
    if found is None:
        return "cp1252"
    if found.encoding == "cp1250":  # French fits it as well as Polish: "très" becomes "trčs"
        own = sum(map(sample.count, CP1250_LETTERS))
        high = sum(byte > 0x7F for byte in sample)
        return "cp1250" if found.language in CENTRAL_EUROPE and own >= 0.1 * high else "cp1252"
    return found.encoding


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


def _everyday_share(sample: bytes, encoding: str) -> float:
    """The share of ``sample``'s characters beyond ASCII that are everyday ones in ``encoding``.

    0 where it does not decode. A character cut in two at the end counts for nothing.
    """
    try:
        text = sample.decode(encoding)
    except UnicodeDecodeError as error:
        if error.start < len(sample) - 4:
            return 0.0
        text = sample[: error.start].decode(encoding)
    wide = [c for c in text if c > "\x7f"]
    if len(wide) < 2:  # one accented letter before another is no Chinese
        return 0.0
    everyday = kana = hangul = 0
    for c in wide:
        code = c.encode(encoding)
        # The trail bytes of GBK's and cp949's additions reach below 0xA1; everyday ones do not.
        if len(code) == 2 and (encoding in ("big5", "cp932") or code[1] >= 0xA1):
            everyday += any(low <= code[0] <= high for low, high in EVERYDAY[encoding])
        kana += "\u3041" <= c <= "\u30ff"
        hangul += "\uac00" <= c <= "\ud7a3"
    share = everyday / len(wide)
    if encoding in ("cp932", "euc_jp"):  # Japanese without kana does not exist
        return share + 0.1 if kana >= 0.15 * len(wide) else share - 0.3
    if encoding == "cp949":
        letters = sum(c > "\u3400" for c in wide)
        return share + 0.1 if hangul >= 0.95 * letters else share - 0.3
    return share


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


def _utf16_without_bom(data: bytes) -> str | None:
    """``utf-16-le`` or ``-be`` if nearly every unit of ``data`` is a usual character.

    The first 64 units settle it for programs and the like, in some 30 µs.
    """
    for encoding in ("utf-16-le", "utf-16-be"):
        if _is_usual(data[:128], encoding, 0.85, 0.0) and _is_usual(
            data[:4096], encoding, 0.97, 0.02
        ):
            return encoding
    return None


def _is_usual(sample: bytes, encoding: str, least_usual: float, least_marks: float) -> bool:
    sample = sample[: len(sample) & ~1]
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
