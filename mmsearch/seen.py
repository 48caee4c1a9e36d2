"""What a space was trained on, as a list of short hashes that lies in its folder.

It answers one question: was this file, or what is said of it, seen in training? Nobody can read
files or sentences out of it; whoever has one of them can ask about it. Files are told by their
bytes. Captions are told as sentences, for others have the same picture in another size: alone
if they are long and their words are spaced, else all of a picture's together.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import SpaceUnavailable
from mmsearch.store import npy

KEY_BYTES = 5  # of a million entries, one in a million other files is mistaken for one of them
# Shorter sentences are said of other pictures, too: of Flickr8k's validation captions 0.4% with so
# many words stand in the training captions, and 27% of the Chinese ones, which are short.
LEAST_WORDS = 7
_KEY = "|u1"  # the type of what is stored
_BLOCK_BYTES = 1 << 20
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
_SPACELESS = re.compile(f"[{_CJK}]")

Captions = Mapping[str, Sequence[str]]  # language -> what is said
Packed = NDArray[np.uint8]  # (n, KEY_BYTES), as it is stored


def content_hash(file: BinaryIO) -> bytes:
    """BLAKE2b (16 bytes) of a file's content, which an index holds of each file."""
    digest = blake2b(digest_size=16)
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
    return digest.digest()


def file_key(digest: bytes) -> int:
    """The key of a file. digest: of its content, see ``content_hash``."""
    return int.from_bytes(digest[:KEY_BYTES], "big")


def sentence_keys(captions: Captions) -> list[int]:
    """The keys of the captions that tell a picture or sound alone."""
    plain = (_plain(text) for several in captions.values() for text in several)
    return [
        _key(words)
        for words in plain
        if len(words) >= LEAST_WORDS and not any(map(_SPACELESS.match, words))
    ]


def set_keys(captions: Captions) -> list[int]:
    """The keys of all captions of a thing together, by language; of a single one there is none."""
    sets = (sorted({" ".join(_plain(text)) for text in own}) for own in captions.values())
    return [_key([f"{len(own)}:", *own]) for own in sets if len(own) > 1]


def _plain(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _key(words: Sequence[str]) -> int:
    digest = blake2b("\0".join(words).encode("utf-8", "replace"), digest_size=KEY_BYTES)
    return int.from_bytes(digest.digest(), "big")


def pack(keys: Iterable[int]) -> Packed:
    """The keys as a space folder keeps them: sorted, each once."""
    distinct = np.array(sorted(set(keys)), ">u8")
    return distinct.view(np.uint8).reshape(-1, 8)[:, 8 - KEY_BYTES :].copy()


def joined(several: Sequence[Packed]) -> Packed:
    """The keys of several lists, each once."""
    return np.unique(np.concatenate(several), axis=0)


class Seen:
    """What was seen in training, by a space or by several."""

    def __init__(self, several: Iterable[Packed]) -> None:
        wide = [
            np.pad(packed, ((0, 0), (8 - KEY_BYTES, 0))).reshape(-1).view(">u8")
            for packed in several
        ]
        self._keys = np.unique(np.concatenate([np.empty(0, np.uint64), *wide]).astype(np.uint64))

    def __len__(self) -> int:
        return len(self._keys)

    def some(self, keys: Sequence[int]) -> int:
        """How many of some keys are among them."""
        asked = np.array(keys, np.uint64)  # few, and ours are many and sorted: np.isin sorts all
        first, end = (np.searchsorted(self._keys, asked, side) for side in ("left", "right"))
        return int((first < end).sum())

    def knows(self, files: Sequence[int], captions: Captions) -> bool:
        """Whether a pair was seen: a file of it, its captions together, or most of those that
        tell it alone."""
        alone = sentence_keys(captions)
        return bool(
            self.some(files) or self.some(set_keys(captions)) or 2 * self.some(alone) > len(alone)
        )


def read(content: bytes) -> Packed:
    """What ``pack`` made, as ``numpy.save`` wrote it. Raises SpaceUnavailable for anything else."""
    try:
        return npy.array(content, _KEY, (npy.rows_in(len(content), _KEY, KEY_BYTES), KEY_BYTES))
    except ValueError as e:
        raise SpaceUnavailable(f"the list of what was seen in training is damaged: {e}.") from None
