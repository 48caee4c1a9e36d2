"""What is kept out of training, by rule: families of drawings, twenty nouns, one category.

Three questions are asked of what training never saw, so three things stay out of it:

- **A fifth of Tux Paint's stamps**: the families whose CRC-32 is divisible by five. A
  family is the words of a file's name without numbers, single letters and the marks of a
  variant (``frog``, ``frog-2``, ``frog_mirror`` and ``frog_red`` are one), so that no two
  variants of a drawing fall on different sides.
- **Twenty nouns**: no drawing whose title, keywords or file name carries one of ``NOUNS``
  (nor another of its family) is trained on, and no stamp whose caption does. As words they
  may be known: in class names and in captions without pictures.
- **One category of Open Clip Art**, ``CATEGORY``: what the example of ``mmsearch train``
  learns (``benchmarks/icons.py``). It is the largest, and its desktop icons are a kind of
  picture of its own.

``NOUNS`` was made once, and is frozen. The rule: neither the noun nor its plural is in any
English caption of Flickr8k's training part; it is a thing that can be drawn, with one
meaning (``diamond`` is also a suit and a pattern, ``folder`` and ``switch`` are parts of
computers, ``callout`` is a word of the trade); and at least six drawings of Open Clip Art
with different bytes carry it, flags, logos, gradients and stars left out. Of those the
twenty with most drawings. With ten drawings each there are only ten such nouns.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable

HELD_PART = 5  # one family of this many
CATEGORY = "computer"

NOUNS: dict[str, tuple[str, ...]] = {  # noun -> how drawings spell it, in the singular
    "road sign": ("road sign", "roadsign"),
    "flowchart": ("flowchart", "flow chart"),
    "jigsaw": ("jigsaw",),
    "smiley": ("smiley",),
    "light bulb": ("light bulb", "lightbulb"),
    "bullet hole": ("bullet hole", "bullethole"),
    "pantyhose": ("pantyhose",),
    "lightning": ("lightning",),
    "globe": ("globe",),
    "planet": ("planet",),
    "printer": ("printer",),
    "scissors": ("scissors", "scissor"),
    "magnifying glass": ("magnifying glass",),
    "muffin": ("muffin",),
    "pie": ("pie",),
    "pear": ("pear",),
    "battery": ("battery",),
    "knot": ("knot",),
    "pancake": ("pancake",),
    "envelope": ("envelope",),
}

MARKS = frozenset(  # words of a file's name that tell variants of one drawing apart
    "mirror flip left right front back side top bottom up down small medium large big little "
    "old new open opened closed filled outline outlined photo cartoon alt copy simple "
    "bw color colour colored coloured black white grey gray red green blue yellow orange "
    "purple pink brown gold silver dark light".split()
)


def words_of(text: str) -> list[str]:
    """The words of a title, a keyword or a file's name, lower case; CamelCase is two words."""
    apart = re.sub(r"(?<=[a-z]{2})(?=[A-Z][a-z]{2})", " ", text)
    return re.findall(r"[^\W\d_]+", apart.lower())


def family(stem: str) -> str:
    """What the variants of one drawing have in common in their files' names, lower case.

    Where nothing is left, single letters count, and then the whole name.
    """
    words = words_of(stem)
    kept = [word for word in words if word not in MARKS]
    long = [word for word in kept if len(word) > 1]
    return "_".join(long or kept or words) or stem.lower()


def held_out(stem: str) -> bool:
    """Whether the family of a stem is kept out of training: one family of five."""
    return zlib.crc32(family(stem).encode()) % HELD_PART == 0


def singular(word: str) -> str:
    """A plural without its ending, near enough to compare words with."""
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def nouns_in(texts: Iterable[str]) -> frozenset[str]:
    """Which of ``NOUNS`` some texts carry, as whole words, singular or plural."""
    said = [f" {' '.join(singular(word) for word in words_of(text))} " for text in texts]
    return frozenset(
        noun
        for noun, spellings in NOUNS.items()
        if any(f" {_singulars(spelling)} " in one for spelling in spellings for one in said)
    )


def _singulars(spelling: str) -> str:
    return " ".join(singular(word) for word in spelling.split())
