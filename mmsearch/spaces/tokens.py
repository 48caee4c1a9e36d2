"""Tokenizers, opened: checked where they came with an index or a space folder.

A ``tokenizer.json`` can be made to take any amount of memory or time for a few words: by padding
to a billion tokens, or by replacing each letter with many, again and again.
"""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import Any

from mmsearch.errors import SpaceUnavailable
from mmsearch.store.confined import AnyPath

MAX_TOKENS = 1 << 16  # that a text is padded to, or cut at; models read some hundred to 8,192
_MAX_BYTES = 48 << 20  # the largest in use, of 256,000 pieces, has 34 MB
_MAX_STEPS = 64  # of a normalizer, or of what cuts into words; those in use have up to ten
_MAX_GROWTH = 64  # how many letters may stand for one after all replacements
_MAX_PATTERN_CHARS = 1024
_STEPS = frozenset(
    "BertNormalizer Lowercase NFC NFD NFKC NFKD Nmt Precompiled Prepend Replace Sequence Strip "
    "StripAccents ByteLevel BertPreTokenizer CharDelimiterSplit Digits Metaspace Punctuation Split "
    "UnicodeScripts Whitespace WhitespaceSplit".split()
)


def open_tokenizer(path: AnyPath) -> Any:
    """The tokenizer of a file. path: a plain one is trusted. Raises SpaceUnavailable."""
    from tokenizers import Tokenizer

    try:
        if isinstance(path, Path):
            return Tokenizer.from_file(str(path))
        found = Tokenizer.from_buffer(path.read_bytes(_MAX_BYTES))
    except Exception as e:  # tokenizers raises plain Exception
        why = e.strerror if isinstance(e, OSError) else str(e)[:300]
        raise SpaceUnavailable(f"{path} cannot be loaded: {why}") from None
    except BaseException as e:
        raise _if_panic(e, path) from None
    try:
        _check(found)
    except ValueError as e:
        raise SpaceUnavailable(f"{path} is not taken: {e}.") from None
    return found


def encode(tokenizer: Any, text: str) -> Any:
    """A text's ``tokenizers.Encoding``. Raises SpaceUnavailable where the tokenizer fails."""
    try:
        return tokenizer.encode(text)
    except Exception as e:  # see ``open_tokenizer``
        raise SpaceUnavailable(f"the tokenizer fails: {str(e)[:300]}") from None
    except BaseException as e:
        raise _if_panic(e, "the tokenizer") from None


def _if_panic(error: BaseException, what: object) -> BaseException:
    """What a panic of the library, which is no Exception, is called here; other errors stay."""
    if type(error).__name__ != "PanicException":
        return error
    return SpaceUnavailable(f"{what} fails: {str(error)[:300]}")


def _check(tokenizer: Any) -> None:
    """Raises ValueError for one that can take more memory or time than a text is worth."""
    lengths = {**(tokenizer.padding or {}), **(tokenizer.truncation or {})}
    for name in ("length", "pad_to_multiple_of", "max_length", "stride"):
        if (lengths.get(name) or 0) > MAX_TOKENS:
            raise ValueError(f"its {name} is {lengths[name]:,}; at most {MAX_TOKENS:,} are allowed")
    growth = steps = 0
    for part in (tokenizer.normalizer, tokenizer.pre_tokenizer):
        growth = 1
        for step in _steps(part):
            steps += 1
            if step.get("type") not in _STEPS or steps > _MAX_STEPS:
                raise ValueError(f"it has a step {str(step.get('type'))[:40]!r}, or too many")
            pattern, content = step.get("pattern"), step.get("content")
            if isinstance(pattern, dict):
                longest = max((len(str(one)) for one in pattern.values()), default=0)
                if longest > _MAX_PATTERN_CHARS:
                    raise ValueError("it has a pattern that is too long")
            if isinstance(content, str):
                growth *= max(1, len(content))
            if (rules := step.get("precompiled_charsmap")) is not None:
                growth *= max(1, _longest_replacement(rules))
            if growth > _MAX_GROWTH:
                raise ValueError("it replaces a letter with too many")


def _longest_replacement(charsmap: Any) -> int:
    """The most letters that stand for one by SentencePiece's precompiled rules.

    charsmap: base64 of a little-endian uint32 n, a trie of n bytes, and the replacements: UTF-8,
    a NUL after each. Raises ValueError if it is anything else.
    """
    try:
        content = base64.b64decode(charsmap, validate=True)
        at = 4 + int.from_bytes(content[:4], "little")
        if len(content) < at or at % 4:  # the trie is of uint32
            raise ValueError
        return max(map(len, content[at:].decode().split("\0")))
    except (TypeError, ValueError, binascii.Error):
        raise ValueError("its precompiled_charsmap is damaged") from None


def _steps(part: Any) -> list[dict[str, Any]]:
    """All steps of a normalizer or pre-tokenizer, those inside others, too."""
    if part is None:
        return []
    left, found = [json.loads(part.__getstate__())], []
    while left:
        step = left.pop()
        if not isinstance(step, dict):
            raise ValueError("it has a step of no known form")
        found.append(step)
        for name in ("normalizers", "pretokenizers"):
            inner = step.get(name, [])
            left += inner if isinstance(inner, list) else [inner]
    return found
