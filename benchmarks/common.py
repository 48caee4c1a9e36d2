"""What every benchmark script shares: where it ran, and writing its result down."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
SAMPLES = Path(__file__).parents[1] / "tests" / "samples"
PACKAGES = tuple(
    "numpy faiss-cpu faiss-gpu onnxruntime tokenizers pyarrow pillow torch open_clip_torch duckdb "
    "hnswlib usearch scann lancedb chromadb qdrant-client".split()
)


@dataclass(frozen=True)
class Line:
    """One figure: its 95% interval where there is one, and the goal it is held against.

    goal: at least that much, or, with ``at_most``, at most that much. sure: whether the
    goal asks for an interval without 0, too. note: what else a reader must know. A line
    without a value says why in its note.
    """

    what: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    goal: float | None = None
    at_most: bool = False
    sure: bool = False
    digits: int = 1
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the value reaches the goal; None where either is missing."""
        if self.value is None or self.goal is None:
            return None
        if self.sure and (self.low is None or self.low <= 0):
            return False
        return self.value <= self.goal if self.at_most else self.value >= self.goal

    def row(self) -> tuple[str, str, str]:
        """(what, figure, goal) as ``table`` prints them."""
        figure = "–" if self.value is None else f"{self.value:.{self.digits}f}"
        if self.low is not None and self.high is not None:
            figure += f"  [{self.low:.{self.digits}f}, {self.high:.{self.digits}f}]"
        figure += f"  ({self.note})" if self.note else ""
        goal = ""
        if self.goal is not None:
            reached = {True: "  reached", False: "  missed", None: ""}[self.met]
            goal = f"{'≤' if self.at_most else '≥'} {self.goal:g}{reached}"
        return self.what, figure, goal

    def to_json(self) -> dict[str, Any]:
        """What ``results/NAME.json`` keeps of it."""
        kept = {key: value for key, value in asdict(self).items() if value not in (None, "")}
        for key in ("digits", "at_most", "sure"):
            kept.pop(key, None)
        if self.goal is not None:
            kept["goal"] = f"{'<=' if self.at_most else '>='} {self.goal:g}"
            kept["reached"] = self.met
        return kept


def cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """Processor, cores, system, commit and versions."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), model)
    git = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=RESULTS.parent
    )
    versions = {}  # package -> version
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "processor": model,
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "commit": git.stdout.strip() or None,
        "versions": versions,
    }


def save(name: str, result: dict[str, Any]) -> None:
    """Writes ``results/NAME.json``."""
    RESULTS.mkdir(exist_ok=True)
    body = {"benchmark": name, "machine": machine(), **result}
    (RESULTS / f"{name}.json").write_text(json.dumps(body, indent=1) + "\n")


def table(rows: list[tuple[str, str, str]]) -> None:
    """Prints rows of (what, figure, goal)."""
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
