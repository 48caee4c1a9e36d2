"""Trains ``mini`` from public packages and a data folder, and writes its files.

    python -m mmsearch.train.mini --data DATA --yamnet YAMNET --stamps STAMPS \\
        --clipart CLIPART --out mmsearch/spaces/mini_assets --cache CACHE

Some forty minutes on two cores, most of it spent on features, which are cached.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from mmsearch.train.mini import (
    card,
    data,
    export,
    features,
    pictures,
    sounds,
    trained,
    tune,
    use,
    vocabulary,
)
from mmsearch.train.mini.features import Pictures
from mmsearch.train.mini.sound_features import aisfx
from mmsearch.train.mini.towers import EfficientNetLite

FROZEN_VIEWS = 4  # of each picture, for the head alone; the tower's end sees all of them


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m mmsearch.train.mini", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder, see data.py")
    parser.add_argument("--yamnet", type=Path, required=True, help="folder of the teacher")
    parser.add_argument("--stamps", type=Path, help="Tux Paint's stamps; left out if not given")
    parser.add_argument("--clipart", type=Path, help="Open Clip Art; left out if not given")
    parser.add_argument("--out", type=Path, required=True, help="where the files go")
    parser.add_argument("--cache", type=Path, default=Path("mini-cache"), help="for features")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folds", type=Path, help="also write ESC-10's figures by fold as JSON")
    return parser.parse_args()


def say(line: str) -> None:
    """Progress, on standard error."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - a command's talk


def with_features(lite: EfficientNetLite, pictures: Pictures, views: int = 1) -> Pictures:
    """Pictures with the tower's features for some views, as the tower stands now."""
    return replace(pictures, views=features.ended(lite, pictures.views[:views]))


def main() -> None:
    """Features, text and pictures, sounds, files."""
    asked = arguments()
    torch.set_num_threads(asked.threads)
    sources = data.Sources(asked.data, asked.yamnet, asked.stamps, asked.clipart)
    asked.out.mkdir(parents=True, exist_ok=True)

    say("tokenizer")
    model = vocabulary.sentencepiece_model()
    ids = vocabulary.kept_ids(model, data.all_texts(sources))
    tokenizer = vocabulary.build_tokenizer(model, ids)
    tower = use.SentenceEncoder(ids)
    reader = features.Reader(tower, tokenizer)

    say("features of pictures and captions")
    train = features.photos(sources, "train", reader, asked.cache, asked.threads)
    held = features.photos(sources, "val", reader, asked.cache, asked.threads)
    drawn = features.drawn(sources, reader, asked.cache, asked.threads)
    coco = features.coco(sources, reader, asked.cache)

    names = torch.from_numpy(reader.read(data.imagenet_names()))
    lite = features.lite(features.LITE)
    kept = asked.cache / "trained.safetensors"
    if kept.exists():
        say(f"pictures and texts were trained before: {kept}")
        head = trained.load(kept, tower, lite)
    else:
        say("training pictures and texts")
        classes = use.crowded(tower.eval(), names).detach()
        drawings = with_features(lite, drawn, FROZEN_VIEWS) if drawn else None
        photos = with_features(lite, train, FROZEN_VIEWS)
        head = pictures.train(photos, drawings, coco, names, classes, tower, lite, say)
        shares = [
            pictures.shares_of(head, lite, one) if one else None for one in (photos, drawings)
        ]
        tune.tune(head, tower, lite, train, drawn, shares, coco, names, say)
        trained.save(kept, head, tower, lite)
    held = with_features(lite, held)
    figures: dict[str, object] = {
        "flickr8k val R@1, R@5, R@10": pictures.measure(head, tower, lite, held)
    }
    say(json.dumps(figures))

    say("features of sounds")
    clips = sounds.clips(sources, asked.cache)
    said = sounds.words(sources, clips, reader)
    if asked.folds:
        folds = sounds.fold_figures(clips, said)
        figures["ESC-10 by label name, percent right, folds 1 to 4"] = folds
        asked.folds.write_text(json.dumps(folds, indent=2) + "\n", encoding="utf-8")
        say(json.dumps(folds))
    say("training sounds")
    sound_head = sounds.train(clips, said)
    figures["scores"] = card.score_stats(head, tower, lite, held, sound_head, clips, said)

    say("writing")
    vocabulary.write_tokenizer(tokenizer, asked.out / "tokenizer.json")
    export.write_text(asked.out / "text.onnx", tower)
    export.write_image(asked.out / "image.onnx", lite, head)
    export.write_audio(asked.out / "audio.onnx", aisfx(), sound_head)
    card.write(asked.out, figures)


if __name__ == "__main__":
    main()
