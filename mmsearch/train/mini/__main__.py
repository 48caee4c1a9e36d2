"""Trains ``mini`` from public packages and a data folder, and writes its files.

    python -m mmsearch.train.mini --data DATA --yamnet YAMNET --stamps STAMPS \\
        --effects EFFECTS --out mmsearch/spaces/mini_assets --cache CACHE

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
    export_audio,
    features,
    pictures,
    sound_folds,
    sounds,
    tune,
    use,
    vocabulary,
)
from mmsearch.train.mini.features import Pictures
from mmsearch.train.mini.heads import PictureHead
from mmsearch.train.mini.pictures import Namer
from mmsearch.train.mini.sound_features import aisfx
from mmsearch.train.mini.towers import EfficientNetLite


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m mmsearch.train.mini", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder, see data.py")
    parser.add_argument("--yamnet", type=Path, required=True, help="folder of the teacher")
    parser.add_argument("--stamps", type=Path, help="Tux Paint's stamps; left out if not given")
    parser.add_argument("--effects", type=Path, help="free sounds, see sound_effects.py")
    parser.add_argument("--out", type=Path, required=True, help="where the files go")
    parser.add_argument("--cache", type=Path, default=Path("mini-cache"), help="for features")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folds", type=Path, help="also write what sounds do held out, JSON")
    return parser.parse_args()


def say(line: str) -> None:
    """Progress, on standard error."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - a command's talk


def with_features(lite: EfficientNetLite, pictures: Pictures) -> Pictures:
    """Pictures with the tower's features for views, as the tower stands now."""
    return replace(pictures, views=features.ended(lite, pictures.views))


def sound_pictures(
    sources: data.Sources, head: PictureHead, lite: EfficientNetLite, stamps: Pictures | None
) -> dict[str, torch.Tensor]:
    """What the picture tower makes of each stamp: unit rows (512,) by the name of its sound."""
    if stamps is None:
        return {}
    found = Namer(lite, head.classes).vectors(head, features.ended(lite, stamps.views[:1])[0])
    names = [f"stamps/{stamp.name}" for stamp in data.stamps(sources)]
    return dict(zip(names, found.detach(), strict=True))


def main() -> None:
    """Features, text and pictures, sounds, files."""
    asked = arguments()
    torch.set_num_threads(asked.threads)
    sources = data.Sources(asked.data, asked.yamnet, asked.stamps, asked.effects)
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
    stamps = features.stamps(sources, reader, asked.cache, asked.threads)
    coco = features.coco(sources, reader, asked.cache)

    say("training pictures and texts")
    names = torch.from_numpy(reader.sums(data.imagenet_names()))
    classes = use.crowded(tower.eval(), names).detach()
    lite = features.lite(features.LITE)
    drawings = with_features(lite, stamps) if stamps else None
    photos = with_features(lite, train)
    head = pictures.train(photos, drawings, coco, names, classes, tower, lite)
    say(json.dumps(pictures.measure(head, tower, lite, with_features(lite, held))))
    tune.tune(head, tower, lite, train, stamps, coco, names, say)
    held = with_features(lite, held)
    figures: dict[str, object] = {
        "flickr8k val R@1, R@5, R@10": pictures.measure(head, tower, lite, held)
    }
    say(json.dumps(figures))

    say("features of sounds")
    clips = sounds.clips(sources, asked.cache, asked.threads)
    said = sounds.words(sources, clips, reader)
    seen = sound_pictures(sources, head, lite, stamps)
    if asked.folds:
        folds = sound_folds.figures(clips, said, seen)
        figures["sounds held out"] = folds
        asked.folds.write_text(json.dumps(folds, indent=2) + "\n", encoding="utf-8")
        say(json.dumps(folds))
    say("training sounds")
    sound_head = sounds.train(clips, said, seen)
    figures["scores"] = card.score_stats(head, tower, lite, held, sound_head, clips, said)

    say("writing")
    vocabulary.write_tokenizer(tokenizer, asked.out / "tokenizer.json")
    export.write_text(asked.out / "text.onnx", tower)
    export.write_image(asked.out / "image.onnx", lite, head)
    export_audio.write_audio(asked.out / "audio.onnx", aisfx(), sound_head)
    card.write(asked.out, figures)


if __name__ == "__main__":
    main()
