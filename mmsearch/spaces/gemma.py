"""EmbeddingGemma 2: pictures, texts and sounds in one space, through sentence-transformers
(extra ``torch``).

A name is ``gemma`` (``google/embeddinggemma-2``), ``gemma:OWNER/REPOSITORY`` or
``gemma:FOLDER``, a folder that ``SentenceTransformer.save_pretrained`` wrote, with weights as
safetensors. ``@256`` after it keeps the first 256 numbers of each vector (Kusupati et al. 2022,
Matryoshka representations), scaled to unit length again.

Vectors are the library's own: of a text that is stored ``encode_document``'s, of one that is
asked ``encode_query``'s, with the checkpoint's prompts; of pictures and sounds ``encode``'s.
Nothing is fetched: weights are here, or ``mmsearch spaces pull`` brings them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from mmsearch import forks
from mmsearch.errors import DecodeError, LimitExceeded, SpaceUnavailable
from mmsearch.spaces import ANYWHERE, Placement
from mmsearch.spaces.cleaning import encodable
from mmsearch.spaces.gemma_checkpoint import (
    check_here,
    checked_dimension,
    libraries,
    loaded,
    names,
    pull,
    resolved,
    settings,
)
from mmsearch.spaces.on_torch import OnTorch, digest_of
from mmsearch.store.confined import AnyPath
from mmsearch.types import Modality, Preprocess, Space, Vectors

__all__ = ["Gemma", "check_here", "names", "pull"]  # what a family is asked for
WINDOW_S = 10.0  # of the 30 s that the model hears at most: where a thing is heard is told so
# A picture has up to 2,520 patches, each of which looks at all of them.
_CPU_BATCH = {Modality.IMAGE: 4, Modality.TEXT: 32, Modality.AUDIO: 4}
_GPU_BATCH = {Modality.IMAGE: 64, Modality.TEXT: 256, Modality.AUDIO: 64}
_ENDLESS = 1_000_000  # tokens: no text has as many
_FIT_RESAMPLING = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
_DRAFT = 3.0  # as for open_clip's models


class Gemma(OnTorch):
    """The encoder of an EmbeddingGemma 2. Safe to call from several threads.

    name: see the module.
    Raises SpaceUnavailable where it cannot be loaded, UsageError for a device or dtype.
    """

    cpu_batch, gpu_batch = _CPU_BATCH, _GPU_BATCH
    no_fp16 = "its numbers exceed what fp16 holds, so vectors would be wrong or NaN"

    def __init__(self, name: str, placement: Placement = ANYWHERE) -> None:
        libraries()
        super().__init__(placement)
        name, folder, asked = resolved(name)
        self.model = loaded(name, folder)
        width = int(self.model.get_embedding_dimension())
        dimension = checked_dimension(name, asked, width)
        self.place()
        self._prompts = {
            True: _prompt(self.model, ("query",)),
            False: _prompt(self.model, ("document", "passage", "corpus")),
        }
        self._plain = _prompt(self.model, ())
        self._preparing = forks.Lock()  # a tokenizer is for one thread at a time
        config, processor = self.model.transformers_model.config, self.model.processor
        self._longest = int(self.model.max_seq_length or _ENDLESS)
        self._marks = [
            mark
            for which in ("image_token", "video_token", "audio_token")
            if (mark := getattr(processor, which, None))
        ]
        self._least_samples = int(processor.feature_extractor.frame_length) // 2 + 1
        has = {
            Modality.IMAGE: config.vision_config is not None,
            Modality.TEXT: True,
            Modality.AUDIO: config.audio_config is not None,
        }
        modalities = tuple(m for m in has if has[m] and self.model.supports(str(m)))
        made_of = [settings(folder), self._prompts[True], self._prompts[False], self._plain]
        digest = digest_of(self.model, json.dumps(made_of))
        self.space = Space(name, digest, dimension, modalities, _preprocess(name, processor))

    @property
    def files(self) -> Mapping[str, AnyPath]:
        """None: an index of this space is asked through the model itself."""
        return {}

    def encode(self, modality: Modality, data: Sequence[Any], asked: bool = False) -> Vectors:
        """One unit vector for each decoded input, in order: float32 (n, d).

        data: uint8 (rows × px, columns × px, 3) RGB for a picture, float32 (samples,) mono for
        a sound of at most one window, str for a text, as ``space.preprocess`` says. asked: which
        of the two prompts a text gets.
        Raises DecodeError, or LimitExceeded for a sound longer than a window.
        """
        run, width = self.batches(modality), self.space.dimension
        task: dict[str, str] = {}
        more: dict[str, Any] = {"prompt": self._plain}
        if modality == Modality.IMAGE:
            inputs = [self._picture(one) for one in data]
            more["processing_kwargs"] = {"image": {"do_resize": False}}
        elif modality == Modality.AUDIO:
            inputs = [self._sound(one) for one in data]
        else:
            inputs = [self._text(one) for one in data]
            task = _task(asked)
            more = {"prompt": self._prompts[asked], **task}
        prepare = partial(self._prepared, **more)
        # padding costs: those of one length go together
        order = np.argsort([len(one) if modality != Modality.IMAGE else 0 for one in data],
                           kind="stable")  # fmt: skip
        out = np.empty((len(inputs), width), np.float32)
        out[order] = run([inputs[i] for i in order], prepare, self._tower(task), width)
        return out

    def truncated(self, texts: Sequence[str]) -> list[int]:
        """For each text, how many of its tokens the model does not read; mostly none."""
        if self._longest >= _ENDLESS:
            return [0] * len(texts)
        more: dict[str, Any] = {"prompt": self._prompts[False], **_task(False)}
        more["processing_kwargs"] = {"text": {"truncation": False}}
        found = [self._prepared([self._text(text)], **more) for text in texts]
        return [max(0, int(one["attention_mask"].sum()) - self._longest) for one in found]

    def _prepared(self, inputs: Sequence[Any], **more: Any) -> _Features:
        with self._preparing:
            return _Features(self.model.preprocess(list(inputs), **more).items())

    def _tower(self, task: Mapping[str, str]) -> Callable[[Any], Any]:
        def tower(features: Any) -> Any:
            with self.precision():
                found = self.call("forward", dict(features), **task)["sentence_embedding"]
            return found[:, : self.space.dimension]

        return tower

    def _text(self, text: str) -> dict[str, str]:
        """A text as the library takes it: a plain str might be taken for a file's or URL's name.

        Marks that stand for a picture or sound are parted: there is none in a text.
        """
        text = encodable(text)
        for mark in self._marks:
            text = text.replace(mark, f"{mark[0]} {mark[1:]}")
        return {"text": text}

    def _picture(self, pixels: Any) -> dict[str, Any]:
        px, most = self.space.preprocess.image_px, self.space.preprocess.image_cells
        shape = pixels.shape
        fits = len(shape) == 3 and shape[2] == 3 and not shape[0] % px and not shape[1] % px
        if not fits or not 0 < shape[0] * shape[1] <= most * px * px or pixels.dtype != np.uint8:
            raise DecodeError(
                f"a picture must be uint8 of at most {most} squares of {px} × {px} × 3, "
                f"got {pixels.dtype} {shape}",
                "encode",
            )
        return {"image": np.require(pixels, requirements=["C", "W"])}

    def _sound(self, samples: Any) -> dict[str, Any]:
        if samples.ndim != 1 or samples.dtype != np.float32 or not len(samples):
            raise DecodeError(
                f"a sound must be float32 (samples,), got {samples.dtype} {samples.shape}", "encode"
            )
        rate_hz = self.space.preprocess.sample_rate_hz
        longest = round(self.space.preprocess.window_s * rate_hz)
        if len(samples) > longest:
            raise LimitExceeded(
                f"a sound of {len(samples)} samples is longer than one window of {longest}; "
                "cut it into windows."
            )
        clean = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
        # of less than half a frame nothing would be heard at all
        clean = np.pad(clean, (0, max(0, self._least_samples - len(clean))))
        return {"array": clean, "sampling_rate": rate_hz}


class _Features(dict[str, Any]):
    """What the library prepared, brought to a device as a tensor is."""

    def pin_memory(self) -> _Features:
        return self._each("pin_memory")

    def to(self, device: Any, non_blocking: bool = False) -> _Features:
        return self._each("to", device, non_blocking=non_blocking)

    def _each(self, method: str, *args: Any, **more: Any) -> _Features:
        return _Features(
            (key, getattr(value, method)(*args, **more) if hasattr(value, method) else value)
            for key, value in self.items()
        )


def _task(asked: bool) -> dict[str, str]:
    return {"task": "query" if asked else "document"}


def _prompt(model: Any, known: Sequence[str]) -> str | None:
    """The prompt that the library would take: the first known one, else the usual, if any."""
    usual = model.prompts.get(model.default_prompt_name)
    found = next((model.prompts[one] for one in known if one in model.prompts), usual)
    return None if found is None else str(found)


def _preprocess(name: str, processor: Any) -> Preprocess:
    pictures, sounds = processor.image_processor, processor.feature_extractor
    resampling = _FIT_RESAMPLING.get(int(pictures.resample))
    if not pictures.do_resize or resampling is None:
        raise SpaceUnavailable(
            f"{name} takes pictures in a way of its own (do_resize {pictures.do_resize}, resample "
            f"{pictures.resample}): only resized ones, bilinear or bicubic, can be."
        )
    return Preprocess(
        image_px=int(pictures.patch_size) * int(pictures.pooling_kernel_size),
        sample_rate_hz=int(sounds.sampling_rate),
        window_s=WINDOW_S,
        image_fit="cells",
        image_resampling=resampling,
        image_draft=_DRAFT,
        image_cells=int(pictures.max_soft_tokens),
    )
