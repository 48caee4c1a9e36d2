"""What is done with a text before it is tokenized.

Towers of open_clip that run without open_clip clean texts as it does: mojibake, typographic
quotes, ligatures and full-width letters are made plain (by ftfy, as there), HTML's entities
become the signs they stand for, and then, by the tokenizer's kind:
``whitespace`` joins the words with single spaces; ``lower`` puts them in lower case, too;
``canonicalize`` also drops ASCII punctuation, with underscores as spaces.
"""

from __future__ import annotations

import html
import string

KINDS = ("whitespace", "lower", "canonicalize")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def encodable(text: str) -> str:
    """The text without what no UTF-8 can say (lone surrogates become question marks)."""
    return text.encode("utf-8", "replace").decode("utf-8")


def cleaned(text: str, kind: str) -> str:
    """The text as open_clip's tokenizer of that kind takes it. Raises ValueError for another."""
    if kind not in KINDS:
        raise ValueError(f"texts are cleaned by one of {', '.join(KINDS)}, not {kind!r}")
    import ftfy

    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    if kind == "canonicalize":
        text = text.replace("_", " ").translate(_NO_PUNCTUATION).lower()
    text = " ".join(text.split())
    return text.lower() if kind == "lower" else text
