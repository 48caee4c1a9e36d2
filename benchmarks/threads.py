"""How fast are large models on a CPU: all cores on one batch, or a core for each part of it?

    python benchmarks/threads.py [--batches 5] [--pairs 5] [--work DIR]

Needs the extra ``torch``. ViT-B-32 and CLAP's HTSAT with random weights encode the same batches,
in alternating pairs: as PyTorch does it, and shared out to threads as ``InBatches`` does.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np

from common import Line, save, table
from mmsearch.spaces import CPU_BATCH, load_encoder
from mmsearch.types import Modality
from pipeline import htsat, vit


def measured(encoder: Any, modality: Modality, data: list[Any], batches: int) -> float:
    """Wall seconds of so many batches."""
    started = time.perf_counter()
    for _ in range(batches):
        encoder.encode(modality, data)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batches", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "mmsearch-pipeline"
    )
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    photo, sound = (224, 224, 3), 480_000
    cases = {
        Modality.IMAGE: (
            vit(args.work / "vit-b-32"),
            [rng.integers(0, 256, photo).astype(np.uint8)
             for _ in range(CPU_BATCH[Modality.IMAGE])],
        ),
        Modality.AUDIO: (
            htsat(args.work / "htsat"),
            [0.1 * rng.standard_normal(sound).astype(np.float32)
             for _ in range(CPU_BATCH[Modality.AUDIO])],
        ),
    }  # fmt: skip
    lines, raw = [], {}
    for modality, (name, data) in cases.items():
        encoder = load_encoder(name)
        batches = encoder._batches[modality]
        encoder.encode(modality, data)
        pairs = []
        for _ in range(args.pairs):
            took = []
            for share in (False, True):
                batches._share = share
                took.append(measured(encoder, modality, data, args.batches))
            pairs.append(took)
        raw[str(modality)] = pairs
        ratio = statistics.median(a / b for a, b in pairs)
        lines.append(Line(f"{name[:8]}: all cores on one batch / a core a part", ratio, digits=2))
    table([line.row() for line in lines])
    save("threads", {"seconds": raw, "figures": [line.to_json() for line in lines]})


if __name__ == "__main__":
    main()
