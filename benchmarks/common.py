"""What every benchmark script shares: where it ran, and writing its result down."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
SAMPLES = Path(__file__).parents[1] / "tests" / "samples"
PACKAGES = tuple(
    "numpy faiss-cpu faiss-gpu onnxruntime tokenizers pyarrow pillow torch open_clip_torch".split()
)


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
