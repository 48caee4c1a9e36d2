"""More sounds, most without words, for the teacher to name: what Debian's games sound like.

``--effects`` is a folder that these packages were unpacked into, one folder each:

    apt-get download PACKAGE && dpkg -x PACKAGE_*.deb EFFECTS/PACKAGE

Any free sound will do; ``PACKAGES`` are those that the figures were made with.
Their licences, by their ``copyright`` files: GPL-2+ or CC-BY-SA for most, CC0 for
sonic-pi-samples, Artistic for simutrans-pak64. No sound is shipped.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from mmsearch.train.mini.data import Sound, Sources

PACKAGES = (
    "colobot-common-sounds heroes-sound-effects hedgewars-data lincity-ng-data megaglest-data "
    "minetest-data scratch simutrans-pak64 sonic-pi-samples sound-theme-freedesktop "
    "tuxpaint-data unknown-horizons wesnoth-1.16-data widelands-data"
).split()
KINDS = frozenset((".ogg", ".oga", ".wav", ".mp3", ".flac"))
OTHERS = re.compile(r"music|voice|vocals|/units/", re.IGNORECASE)  # songs, and what heroes say
TITLED = re.compile(r"scratch/.*/(Animal|Effects|Human)/|widelands.*/animals/")


def title(name: str) -> tuple[str, ...]:
    """The caption that a file's name is, where files are named by what they sound like:
    "scratch/…/Human/Sneeze-male.mp3" is ("sneeze male", "sneeze"). Else none."""
    if not TITLED.search(name):
        return ()
    stem = re.sub(r"[\d_-]+", " ", Path(name).stem)
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", stem).lower().split()
    short = [word for word in words if word not in ("female", "male")]
    return tuple(dict.fromkeys((" ".join(words), " ".join(short))))


def effects(sources: Sources) -> Iterator[tuple[Sound, bytes]]:
    """Sounds of the packages, few of them captioned, with their files' bytes, in the order of
    their paths; none where no folder was given."""
    if sources.effects is None:
        return
    known: set[bytes] = set()  # digests: several packages hold the same file many times
    for path in sorted(sources.effects.rglob("*")):
        name = path.relative_to(sources.effects).as_posix()
        if path.suffix.lower() not in KINDS or not path.is_file() or OTHERS.search(name):
            continue
        content = path.read_bytes()
        digest = hashlib.sha256(content).digest()
        if digest not in known:
            known.add(digest)
            yield Sound(f"effects/{name}", title(name)), content
