"""Does indexing take longer than it did? Photos, sounds and texts, beside an earlier commit.

    python benchmarks/indexing_speed.py --before COMMIT [--pairs 7] [--photos 40] [--sounds 40]

Whole processes of ``mmsearch index`` in alternating pairs, each into a new index of ``mini``: of
JPEG files of 2 to 12 megapixels, of minutes of sound as WAV, FLAC, OGG and MP3, and of texts as
plain text, Markdown, HTML and in old encodings. Each pair gives a ratio of wall times and one of
processor times; the medians count. The texts get as many passages as each commit cuts them into:
the time a passage is given, too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from common import SAMPLES, Line, save, table
from encode import make
from mmsearch.media.encoding import decode_text

ROOT = Path(__file__).parents[1]
SOUND_S, RATE_HZ = 60, 44_100
TEXTS = 60


def sounds(folder: Path, n: int) -> None:
    """Minutes of the bundled sounds one behind the other, in four formats."""
    folder.mkdir(parents=True)
    pieces = []
    for path in sorted((SAMPLES / "sounds").iterdir()):
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        if rate_hz == RATE_HZ:
            pieces.append(samples.mean(axis=1))
    rng = random.Random(0)
    for i in range(n):
        minute = np.zeros(0, np.float32)
        while len(minute) < SOUND_S * RATE_HZ:
            minute = np.concatenate([minute, rng.choice(pieces)])
        suffix = ("wav", "flac", "ogg", "mp3")[i % 4]
        with soundfile.SoundFile(folder / f"{i:04d}.{suffix}", "w", RATE_HZ, 1) as file:
            for second in range(SOUND_S):  # libsndfile's Vorbis takes no more at a time
                file.write(minute[second * RATE_HZ :][:RATE_HZ])


def texts(folder: Path, n: int) -> None:
    """The bundled texts and README's sections in new orders, some 20 kB each."""
    folder.mkdir(parents=True)
    paths = sorted((SAMPLES / "texts").rglob("*.txt"))
    sources = [decode_text(path.read_bytes()) for path in paths]
    blocks = [block for text in sources for block in text.split("\n\n") if block.strip()]
    blocks += (ROOT / "README.md").read_text("utf-8").split("\n\n")
    rng = random.Random(0)
    for i in range(n):
        chosen = [rng.choice(blocks) for _ in range(40)]
        if i % 3 == 0:
            (folder / f"{i:04d}.md").write_text("# Notes\n\n" + "\n\n".join(chosen), "utf-8")
        elif i % 3 == 1:
            body = "".join(f"<h2>{i}</h2><p>{block}</p>" for block in chosen)
            (folder / f"{i:04d}.html").write_text(f"<html><body>{body}</body></html>", "utf-8")
        else:
            plain = "\n\n".join(chosen).encode("cp1252", "replace")
            (folder / f"{i:04d}.txt").write_bytes(plain)


def checkout(commit: str, folder: Path) -> None:
    """The package as it was in a commit."""
    archive = subprocess.run(
        ["git", "archive", commit, "mmsearch"], cwd=ROOT, capture_output=True, check=True
    )
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    subprocess.run([sys.executable, "-m", "compileall", "-q", folder], check=True)


def indexed(package: Path, corpus: Path, work: Path) -> dict[str, float]:
    """What one run over a corpus takes: seconds, processor seconds, and how many parts it gave."""
    index = work / "index"
    shutil.rmtree(index, ignore_errors=True)
    command = [sys.executable, "-m", "mmsearch", "index", corpus, "--index", index, "--json"]
    env = os.environ | {"PYTHONPATH": str(package), "MMSEARCH_HOME": str(work / "home")}
    cpu, wall = _cpu_of_children_s(), time.perf_counter()
    done = subprocess.run(command, cwd=package, env=env, capture_output=True, text=True)
    wall, cpu = time.perf_counter() - wall, _cpu_of_children_s() - cpu
    if done.returncode:
        raise SystemExit(f"{package}: {done.stderr[-2000:]}")
    info = [sys.executable, "-m", "mmsearch", "info", "--index", index, "--json"]
    told = subprocess.run(info, cwd=package, env=env, capture_output=True, text=True, check=True)
    return {"wall_s": wall, "cpu_s": cpu, "parts": json.loads(told.stdout)["parts"]}


def _cpu_of_children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ratios(pairs: list[tuple[Mapping[str, float], Mapping[str, float]]], key: str) -> list[float]:
    """Now over before, of each pair."""
    return [now[key] / before[key] for before, now in pairs]


def main() -> None:
    """Prints a table and writes ``results/indexing_speed.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", required=True)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--photos", type=int, default=40)
    parser.add_argument("--sounds", type=int, default=40)
    parser.add_argument("--work", type=Path)
    args = parser.parse_args()
    lines: list[Line] = []
    kinds: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=args.work) as name:
        work = Path(name)
        make(work / "photos", args.photos)
        sounds(work / "sounds", args.sounds)
        texts(work / "texts", TEXTS)
        packages = {"before": args.before, "now": "HEAD"}
        for label, commit in packages.items():
            checkout(commit, work / label)
        for kind in ("photos", "sounds", "texts"):
            runs = []
            for turn in range(args.pairs + 1):  # the first pair fills the caches
                order = ("before", "now") if turn % 2 else ("now", "before")
                found = {one: indexed(work / one, work / kind, work) for one in order}
                runs.append((found["before"], found["now"]))
            pairs = runs[1:]
            before, now = pairs[0]
            kinds[kind] = {"pairs": pairs}
            a_part = before["parts"] / now["parts"]
            for key in ("wall_s", "cpu_s"):
                each = ratios(pairs, key)
                of = "wall time" if key == "wall_s" else "processor time"
                middle = statistics.median(each)
                note = f"{min(each):.2f} to {max(each):.2f}; {middle * a_part:.2f} a part"
                what = f"{kind}, {of}, now over before"
                lines.append(Line(what, middle, goal=1.05, at_most=True, digits=2, note=note))
    table([("figure", "value", "goal"), *(line.row() for line in lines)])
    commit = subprocess.run(
        ["git", "rev-parse", "--short", args.before], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    result = {"before": commit, "lines": [line.to_json() for line in lines], "kinds": kinds}
    save("indexing_speed", result)


if __name__ == "__main__":
    main()
