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

import difflib
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from mmsearch.errors import DecodeError, LimitExceeded, SpaceUnavailable, UsageError, install
from mmsearch.spaces import ANYWHERE, USUAL, Placement
from mmsearch.spaces.cleaning import encodable
from mmsearch.spaces.on_torch import (
    OnTorch,
    digest_of,
    imported,
    in_hub_cache,
    not_here,
    offline,
    quiet,
    reason,
)
from mmsearch.types import Modality, Preprocess, Space, Vectors

PREFIX = "gemma:"
LEAST_VERSION = (6, 1)  # of sentence-transformers: takes pictures and sounds
WINDOW_S = 10.0  # of the 30 s that the model hears at most: where a thing is heard is told so
# The dimensions that its model card names; of another checkpoint nobody knows.
DIMENSIONS = {"google/embeddinggemma-2": (128, 256, 512, 768)}
_TYPE = "embedding_gemma2"
# A picture has up to 2,520 patches, each of which looks at all of them.
_CPU_BATCH = {Modality.IMAGE: 4, Modality.TEXT: 32, Modality.AUDIO: 4}
_GPU_BATCH = {Modality.IMAGE: 64, Modality.TEXT: 256, Modality.AUDIO: 64}
_ENDLESS = 1_000_000  # tokens: no text has as many
_FIT_RESAMPLING = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
_DRAFT = 3.0  # as for open_clip's models
# What makes a vector, beside weights and prompts.
_SETTINGS = ("config.json", "modules.json", "sentence_bert_config.json", "processor_config.json",
             "preprocessor_config.json", "chat_template.jinja", "tokenizer.json",
             "tokenizer_config.json")  # fmt: skip


class Gemma(OnTorch):
    """The encoder of an EmbeddingGemma 2. Safe to call from several threads.

    name: see the module.
    Raises SpaceUnavailable where it cannot be loaded, UsageError for a device or dtype.
    """

    cpu_batch, gpu_batch = _CPU_BATCH, _GPU_BATCH
    no_fp16 = "its numbers exceed what fp16 holds, so vectors would be wrong or NaN"

    def __init__(self, name: str, placement: Placement = ANYWHERE) -> None:
        _libraries()
        super().__init__(placement)
        name, folder, asked = _resolved(name)
        self.model = _loaded(name, folder)
        width = int(self.model.get_embedding_dimension())
        dimension = _checked_dimension(name, asked, width)
        self.place()
        self._prompts = {
            True: _prompt(self.model, ("query",)),
            False: _prompt(self.model, ("document", "passage", "corpus")),
        }
        self._plain = _prompt(self.model, ())
        self._preparing = Lock()  # a tokenizer is for one thread at a time
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
        settings = [_settings(folder), *(self._prompts[key] for key in (True, False)), self._plain]
        digest = digest_of(self.model, json.dumps(settings))
        self.space = Space(name, digest, dimension, modalities, _preprocess(name, processor))

    @property
    def files(self) -> Mapping[str, Path]:
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
                found = self.model(dict(features), **task)["sentence_embedding"]
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
        return {"image": np.ascontiguousarray(pixels)}

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


def check_here(name: str) -> None:
    """Raises SpaceUnavailable where a model is not on this machine."""
    _libraries()
    _resolved(name)


def names() -> list[str]:
    """The one that is published; checkpoints made of it are nowhere listed."""
    return [f"{PREFIX}{USUAL['gemma']}"]


def pull(name: str) -> str:
    """Fetches a model from Hugging Face; returns its full name."""
    sentence_transformers, hub = _libraries(), imported("huggingface_hub.errors")
    place, dimension = _parted(name)
    if _is_folder(place):
        raise UsageError(f"{name} names a folder: there is nothing to fetch.")
    if dimension is not None:
        _checked_dimension(name, dimension)
    try:
        with quiet(progress=True):
            sentence_transformers.SentenceTransformer(
                place, device="cpu", model_kwargs={"use_safetensors": True}
            )
    except Exception as e:
        chain, cause = [], e
        while cause is not None and cause not in chain:
            chain.append(cause)
            cause = cause.__cause__ or cause.__context__  # type: ignore[assignment]
        if any(isinstance(one, hub.GatedRepoError) for one in chain):
            raise SpaceUnavailable(
                f"{name} could not be fetched: its licence must be accepted first, at "
                f"https://huggingface.co/{place}; then log in once with `hf auth login`."
            ) from None
        if any(isinstance(one, hub.RepositoryNotFoundError) for one in chain):
            raise SpaceUnavailable(
                f"{name} could not be fetched: Hugging Face has no {place}{_did_you_mean(place)}."
            ) from None
        raise SpaceUnavailable(f"{name} could not be fetched: {reason(e)}") from None
    return name


def _libraries() -> Any:
    """sentence-transformers. Raises SpaceUnavailable where it, or what it needs, is not here."""
    found = imported("sentence_transformers", "torch", "torchvision", "transformers", "accelerate")
    version = tuple(map(int, found.__version__.split(".")[:2]))
    old = f"sentence-transformers {found.__version__}" if version < LEAST_VERSION else ""
    if not old and not hasattr(imported("transformers"), "EmbeddingGemma2Model"):
        old = f"transformers {imported('transformers').__version__}"
    if old:
        raise SpaceUnavailable(f"{old} does not know EmbeddingGemma 2; {install('torch')}.")
    return found


def _parted(name: str) -> tuple[str, int | None]:
    """What a name says: a repository or folder, and the dimension. Raises UsageError."""
    asked = name.removeprefix(PREFIX)
    place, at, dimension = asked.rpartition("@")
    if not at or os.sep in dimension or Path(asked).expanduser().is_dir():
        return asked, None
    if not (dimension.isascii() and dimension.isdigit()):
        raise UsageError(
            f"{name}: what stands after @ is how many numbers a vector has, as in gemma@256; "
            f"not {dimension!r}."
        )
    return place, int(dimension)


def _is_folder(place: str) -> bool:
    folder = Path(place).expanduser()
    plain = os.sep not in place
    return folder.is_dir() or folder.is_absolute() or place.startswith((".", "~")) or plain


def _resolved(name: str) -> tuple[str, Path, int | None]:
    """The full name, the folder that its files are in, and the dimension that was asked for."""
    place, dimension = _parted(name)
    suffix = "" if dimension is None else f"@{dimension}"
    if _is_folder(place):
        folder = Path(place).expanduser().absolute()
        if not all((folder / one).is_file() for one in ("modules.json", "config.json")):
            raise SpaceUnavailable(
                f"{folder} holds no EmbeddingGemma 2: name a folder with modules.json, config.json "
                "and weights as safetensors, as SentenceTransformer.save_pretrained writes it."
            )
        full = f"{PREFIX}{folder}{suffix}"
    else:
        if not in_hub_cache(place, ("modules.json",)):
            missing = not_here(f"{PREFIX}{place}")
            hint = _did_you_mean(place)
            raise SpaceUnavailable(f"{missing}{hint and ' Or' + hint[1:]}") from None
        found = imported("huggingface_hub").try_to_load_from_cache(place, "modules.json")
        folder, full = Path(found).parent, f"{PREFIX}{place}{suffix}"
        if not any(folder.glob("*.safetensors")):
            raise not_here(full)
    if not (folder / "tokenizer.json").is_file():
        raise SpaceUnavailable(f"{folder} holds no tokenizer: tokenizer.json.")
    return full, folder, dimension


def _did_you_mean(place: str) -> str:
    near = difflib.get_close_matches(place.lower(), [USUAL["gemma"]], 1, 0.8)
    return f"; did you mean {PREFIX}{near[0]}?" if near and near[0] != place else ""


def _loaded(name: str, folder: Path) -> Any:
    """The model on the CPU, in fp32. Raises SpaceUnavailable for what is none, or damaged."""
    sentence_transformers, transformers = _libraries(), imported("transformers")
    torch = imported("torch")
    try:
        kind = json.loads((folder / "config.json").read_text("utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        raise SpaceUnavailable(f"{folder / 'config.json'} is damaged: it is no JSON.") from None
    if kind != _TYPE:
        raise SpaceUnavailable(
            f"{name} is no EmbeddingGemma 2: its config.json names the architecture {kind}."
        )
    try:
        with offline(), quiet():
            _, said = transformers.AutoModel.from_pretrained(  # reads names and shapes alone
                str(folder),
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                device_map="meta",
            )
            model = sentence_transformers.SentenceTransformer(
                str(folder),
                device="cpu",
                local_files_only=True,
                model_kwargs={"use_safetensors": True, "dtype": torch.float32},
            )
    except MemoryError:
        raise _too_little(name) from None
    except Exception as e:  # of many kinds: OSError, ValueError, SafetensorError, …
        if "can't allocate memory" in str(e):
            raise _too_little(name) from None
        why = "its weights do not fit its config.json" if "mismatch" in str(e) else reason(e)
        raise SpaceUnavailable(f"{name} cannot be loaded: {why.rstrip('.')}.") from None
    # transformers makes up what a file lacks, at random, and only warns
    if missing := sorted(said["missing_keys"]):
        some = ", ".join(missing[:2])
        raise SpaceUnavailable(
            f"{name} cannot be loaded: {len(missing)} weights are missing ({some}, …): "
            "the file is another model's."
        )
    return model


def _too_little(name: str) -> SpaceUnavailable:
    return SpaceUnavailable(f"{name} needs more memory than there is.")


def _checked_dimension(name: str, asked: int | None, width: int | None = None) -> int:
    """How many numbers a vector has. Raises UsageError for what the model cannot give."""
    known = DIMENSIONS.get(_parted(name)[0])
    if asked is None:
        return width or 0
    if known and asked not in known:
        raise UsageError(f"{name}: a vector has {_either(known)} numbers, not {asked}.")
    if not 1 <= asked <= (width or asked):
        raise UsageError(f"{name}: a vector has 1 to {width} numbers, not {asked}.")
    return asked


def _either(numbers: Sequence[int]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} or {numbers[-1]}"


def _task(asked: bool) -> dict[str, str]:
    return {"task": "query" if asked else "document"}


def _prompt(model: Any, known: Sequence[str]) -> str | None:
    """The prompt that the library would take: the first known one, else the usual, if any."""
    usual = model.prompts.get(model.default_prompt_name)
    found = next((model.prompts[one] for one in known if one in model.prompts), usual)
    return None if found is None else str(found)


def _settings(folder: Path) -> str:
    """SHA-256 (hex) over the files that say how the model is put together and fed."""
    found = hashlib.sha256()
    modules = json.loads((folder / "modules.json").read_text("utf-8"))
    inside = [f"{module['path']}/config.json" for module in modules if module.get("path")]
    for name in (*_SETTINGS, *inside):
        if (folder / name).is_file():
            found.update(name.encode() + b"\0" + (folder / name).read_bytes() + b"\0")
    return found.hexdigest()


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
