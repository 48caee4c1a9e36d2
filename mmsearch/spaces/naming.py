"""Names of spaces that stand for none, and what they were perhaps meant to be."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterable

from mmsearch.given import expanded

OPENCLIP, CLAP, GEMMA = "openclip:", "clap:", "gemma:"
LOCAL, HUB = "local-dir:", "hf-hub:"  # of open_clip
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_CONFIG_BYTES = 1 << 20


def nearest(word: str, known: Iterable[str], n: int = 1) -> list[str]:
    """Those of some names that a word is nearly, without regard to case."""
    folded = {one.casefold(): one for one in known}
    near = difflib.get_close_matches(word.casefold(), folded, n, 0.6)
    return [folded[one] for one in near]


def did_you_mean(names: Iterable[str]) -> str:
    """``; did you mean A or B?``, or a full stop where there are none."""
    several = list(dict.fromkeys(names))
    return f"; did you mean {' or '.join(several)}?" if several else "."


def looks_like_path(name: str) -> bool:
    """Whether a name can only be that of a file or folder, or is one that is there."""
    return name.startswith((os.sep, "~", "." + os.sep, ".." + os.sep)) or (
        name != "" and os.path.isdir(name)
    )


def looks_like_repository(name: str) -> bool:
    """Whether a name is like OWNER/REPOSITORY of Hugging Face."""
    return _REPOSITORY.fullmatch(name) is not None


def meant(name: str, spaces: Iterable[str], known: Iterable[str]) -> list[str]:
    """What a name without a family was perhaps meant to be.

    spaces: names that stand alone. known: full names of models that are worth knowing.
    """
    if name.startswith((LOCAL, HUB)):
        return [OPENCLIP + name]
    if folder := of_folder(name):
        return [folder]
    if looks_like_path(name):
        return []
    full = {one.partition(":")[2].casefold(): one for one in known}
    if name.casefold() in full:
        return [full[name.casefold()]]
    if looks_like_repository(name):
        return [CLAP + name, f"{OPENCLIP}{HUB}{name}"]
    return nearest(name, spaces)


def of_folder(path: str) -> str | None:
    """The space of a folder by what lies in it; None where it holds no model."""
    folder = expanded(path)
    if os.path.isfile(folder / "open_clip_config.json"):
        return f"{OPENCLIP}{LOCAL}{path}"
    if os.path.isfile(folder / "card.json"):
        return path
    try:
        with (folder / "config.json").open("rb") as file:
            config = json.loads(file.read(_CONFIG_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    kind = config.get("model_type") if isinstance(config, dict) else None
    family = {"clap": CLAP, "embedding_gemma2": GEMMA}.get(kind) if isinstance(kind, str) else None
    return None if family is None else family + path
