"""Trains `mini` further on 500 desktop icons, a kind it never saw, and says what that gave.

The icons are of Open Clip Art's category ``computer``, the whole of which is kept out of the
training of `mini` (``mmsearch.train.mini.split``).

    python benchmarks/icons.py --openclipart DIR --work DIR

--openclipart: the folder ``png`` of Debian's package ``openclipart-png`` (public domain):
``apt-get download openclipart-png; dpkg -x openclipart-png_*.deb x`` puts it at
``x/usr/share/openclipart/png``. The 500 icons are those of ``computer/icons`` whose paths
have the lowest SHA-256; a caption is the words of the file's name. 150 of the things, by
hash of the path, are held out by the recipe. Also kills a second run half way, resumes
it, and compares the weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from common import save, table

COUNT = 500
GOAL_POINTS, GOAL_MINUTES = 10, 10
KILLED_AT = 60  # steps of 120

RECIPE = """\
name = "icons"
out = "{out}"
start = "mini"
terms = "Open Clip Art: public domain"
seed = 7

[[pairs]]
path = "pairs.jsonl"

[validation]
share = 0.3

[train]
steps = 120
batch = 256
rate = 1e-3
views = 4
ema = 0.9
evaluate_every = 20
checkpoint_s = 1.0
scale = 20.0

[image]
layers = 2
rate = 3e-4
head = "mlp"
dropout = 0.3

[text]
layers = 3
rate = 3e-4
head = "mlp"
dropout = 0.3
"""


def caption(path: Path) -> str:
    """The words of a file's name: letters only."""
    words = re.findall(r"[A-Za-z]{2,}", path.stem)
    return " ".join(words).lower() or path.parent.name


def write_pairs(png: Path, folder: Path) -> int:
    """``pairs.jsonl`` with links to the icons beside it; returns how many."""
    found = sorted(
        (png / "computer" / "icons").rglob("*.png"),
        key=lambda p: hashlib.sha256(str(p.relative_to(png)).encode()).hexdigest(),
    )[:COUNT]
    if not found:
        sys.exit(f"{png} holds no computer/icons/**/*.png: is it openclipart's folder png?")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "pairs.jsonl").open("w", encoding="utf-8") as file:
        for path in found:
            name = str(path.relative_to(png)).replace("/", "__")
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(path.resolve())
            file.write(json.dumps({"image": name, "en": caption(path)}) + "\n")
    return len(found)


def start(recipe: Path) -> subprocess.Popen[str]:
    """The command, as a user gives it."""
    command = [sys.executable, "-m", "mmsearch", "train", str(recipe), "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a space but its card."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.name != "card.json"
    }


def killed_and_resumed(recipe: Path) -> int:
    """Runs a recipe, kills it with SIGKILL half way, runs it again; returns the step."""
    run = start(recipe)
    assert run.stderr is not None
    for line in run.stderr:
        if line.startswith(f"step {KILLED_AT}/"):
            time.sleep(2)
            os.kill(run.pid, signal.SIGKILL)
            break
    run.wait()
    again = start(recipe)
    _, talk = again.communicate()
    found = re.search(r"going on from step (\d+)", talk)
    if again.returncode or found is None:
        sys.exit(f"the run was not resumed:\n{talk}")
    return int(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--openclipart", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    args = parser.parse_args()
    pairs = write_pairs(args.openclipart, args.work)
    for name in ("icons", "again"):
        (args.work / f"{name}.toml").write_text(RECIPE.format(out=name), encoding="utf-8")
    run = start(args.work / "icons.toml")
    out, talk = run.communicate()
    if run.returncode:
        sys.exit(talk)
    print(talk)
    report = json.loads(out)
    report["out"] = Path(report["out"]).name
    resumed_at = killed_and_resumed(args.work / "again.toml")
    same = digests(args.work / "icons") == digests(args.work / "again")
    rows: list[tuple[str, str, str]] = [("what", "figure", "goal")]
    for name, after in report["after"].items():
        before = report["before"][name]
        gain = after[-1] - before[-1]
        text = f"{before[-1]:.1f} → {after[-1]:.1f}  (+{gain:.1f})"
        rows.append((f"held-out R@10, {name}", text, f"≥ +{GOAL_POINTS}"))
    rows.append(("minutes", f"{report['seconds'] / 60:.1f}", f"< {GOAL_MINUTES}"))
    rows.append((f"killed, resumed at step {resumed_at}: same weights", str(same), "True"))
    table(rows)
    save("icons", {"pairs": pairs, "report": report, "resumed_at": resumed_at, "same": same})


if __name__ == "__main__":
    main()
