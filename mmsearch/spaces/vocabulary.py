"""How much of a text a tokenizer knows: scripts that its vocabulary lacks all become one token."""

from __future__ import annotations

import unicodedata
from typing import Any

from mmsearch.spaces.tokens import encode

_NOBODYS = "\U0010fffd"  # a private character, which no vocabulary holds
_COUNTED = "LNS"  # letters, numbers, symbols: by Unicode's general categories

_MOST_REMEMBERED = 20_000  # characters: about 1 MB, and more than texts of any one language have


class Vocabulary:
    """What a ``tokenizers.Tokenizer`` knows; None is one that knows everything.

    Safe to use from several threads. Raises SpaceUnavailable where the tokenizer fails.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._unknown = None if tokenizer is None else _unknown_id(tokenizer)
        # made of pieces, a text holds nothing unknown if each character is known alone
        self._of_pieces = tokenizer is not None and type(tokenizer.model).__name__ == "Unigram"
        self._known: set[str] = set()
        self._strange: set[str] = set()

    def unknown(self, text: str) -> float:
        """The share of a text's letters, numbers and symbols that the tokenizer does not know.

        0 for a text without any, and where the tokenizer knows everything, as one of bytes does.
        What is cut off because the text is too long does not count.
        """
        if self._unknown is None or (self._of_pieces and self._all_known(text)):
            return 0.0
        found = encode(self._tokenizer, text)
        unknown = end = 0
        for token, (start, stop), mark in zip(
            found.ids, found.offsets, found.special_tokens_mask, strict=True
        ):
            if mark:
                continue
            end = max(end, stop)
            if token == self._unknown:
                unknown += _count(text[start:stop])
        return unknown / max(1, _count(text[:end]))

    def _all_known(self, text: str) -> bool:
        characters = set(text)
        strange = characters & self._strange
        for char in characters - self._known - strange:
            if not _count(char):
                continue
            if self._unknown in encode(self._tokenizer, char).ids:
                strange.add(char)
                self._strange.add(char)
            else:
                self._known.add(char)
        if len(self._known) + len(self._strange) > _MOST_REMEMBERED:
            self._known, self._strange = set(), set()  # anew: other threads may read these
        return not strange


def _count(text: str) -> int:
    return sum(unicodedata.category(char)[0] in _COUNTED for char in text)


def _unknown_id(tokenizer: Any) -> int | None:
    """The token that stands for what is unknown; None for a tokenizer that knows everything."""
    found = encode(tokenizer, _NOBODYS)
    if type(tokenizer.model).__name__ == "Unigram":  # which shows what it did not know as it is
        shown = zip(found.tokens, found.ids, strict=True)
        return next((token for text, token in shown if _NOBODYS in text), None)
    token = getattr(tokenizer.model, "unk_token", None)
    unknown = None if token is None else tokenizer.token_to_id(token)
    return unknown if unknown in found.ids else None
