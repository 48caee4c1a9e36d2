"""A second run over unchanged files, against ``find`` over the same files.

    python benchmarks/rescan.py [--files 50000] [--runs 7]

Makes that many small texts in folders of 500, indexes them once, and then runs
in turn ``mmsearch index`` (nothing to do) and ``find -printf '%s %T@\\n'``. The
start-up, measured as a run over one unchanged file, is taken off.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import save, table


def timed(command: list[str]) -> tuple[float, str]:
    """(wall seconds, output) of a process that must succeed."""
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - started, done.stdout


def index_command(folder: Path, index: Path) -> list[str]:
    """The command that brings an index up to date with a folder."""
    return [sys.executable, "-m", "mmsearch", "index", str(folder), "--index", str(index), "--json"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        corpus, one = work / "corpus", work / "one"
        one.mkdir()
        (one / "1.txt").write_text("a single note")
        for n in range(args.files):
            folder = corpus / f"{n // 500:04d}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{n}.txt").write_text(f"note {n}")
        time.sleep(0.2)
        timed(index_command(one, work / "ix-one"))
        timed(index_command(corpus, work / "ix"))
        find = ["find", str(corpus), "-printf", "%s %T@\\n"]
        timed(find)
        runs = []
        for _ in range(args.runs):
            wall, out = timed(index_command(corpus, work / "ix"))
            report = json.loads(out)
            if report["unchanged"] != args.files or report["parts"]:
                raise SystemExit(f"something was done: {report}")
            startup, _ = timed(index_command(one, work / "ix-one"))
            found, _ = timed(find)
            runs.append((wall, startup, found))
    ratio = statistics.median((wall - startup) / found for wall, startup, found in runs)
    save("rescan", {"files": args.files, "ratio": ratio, "wall_startup_find_s": runs})
    table(
        [
            ("what", "figure", "goal"),
            (f"second run over {args.files:,} files / find", f"{ratio:.2f}", "<= 8"),
            ("seconds, with start-up", f"{statistics.median(r[0] for r in runs):.2f}", ""),
            ("start-up, seconds", f"{statistics.median(r[1] for r in runs):.2f}", ""),
            ("find, seconds", f"{statistics.median(r[2] for r in runs):.3f}", ""),
        ]
    )


if __name__ == "__main__":
    main()
