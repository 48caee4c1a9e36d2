"""Trains ``mini`` from public packages and a data folder, and writes its files.

    python -m mmsearch.train.mini --data DATA --yamnet YAMNET --stamps STAMPS \\
        --clipart CLIPART --effects EFFECTS --out mmsearch/spaces/mini_assets --cache CACHE

About an hour and a quarter on two cores, half of it training, half features. These are
cached, and so are the trained towers of pictures and texts.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mmsearch.seen import pack
from mmsearch.spaces.folder import SEEN, TOKENIZER
from mmsearch.spaces.graphs import open_session
from mmsearch.train.mini import (
    card,
    data,
    drawings,
    export,
    export_audio,
    features,
    pictures,
    sound_folds,
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
    parser.add_argument("--effects", type=Path, help="free sounds, see sound_effects.py")
    parser.add_argument("--out", type=Path, required=True, help="where the files go")
    parser.add_argument("--cache", type=Path, default=Path("mini-cache"), help="for features")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folds", type=Path, help="also write what sounds do held out, JSON")
    return parser.parse_args()


def say(line: str) -> None:
    """Progress, on standard error."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - a command's talk


def with_features(lite: EfficientNetLite, pictures: Pictures, views: int = 1) -> Pictures:
    """Pictures with the tower's features for some views, as the tower stands now."""
    return replace(pictures, views=features.ended(lite, pictures.views[:views]))


def sound_pictures(sources: data.Sources, graph: Path) -> dict[str, torch.Tensor]:
    """What the exported picture tower makes of each stamp on white: unit rows (512,) by the
    name of the stamp's sound."""
    session = open_session(graph)

    def seen(stamp: data.Photo) -> torch.Tensor:
        picture = drawings.on_white(drawings.rgba(sources, stamp))
        return torch.from_numpy(session.run(["vector"], {"x": picture[None]})[0][0])

    return {f"stamps/{stamp.name}": seen(stamp) for stamp in data.stamps(sources)}


def main() -> None:
    """Features, text and pictures, sounds, files."""
    asked = arguments()
    torch.set_num_threads(asked.threads)
    sources = data.Sources(asked.data, asked.yamnet, asked.stamps, asked.clipart, asked.effects)
    asked.out.mkdir(parents=True, exist_ok=True)

    say("tokenizer")
    model = vocabulary.sentencepiece_model()
    stamps = drawings.training_stamps(sources)
    texts = data.all_texts(sources, stamps)
    ids = vocabulary.kept_ids(model, texts)
    tokenizer = vocabulary.build_tokenizer(model, ids, texts)
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
        pasted = with_features(lite, drawn, FROZEN_VIEWS) if drawn else None
        photos = with_features(lite, train, FROZEN_VIEWS)
        head = pictures.train(photos, pasted, coco, names, classes, tower, lite, say)
        shares = [pictures.shares_of(head, lite, one) if one else None for one in (photos, pasted)]
        tune.tune(head, tower, lite, train, drawn, shares, coco, names, say)
        trained.save(kept, head, tower, lite)
    held = with_features(lite, held)
    figures: dict[str, object] = {
        "flickr8k val R@1, R@5, R@10": pictures.measure(head, tower, lite, held)
    }
    say(json.dumps(figures))

    say("writing pictures and texts")
    vocabulary.write_tokenizer(tokenizer, asked.out / TOKENIZER)
    np.save(asked.out / SEEN, pack(data.seen_keys(sources, stamps)), allow_pickle=False)
    export.write_text(asked.out / "text.onnx", tower)
    export.write_image(asked.out / "image.onnx", lite, head)

    say("features of sounds")
    clips = sounds.clips(sources, asked.cache, asked.threads)
    said = sounds.words(sources, clips, reader)
    seen = sound_pictures(sources, asked.out / "image.onnx")
    if asked.folds:
        folds = sound_folds.figures(clips, said, seen)
        figures["sounds held out"] = folds
        asked.folds.write_text(json.dumps(folds, indent=2) + "\n", encoding="utf-8")
        say(json.dumps(folds))
    say("training sounds")
    sound_head = sounds.train(clips, said, seen)
    figures["scores"] = card.score_stats(head, tower, lite, held, sound_head, clips, said)
    export_audio.write_audio(asked.out / "audio.onnx", aisfx(), sound_head)
    card.write(asked.out, figures)


if __name__ == "__main__":
    main()
