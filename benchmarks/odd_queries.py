"""A page to look at: what odd, long and misspelt questions find among pictures and sounds.

    python benchmarks/odd_queries.py --data DIR --out FOLDER [--stamps DIR] [--clipart DIR]

Indexes Flickr8k's validation photos, the drawings that were kept out of training (of clip
art those of the twenty nouns) and the training sounds, asks ``QUERIES``, and writes
``odd.html`` (thumbnails inside) and ``odd.png`` to FOLDER: the five best pictures and the
five best sounds of each question with their cosines. Nothing is measured. The index stays
in FOLDER, so that a second run only asks; delete it for other weights.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

import mmsearch
from mmsearch.train.mini import drawings
from mmsearch.train.mini.data import Sources

QUERIES = (  # question, what it tries, in letters that every font has
    ("狗", "one Chinese character: dog"),
    ("sunset", "one word that captions seldom have"),
    ("temple", "a rare word"),
    ("a photo of my grandmother's kitchen", "something that is not there"),
    ("seventeen giraffes", "a number of things that are not there"),
    ("two dogs", "a number"),
    ("loud thunder followed by rain", "two sounds, one after the other"),
    ("a bycicle on a rode", "misspelt"),
    ("pear", "a noun no photo's caption has"),
    ("scissors", "another one"),
    ("purple", "an adjective"),
    ("a man without a hat", "a negation"),
    ("一个 little girl 在 beach 上玩", "Chinese and English mixed: a little girl plays on a beach"),
    ("打雷下雨的夜晚", "Chinese: a night of thunder and rain"),
    (
        "I remember an afternoon, it must have been late in the summer, when a boy in a red "
        "shirt jumped again and again from the wooden pier into the lake while his friends, who "
        "were sitting on towels in the grass, laughed and took pictures of him",
        "a very long sentence: a boy in red jumps from a pier into a lake",
    ),
    ("?!", "no words at all"),
)
K, THUMB_PX, LINE_PX = 5, 112, 16


def collect(sources: Sources, folder: Path) -> dict[str, str]:
    """Files to index, below ``folder``; returns name of a sound -> what it is."""
    folder.mkdir(parents=True, exist_ok=True)
    heard = {}
    for what in ("flickr8k/val", "esc10/train", "sounds/train"):
        target = folder / what.split("/")[0]
        if not target.exists():
            with tarfile.open(sources.data / f"{what}.tar") as tar:
                tar.extractall(target, filter="data")
        for line in (sources.data / f"{what}.jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            if "audio" in row:
                heard[Path(row["audio"]).name] = row.get("label") or row["caption"]
    chosen = []
    if sources.stamps:
        chosen += [(sources.stamps, one.name) for one in drawings.held_stamps(sources)]
    if sources.clipart:
        carriers = drawings.noun_pictures(drawings.clipart(sources)).values()
        names = sorted({clip.name for several in carriers for clip in several})
        chosen += [(sources.clipart, name) for name in names]
    (folder / "drawings").mkdir(exist_ok=True)
    for source, name in chosen:
        link = folder / "drawings" / name.replace("/", "__")
        if not os.path.lexists(link):
            link.symlink_to((source / name).resolve())
    return heard


def thumbnail(path: Path) -> Image.Image:
    """A picture in a white square of ``THUMB_PX``."""
    with Image.open(path) as image:
        small = image.convert("RGBA")
    small.thumbnail((THUMB_PX, THUMB_PX))
    square = Image.new("RGBA", (THUMB_PX, THUMB_PX), "white")
    place = ((THUMB_PX - small.width) // 2, (THUMB_PX - small.height) // 2)
    square.alpha_composite(small, place)
    return square.convert("RGB")


def page(answers: list[dict[str, Any]], space: str) -> str:
    """The answers as HTML that needs no other file."""
    rows = []
    for answer in answers:
        cells = []
        for score, image in answer["pictures"]:
            packed = io.BytesIO()
            image.save(packed, "JPEG", quality=70)
            code = base64.b64encode(packed.getvalue()).decode()
            cells.append(f'<td><img src="data:image/jpeg;base64,{code}"><br>{score:.3f}</td>')
        sounds = "<br>".join(f"{score:.3f} {html.escape(what)}" for score, what in answer["sounds"])
        rows.append(
            f"<tr><th>{html.escape(answer['query'])}<br><small>{html.escape(answer['tries'])}"
            f"</small></th>{''.join(cells)}<td class=s>{sounds}</td></tr>"
        )
    return (
        "<!doctype html><meta charset=utf-8><title>odd questions</title><style>"
        "body{font:14px sans-serif}th{width:20em;text-align:left}td{text-align:center}"
        f"td.s{{text-align:left;white-space:nowrap}}</style><h1>{html.escape(space)}</h1>"
        f"<table>{''.join(rows)}</table>\n"
    )


def sheet(answers: list[dict[str, Any]]) -> Image.Image:
    """The answers as one picture; questions that the font cannot write are left to their gloss."""
    height = THUMB_PX + 2 * LINE_PX + 8
    wide = K * (THUMB_PX + 4)
    canvas = Image.new("RGB", (wide + 300, height * len(answers)), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(12)
    for number, answer in enumerate(answers):
        top = number * height
        query = answer["query"] if answer["query"].isascii() else ""
        asked = f"{query[:60]}  ({answer['tries']})"
        draw.text((2, top), asked, fill="black", font=font)
        for i, (score, image) in enumerate(answer["pictures"]):
            left = i * (THUMB_PX + 4)
            canvas.paste(image, (left, top + LINE_PX))
            draw.text((left, top + LINE_PX + THUMB_PX), f"{score:.3f}", fill="black", font=font)
        for i, (score, what) in enumerate(answer["sounds"]):
            place = (wide + 8, top + (1 + i) * LINE_PX)
            draw.text(place, f"{score:.3f} {what}", fill="black", font=font)
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--stamps", type=Path)
    parser.add_argument("--clipart", type=Path)
    parser.add_argument("--space", type=Path, help="space folder; else the built-in")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    sources = Sources(args.data, args.data, args.stamps, args.clipart)
    heard = collect(sources, args.out / "corpus")
    index = mmsearch.index(args.out / "corpus", args.out / "odd.index", args.space)
    answers = []
    for query, tries in QUERIES:
        pictures = index.search(query, to="image", k=K)
        sounds = index.search(query, to="audio", k=K)
        answers.append(
            {
                "query": query,
                "tries": tries,
                "pictures": [(hit.score, thumbnail(Path(hit.path))) for hit in pictures],
                "sounds": [(hit.score, heard[Path(hit.path).name]) for hit in sounds],
            }
        )
    (args.out / "odd.html").write_text(page(answers, str(index.space)), "utf-8")
    sheet(answers).quantize(128).save(args.out / "odd.png", optimize=True)
    print(f"{len(index):,} parts, {len(answers)} questions: {args.out / 'odd.html'}, odd.png")


if __name__ == "__main__":
    main()
