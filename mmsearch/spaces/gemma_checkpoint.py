"""Checkpoints of EmbeddingGemma 2: what their names mean, finding, fetching and loading them."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmsearch.errors import SpaceUnavailable, UsageError, install
from mmsearch.given import expanded
from mmsearch.spaces import USUAL
from mmsearch.spaces.network import can_fetch
from mmsearch.spaces.on_torch import imported, in_hub_cache, not_here, offline, quiet, reason

PREFIX = "gemma:"
LEAST_VERSION = (6, 1)  # of sentence-transformers: takes pictures and sounds
# The dimensions that its model card names; of another checkpoint nobody knows.
DIMENSIONS = {"google/embeddinggemma-2": (128, 256, 512, 768)}
_TYPE = "embedding_gemma2"
# What makes a vector, beside weights and prompts.
_SETTINGS = ("config.json", "modules.json", "sentence_bert_config.json", "processor_config.json",
             "preprocessor_config.json", "chat_template.jinja", "tokenizer.json",
             "tokenizer_config.json")  # fmt: skip


def check_here(name: str) -> None:
    """Raises SpaceUnavailable where a model is not on this machine."""
    libraries()
    resolved(name)


def names() -> list[str]:
    """The one that is published; checkpoints made of it are nowhere listed."""
    return [f"{PREFIX}{USUAL['gemma']}"]


def pull(name: str) -> str:
    """Fetches a model from Hugging Face; returns its full name."""
    sentence_transformers, errors = libraries(), imported("huggingface_hub.errors")
    place, dimension = parted(name)
    if _is_folder(place):
        raise UsageError(f"{name} names a folder: there is nothing to fetch.")
    checked_dimension(name, dimension)
    if not can_fetch(name, check_here):
        return name
    try:
        with quiet(progress=True):
            _check_access(place)  # at once: the library would try again for a minute and more
            sentence_transformers.SentenceTransformer(
                place, device="cpu", model_kwargs={"use_safetensors": True}
            )
    except errors.GatedRepoError:
        raise SpaceUnavailable(
            f"{name} could not be fetched: its licence must be accepted first, at "
            f"https://huggingface.co/{place}; then log in once with `hf auth login`."
        ) from None
    except errors.RepositoryNotFoundError:
        raise SpaceUnavailable(
            f"{name} could not be fetched: Hugging Face has no {place}{_did_you_mean(place)}."
        ) from None
    except Exception as e:
        raise SpaceUnavailable(f"{name} could not be fetched: {reason(e)}") from None
    return name


def _check_access(place: str) -> None:
    """Raises GatedRepoError or RepositoryNotFoundError."""
    hub, errors = imported("huggingface_hub"), imported("huggingface_hub.errors")
    try:
        hub.auth_check(place)
    except (errors.GatedRepoError, errors.RepositoryNotFoundError):
        raise
    except errors.HfHubHTTPError:  # a mirror that cannot be asked this
        pass


def libraries() -> Any:
    """sentence-transformers. Raises SpaceUnavailable where it, or what it needs, is not here."""
    found = imported("sentence_transformers", "torch", "torchvision", "transformers", "accelerate")
    version = tuple(map(int, found.__version__.split(".")[:2]))
    old = f"sentence-transformers {found.__version__}" if version < LEAST_VERSION else ""
    if not old and not hasattr(imported("transformers"), "EmbeddingGemma2Model"):
        old = f"transformers {imported('transformers').__version__}"
    if old:
        raise SpaceUnavailable(f"{old} does not know EmbeddingGemma 2; {install('torch')}.")
    return found


def parted(name: str) -> tuple[str, int | None]:
    """What a name says: a repository or folder, and the dimension. Raises UsageError."""
    asked = name.removeprefix(PREFIX)
    place, at, dimension = asked.rpartition("@")
    if not at or os.sep in dimension or os.path.isdir(expanded(asked)):
        return asked, None
    if not (dimension.isascii() and dimension.isdigit()):
        raise UsageError(
            f"{name}: what stands after @ is how many numbers a vector has, as in gemma@256; "
            f"not {dimension!r}."
        )
    return place, int(dimension)


def _is_folder(place: str) -> bool:
    folder = expanded(place)
    plain = os.sep not in place
    return os.path.isdir(folder) or folder.is_absolute() or place.startswith((".", "~")) or plain


def resolved(name: str) -> tuple[str, Path, int | None]:
    """The full name, the folder that its files are in, and the dimension that was asked for."""
    place, dimension = parted(name)
    suffix = "" if dimension is None else f"@{dimension}"
    checked_dimension(name, dimension)
    if _is_folder(place):
        folder = expanded(place).absolute()
        if not all(os.path.isfile(folder / one) for one in ("modules.json", "config.json")):
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


def loaded(name: str, folder: Path) -> Any:
    """The model on the CPU, in fp32. Raises SpaceUnavailable for what is none, or damaged."""
    sentence_transformers, transformers = libraries(), imported("transformers")
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
        if "allocate memory" in str(e):  # torch's, and the system's
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
    parts = ("image_processor", "feature_extractor", "tokenizer")
    lacks = [part for part in parts if getattr(model.processor, part, None) is None]
    if not model.get_embedding_dimension():
        lacks.append("pooling that gives one vector")
    if lacks:
        raise SpaceUnavailable(f"{name} cannot be used: it has no {', no '.join(lacks)}.")
    return model


def _too_little(name: str) -> SpaceUnavailable:
    return SpaceUnavailable(f"{name} needs more memory than there is.")


def checked_dimension(name: str, asked: int | None, width: int = 0) -> int:
    """How many numbers a vector has. Raises UsageError for what the model cannot give.

    width: of the whole vector; 0 where it is not known yet.
    """
    known = DIMENSIONS.get(parted(name)[0])
    if asked is None:
        return width
    if known and asked not in known:
        raise UsageError(f"{name}: a vector has {_either(known)} numbers, not {asked}.")
    if not known and width and not 1 <= asked <= width:
        raise UsageError(f"{name}: a vector has 1 to {width} numbers, not {asked}.")
    return asked


def _either(numbers: Sequence[int]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} or {numbers[-1]}"


def settings(folder: Path) -> str:
    """SHA-256 (hex) over the files that say how the model is put together and fed."""
    found = hashlib.sha256()
    modules = json.loads((folder / "modules.json").read_text("utf-8"))
    inside = [f"{module['path']}/config.json" for module in modules if module.get("path")]
    for name in (*_SETTINGS, *inside):
        if (folder / name).is_file():
            found.update(name.encode() + b"\0" + (folder / name).read_bytes() + b"\0")
    return found.hexdigest()
