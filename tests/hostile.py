"""A folder of files made to break an indexer, written by code, with what must become of each."""

from __future__ import annotations

import io
import os
import random
import socket
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

# What must become of a file. "any": damage that a decoder may or may not notice; it must only
# end in one of the others.
INDEXED, SKIPPED, IGNORED, FAILED, ANY = "indexed", "skipped", "ignored", "failed", "any"

TEXT_OVER_LIMIT_BYTES = 40 << 20  # over Limits.max_text_bytes; 1 GB where big=True


def make_hostile_folder(folder: Path | str, big: bool = False) -> dict[str, str]:
    """Fill ``folder`` and return, by path below it (as os.fsdecode gives it), the expectation.

    Only regular files that a walker offers are listed; FIFO, socket, links and the closed
    folder are there for it to survive.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    expected: dict[str, str] = {}

    def put(name: str, data: bytes, outcome: str) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        expected[name] = outcome

    for suffix, data in {**pictures(), **sounds(), "pdf": pdf_with_text("A whole page.")}.items():
        put(f"whole/good.{suffix}", data, INDEXED)
        put(f"cut/third.{suffix}", data[: len(data) // 3], ANY)
        put(f"cut/head.{suffix}", data[:40], ANY)
        put(f"flipped/bits.{suffix}", _flipped(data), ANY)
        put(f"empty/zero.{suffix}", b"", SKIPPED)
    # Where the loss is certain to be seen, it must be.
    for suffix in ("jpg", "png", "gif", "webp", "tiff", "bmp", "wav", "aiff", "flac", "au"):
        expected[f"cut/third.{suffix}"] = SKIPPED
    for suffix in ("txt", "md", "html", "rst"):
        put(f"empty/zero.{suffix}", b"", SKIPPED)
    put("empty/zero.bin", b"", IGNORED)
    put("empty/ZERO", b"", IGNORED)

    for name, data, outcome in _bombs():
        put(name, data, outcome)
    for name, data, outcome in _liars():
        put(name, data, outcome)
    for name, data, outcome in _texts():
        put(name, data, outcome)
    for name, data, outcome in _pdfs():
        put(name, data, outcome)
    _single_line(folder / "text/line.txt", (1 << 30) if big else TEXT_OVER_LIMIT_BYTES)
    expected["text/line.txt"] = SKIPPED
    if os.name == "posix":
        _posix_only(folder, expected)
    return expected


def pictures() -> dict[str, bytes]:
    """A small real-looking picture in every format that is written here, by suffix."""
    y, x = np.mgrid[0:120, 0:160]
    noise = np.random.default_rng(7).integers(0, 40, (120, 160, 3))
    pixels = (np.stack([x, y, x + y], axis=2) % 216 + noise).astype(np.uint8)
    image = Image.fromarray(pixels)
    formats = {
        **{"jpg": "JPEG", "png": "PNG", "gif": "GIF", "webp": "WEBP", "tiff": "TIFF"},
        **{"bmp": "BMP", "ppm": "PPM", "tga": "TGA", "jp2": "JPEG2000", "ico": "ICO"},
        **{"pcx": "PCX", "sgi": "SGI", "dds": "DDS", "avif": "AVIF", "heic": "HEIF"},
    }
    import pillow_heif

    Image.init()
    out = {}
    for suffix, name in formats.items():
        buffer = io.BytesIO()
        try:
            if name == "HEIF":
                pillow_heif.from_pillow(image).save(buffer)
            else:
                image.save(buffer, name)
        except (KeyError, OSError, RuntimeError):  # a build without this encoder
            continue
        out[suffix] = buffer.getvalue()
    return out


def sounds() -> dict[str, bytes]:
    """Two seconds of a tone with noise in every format that is written here, by suffix."""
    rate_hz = 16000
    time_s = np.arange(2 * rate_hz) / rate_hz
    noise = np.random.default_rng(5).normal(0, 0.02, len(time_s))
    samples = (0.4 * np.sin(2 * np.pi * 440 * time_s) + noise).astype(np.float32)
    formats = {
        **{"wav": "WAV", "flac": "FLAC", "ogg": "OGG", "mp3": "MP3", "aiff": "AIFF"},
        **{"au": "AU", "caf": "CAF", "w64": "W64", "rf64": "RF64", "voc": "VOC"},
    }
    out = {}
    for suffix, name in formats.items():
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, rate_hz, format=name)
        out[suffix] = buffer.getvalue()
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format="OGG", subtype="OPUS")
    out["opus"] = buffer.getvalue()
    return out


def wav_header(
    *, channels: int = 1, rate_hz: int = 16000, bits: int = 16, data_bytes: int = 0
) -> bytes:
    """A PCM header that promises ``data_bytes``, whatever follows it."""
    frame = channels * bits // 8
    fmt = struct.pack(
        "<HHIIHH",
        *(1, channels, rate_hz, rate_hz * frame & 0xFFFFFFFF, frame & 0xFFFF, bits),
    )
    size = struct.pack("<I", min(data_bytes + 36, 0xFFFFFFFF))
    data = b"data" + struct.pack("<I", data_bytes)
    return b"RIFF" + size + b"WAVEfmt " + struct.pack("<I", 16) + fmt + data


def png_header(width: int, height: int, idat: bytes = b"") -> bytes:
    """A PNG that claims its size; ``idat`` is the compressed image data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", idat) + chunk(b"IEND", b"")
    )


def build_pdf(objects: list[bytes], root: int = 1) -> bytes:
    """A PDF file of numbered objects (the first is 1), with a correct cross-reference table."""
    out = bytearray(b"%PDF-1.4\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root %d 0 R >>\n" % (len(objects) + 1, root)
    return bytes(out + b"startxref\n%d\n%%%%EOF\n" % start)


def pdf_stream(data: bytes, extra: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(data), extra, data)


def pdf_with_text(*pages: str) -> bytes:
    """A document with one line of Latin text a page."""
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for i, text in enumerate(pages):
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R"
            b" /Resources << /Font << /F1 3 0 R >> >> >>" % (5 + 2 * i)
        )
        objects.append(pdf_stream(f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()))
    return build_pdf(objects)


def _flipped(data: bytes) -> bytes:
    """One bit in about every 200 bytes turned over, the first 16 bytes left alone."""
    randomly = random.Random(11)
    out = bytearray(data)
    for _ in range(max(3, len(data) // 200)):
        out[randomly.randrange(min(16, len(out) - 1), len(out))] ^= 1 << randomly.randrange(8)
    return bytes(out)


def _bombs() -> list[tuple[str, bytes, str]]:
    zeros = zlib.compress(bytes(1 + 3 * 20000) * 200, 9)
    gif = b"GIF89a" + struct.pack("<HHBBB", 60000, 60000, 0x80, 0, 0) + bytes(6)
    gif += b"," + struct.pack("<HHHHB", 0, 0, 60000, 60000, 0) + b"\x02\x02\x44\x01\x00;"
    webp = b"VP8X" + struct.pack("<I", 10) + bytes(4)
    webp += (16382).to_bytes(3, "little") + (16382).to_bytes(3, "little")
    webp = b"RIFF" + struct.pack("<I", len(webp) + 4) + b"WEBP" + webp
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("zeros", bytes(20 << 20))
    # A real PNG that unpacks to 19,000 × 19,000 × 3 bytes (1.1 GB) from about 1 MB.
    packer, rows = zlib.compressobj(9), []
    for _ in range(190):
        rows.append(packer.compress(bytes((1 + 3 * 19000) * 100)))
    real = png_header(19000, 19000, b"".join(rows) + packer.flush())
    return [
        ("bombs/claims.png", png_header(60000, 60000, zeros), SKIPPED),
        ("bombs/huge.png", png_header(0x7FFFFFFF, 0x7FFFFFFF, zeros), SKIPPED),
        ("bombs/real.png", real, SKIPPED),
        ("bombs/claims.gif", gif, SKIPPED),
        ("bombs/claims.webp", webp, SKIPPED),
        ("bombs/zip.png", archive.getvalue(), SKIPPED),
        ("bombs/zip.zip", archive.getvalue(), IGNORED),
        ("bombs/zip.txt", archive.getvalue(), SKIPPED),
    ]


def _liars() -> list[tuple[str, bytes, str]]:
    ten_hours = 10 * 3600 * 32000
    tone = (np.sin(np.arange(16000) / 20) * 9000).astype("<i2").tobytes()
    nan = io.BytesIO()
    soundfile.write(nan, np.full(8000, np.nan, np.float32), 16000, format="WAV", subtype="FLOAT")
    jpeg = pictures()["jpg"]
    return [
        ("liars/ten-hours.wav", wav_header(data_bytes=ten_hours) + bytes(964), SKIPPED),
        ("liars/pipe.wav", wav_header(data_bytes=0xFFFFFFFF) + tone, INDEXED),
        ("liars/no-channels.wav", wav_header(channels=0, data_bytes=964) + bytes(964), SKIPPED),
        ("liars/many-channels.wav", wav_header(channels=65535, data_bytes=964) + tone, SKIPPED),
        ("liars/rate-zero.wav", wav_header(rate_hz=0, data_bytes=964) + bytes(964), SKIPPED),
        ("liars/rate-huge.wav", wav_header(rate_hz=2**31 - 1, data_bytes=964) + tone, SKIPPED),
        ("liars/no-samples.wav", wav_header(data_bytes=0), SKIPPED),
        ("liars/one-sample.wav", wav_header(data_bytes=2) + b"\x00\x40", INDEXED),
        ("liars/not-numbers.wav", nan.getvalue(), INDEXED),
        ("liars/photo.txt", jpeg, INDEXED),
        ("liars/photo.json", jpeg, INDEXED),
        ("liars/text.jpg", b"this is no picture\n" * 10, SKIPPED),
        ("liars/zeros.jpg", bytes(5000), SKIPPED),
        ("liars/random.mp3", random.Random(3).randbytes(5000), SKIPPED),
    ]


def _texts() -> list[tuple[str, bytes, str]]:
    return [
        ("text/invalid-utf8.txt", "naïve café déjà vu ".encode() * 50 + b"\xff\xfe\x80", INDEXED),
        ("text/latin1.txt", "une forêt très déserte\n".encode("latin-1"), INDEXED),
        ("text/gb.txt", "今天天气很好，我们去公园散步。".encode("gb18030"), INDEXED),
        ("text/utf16.txt", "plain words".encode("utf-16"), INDEXED),
        ("text/nul.txt", bytes(range(256)) * 40, SKIPPED),
        ("text/spaces.txt", b" \n\t" * 1000, SKIPPED),
        ("text/marks.txt", b"a" + "\u0301".encode() * 100_000, INDEXED),
        ("text/README", b"A file without a suffix.\n", INDEXED),
        ("text/script", b"#!/bin/sh\necho hello\n", IGNORED),
        ("text/data.json", b'{"a": 1}', IGNORED),
        ("html/nested.html", b"<html><body>" + b"<div>" * 100_000 + b"deep down", INDEXED),
        ("html/comments.html", b"<html>words " + b"<!--" * 250_000, INDEXED),
        ("html/tags.html", b"<html><p>words " + b"<a " * 300_000, INDEXED),
        ("html/script.html", b"<html><script>" + b"x=1;" * 1000, SKIPPED),
    ]


KILLING = frozenset(("pdf/form-loop.pdf", "pdf/flate-bomb.pdf"))
"""What PDFium unpacks until its process gets no more memory, and ends."""


def _pdfs() -> list[tuple[str, bytes, str]]:
    catalog = b"<< /Type /Catalog /Pages 2 0 R >>"
    bomb = zlib.compress(bytes(400 << 20), 9)
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R >>"
    one = b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"
    loop = b"<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 99 >>"
    whole = pdf_with_text("words")
    at = whole.rindex(b"startxref")
    prev = whole[:at].replace(b"/Size", b"/Prev %d /Size" % whole.rindex(b"xref\n0")) + whole[at:]
    form_loop = build_pdf(
        [
            catalog,
            one,
            page.replace(b">>", b"/Resources << /XObject << /X 5 0 R >> >> >>"),
            pdf_stream(b"/X Do"),
            pdf_stream(
                b"/X Do /X Do",
                b"/Type /XObject /Subtype /Form /BBox [0 0 9 9]"
                b" /Resources << /XObject << /X 5 0 R >> >>",
            ),
        ]
    )
    return [
        ("pdf/two-pages.pdf", pdf_with_text("first page", "second page"), INDEXED),
        ("pdf/junk-before.pdf", b"junk\r\n" * 20 + whole, ANY),
        ("pdf/no-text.pdf", build_pdf([catalog, one, page, pdf_stream(b"")]), SKIPPED),
        ("pdf/page-loop.pdf", build_pdf([catalog, loop]), SKIPPED),
        ("pdf/xref-loop.pdf", prev, ANY),
        ("pdf/form-loop.pdf", form_loop, SKIPPED),
        (
            "pdf/flate-bomb.pdf",
            build_pdf([catalog, one, page, pdf_stream(bomb, b"/Filter /FlateDecode")]),
            SKIPPED,
        ),
        ("pdf/brackets.pdf", build_pdf([catalog, one, page, b"[" * 100_000]), ANY),
        ("pdf/header-only.pdf", b"%PDF-1.7\n", SKIPPED),
    ]


def _single_line(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    block = b"word " * (1 << 18)
    with path.open("wb") as file:
        while size > 0:
            file.write(block[:size])
            size -= len(block)


def _posix_only(folder: Path, expected: dict[str, str]) -> None:
    odd = folder / "odd"
    odd.mkdir(exist_ok=True)
    jpeg = pictures()["jpg"]
    for name in (b"new\nline.jpg", b"not-utf8-\xff\xfe.jpg", b"-rf *.jpg", b"\xe2\x80\xae.jpg"):
        try:
            Path(os.fsdecode(os.fsencode(odd) + b"/" + name)).write_bytes(jpeg)
        except OSError:  # macOS refuses names that are not UTF-8
            continue
        expected["odd/" + os.fsdecode(name)] = INDEXED
    (odd / "dangling.jpg").symlink_to("nowhere.jpg")
    (odd / "self").symlink_to("self")
    (odd / "up").symlink_to("..", target_is_directory=True)
    os.mkfifo(odd / "fifo.jpg")
    where = os.open(odd, os.O_RDONLY)
    try:  # bound by a short name: AF_UNIX paths end at 108 bytes
        before = Path.cwd()
        os.chdir(odd)
        try:
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind("socket.jpg")
        finally:
            os.chdir(before)
    finally:
        os.close(where)
    closed = folder / "closed"
    closed.mkdir(exist_ok=True)
    (closed / "inside.jpg").write_bytes(jpeg)
    closed.chmod(0)
    secret = odd / "secret.jpg"
    secret.write_bytes(jpeg)
    secret.chmod(0)
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0  # root reads what is closed to others
    expected["odd/secret.jpg"] = INDEXED if is_root else FAILED
