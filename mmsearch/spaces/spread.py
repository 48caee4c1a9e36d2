"""One model on several devices: each takes the next batch when it is free."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from mmsearch import forks
from mmsearch.errors import UsageError
from mmsearch.store.confined import AnyPath
from mmsearch.types import Modality, Space, Vectors

if TYPE_CHECKING:
    from mmsearch.spaces import Encoder

ALL = "all"  # every GPU that there is


class Spread:
    """Encoders of one space as one; see ``Encoder``. Safe to call from several threads."""

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        self.encoders = tuple(encoders)
        self._fill()
        forks.renewed(self, Spread._fill)  # those that other threads had in use never came back

    def _fill(self) -> None:
        self._free: SimpleQueue[Encoder] = SimpleQueue()
        for _ in range(max(one.side_by_side for one in self.encoders)):
            for one in self.encoders:
                self._free.put(one)

    @property
    def space(self) -> Space:
        """That of each."""
        return self.encoders[0].space

    @property
    def side_by_side(self) -> int:
        """All of theirs."""
        return sum(one.side_by_side for one in self.encoders)

    @property
    def batch_sizes(self) -> Mapping[Modality, int]:
        """Those that suit each: a device whose memory ran out has had its batches halved."""
        found = [one.batch_sizes for one in self.encoders]
        return {modality: min(sizes[modality] for sizes in found) for modality in found[0]}

    @property
    def files(self) -> Mapping[str, AnyPath]:
        """Those of one: they are the same."""
        return self.encoders[0].files

    def encode(self, modality: Modality, data: Sequence[Any], asked: bool = False) -> Vectors:
        """See ``Encoder``: by one device that is free."""
        one = self._free.get()
        try:
            return one.encode(modality, data, asked)
        finally:
            self._free.put(one)

    def truncated(self, texts: Sequence[str]) -> list[int]:
        """See ``Encoder``."""
        return self.encoders[0].truncated(texts)

    def unknown(self, texts: Sequence[str]) -> list[float]:
        """See ``Encoder``."""
        return self.encoders[0].unknown(texts)

    @property
    def languages(self) -> str:
        """Those of each."""
        return self.encoders[0].languages


def devices_of(named: str | None) -> list[str]:
    """The devices that a placement names, if they are several: ``cuda:0,cuda:1`` or ``all``.

    Raises UsageError for an empty name among them, or ``all`` where there is no GPU.
    """
    if named == ALL:
        from mmsearch.spaces.on_torch import imported

        count = imported("torch").cuda.device_count()
        if not count:
            raise UsageError("--device all: PyTorch sees no GPU; there is: cpu.")
        return [f"cuda:{i}" for i in range(count)]
    if named is None or "," not in named:
        return []
    devices = [one.strip() for one in named.split(",")]
    if not all(devices):
        raise UsageError(f"--device {named}: name devices as in cuda:0,cuda:1.")
    return devices


def spread(devices: Sequence[str], load: Callable[[str], Encoder]) -> Encoder:
    """The encoder of each device as one."""
    encoders = [load(device) for device in devices]
    return encoders[0] if len(encoders) == 1 else Spread(encoders)
