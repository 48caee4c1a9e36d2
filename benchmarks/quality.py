"""How well the space finds, how quick and how large it is: one table, goals beside the figures.

    python benchmarks/quality.py --data DIR [--stamps DIR] [--clipart DIR] [--before FOLDER]

DIR as for the trainer: see ``mmsearch.train.mini.data``. Six parts, each a file of its own
(``quality_*.py``): ``photos``, ``spelling``, ``drawings`` (with --stamps, --clipart), ``sounds``,
``speed`` and ``same``; ``--only`` chooses some. ``--space`` measures another folder than the
built-in space. ``--before``: the weights that recall is compared with, paired; of an earlier
commit:

    git archive 7f2e983 mmsearch/spaces/mini_assets | tar -x -C OLD
    python benchmarks/quality.py --data DIR --before OLD/mmsearch/spaces/mini_assets

Everything goes through the public API. Intervals are 95% percentile bootstraps, 2,000 draws.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mmsearch
import quality_drawings
import quality_photos
import quality_same
import quality_sounds
import quality_speed
import quality_spelling
from common import Line, save, table
from mmsearch.train.mini.data import Sources

BUILT_IN = Path(mmsearch.__file__).parent / "spaces" / "mini_assets"
PARTS = ("photos", "spelling", "drawings", "sounds", "speed", "same")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--stamps", type=Path, help="usr/share/tuxpaint/stamps")
    parser.add_argument("--clipart", type=Path, help="usr/share/openclipart")
    parser.add_argument("--before", type=Path, help="space folder to compare with")
    parser.add_argument("--folds", type=Path, help="JSON of the trainer's --folds")
    parser.add_argument("--space", type=Path, help="space folder to measure; else the built-in")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--name", default="quality", help="of the file in results/")
    return parser.parse_args()


def drawing_lines(sources: Sources, space: str, work: Path) -> list[Line]:
    """Stamps and clip art, or why they are not measured."""
    found = []
    if sources.stamps:
        found += quality_drawings.stamp_lines(sources, space, work)
    else:
        found.append(Line("stamps kept out", note="not measured: no --stamps"))
    if sources.clipart:
        found += quality_drawings.noun_lines(sources, space, work)
    else:
        found.append(Line("twenty nouns", note="not measured: no --clipart"))
    return found


def main() -> None:
    args = arguments()
    sources = Sources(args.data, args.data, args.stamps, args.clipart)
    folder = args.space or BUILT_IN
    space = str(folder.absolute()) if args.space else "mini"
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        parts: dict[str, Callable[[], list[Line]]] = {
            "photos": lambda: quality_photos.lines(args.data, space, args.before, work),
            "spelling": lambda: quality_spelling.lines(args.data, space, args.before, work),
            "drawings": lambda: drawing_lines(sources, space, work),
            "sounds": lambda: quality_sounds.lines(args.folds, folder),
            "speed": lambda: quality_speed.lines(sources, folder, space, work),
            "same": lambda: quality_same.lines(sources, folder, space, work),
        }
        found, took = {}, {}
        for part in args.only:
            started = time.perf_counter()
            found[part] = parts[part]()
            took[part] = round(time.perf_counter() - started, 1)
            print(f"\n{part}, {took[part]:.0f} s")
            table([("what", "figure  [95%]", "goal"), *(line.row() for line in found[part])])
    measured = str(mmsearch.load_space(space).space)
    lines = {part: [line.to_json() for line in several] for part, several in found.items()}
    save(args.name, {"space": measured, "lines": lines, "seconds": took})
    missed = [line.what for several in found.values() for line in several if line.met is False]
    print(f"\n{measured}: goals missed: {'; '.join(missed) or 'none'}")


if __name__ == "__main__":
    main()
