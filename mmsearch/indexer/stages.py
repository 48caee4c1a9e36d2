"""Where the time of a run went, and what to change."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

# A part of a run that is busy for so much of it is what the others wait for.
_LIMIT = 0.85
_MOST = 0.5
_WORTH_SAYING_S, _LOAD_WORTH_SAYING_S = 20.0, 3.0
# Files are read by as many decoders at a time: where reading is slow, some more than there are
# cores make it faster.
_READERS_A_CORE = 2


@dataclass
class Stages:
    """Seconds of a run, while it loaded the model, decoded and encoded.

    Of this process they add up to ``wall_s``: ``load_s`` loading the model and writing down its
    text tower for the index, ``decoders_waited_s`` waiting for the decoders,
    ``encoder_waited_s`` for the encoder, ``write_s`` writing, and ``other_s``. Beside it,
    ``encoder_busy_s`` of the encoder, and ``start_s``, ``read_s`` and ``decode_s`` of all
    decoders: what it took to start them, and what they did. ``workers`` is how many there were
    at most, ``cores`` how many this process may use. ``placeable``: whether the space can run on
    a GPU, and in fewer bits.
    """

    workers: int = 0
    cores: int = 0
    wall_s: float = 0.0
    load_s: float = 0.0
    decoders_waited_s: float = 0.0
    encoder_waited_s: float = 0.0
    write_s: float = 0.0
    encoder_busy_s: float = 0.0
    start_s: float = 0.0
    read_s: float = 0.0
    decode_s: float = 0.0
    placeable: bool = False

    @property
    def work_s(self) -> float:
        """Without loading."""
        return max(0.0, self.wall_s - self.load_s)

    @property
    def other_s(self) -> float:
        """What is left: walking the folders, handing parts about."""
        known = self.decoders_waited_s + self.encoder_waited_s + self.write_s
        return max(0.0, self.work_s - known)

    def to_json(self) -> dict[str, Any]:
        """The object under ``stages`` of ``mmsearch index --json``."""
        rounded = {k: round(v, 3) if k.endswith("_s") else v for k, v in asdict(self).items()}
        del rounded["placeable"]  # the advice says what follows from it
        return {**rounded, "other_s": round(self.other_s, 3), "advice": self.advice()}

    def advice(self) -> str:
        """What the run waited for, and what would make it faster; empty where it did nothing."""
        if not self.work_s:
            return ""
        if self.load_s > self.work_s:
            return (
                f"loading the model took {self.load_s:.1f} of {self.wall_s:.1f} s, which it takes "
                "once a run, however many files there are"
            )
        if self.start_s > self.read_s + self.decode_s:
            if self.workers > self.cores:
                return (
                    f"starting {self.workers} decoders took longer than what they did: fewer "
                    f"--workers (there are {self.cores} cores)"
                )
            return "starting the decoders took longer than what they did: they start once a run"
        if not self.encoder_busy_s:
            return ""
        return self._slowest()

    def _slowest(self) -> str:
        decoders = self.workers * self.work_s
        encoder, decoding = self.encoder_busy_s / self.work_s, self.read_s + self.decode_s
        if encoder >= _LIMIT:
            remedy = "more cores make"
            if self.placeable:
                remedy = "a GPU, a --dtype of fewer bits, or a smaller model makes"
            return (
                f"the encoder was busy {encoder:.0%} of the time: {remedy} it faster; more "
                "decoders do not"
            )
        if self.read_s >= _LIMIT * decoders / 2 and self.read_s > self.decode_s:
            more = ", or more --workers" if self.workers < _READERS_A_CORE * self.cores else ""
            return f"reading the files took longest: a faster disk{more}"
        if decoding >= _LIMIT * decoders:
            remedy = "more --workers" if self.workers < self.cores else "only more cores help"
            return (
                f"the decoders were busy {decoding / decoders:.0%} of the time, the encoder "
                f"{encoder:.0%}: {remedy}"
            )
        if self.write_s >= _MOST * self.work_s:
            return "writing took longest: a faster disk for the index"
        if self.other_s >= _MOST * self.work_s:
            return "most of it was this process itself: walking the folders, handing parts on"
        return (
            f"neither the encoder ({encoder:.0%} busy) nor the decoders "
            f"({decoding / decoders:.0%}) held it up alone: on a CPU they share the cores, and "
            f"more of those{', or a GPU,' if self.placeable else ''} help"
        )

    def told(self) -> list[str]:
        """Two lines for a person; none of a run too short for them."""
        if self.wall_s < _WORTH_SAYING_S and self.load_s < _LOAD_WORTH_SAYING_S:
            return []
        if not self.workers:  # nothing was read
            return []
        lines = [
            f"time: {self.wall_s:.1f} s = loading the model {self.load_s:.1f} + waiting for the "
            f"encoder {self.encoder_waited_s:.1f} + for decoders {self.decoders_waited_s:.1f} + "
            f"writing {self.write_s:.1f} + other {self.other_s:.1f}; encoder "
            f"{self.encoder_busy_s:.1f} s, {self.workers} decoders: starting {self.start_s:.1f} s, "
            f"reading {self.read_s:.1f} s, decoding {self.decode_s:.1f} s",
            self.advice(),
        ]
        return [line for line in lines if line]
