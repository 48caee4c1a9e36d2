"""How well `mini` finds: Flickr8k's validation photos by captions in two languages, and back.

    python benchmarks/quality.py --data DIR

DIR holds ``flickr8k/val.tar`` and ``val.jsonl`` (see ``mmsearch.train.mini.data``). The
photos are unpacked and indexed with ``mmsearch.index``, captions are asked with
``search_batch``: nothing but the public API. Intervals are 95%, by drawing the photos
anew 2,000 times. ESC-10's figures need heads that never heard the fold they are tested
on; the trainer measured them, and they are printed from the space's card (or ``--folds``).
"""

from __future__ import annotations

import argparse
import json
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import mmsearch
from common import save, table

KS = (1, 5, 10)
DRAWS = 2_000
GOALS = {"en → image R@1": 27, "en → image R@10": 70, "zh → image R@1": 12, "zh → image R@10": 48}
ESC_GOAL = 85
CARD = Path(mmsearch.__file__).parent / "spaces" / "mini_assets" / "card.json"


def captions_to_photos(index: Any, captions: list[list[str]], names: list[str]) -> np.ndarray:
    """Rank (0 best, 10 beyond) of each caption's photo: int (photos, captions)."""
    flat = [caption for own in captions for caption in own]
    ranks = []
    for number, results in enumerate(index.search_batch(flat, to="image", k=max(KS))):
        found = [Path(hit.path).name for hit in results]
        wanted = names[number // len(captions[0])]
        ranks.append(found.index(wanted) if wanted in found else max(KS))
    return np.array(ranks).reshape(len(names), -1)


def photos_to_captions(
    photos: Path, folder: Path, captions: list[list[str]], names: list[str]
) -> np.ndarray:
    """Rank of each photo's best caption among all captions: int (photos, 1)."""
    with tempfile.TemporaryDirectory() as nothing:
        texts = mmsearch.index(nothing, folder)
    rows = [(i, c) for i, own in enumerate(captions) for c in own]
    texts.add([{"text": c} for _, c in rows], ids=[f"{i}-{n}" for n, (i, _) in enumerate(rows)])
    ranks = []
    for i, name in enumerate(names):
        hits = texts.search(image=photos / name, to="text", k=max(KS))
        own = [hit.rank - 1 for hit in hits if hit.id.split("-")[0] == str(i)]
        ranks.append(min(own, default=max(KS)))
    return np.array(ranks)[:, None]


def recalls(ranks: np.ndarray, rng: np.random.Generator) -> dict[int, tuple[float, float, float]]:
    """k -> R@k in percent with the ends of its 95% interval."""
    found = {}
    for k in KS:
        hit = (ranks < k).mean(axis=1) * 100  # per photo
        draws = hit[rng.integers(0, len(hit), (DRAWS, len(hit)))].mean(axis=1)
        found[k] = (float(hit.mean()), *map(float, np.percentile(draws, [2.5, 97.5])))
    return found


def esc_figures(folds: Path | None) -> dict[str, list[float]]:
    """The trainer's ESC-10 figures, percent by fold."""
    if folds is not None:
        return dict(json.loads(folds.read_text("utf-8")))
    measured = json.loads(CARD.read_text("utf-8"))["measured"]
    return dict(next((v for k, v in measured.items() if k.startswith("ESC-10")), {}))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folds", type=Path, help="JSON of the trainer's --folds")
    args = parser.parse_args()
    lines = (args.data / "flickr8k" / "val.jsonl").read_text("utf-8").splitlines()
    photos = [json.loads(line) for line in lines]
    names = [photo["image"] for photo in photos]
    rng = np.random.default_rng(0)
    rows, result = [], {}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        with tarfile.open(args.data / "flickr8k" / "val.tar") as tar:
            tar.extractall(folder / "photos", filter="data")
        index = mmsearch.index(folder / "photos", folder / "photos.index")
        for language in ("en", "zh"):
            captions = [photo[language] for photo in photos]
            for way, ranks in (
                (f"{language} → image", captions_to_photos(index, captions, names)),
                (
                    f"image → {language}",
                    photos_to_captions(folder / "photos", folder / language, captions, names),
                ),
            ):
                for k, (value, low, high) in recalls(ranks, rng).items():
                    name = f"{way} R@{k}"
                    result[name] = {"percent": value, "low": low, "high": high}
                    goal = f"≥ {GOALS[name]}" if name in GOALS else ""
                    rows.append((name, f"{value:.1f}  [{low:.1f}, {high:.1f}]", goal))
    esc = esc_figures(args.folds)
    for name, values in esc.items():
        goal = f"≥ {ESC_GOAL}" if name == "held out" else ""
        each = ", ".join(f"{value:.1f}" for value in values)
        rows.append((f"ESC-10 by label name, {name}", f"{np.mean(values):.1f}  ({each})", goal))
    table([("what", "percent  [95%]", "goal"), *rows])
    save("quality", {"flickr8k_val": result, "esc10": esc})


if __name__ == "__main__":
    main()
