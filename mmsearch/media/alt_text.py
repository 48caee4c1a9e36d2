"""What a document says of a picture (alternative text), without what programs put there."""

from __future__ import annotations

import re

from mmsearch.media.cutting import normalised

MAX_ALT_CHARS = 500
"""Screen readers advise a sentence or two; some descriptions are as long as a paragraph."""
MAX_WRITTEN_CHARS = 4 * MAX_ALT_CHARS
"""So much of what is written is looked at; there may be white space in it."""

_FILE = re.compile(
    r".*\.(?:png|jpe?g|gif|bmp|tiff?|webp|svgz?|emf|wmf|heic|avif|ico)|\w+://\S+|\w*_[\w-]*",
    re.IGNORECASE,
)
# As programs name what has no name: Picture 3, image1, a camera's DSC01234, a number of 128 bits.
_AUTOMATIC = re.compile(
    r"(?:picture|image|img|pic|photo|graphics?|grafik|bild|abbildung|imagen|immagine|imagem"
    r"|afbeelding|obraz|рисунок|изображение|图片|圖片|画像|図|그림|dsc[nf]?|pxl|untitled|spacer|blank"
    r"|(?:tracking )?pixel|cover(?: image)?)[\s\d_.-]*|[\da-f-]{32,36}",
    re.IGNORECASE,
)
_LABEL = re.compile(r"(?:description|beschreibung|descripción|descrizione)\s?:\s", re.IGNORECASE)
# What Office adds to descriptions that it made itself, in a paragraph of its own.
_MADE_BY_PROGRAM = re.compile(r"\b(?:AI|KI|IA)\b|ИИ|automat|自动|自動|生成", re.IGNORECASE)


def alt_text(written: str) -> str:
    """The words of an alternative text, at most MAX_ALT_CHARS of them.

    Empty if they say nothing of the picture: names of files, ``Picture 3``, signs.
    """
    lines = written[:MAX_WRITTEN_CHARS].strip().splitlines()
    if len(lines) > 2 and not lines[-2].strip() and _MADE_BY_PROGRAM.search(lines[-1]):
        del lines[-1]
    said = normalised("\n".join(lines))
    if label := _LABEL.match(said):
        said = said[label.end() :]
    automatic = _FILE.fullmatch(said) or _AUTOMATIC.fullmatch(said)
    if automatic or not any(character.isalpha() for character in said):
        return ""
    if len(said) > MAX_ALT_CHARS:
        last_space = said.rfind(" ", MAX_ALT_CHARS // 2, MAX_ALT_CHARS)
        said = said[: last_space if last_space > 0 else MAX_ALT_CHARS]
    return said
