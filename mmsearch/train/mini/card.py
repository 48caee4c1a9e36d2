"""``card.json``: what the files beside it are, what they learned from, how well they do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmsearch.spaces.folder import digest_of
from mmsearch.train.mini import use
from mmsearch.train.mini.data import PICTURE_PX
from mmsearch.train.mini.features import Pictures
from mmsearch.train.mini.heads import WIDTH, PictureHead
from mmsearch.train.mini.pictures import Namer
from mmsearch.train.mini.sound_features import WINDOW_S
from mmsearch.train.mini.sound_head import SoundHead
from mmsearch.train.mini.sound_towers import AISFX_RATE_HZ
from mmsearch.train.mini.sounds import Clips, Words
from mmsearch.train.mini.towers import EfficientNetLite

VERSION = "4"
FACTS: dict[str, Any] = {
    "name": "mini",
    "version": VERSION,
    "dimension": WIDTH,
    "modalities": ["image", "text", "audio"],
    "preprocess": {
        "image_px": PICTURE_PX,
        "sample_rate_hz": AISFX_RATE_HZ,
        "window_s": WINDOW_S,
    },
    "max_tokens": 512,  # a passage of 200 words has about 270, one of 300 Chinese characters 210
    "end": 2,  # the token that ends every text
    "languages": ["en", "zh"],
    "towers": {
        "image": "EfficientNet-Lite2 (Apache-2.0), its last three stages trained further, and a "
        "trained head",
        "text": "Universal Sentence Encoder multilingual v3 (Apache-2.0): embeddings and n-grams "
        "frozen, vocabulary cut to English and Chinese, feed-forward nets trained, with a "
        "trained vector for each piece of the captions",
        "audio": "aiSFX (frozen, CC BY 4.0) and a trained head",
    },
    "trained_on": [
        {"what": "Flickr8k train: 6,000 photos", "terms": "research and education"},
        {"what": "Flickr8k-CN: Chinese captions of them", "terms": "research"},
        {"what": "COCO captions val2017, without pictures", "terms": "CC BY 4.0"},
        {
            "what": "Tux Paint stamps: pictures and captions (a fifth kept out), sounds",
            "terms": "GPL-2",
        },
        {
            "what": "Open Clip Art: drawings with titles and keywords (20 nouns and the category "
            "computer kept out)",
            "terms": "public domain",
        },
        {"what": "ESC-10, folds 1 to 4: 320 sounds", "terms": "CC BY 3.0 / CC0"},
        {"what": "sound effects from freesound.org: 201", "terms": "CC0 / CC BY"},
        {"what": "sounds of Debian games: 2,800, few with words", "terms": "GPL / CC-BY-SA / CC0"},
        {"what": "YAMNet as a teacher for sounds", "terms": "Apache-2.0"},
        {"what": "class names of ImageNet and AudioSet", "terms": "WordNet licence / CC BY 4.0"},
    ],
    "limits": "Knows everyday photos, drawings and sounds; reads English and Chinese only; "
    "learned from little data, so rare things are found by their nearest common neighbour.",
    "folding": "Texts are read without regard to case, width, and the accents of Latin letters.",
    "known_failures": [
        "Numbers, negation, left and right, who does what to whom: a query is a bag of hints.",
        "What only case or accents tell apart is one: US and us, Polish and polish.",
        "Names of people, places and brands, and text inside pictures, are not read.",
        "A short query can rank a plain drawing above a photo that shows the thing.",
        "Sounds of a kind that no training clip had are often named as something similar.",
        "Nothing in a score says that nothing matches: the best of a bad lot still comes first.",
    ],
    "not_for": [
        "telling who somebody is, or what somebody is like: identity, health, origin, belief",
        "surveillance, or decisions about people",
        "safety, medical or legal uses, or finding everything there is: it misses things",
        "commercial use without checking the terms of Flickr8k, whose photos it learned from",
    ],
}


def write(folder: Path, figures: dict[str, object]) -> None:
    """``card.json``, with the digest of the files beside it."""
    card = {**FACTS, "digest": digest_of(folder), "measured": figures}
    text = json.dumps(rounded(card), ensure_ascii=False, indent=2)
    (folder / "card.json").write_text(text + "\n", encoding="utf-8")


def rounded(value: Any) -> Any:
    """The same with every float cut to four digits."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return round(value, 4) if isinstance(value, float) else value


@torch.inference_mode()
def score_stats(
    head: PictureHead,
    tower: use.SentenceEncoder,
    lite: EfficientNetLite,
    held: Pictures,
    sound_head: SoundHead,
    clips: Clips,
    said: Words,
) -> dict[str, dict[str, float]]:
    """Mean and deviation of cosines, by direction, of what belongs together and what does not.

    Pictures and texts are Flickr8k's held-out ones, sounds are training clips.
    """
    seen = Namer(lite, head.classes).vectors(head, held.views[0])
    en, zh = (use.finished(tower, captions.flatten(0, 1)) for captions in (held.en, held.zh))
    each = held.en.shape[1]
    known = clips.rows([bool(sound.en) for sound in clips.sounds])
    heard = sound_head(known.clean)
    names = said.of([sound.en[0] for sound in known.sounds])
    return {
        "en to image": spread(en[::each], seen),
        "zh to image": spread(zh[::each], seen),
        "en to en": spread(en[::each], en[1::each]),
        "zh to en": spread(zh[::each], en[1::each]),
        "en to audio": spread(names, heard),
    }


def spread(a: Tensor, b: Tensor) -> dict[str, float]:
    """Cosines of rows that belong together pairwise, and of all other pairs."""
    scores = a @ b.T
    matching = scores.diagonal()
    others = scores[~torch.eye(len(a), dtype=torch.bool)]
    return {
        "matching mean": float(matching.mean()),
        "matching deviation": float(matching.std()),
        "random mean": float(others.mean()),
        "random deviation": float(others.std()),
    }
