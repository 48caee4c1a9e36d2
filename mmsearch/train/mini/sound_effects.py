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
from mmsearch.train.mini.sound_archives import ARCHIVES, members

PACKAGES = (
    "0ad-data colobot-common-sounds flightgear-data-base freedoom gcompris-qt-data "
    "heroes-sound-effects hedgewars-data lincity-ng-data megaglest-data minetest-data scratch "
    "simutrans-pak64 sonic-pi-samples sound-theme-freedesktop tuxpaint-data unknown-horizons "
    "wesnoth-1.16-data widelands-data"
).split()
KINDS = frozenset((".ogg", ".oga", ".wav", ".mp3", ".flac"))
OTHERS = re.compile(  # songs, and what is said
    r"music|voice|vocals|/units/|/tcas/|/mk-viii/", re.IGNORECASE
)
TITLED = re.compile(
    r"scratch/.*/(Animal|Effects|Human)/|widelands.*/animals/|fauna/animal/"
    r"|explore_farm_animals|instruments\.rcc"
)
DEEDS = frozenset("attack death idle move order select trained".split())  # of 0 A.D.'s animals
CHAINSAW = "/DSSAW"  # Doom's name for it


def title(name: str) -> tuple[str, ...]:
    """The caption that a file's name is, where files are named by what they sound like:
    "scratch/…/Human/Sneeze-male.mp3" is ("sneeze male", "sneeze"). Else none."""
    if CHAINSAW in name:
        return ("chainsaw",)
    if not TITLED.search(name):
        return ()
    stem = re.sub(r"[\d_-]+", " ", Path(name).stem)
    spelt = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", stem).lower().split()
    words = [word for word in spelt if word not in DEEDS]
    short = [word for word in words if word not in ("female", "male")]
    return tuple(dict.fromkeys((" ".join(words), " ".join(short))))


def named_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Path below the folder and bytes of its sounds, also of those inside archives, in the
    order of the paths."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file():
            continue
        if path.suffix.lower() in ARCHIVES:
            for inside, content in members(path, is_effect):
                yield f"{name}/{inside}", content
        elif is_effect(name):
            yield name, path.read_bytes()


def is_effect(name: str) -> bool:
    """Whether a path is that of a sound, by its ending, and neither music nor a voice."""
    return Path(name).suffix.lower() in KINDS and not OTHERS.search(name)


def effects(sources: Sources) -> Iterator[tuple[Sound, bytes]]:
    """Sounds of the packages, few of them captioned, with their files' bytes, in the order of
    their paths; none where no folder was given."""
    if sources.effects is None:
        return
    known: set[bytes] = set()  # digests: several packages hold the same file many times
    for name, content in named_files(sources.effects):
        digest = hashlib.sha256(content).digest()
        if digest not in known:
            known.add(digest)
            yield Sound(f"effects/{name}", title(name)), content
