"""One reader of a living index: living_reader.py INDEX JOURNAL. Asks until the journal ends.

The journal says what the writer did, anew after each commit: ``alive``, ids with the texts
that were added under them, and ``dead`` ids. Whatever had been committed before the
reader refreshed must be found, and what had been deleted must not.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import mmsearch


def main(folder: Path, journal: Path) -> None:
    rng = random.Random(folder.name)
    index = mmsearch.open(folder)
    asked = refreshed = 0
    while True:
        last = json.loads(journal.read_text())
        if last.get("end"):
            break
        refreshed += index.refresh()
        alive, dead = last["alive"], set(last["dead"])
        part = rng.choice(list(alive))
        found = [hit.id for hit in index.search(alive[part], k=5)]
        later = json.loads(journal.read_text())
        still_alive = part in later.get("alive", alive)  # or it was deleted meanwhile
        if part not in found and still_alive and index.get(part) is not None:
            raise SystemExit(f"{part} was committed and is not found: {alive[part]!r}: {found}")
        if index.get(part) is None and still_alive:
            raise SystemExit(f"{part} was committed and is not there")
        if stale := dead.intersection(found):
            raise SystemExit(f"{stale} had been deleted and were found")
        asked += 1
    print(json.dumps({"asked": asked, "refreshed": refreshed}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
