"""How much of one input is read before it is refused."""

from __future__ import annotations

from dataclasses import dataclass

from mmsearch.errors import DecodeError

MIB = 1 << 20


class OutOfMemory(DecodeError):
    """Decoding an input took more memory than there was, or than ``worker_memory_bytes``."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the {what} needs more memory than a decoder may take")


@dataclass(frozen=True)
class Limits:
    """Ceilings against bombs and accidents; each is far above honest files.

    Going past one raises LimitExceeded (in a run: a recorded skip that names it).
    """

    max_image_bytes: int = 256 * MIB
    """Pictures are read whole; a 100-megapixel raw-ish TIFF has 300 MB, a phone's JPEG 20."""

    max_pixels: int = 500_000_000
    """As the header claims them. Phones make 200 megapixels; a progressive JPEG keeps all
    its coefficients in memory, 3 bytes a pixel, so much more than this cannot be decoded."""

    max_decoded_pixels: int = 100_000_000
    """What is really unpacked (for a JPEG after `draft`, at most an 8th of each side).
    Pillow keeps 4 bytes a pixel; RGBA and HEIC need twice that for a moment, so theirs end
    at about 85 million, by `worker_memory_bytes`."""

    max_audio_s: float = 24 * 3600.0
    """A day of sound is 8,640 windows of 10 s; longer is a stream or a lying header."""

    max_text_bytes: int = 32 * MIB
    """Ten times War and Peace; beyond it lie logs, dumps and single-line monsters."""

    max_html_bytes: int = 8 * MIB
    """Parsed in Python at about 1.4 MB/s; the longest hand-written pages have 1–2 MB."""

    max_pdf_bytes: int = 256 * MIB
    """Read whole; scanned books lie below."""

    max_pdf_pages: int = 10_000
    """Extraction costs 10–50 ms a page; the longest standards have some 5,000 pages."""

    max_pdf_s: float = 900.0
    """Checked between pages: 10,000 honest pages fit, a page tree made to be slow does not."""

    max_pdf_text_chars: int = 64 * MIB
    """Text that all pages together may give; a page can name the same stream a thousand times."""

    max_document_bytes: int = 256 * MIB
    """Documents of office programs, e-books and mail are read whole; pictures in them are not
    looked at, but make them large."""

    max_unpacked_bytes: int = 512 * MIB
    """What all entries of such a document may unpack to as they are read, some 20 MB a second."""

    max_document_chars: int = 32 * MIB
    """Text of one document; spreadsheets are the longest."""

    worker_memory_bytes: int = 768 * MIB
    """Heap of one decoding process (RLIMIT_DATA, on Linux): a bomb that slips past every other
    limit meets MemoryError instead of the whole machine. Ordinary files need 60–150 MB."""

    worker_cpu_s: float = 300.0
    """Processor time of one decoding process from one part of a file to the next (RLIMIT_CPU).
    A PDF page takes up to 18 s and a picture of 100 megapixels 20 s; slow computers need ten
    times as much. Beyond it lie loops without an end."""
