"""What is said of a file that somebody gives as a picture or a sound and that is neither."""

from __future__ import annotations

import os
from typing import BinaryIO

from mmsearch.errors import DecodeError
from mmsearch.media.others import described
from mmsearch.media.sniff import sniff
from mmsearch.types import Modality

_KINDS = {  # by ``media.KINDS``
    "image": "a picture",
    **dict.fromkeys(("audio", "av"), "a sound"),
    "pdf": "a PDF",
    **dict.fromkeys(("office", "opendocument", "rtf"), "a document"),
    "epub": "an e-book",
    "mail": "a mail",
    "html": "a web page",
    "text": "a text",
}
_MODALITIES = {Modality.IMAGE: "a picture", Modality.AUDIO: "a sound", Modality.TEXT: "a text"}
_EXAMPLES = {
    Modality.IMAGE: "such as jpg, png, webp or heic",
    Modality.AUDIO: "such as wav, mp3, flac, ogg or m4a",
}


def other_than(wanted: Modality, head: bytes, path: str, file: BinaryIO) -> str | None:
    """What a file is, if it is not of the modality that is wanted; None if it is, or may be.

    head: its first bytes. file: the same file, open.
    """
    try:
        kind = sniff(head, path.replace(os.sep, "/"), file=file)
    except DecodeError as error:  # empty, or not what its name says
        return str(error)
    if kind is None and not head:
        return "empty file (0 bytes)"
    what = _KINDS[kind] if kind is not None else described(head, path).partition(";")[0]
    return None if what == _MODALITIES[wanted] else f"is {what}; {_wish(wanted)}"


def is_instead(wanted: Modality, got: Modality) -> str:
    """What is said of something of another modality than the one that is wanted."""
    return f"is {_MODALITIES[got]}; {_wish(wanted)}"


def _wish(wanted: Modality) -> str:
    return f"{_MODALITIES[wanted]} is wanted, {_EXAMPLES[wanted]}"
