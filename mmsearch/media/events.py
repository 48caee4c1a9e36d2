"""What goes into a DecodePool and what comes out."""

from __future__ import annotations

from dataclasses import dataclass

from mmsearch.types import Item, Part, Signature


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One file to decode.

    ask: say its content hash first and wait whether to go on (moved and touched files).
    skip_parts: so many of its first parts are known already.
    kind: what it is taken for if its first bytes and its name tell of nothing that
    the pool takes; None: it is ignored.
    """

    item: Item
    ask: bool = False
    skip_parts: int = 0
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class PartReady:
    """A part was decoded. A task's parts come in order; Finished, Skipped or Failed follows.

    content_hash: of the whole file.
    """

    task: Task
    part: Part
    content_hash: bytes


@dataclass(frozen=True, slots=True)
class Finished:
    """All parts were given. ``n_parts`` counts the skipped ones too."""

    task: Task
    content_hash: bytes
    n_parts: int
    signature: Signature


@dataclass(frozen=True, slots=True)
class Skipped:
    """The file's content cannot be indexed. Parts that were given before are void.

    over_limit: whether that is because it is larger than a stated limit.
    """

    task: Task
    stage: str
    reason: str
    over_limit: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """The file was not decoded, and its content is not to blame: try it again later."""

    task: Task
    stage: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """Of a kind that is not indexed. what: it is, for people, see ``media.others``."""

    task: Task
    what: str


@dataclass(frozen=True, slots=True)
class Known:
    """`accept` said that this content needs no decoding."""

    task: Task
    content_hash: bytes
    signature: Signature


Event = PartReady | Finished | Skipped | Failed | Ignored | Known
