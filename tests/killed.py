"""One run that announces each stage it reaches, to be killed there: killed.py CORPUS INDEX.

Everything is the real code; announcing wraps it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmsearch.indexer import Options, compact, encoding, plan, quantise, run
from mmsearch.store import manifest, segment_writing, writer

# stage -> how often an ordinary run of the campaign reaches it at least
STAGES = {
    "walk": 500,
    "encode": 4,
    "segment": 3,
    "sync": 9,
    "merge": 1,
    "ann": 1,
    "manifest": 3,
    "cleanup": 1,
}


def announced(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, telling its stage before it starts."""

    def wrapper(*args: Any, **more: Any) -> Any:
        sys.stdout.write(stage + "\n")
        sys.stdout.flush()
        return function(*args, **more)

    return wrapper


def announce(stage: str, holder: Any, name: str) -> None:
    """Makes a function of a module or class tell its stage. Raises AttributeError without it."""
    setattr(holder, name, announced(stage, getattr(holder, name)))


def main(corpus: Path, index: Path) -> None:
    announce("walk", plan.Plan, "_compare")
    announce("encode", encoding.Batches, "_encode")
    announce("segment", segment_writing, "_write_files")
    announce("sync", segment_writing, "sync_file")
    announce("merge", writer.Writer, "_merge")
    announce("ann", quantise.quantiser, "train")
    announce("ann", quantise.quantiser, "encode")
    announce("manifest", manifest, "replace_file")
    announce("cleanup", writer, "remove_ours")
    options = Options(commit_s=0.2, commit_parts=20, ann="ivfpq", workers=2)
    report = run([corpus], index, None, options)
    compact(index)
    print("done", report)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
