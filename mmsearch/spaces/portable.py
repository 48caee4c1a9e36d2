"""The towers of a model on PyTorch, written so that an index can be asked without PyTorch.

A folder with ``text.onnx`` and its weights, ``tokenizer.json`` and a card, as ``FolderSpace``
opens it, made once for each space and kept in the user's cache; every index of the space gets
a copy. Of a model with a tower for pictures that is small, or asked for, also ``image.onnx``,
which takes pixels. Each is compared with the original before it is kept: what differs is not
portable.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mmsearch import forks
from mmsearch.errors import SpaceUnavailable
from mmsearch.spaces.cache import cache_folder
from mmsearch.spaces.cleaning import KINDS, cleaned
from mmsearch.spaces.folder import CARD, TOKENIZER, FolderSpace, digest_of, read_card
from mmsearch.spaces.narrow import narrow
from mmsearch.spaces.on_torch import imported
from mmsearch.store.confined import AnyPath, ConfinedPath
from mmsearch.store.files import replace_file
from mmsearch.types import Modality, Space, Vectors

OPSET = 18  # the oldest that torch's exporter writes
LEAST_COSINE = {"fp32": 0.9999, "fp16": 0.999, "int8": 0.98}  # by how weights are stored
_BYTES = {"fp32": 4, "fp16": 2, "int8": 1}  # of a weight
SMALL_BYTES = 64 << 20  # a tower for pictures of no more is kept unasked
_FORM = 2  # of what is written: the cache of an earlier form is left alone
# What the written tokenizer and tower must agree on with the original.
PROBES = (
    "a dog on a beach",
    "A Dog, running on the BEACH!",
    "it's 2 cats & 30 dogs; don't they look alike?",
    "ein Hund läuft über den Strand – schön",
    "一只狗在海滩上奔跑",
    "собака на пляже",
    "snow ❄️ in July :-)",
    "  spaces\tand\nlines  ",
    "x",
    "word " * 300,
    "don’t; “curly quotes” and ‘single’ — dashes…",
    "ＦＵＬＬ　width ＡＢ１２，ﬁne ﬂowers",
    "cats &amp; dogs &lt;3 &#39;quoted&#39; &nbsp;x",
    "ß ŉ ǆ İstanbul ΣΑΣ ÀÉ",
    "schÃ¶n, donâ€™t, naÃ¯ve",
    "snake_case, under_score",
)


@forks.native
def towers(encoder: Any) -> Mapping[str, AnyPath]:
    """The files of the portable towers: name -> file; empty where there can be none.

    encoder: an ``OpenClip`` or ``Clap``; ``encoder.tower`` is how weights are stored, see
    ``narrow``, ``encoder.carry`` which towers are wanted, see ``Placement``. Made on first use,
    which takes seconds. A tower for pictures that cannot be written is left out, and raises
    SpaceUnavailable where it was asked for.
    """
    name = f"{encoder.space.fingerprint}-{encoder.space.digest[:16]}-{_FORM}"
    name = name if encoder.tower == "fp32" else f"{name}-{encoder.tower}"
    if _carries_pictures(encoder):
        try:
            return _made(encoder, f"{name}-all", (Modality.TEXT, Modality.IMAGE))
        except SpaceUnavailable:
            if encoder.carry == "all":
                raise
    try:
        return _made(encoder, name, (Modality.TEXT,))
    except SpaceUnavailable:
        return {}


def _carries_pictures(encoder: Any) -> bool:
    """Whether the tower for pictures is to be written, too."""
    module = encoder.picture_side() if encoder.carry != "text" else None
    if module is None:
        return False
    weights = sum(int(value.numel()) for value in module.parameters())
    return encoder.carry == "all" or weights * _BYTES[encoder.tower] <= SMALL_BYTES


def _made(encoder: Any, name: str, modalities: Sequence[Modality]) -> Mapping[str, AnyPath]:
    folder = cache_folder() / name
    names = [CARD, TOKENIZER, *(f"{m}.{kind}" for m in modalities for kind in ("onnx", "bin"))]
    if not _whole(folder, names):
        _make(encoder, folder, modalities)
    return {name: ConfinedPath(folder) / name for name in names}


def _whole(folder: Path, names: Sequence[str]) -> bool:
    """Whether a tower was made before and is as it was made: indexes share its files."""
    try:
        return all((folder / name).is_file() for name in names) and (
            read_card(folder).get("files") == digest_of(folder)
        )
    except (SpaceUnavailable, OSError):
        return False


def _make(encoder: Any, folder: Path, modalities: Sequence[Modality]) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        work = Path(name) / "tower"
        work.mkdir()
        cleaning = encoder.write_tokenizer(work / TOKENIZER)
        export_text(encoder, work / "text.onnx")
        if Modality.IMAGE in modalities:
            export_pictures(encoder, work / "image.onnx")
        least = LEAST_COSINE[encoder.tower]
        card = {
            "name": encoder.space.name,
            "digest": encoder.space.digest,
            "dimension": encoder.space.dimension,
            "modalities": [str(m) for m in encoder.space.modalities],
            "holds": [str(m) for m in modalities],
            "preprocess": asdict(encoder.space.preprocess),
            "max_tokens": encoder.context,
            "cleaning": cleaning,
            "stored": encoder.tower,
            "files": digest_of(work),
        }
        _write_card(work, card)
        kept, cosines = FolderSpace(work), []
        for modality in modalities:
            probes = PROBES if modality is Modality.TEXT else _pictures(encoder.space)
            own = encoder.encode(modality, probes)
            cosines.append(_compared(kept.encode(modality, probes), own, least))
        card["least_cosine"] = round(min(cosines), 6)
        _write_card(work, card)
        for path in work.iterdir():
            path.chmod(0o444)  # indexes have other names of them
        shutil.rmtree(folder, ignore_errors=True)  # a part of one, left by somebody killed
        with contextlib.suppress(OSError):  # somebody else was faster
            os.replace(work, folder)


def _pictures(space: Space) -> list[Any]:
    """What the written tower for pictures must agree on with the original."""
    px = space.preprocess.image_px
    slope = np.linspace(0, 255, px)
    across = np.stack([np.tile(slope, (px, 1)), np.tile(slope[::-1, None], (1, px))], axis=-1)
    noise = np.random.default_rng(0).integers(0, 256, (px, px, 3))
    plain = [np.full((px, px, 3), value) for value in (0, 255, (200, 30, 90))]
    found = [*plain, np.dstack([across, across.mean(-1)]), noise, (noise + 2 * slope[:, None]) / 3]
    return [one.astype(np.uint8) for one in found]


def under_another_card(files: Mapping[str, AnyPath], space: Space) -> Mapping[str, AnyPath]:
    """The files of a kept tower, of any form, as those of another space with the same texts.

    Its card is written into the cache. Empty where there are none.
    """
    if not files:
        return {}
    card = read_card(files[CARD].parent)
    holds = card.get("holds", card["modalities"])
    of = {
        "name": space.name,
        "digest": space.digest,
        "dimension": space.dimension,
        "modalities": [str(m) for m in space.modalities],
        "holds": holds,
        "preprocess": asdict(space.preprocess),
    }
    folder = cache_folder() / f"{space.fingerprint}-{space.digest[:16]}-card"
    folder.mkdir(exist_ok=True)
    _write_card(folder, {**card, **of})
    return {**files, CARD: ConfinedPath(folder) / CARD}


def _write_card(folder: Path, card: Mapping[str, Any]) -> None:
    text = json.dumps(card, ensure_ascii=False, indent=2)
    replace_file(ConfinedPath(folder) / CARD, (text + "\n").encode())


def export_text(encoder: Any, path: Path) -> None:
    """The text tower as ONNX: int64 (1, tokens) to a unit row float32 (1, d)."""
    example = encoder.tokens(["an example of seven words or so"])
    _export(encoder, encoder.text_side(), example, path, encoder.any_length)


def export_pictures(encoder: Any, path: Path) -> None:
    """The tower for pictures as ONNX: uint8 (1, px, px, 3) to a unit row float32 (1, d)."""
    px = encoder.space.preprocess.image_px
    example = imported("torch").zeros((1, px, px, 3), dtype=imported("torch").uint8)
    _export(encoder, encoder.picture_side(), example, path, False)


def _export(encoder: Any, side: Any, example: Any, path: Path, any_length: bool) -> None:
    torch = imported("torch", "onnx", "onnxscript")

    class Tower(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.side = side

        def forward(self, x: Any) -> Any:
            return torch.nn.functional.normalize(self.side(x).float(), dim=1)

    encoder.model.to("cpu")
    try:
        write_onnx(Tower().eval(), example, path, any_length)
    finally:
        encoder.model.to(encoder.device)
    narrow(path, encoder.tower)
    weights_beside(path)


def weights_beside(path: Path) -> None:
    """Moves an ONNX graph's weights into a ``.bin`` beside it, which ONNX Runtime maps.

    A graph that carries 250 MB takes 0.7 s to load, with its weights beside it 0.2 s.
    """
    onnx = imported("onnx")
    weights = path.with_suffix(".bin")
    onnx.save_model(
        onnx.load(path),
        str(path),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=weights.name,
        size_threshold=1024,
    )
    weights.chmod(path.stat().st_mode)  # onnx makes it for its user alone


def text_side(model: Any) -> Any:
    """An open_clip model's text side as one module: ids (n, context length) to rows (n, d)."""
    torch = imported("torch")

    class TextSide(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            own = [n for n, _ in model.named_children() if n not in ("visual", "text_decoder")]
            self.parts = torch.nn.ModuleList(getattr(model, n) for n in own)
            self.extra = torch.nn.ParameterList(
                p
                for n, p in model.named_parameters(recurse=False)
                if n not in ("logit_scale", "logit_bias")
            )
            self._model = [model]  # not a submodule: that would bring the pictures' side

        def forward(self, ids: Any) -> Any:
            return self._model[0].encode_text(ids)

    return TextSide()


def picture_side(model: Any, mean: Any, std: Any) -> Any:
    """An open_clip model's side for pictures as one module: uint8 (n, px, px, 3) to rows (n, d).

    mean, std: of three colours, each a tensor (1, 3, 1, 1).
    """
    torch = imported("torch")

    class PictureSide(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.visual = model.visual
            self.register_buffer("mean", mean.detach().cpu().clone())
            self.register_buffer("std", std.detach().cpu().clone())
            self._model = [model]  # not a submodule: that would bring the texts' side

        def forward(self, pixels: Any) -> Any:
            x = (pixels.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
            return self._model[0].encode_image(x)

    return PictureSide()


def write_onnx(tower: Any, example: Any, path: Path, any_length: bool = False) -> None:
    """A module in eval mode as an ONNX graph from ``x`` to ``vector``, weights inside.

    any_length: whether the second axis of ``x`` may have any length, or only the example's.
    """
    torch = imported("torch", "onnx", "onnxscript")
    free = ({1: torch.export.Dim("length", min=2)},) if any_length else None
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # ONNX has no such operator
    try:
        with _quiet_exporter():
            torch.onnx.export(
                tower,
                (example,),
                str(path),
                input_names=["x"],
                output_names=["vector"],
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes=free,
                external_data=False,
                verbose=False,
            )
    except Exception as e:  # the exporter's own errors derive from nothing narrower
        reason = (str(e).splitlines() or [type(e).__name__])[0][:300]
        raise SpaceUnavailable(f"the tower cannot be written as ONNX: {reason}") from None
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def write_tokenizer(own: Any, tokens: Any, path: Path) -> str:
    """An open_clip tokenizer as a ``tokenizer.json``, checked against it.

    own: the tokenizer. tokens: what makes ids int64 (n, context length) of texts with it.
    Returns how texts are cleaned before it: see ``cleaning``.
    Raises SpaceUnavailable for one that cannot be written down.
    """
    tokenizer = _byte_pairs(own) if hasattr(own, "bpe_ranks") else _hugging_face(own)
    name = str(getattr(getattr(own, "clean_fn", None), "__name__", "canonicalize"))
    kind = next((kind for kind in KINDS if name.endswith(kind)), "")
    if not kind:
        raise SpaceUnavailable(f"this model's texts are cleaned in a way of its own: {name}.")
    for text in PROBES:
        if tokenizer.encode(cleaned(text, kind)).ids != tokens([text])[0].tolist():
            raise SpaceUnavailable(
                f"the tokenizer could not be written down: {text[:40]!r} differs."
            )
    tokenizer.save(str(path))
    return kind


def _byte_pairs(own: Any) -> Any:
    """open_clip's own tokenizer, CLIP's."""
    from tokenizers import (
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
    )

    start, end = own.sot_token_id, own.eot_token_id
    merges = [pair for pair, _ in sorted(own.bpe_ranks.items(), key=lambda one: one[1])]
    tokenizer = Tokenizer(models.BPE(vocab=own.encoder, merges=merges, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    marks = {"cls": (own.decoder[start], start), "sep": (own.decoder[end], end)}
    tokenizer.post_processor = processors.BertProcessing(marks["sep"], marks["cls"])
    _fixed_length(tokenizer, int(own.context_length), 0, "!")
    return tokenizer


def _hugging_face(own: Any) -> Any:
    """A tokenizer of transformers."""
    from tokenizers import Tokenizer

    inner: Any = getattr(own, "tokenizer", None)
    backend = getattr(inner, "backend_tokenizer", None)
    if backend is None or _flag(own, "tokenizer_mode") or _flag(own, "strip_sep_token"):
        raise SpaceUnavailable("this model's tokenizer cannot be written down.")
    tokenizer = Tokenizer.from_str(backend.to_str())
    _fixed_length(tokenizer, int(own.context_length), inner.pad_token_id, inner.pad_token)
    return tokenizer


def _fixed_length(tokenizer: Any, length: int, pad_id: int, pad_token: str) -> None:
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length, pad_id=pad_id, pad_token=pad_token)


def _flag(thing: Any, name: str) -> bool:
    return bool(getattr(thing, name, False))


def _compared(written: Vectors, own: Vectors, least: float) -> float:
    """The least cosine of two towers' rows. Raises SpaceUnavailable where it is below that."""
    found = float((written * own).sum(axis=1).min())
    if not np.isfinite(found) or found < least:
        raise SpaceUnavailable(
            f"the tower as ONNX gives other vectors (cosine {found:.5f} to the original's)."
        )
    return found


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """The exporter reports its progress to stdout and its doubts to stderr and the log."""
    import io
    import logging
    import warnings

    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
