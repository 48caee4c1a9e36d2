"""One run that announces each stage it reaches, to be killed there: killed.py CORPUS INDEX.

Everything is the real code; announcing wraps it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmsearch.indexer import Options, compact, encoding, plan, quantise, run
from mmsearch.store import files, manifest, segment_writing, writer

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


def main(corpus: Path, index: Path) -> None:
    plan.Plan._compare = announced("walk", plan.Plan._compare)  # type: ignore[method-assign]
    encoding.Batches._encode = announced("encode", encoding.Batches._encode)  # type: ignore[method-assign]
    segment_writing._write_files = announced("segment", segment_writing._write_files)
    segment_writing.sync_file = announced("sync", files.sync_file)
    writer.Writer._merge = announced("merge", writer.Writer._merge)  # type: ignore[method-assign]
    quantise.quantiser.train = announced("ann", quantise.quantiser.train)
    quantise.quantiser.encode = announced("ann", quantise.quantiser.encode)
    manifest.replace_file = announced("manifest", files.replace_file)
    writer.remove = announced("cleanup", files.remove)
    options = Options(commit_s=0.2, commit_parts=20, ann="ivfpq", workers=2)
    report = run([corpus], index, None, options)
    compact(index)
    print("done", report)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
