"""Bytes → decoded arrays: pictures, sounds and texts, behind limits against bombs.

One line in KINDS a kind; its module, and the library behind it, loads with the first file
of that kind, so a worker that never sees a PDF never loads PDFium.
`mmsearch.media.pool` runs all this in processes of its own.
"""

from __future__ import annotations

import io
import logging
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import (
    DecodeError,
    LimitExceeded,
    MmsearchError,
    ProcessingFailed,
    UsageError,
    install,
)
from mmsearch.media.limits import Limits, OutOfMemory
from mmsearch.media.others import sound_described
from mmsearch.media.sniff import HEAD_BYTES, included, sniff
from mmsearch.media.versions import decoders
from mmsearch.types import Modality, Part, Preprocess

if TYPE_CHECKING:
    import PIL.Image

__all__ = [
    "HEAD_BYTES",
    "KINDS",
    "META_KEYS",
    "Limits",
    "audio_windows",
    "decode",
    "decoders",
    "image_array",
    "image_of",
    "included",
    "joined",
    "lift_pillows_ceiling",
    "max_bytes",
    "modality_of",
    "passages",
    "sniff",
]

Source = str | os.PathLike[str] | bytes | BinaryIO


class Kind(NamedTuple):
    """What decodes a kind of file.

    module: of this room, with `parts`. most_bytes: the limit on a file's bytes; None: it is
    streamed, not read whole. extra: of this package, which the module needs.
    """

    module: str
    modality: Modality
    most_bytes: str | None = None
    extra: str | None = None


KINDS = {
    "image": Kind("image", Modality.IMAGE, "max_image_bytes"),
    "audio": Kind("audio", Modality.AUDIO),
    "av": Kind("av_audio", Modality.AUDIO, extra="av"),
    "pdf": Kind("pdf", Modality.TEXT, "max_pdf_bytes"),
    "office": Kind("office", Modality.TEXT, "max_document_bytes"),
    "opendocument": Kind("opendocument", Modality.TEXT, "max_document_bytes"),
    "epub": Kind("epub", Modality.TEXT, "max_document_bytes"),
    "rtf": Kind("rtf", Modality.TEXT, "max_document_bytes"),
    "mail": Kind("mail", Modality.TEXT, "max_document_bytes"),
    "html": Kind("html", Modality.TEXT, "max_html_bytes"),
    "text": Kind("text", Modality.TEXT, "max_text_bytes"),
}


# What decoders say of a part. Any other key came with an item, from an application.
META_KEYS = frozenset(
    ("width", "height", "format", "taken", "camera", "latitude", "longitude", "duration_s",
     "sample_rate_hz", "channels", "title", "artist", "album", "genre", "author", "offset", "page",
     "section")
)  # fmt: skip


def max_bytes(kind: str, limits: Limits) -> int | None:
    """How large a file of this kind may be; None where it is streamed."""
    attribute = KINDS[kind].most_bytes
    return None if attribute is None else int(getattr(limits, attribute))


def modality_of(kind: str) -> Modality:
    """What the parts of that kind of file are."""
    return KINDS[kind].modality


def decode(
    source: Source,
    kind: str,
    preprocess: Preprocess,
    limits: Limits | None = None,
    skip_parts: int = 0,
) -> Iterator[Part]:
    """The parts of one item, in order, ``part_no`` from ``skip_parts`` on; at least one in all.

    source: a path, bytes, or an open binary file (for sounds seekable). skip_parts: how many
    parts are known already; they are not decoded where that can be avoided.
    Raises DecodeError or LimitExceeded with a reason fit for a person, and nothing else that
    the content could cause; possibly after some parts. Raises ProcessingFailed where the
    library that decodes such files cannot be loaded.
    """
    limits = limits or Limits()
    most = max_bytes(kind, limits)
    try:
        module = import_module(f"mmsearch.media.{KINDS[kind].module}")
    except (ImportError, OSError) as error:
        if (extra := KINDS[kind].extra) and find_spec(extra) is None:
            raise _needs(source, extra) from error
        raise ProcessingFailed(f"what decodes {kind} files cannot be loaded: {error}") from error
    _quieten()
    try:
        with _opened(source) as file:
            content = file if most is None else read_whole(file, kind, most)
            yield from module.parts(content, preprocess, limits, skip_parts)
    except MmsearchError:
        raise
    except ImportError as error:
        raise ProcessingFailed(f"what decodes {kind} files cannot be loaded: {error}") from error
    except MemoryError as error:
        raise OutOfMemory(kind) from error
    except RecursionError as error:
        raise DecodeError(f"the {kind} is nested too deeply") from error
    except OSError as error:
        raise DecodeError(error.strerror or str(error), stage="read") from error
    except Exception as error:
        reason = f"the {kind} is damaged or not supported ({type(error).__name__}: {error})"
        raise DecodeError(reason) from error


def _needs(source: Source, extra: str) -> DecodeError:
    with _opened(source) as file:
        what = sound_described(file.read(HEAD_BYTES))
    return DecodeError(f"is {what}; to read it, {install(extra)}")


def read_whole(file: BinaryIO, kind: str, most: int) -> bytes:
    """All of ``file``; LimitExceeded, before it is read, where that is more than ``most``."""
    data = file.read(most + 1)
    if len(data) > most:
        raise LimitExceeded(f"{kind} file of more than {most:,} bytes, which is the limit")
    return data


def image_array(
    source: Source | PIL.Image.Image, preprocess: Preprocess, limits: Limits | None = None
) -> NDArray[np.uint8]:
    """One picture as uint8 (px, px, 3) RGB; see ``image_of``."""
    data = image_of(source, preprocess, limits).data
    assert not isinstance(data, str)
    return data


def image_of(
    source: Source | PIL.Image.Image, preprocess: Preprocess, limits: Limits | None = None
) -> Part:
    """One picture as a part: a path, bytes, an open file, or a Pillow picture.

    Its meta is that of a file, but a picture that was made in memory has no ``format``. Raises
    DecodeError, LimitExceeded. In this process Pillow's own MAX_IMAGE_PIXELS holds too.
    """
    import PIL.Image

    from mmsearch.media import exif, image

    limits = limits or Limits()
    if not isinstance(source, PIL.Image.Image):
        return next(decode(source, "image", preprocess, limits))
    try:
        own = source.copy()
        own.format = source.format
    except Exception as error:
        raise DecodeError(f"the picture cannot be read ({error})") from error
    array, meta = image.square(own, preprocess, limits)
    facts = exif.facts(exif.read_exif(source))  # of a TIFF the copy has none
    return Part(Modality.IMAGE, 0, array, meta=meta | facts)


@cache
def lift_pillows_ceiling() -> None:
    """Leave pixels to ``Limits`` in all of this process, which must be ours.

    Pillow's own limit is lower, warns, and is one for the whole process.
    """
    import PIL.Image

    PIL.Image.MAX_IMAGE_PIXELS = None


def audio_windows(
    source: Source | tuple[NDArray[Any], int],
    preprocess: Preprocess,
    limits: Limits | None = None,
) -> Iterator[tuple[NDArray[np.float32], float, float]]:
    """One sound as (window, start_s, end_s): window float32 (samples,) mono in [-1, 1].

    source: a path, bytes, an open file, or (array, sample_rate_hz) where the array is
    (samples,) or (samples, channels). Raises DecodeError, LimitExceeded.
    """
    from mmsearch.media import audio

    if isinstance(source, tuple):
        samples, rate_hz = audio.samples_and_rate(source)
        blocks = audio.array_blocks(samples, rate_hz, limits or Limits())
        yield from audio.cut_windows(blocks, rate_hz, preprocess)
        return
    for part in decode(source, _kind_of_sound(source), preprocess, limits):
        assert not isinstance(part.data, str)
        assert part.start_s is not None
        assert part.end_s is not None
        yield part.data, part.start_s, part.end_s


def _kind_of_sound(source: Source) -> str:
    """What reads a sound: ``av`` if libsndfile does not."""
    name = os.fsdecode(source) if isinstance(source, (str, os.PathLike)) else ""
    try:
        with _opened(source) as file:
            at = file.tell()
            kind = sniff(file.read(HEAD_BYTES), name, file=file)
            file.seek(at)
        return "av" if kind == "av" else "audio"
    except (MmsearchError, OSError, ValueError):  # what decodes it says why
        return "audio"


def joined(pieces: Sequence[str], share: float) -> str:
    """The text that passages were cut from, as far as they tell: what two share is there once.

    share: of a passage that it has in common with the one before, about. Where a text repeats
    itself several overlaps are possible: the nearest to that is taken.
    """
    text = ""
    for before, piece in zip(["", *pieces], pieces, strict=False):
        expected = share * len(before)
        possible = range(1, min(len(before), len(piece)) + 1)
        by_nearness = sorted(possible, key=lambda n: abs(n - expected))
        shared = next((n for n in by_nearness if before.endswith(piece[:n])), 0)
        text = text + piece[shared:] if shared else f"{text} {piece}" if text else piece
    return text


def passages(text: str, preprocess: Preprocess) -> Iterator[str]:
    """A text cut into passages, as an indexed file of it would be."""
    from mmsearch.media.cutting import normalised, spans

    for start, end in spans(text, preprocess):
        yield normalised(text[start:end])


class _Borrowed:
    """A file that stays open when the `with` ends: its opener closes it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def __enter__(self) -> BinaryIO:
        return self.file

    def __exit__(self, *_: object) -> None:
        return None


def _opened(source: Source) -> BinaryIO | _Borrowed:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(source)
    if isinstance(source, (str, os.PathLike)):
        return open_regular(source)
    if not hasattr(source, "read"):
        raise UsageError(
            f"give a path, bytes or an open file, not {type(source).__name__}; of arrays, "
            "PIL.Image.fromarray(pixels) is a picture and (samples, sample_rate_hz) a sound."
        )
    return _Borrowed(source)


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading; DecodeError (stage ``read``) unless it is a regular one.

    Opened without waiting: a FIFO without a writer would block for ever.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(Path(path), flags | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        raise DecodeError("there is no such file (any more)", stage="read") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DecodeError(f"cannot be opened: {reason}", stage="read") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        hint = " (save first what a pipe gives)" if stat.S_ISFIFO(mode) else ""
        raise DecodeError(f"is not a regular file{hint}", stage="read")
    return os.fdopen(descriptor, "rb")


_quiet = False


def _quieten() -> None:
    """Keep what libraries mutter about damaged files off stderr; the reason says it better.

    Appended behind the filters that are there, so that whoever set some keeps them.
    """
    global _quiet
    if not _quiet:
        _quiet = True
        for module in (r"PIL\..*", r"pypdfium2.*", r"pi_heif.*", r"soundfile"):
            warnings.filterwarnings("ignore", module=module, append=True)
        for logger in ("PIL", "pypdfium2", "chardet", "libav"):
            logging.getLogger(logger).addHandler(logging.NullHandler())
