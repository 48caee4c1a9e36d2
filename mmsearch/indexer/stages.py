"""Where the time of a run went, and what to change."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

# A part of a run that is busy for so much of it is what the others wait for.
_LIMIT = 0.85
_WORTH_SAYING_S = 20.0


@dataclass
class Stages:
    """Seconds of a run, while it decoded and encoded.

    Of this process they add up to ``wall_s``: ``decoders_waited_s`` for the decoders,
    ``encoder_waited_s`` for the encoder, ``write_s`` writing, and ``other_s``. Beside it,
    ``encoder_busy_s`` of the encoder, and ``read_s`` and ``decode_s`` of all decoders.
    """

    workers: int = 0
    wall_s: float = 0.0
    decoders_waited_s: float = 0.0
    encoder_waited_s: float = 0.0
    write_s: float = 0.0
    encoder_busy_s: float = 0.0
    read_s: float = 0.0
    decode_s: float = 0.0

    @property
    def other_s(self) -> float:
        """What is left: walking the folders, handing parts about."""
        known = self.decoders_waited_s + self.encoder_waited_s + self.write_s
        return max(0.0, self.wall_s - known)

    def to_json(self) -> dict[str, Any]:
        """The object under ``stages`` of ``mmsearch index --json``."""
        rounded = {k: round(v, 3) if k.endswith("_s") else v for k, v in asdict(self).items()}
        return {**rounded, "other_s": round(self.other_s, 3), "advice": self.advice()}

    def advice(self) -> str:
        """What the run waited for, and what would make it faster."""
        if not self.wall_s:
            return ""
        decoders = self.workers * self.wall_s
        encoder = self.encoder_busy_s / self.wall_s
        if encoder >= _LIMIT:
            return (
                f"the encoder was busy {encoder:.0%} of the time: a GPU, --dtype fp16 or bf16, or "
                "a smaller model makes it faster; more decoders do not"
            )
        if self.read_s >= _LIMIT * decoders / 2 and self.read_s > self.decode_s:
            return "reading the files took longest: a faster disk, or more --workers"
        if self.read_s + self.decode_s >= _LIMIT * decoders:
            return (
                f"the decoders were busy {(self.read_s + self.decode_s) / decoders:.0%} of the "
                f"time, the encoder {encoder:.0%}: more --workers, where there are cores for them"
            )
        return "encoder and decoders share the cores: only more cores, or a GPU, make it faster"

    def told(self) -> list[str]:
        """Two lines for a person; none of a run too short for them."""
        if self.wall_s < _WORTH_SAYING_S:
            return []
        return [
            f"time: {self.wall_s:.1f} s = waiting for the encoder {self.encoder_waited_s:.1f} + "
            f"for decoders {self.decoders_waited_s:.1f} + writing {self.write_s:.1f} + other "
            f"{self.other_s:.1f}; encoder {self.encoder_busy_s:.1f} s, {self.workers} decoders: "
            f"reading {self.read_s:.1f} s, decoding {self.decode_s:.1f} s",
            self.advice(),
        ]
