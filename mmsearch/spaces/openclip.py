"""open_clip's models: pictures and texts, through the library's own loader (extra ``torch``).

A name is what open_clip knows: ``openclip:MODEL/PRETRAINED``, where PRETRAINED is a tag of
``mmsearch spaces`` or a safetensors file; ``openclip:hf-hub:OWNER/REPOSITORY``; or
``openclip:local-dir:FOLDER`` with ``open_clip_config.json`` and safetensors weights. Nothing
is fetched: weights are here, or ``mmsearch spaces pull`` brings them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmsearch.errors import DecodeError, SpaceUnavailable
from mmsearch.given import expanded
from mmsearch.spaces import ANYWHERE, Placement, checkpoints
from mmsearch.spaces.cleaning import encodable
from mmsearch.spaces.naming import (
    HUB,
    LOCAL,
    did_you_mean,
    looks_like_path,
    looks_like_repository,
    nearest,
    of_folder,
)
from mmsearch.spaces.naming import OPENCLIP as PREFIX
from mmsearch.spaces.network import can_fetch
from mmsearch.spaces.on_torch import (
    OnTorch,
    check_repository,
    digest_of,
    imported,
    in_hub_cache,
    not_here,
    offline,
    quiet,
    reason,
)
from mmsearch.types import Modality, Preprocess, Space, Vectors

_HUB_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
# of each kind of tokenizer the file without which there is none
_TOKENIZERS = ("tokenizer.json", "spiece.model", "sentencepiece.bpe.model", "vocab.json",
               "vocab.txt", "tokenizer.model")  # fmt: skip
_HOW = (
    " A checkpoint of open_clip's trainer becomes one, read as weights alone, by "
    "`mmsearch spaces pull '{name}'`."
)
_FIT = {"squash": "squash", "shortest": "crop", "longest": "pad"}  # open_clip's words -> ours
# A JPEG is unpacked at no less than this times the model's side, which saves most of a large
# one's time; how little it changes a vector: benchmarks/pipeline.py.
_DRAFT = 3.0
# A passage must fit the text tower, or its end cannot be found. Over a passage of prose CLIP's
# byte pairs are up to 1.4 tokens a word and 2.7 a Chinese sign (benchmarks/passages.py).
_WORDS_A_TOKEN, _SIGNS_A_TOKEN, _LEAST_PASSAGE = 0.6, 0.33, 12


class OpenClip(OnTorch):
    """The encoder of an open_clip model. Safe to call from several threads.

    name: see the module.
    Raises SpaceUnavailable where it cannot be loaded, UsageError for a device or dtype.
    """

    any_length = False  # texts have as many tokens as the context has places

    def __init__(self, name: str, placement: Placement = ANYWHERE) -> None:
        torch = imported("torch", "open_clip")
        super().__init__(placement)
        name, self.model, self.tokenizer = loaded(name)
        self.place()
        cfg = self.model.visual.preprocess_cfg
        self.context = int(self.tokenizer.context_length)
        preprocess = _preprocess(name, cfg, self.context)
        with torch.inference_mode():
            width = int(self.model.encode_text(self.tokens(["a"]).to(self.device)).shape[1])
        mean, std = (
            torch.tensor(list(_three(cfg[key])), device=self.device).view(1, 3, 1, 1)
            for key in ("mean", "std")
        )
        self._mean, self._std = mean, std
        more = f"{type(self.tokenizer).__name__} {self.context} {_three(cfg['mean'])} "
        digest = digest_of(self.model, more + f"{_three(cfg['std'])}")
        modalities = (Modality.IMAGE, Modality.TEXT)
        self.space = Space(name, digest, width, modalities, preprocess)

    def encode(self, modality: Modality, data: Sequence[Any], asked: bool = False) -> Vectors:
        """One unit vector for each decoded input, in order: float32 (n, d).

        data: uint8 (px, px, 3) RGB for a picture, str for a text, as ``space.preprocess``
        says. What a text has beyond the model's context is left out; see ``truncated``.
        asked makes no difference.
        """
        run = self.batches(modality)
        if modality == Modality.IMAGE:
            return run(data, self._stacked, self._pictures, self.space.dimension)
        return run(data, self.tokens, self._texts, self.space.dimension)

    def truncated(self, texts: Sequence[str]) -> list[int]:
        """For each text, how many of its tokens the tower does not read."""
        return [
            0
            if text.isascii() and len(text) < self.context - 2  # a token is a sign or more
            else max(0, self._count(text) - self.context)
            for text in texts
        ]

    def tokens(self, texts: Sequence[str]) -> Any:
        """int64 (n, context length), by the model's own tokenizer."""
        return self.tokenizer([encodable(text) for text in texts])

    def text_side(self) -> Any:
        """The text tower as a module: ids (n, context length) to rows (n, d)."""
        from mmsearch.spaces.portable import text_side

        return text_side(self.model)

    def picture_side(self) -> Any:
        """The tower for pictures as a module: uint8 (n, px, px, 3) to rows (n, d)."""
        from mmsearch.spaces.portable import picture_side

        return picture_side(self.model, self._mean, self._std)

    def write_tokenizer(self, path: Path) -> str:
        """The tokenizer as ``tokenizer.json``; returns how texts are cleaned before it.

        Raises SpaceUnavailable where it cannot be.
        """
        from mmsearch.spaces.portable import write_tokenizer

        return write_tokenizer(self.tokenizer, self.tokens, path)

    def _stacked(self, data: Sequence[Any]) -> Any:
        torch = imported("torch")
        px = self.space.preprocess.image_px
        for one in data:
            if one.shape != (px, px, 3) or one.dtype != np.uint8:
                raise DecodeError(
                    f"a picture must be uint8 ({px}, {px}, 3), got {one.dtype} {one.shape}",
                    "encode",
                )
        return torch.from_numpy(np.stack(list(data)))

    def _pictures(self, pixels: Any) -> Any:
        x = (pixels.permute(0, 3, 1, 2).float() / 255 - self._mean) / self._std
        with self.precision():
            return self.call("encode_image", x)

    def _texts(self, ids: Any) -> Any:
        with self.precision():
            return self.call("encode_text", ids)

    def _count(self, text: str) -> int:
        own = self.tokenizer
        if hasattr(own, "encode"):  # its own byte pairs, between two marks
            return len(own.encode(encodable(text))) + 2
        cleaned = getattr(own, "clean_fn", str)(encodable(text))
        return len(own.tokenizer(cleaned, verbose=False).input_ids)


def loaded(name: str) -> tuple[str, Any, Any]:
    """A space's full name, its model on the CPU, and its tokenizer, from what is here.

    Raises SpaceUnavailable for what is not known, not here, or damaged.
    """
    open_clip = imported("open_clip", "torch")
    name, model, pretrained = _resolved(name)
    try:
        with offline(), quiet():
            made = open_clip.create_model(
                model, pretrained=pretrained, require_pretrained=True, weights_only=True
            )
            tokenizer = open_clip.get_tokenizer(model)
    except MemoryError:
        raise SpaceUnavailable(f"{name} needs more memory than there is.") from None
    except Exception as e:  # open_clip raises many kinds: RuntimeError, KeyError, OSError
        raise SpaceUnavailable(f"{name} cannot be loaded: {reason(e)}") from None
    return name, made, tokenizer


def pull(name: str) -> str:
    """Fetches what a model needs from where open_clip says it is; returns its full name.

    A checkpoint of open_clip's trainer is made into safetensors beside it, whose name is returned.
    Raises SpaceUnavailable for a name that is not known, or where fetching fails.
    """
    open_clip = imported("open_clip", "torch")
    if made := _converted(name):
        return made
    name, model, pretrained = _resolved(name, here=False)
    cfg = open_clip.get_pretrained_cfg(model, pretrained) if pretrained else {}
    if not can_fetch(name, check_here, None if cfg.get("hf_hub") else cfg.get("url")):
        return name
    try:
        with quiet(progress=True):
            open_clip.create_model(model, pretrained=pretrained, require_pretrained=True)
            open_clip.get_tokenizer(model)
    except Exception as e:
        raise SpaceUnavailable(f"{name} could not be fetched: {reason(e)}") from None
    return name


def _converted(name: str) -> str:
    """The name of a space whose weights were made of the checkpoint that a name names.

    Empty if it names none. Raises SpaceUnavailable for a checkpoint that does not fit its model.
    """
    asked = name.removeprefix(PREFIX)
    if asked.startswith(LOCAL):
        folder = expanded(asked.removeprefix(LOCAL)).absolute()
        several = checkpoints.checkpoints_in(folder) if os.path.isdir(folder) else []
        if len(several) != 1 or any(folder.glob("*.safetensors")):
            return ""
        file, out, made = several[0], folder / _HUB_WEIGHTS[0], f"{PREFIX}{LOCAL}{folder}"
    else:
        model, _, tag = asked.partition("/")
        file = expanded(tag).absolute()
        if file.suffix not in checkpoints.KINDS or not os.path.isfile(file):
            return ""
        _check_model(model, tag)
        out = file.with_suffix(".safetensors")
        made = f"{PREFIX}{model}/{out}"
    checkpoints.convert(file, out)
    try:
        return loaded(made)[0]
    except SpaceUnavailable:
        out.unlink()
        raise


def check_here(name: str) -> None:
    """Raises SpaceUnavailable where a model is not known, or not on this machine."""
    _resolved(name)


def names() -> list[str]:
    """Every model and weights that open_clip knows, as spaces are named."""
    open_clip = imported("open_clip", "torch")
    return [f"{PREFIX}{model}/{tag}" for model, tag in open_clip.list_pretrained()]


def _resolved(name: str, here: bool = True) -> tuple[str, str, str | None]:
    """The full name, and what open_clip's loader is told: a model, and a tag or file.

    here: whether the weights must be on this machine.
    """
    asked = name.removeprefix(PREFIX)
    if asked in ("", LOCAL, HUB):
        missing = {"": "MODEL/PRETRAINED", LOCAL: "FOLDER", HUB: "OWNER/REPOSITORY"}[asked]
        raise SpaceUnavailable(f"say which model: {name}{missing}.")
    if looks_like_path(asked):
        other = of_folder(asked) or f"{PREFIX}{LOCAL}{asked}"
        raise SpaceUnavailable(f"open_clip has no model {asked!r}{did_you_mean([other])}")
    if asked.startswith(LOCAL):
        folder = expanded(asked.removeprefix(LOCAL)).absolute()
        _check_folder(folder)
        return f"{PREFIX}{LOCAL}{folder}", f"{LOCAL}{folder}", None
    if asked.startswith(HUB):
        repository = asked.removeprefix(HUB)
        check_repository(name, repository)
        if here and not _repository_is_here(repository):
            raise not_here(name)
        return name, asked, None
    model, slash, tag = asked.partition("/")
    _check_model(model, tag if slash else None)
    if (file := expanded(tag)).suffix or file.is_absolute():
        _check_weights(model, file.absolute())
        return f"{PREFIX}{model}/{file.absolute()}", model, str(file.absolute())
    _check_tag(model, tag)
    if here and not _tag_is_here(model, tag):
        raise not_here(name)
    return name, model, tag


def _check_model(model: str, tag: str | None) -> None:
    open_clip = imported("open_clip")
    known = open_clip.list_models()
    if model not in known:
        names = nearest(model, known, 3)
        if not names and looks_like_repository(f"{model}/{tag}"):
            names = [f"{PREFIX}{HUB}{model}/{tag}"]
        raise SpaceUnavailable(
            f"open_clip has no model {model!r}; `mmsearch spaces --all` lists them"
            f"{did_you_mean(names)}"
        )
    if not tag:
        tags = open_clip.list_pretrained_tags_by_model(model)
        named = ", ".join(f"{PREFIX}{model}/{one}" for one in tags[:4])
        raise SpaceUnavailable(
            f"say which weights of {model}: {named or 'there are none to fetch; name a file'}"
            f"{', …' if len(tags) > 4 else ''}."
        )


def _check_tag(model: str, tag: str) -> None:
    open_clip = imported("open_clip")
    tags = open_clip.list_pretrained_tags_by_model(model)
    cfg = open_clip.get_pretrained_cfg(model, tag)
    if not cfg:
        names = [f"{PREFIX}{model}/{one}" for one in nearest(tag, tags, 3)]
        there = "" if names else f"; there is: {', '.join(tags) or 'nothing'}"
        raise SpaceUnavailable(
            f"open_clip has no weights {tag!r} for {model}{there}{did_you_mean(names)}"
        )
    quick = bool((open_clip.get_model_config(model) or {}).get("quick_gelu", False))
    if bool(cfg.get("quick_gelu", False)) != quick:
        other = model.removesuffix("-quickgelu") if quick else f"{model}-quickgelu"
        raise SpaceUnavailable(
            f"the weights {tag!r} were trained with{'out' if quick else ''} QuickGELU, and "
            f"{model} is with{'' if quick else 'out'} it: use {PREFIX}{other}/{tag}."
        )


def _check_folder(folder: Path) -> None:
    if not os.path.isdir(folder):
        raise SpaceUnavailable(f"{folder} is no folder: {PREFIX}{LOCAL}FOLDER names a model's.")
    if not os.path.isfile(folder / "open_clip_config.json"):
        raise SpaceUnavailable(f"{folder} holds no open_clip_config.json: it is no model's folder.")
    _check_config(folder / "open_clip_config.json")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        others = checkpoints.checkpoints_in(folder)
        names = ", ".join(one.name for one in others)
        found = f" ({names} would have to be unpickled)" if others else ""
        how = _HOW.format(name=f"{PREFIX}{LOCAL}{folder}") if len(others) == 1 else ""
        raise SpaceUnavailable(f"{folder} holds no weights as *.safetensors{found}.{how}")


def _check_config(path: Path) -> None:
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError) as e:
        raise SpaceUnavailable(f"{path} cannot be loaded: {reason(e)}") from None
    model = config.get("model_cfg") if isinstance(config, dict) else None
    if not isinstance(model, dict):
        raise SpaceUnavailable(f"{path} lacks the object model_cfg, which says what the model is.")
    kinds = {"embed_dim": int, "vision_cfg": dict, "text_cfg": dict}
    if lacking := [key for key, kind in kinds.items() if not isinstance(model.get(key), kind)]:
        raise SpaceUnavailable(f"{path} lacks {', '.join(lacking)} in its model_cfg.")


def _check_weights(model: str, file: Path) -> None:
    if not os.path.isfile(file):
        raise SpaceUnavailable(f"there are no weights at {file}.")
    if file.suffix != ".safetensors":
        kind = file.suffix in checkpoints.KINDS
        how = _HOW.format(name=f"{PREFIX}{model}/{file}") if kind else ""
        raise SpaceUnavailable(
            f"{file} is no safetensors file; other kinds of weights can hold programs.{how}"
        )


def _repository_is_here(repository: str) -> bool:
    """Whether open_clip will find all of a model without fetching anything."""
    hub = imported("huggingface_hub")
    config = hub.try_to_load_from_cache(repository, "open_clip_config.json")
    if not isinstance(config, str) or not in_hub_cache(repository, _HUB_WEIGHTS):
        return False
    try:
        model = json.loads(Path(config).read_bytes())["model_cfg"]
        return _tokenizer_is_here(model)
    except (ValueError, LookupError, TypeError):
        return True  # loading it says what is wrong with it


def _tokenizer_is_here(model: Mapping[str, Any]) -> bool:
    own = model["text_cfg"].get("hf_tokenizer_name")
    return not own or in_hub_cache(own, _TOKENIZERS)


def _tag_is_here(model: str, tag: str) -> bool:
    """Whether open_clip will find weights and tokenizer of a tag without fetching anything."""
    open_clip = imported("open_clip")
    cfg = open_clip.get_pretrained_cfg(model, tag)
    if not _tokenizer_is_here(open_clip.get_model_config(model)):
        return False
    if cfg.get("hf_hub"):
        repository, _, file = str(cfg["hf_hub"]).rpartition("/")
        names = [file, Path(file).stem + ".safetensors"] if file else []
        return in_hub_cache(repository, [*names, *_HUB_WEIGHTS])
    return (Path.home() / ".cache" / "clip" / Path(str(cfg.get("url", ""))).name).is_file()


def passage_lengths(context: int) -> tuple[int, int]:
    """How many words, or Chinese signs, a text tower of so many tokens takes of prose."""
    words, signs = int(context * _WORDS_A_TOKEN), int(context * _SIGNS_A_TOKEN)
    return max(_LEAST_PASSAGE, words), max(_LEAST_PASSAGE, signs)


def _preprocess(name: str, cfg: Mapping[str, Any], context: int) -> Preprocess:
    size = cfg["size"]
    width, height = (size, size) if isinstance(size, int) else tuple(size)[:2]
    if width != height:
        raise SpaceUnavailable(f"{name} takes pictures of {width} × {height}; only squares can be.")
    words, signs = passage_lengths(context)
    return Preprocess(
        image_px=int(width),
        sample_rate_hz=16_000,
        window_s=10.0,
        passage_words=words,
        passage_cjk_chars=signs,
        image_fit=_FIT[cfg["resize_mode"]],
        image_resampling="bilinear" if cfg["interpolation"] == "bilinear" else "bicubic",
        image_fill=int(cfg["fill_color"]),
        image_draft=_DRAFT,
    )


def _three(value: Any) -> tuple[float, ...]:
    return tuple(map(float, value)) if isinstance(value, list | tuple) else (float(value),) * 3
