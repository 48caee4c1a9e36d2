"""CLAP models of Hugging Face: sounds and texts, through transformers (extra ``torch``).

A name is ``clap:OWNER/REPOSITORY`` or ``clap:FOLDER``, as ``from_pretrained`` takes it, with
weights as safetensors. Sounds come in windows that the model takes whole: nothing of them is
cut at random, as the library's own front end does with what is longer. Nothing is fetched:
weights are here, or ``mmsearch spaces pull`` brings them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import DecodeError, LimitExceeded, SpaceUnavailable
from mmsearch.given import expanded
from mmsearch.spaces import ANYWHERE, Placement
from mmsearch.spaces.cleaning import encodable
from mmsearch.spaces.naming import CLAP as PREFIX
from mmsearch.spaces.naming import (
    did_you_mean,
    looks_like_path,
    of_folder,
)
from mmsearch.spaces.network import can_fetch
from mmsearch.spaces.on_torch import (
    OnTorch,
    cached_revision,
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

_TOKENIZERS = ("tokenizer.json", "vocab.json")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_PASSAGE_WORDS, _PASSAGE_SIGNS = 100, 60  # texts describe sounds in a sentence or two


class Clap(OnTorch):
    """The encoder of a CLAP model. Safe to call from several threads.

    name: see the module.
    Raises SpaceUnavailable where it cannot be loaded, UsageError for a device or dtype.
    """

    any_length = True  # of tokens that the text tower takes

    def __init__(self, name: str, placement: Placement = ANYWHERE) -> None:
        imported("torch", "transformers")
        super().__init__(placement)
        name, self.model, self._front, self.tokenizer = _loaded(name)
        self.place()
        config = self.model.config
        self.context = min(
            int(self.tokenizer.model_max_length), config.text_config.max_position_embeddings - 2
        )
        self._fusion = bool(config.audio_config.enable_fusion)
        preprocess = Preprocess(
            image_px=1,  # there is no tower for pictures
            sample_rate_hz=int(self._front.sampling_rate),
            window_s=float(self._front.max_length_s),
            passage_words=_PASSAGE_WORDS,
            passage_cjk_chars=_PASSAGE_SIGNS,
        )
        digest = digest_of(self.model, f"{self._front.to_json_string()} {self.context}")
        modalities = (Modality.TEXT, Modality.AUDIO)
        self.space = Space(name, digest, int(config.projection_dim), modalities, preprocess)

    def encode(self, modality: Modality, data: Sequence[Any], asked: bool = False) -> Vectors:
        """One unit vector for each decoded input, in order: float32 (n, d).

        data: float32 (samples,) mono for a sound of at most one window, str for a text, as
        ``space.preprocess`` says. What a text has beyond the model's context is left out.
        asked makes no difference.
        """
        run, width = self.batches(modality), self.space.dimension
        if modality == Modality.AUDIO:
            return run(data, self._features, self._sounds, width)
        tokens = [self.tokens([text])[0] for text in data]
        # padding costs: those of one length go together
        order = np.argsort([len(ids) for ids in tokens], kind="stable")
        out = np.empty((len(tokens), width), np.float32)
        out[order] = run([tokens[i] for i in order], self._padded, self._texts, width)
        return out

    def truncated(self, texts: Sequence[str]) -> list[int]:
        """For each text, how many of its tokens the tower does not read."""
        ids = (self.tokenizer(encodable(text), verbose=False).input_ids for text in texts)
        counts = [len(one) for one in ids]
        return [max(0, count - self.context) for count in counts]

    def tokens(self, texts: Sequence[str]) -> Any:
        """int64 (n, longest), padded, by the model's own tokenizer."""
        return self.tokenizer(
            [encodable(text) for text in texts],
            padding=True,
            truncation=True,
            max_length=self.context,
            return_tensors="pt",
        ).input_ids

    def text_side(self) -> Any:
        """The text tower as a module: ids (1, n), without padding, to rows (1, d)."""
        torch = imported("torch")
        model = self.model

        class TextSide(torch.nn.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.tower, self.projection = model.text_model, model.text_projection

            def forward(self, ids: Any) -> Any:
                return self.projection(self.tower(input_ids=ids).pooler_output)

        return TextSide()

    def write_tokenizer(self, path: Path) -> str:
        """The tokenizer as ``tokenizer.json``; returns that texts are not cleaned before it.

        Raises SpaceUnavailable where it cannot be.
        """
        from tokenizers import Tokenizer

        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise SpaceUnavailable("this model's tokenizer cannot be written down.")
        tokenizer = Tokenizer.from_str(backend.to_str())
        tokenizer.enable_truncation(self.context)
        tokenizer.no_padding()
        tokenizer.save(str(path))
        return ""

    def _features(self, data: Sequence[NDArray[np.float32]]) -> Any:
        """What the library's own front end makes of sounds: float32 (n, 1 or 4, frames, 64)."""
        torch = imported("torch")
        front = self._front
        features = []
        for samples in data:
            if samples.ndim != 1 or samples.dtype != np.float32 or not len(samples):
                raise DecodeError(
                    f"a sound must be float32 (samples,), got {samples.dtype} {samples.shape}",
                    "encode",
                )
            if len(samples) > front.nb_max_samples:
                raise LimitExceeded(
                    f"a sound of {len(samples)} samples is longer than one window of "
                    f"{front.nb_max_samples}; cut it into windows."
                )
            clean = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
            found = front([clean], sampling_rate=front.sampling_rate, return_tensors="np")
            features.append(found["input_features"][0])
        return torch.from_numpy(np.stack(features).astype(np.float32))

    def _sounds(self, x: Any) -> Any:
        torch = imported("torch")
        # alone, a sound is what the library calls longer where features are fused
        longer = torch.full((len(x), 1), self._fusion, device=self.device)
        with self.precision():
            found = self.call("get_audio_features", input_features=x, is_longer=longer)
        return getattr(found, "pooler_output", found)

    def _padded(self, data: Sequence[Any]) -> Any:
        """int64 (2, n, longest): the tokens of texts, and 1 where they are not padding."""
        torch = imported("torch")
        pad = int(self.model.config.text_config.pad_token_id)
        ids = torch.nn.utils.rnn.pad_sequence(list(data), batch_first=True, padding_value=pad)
        # by length, not by what is in it: a text may hold the sign for padding
        lengths = torch.tensor([len(one) for one in data])
        mask = (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()
        return torch.stack([ids, mask])

    def _texts(self, x: Any) -> Any:
        with self.precision():
            found = self.call("get_text_features", input_ids=x[0], attention_mask=x[1])
        return getattr(found, "pooler_output", found)


def check_here(name: str) -> None:
    """Raises SpaceUnavailable where a model is not on this machine."""
    imported("torch", "transformers")
    _resolved(name)


def names() -> list[str]:
    """Hugging Face keeps no list of such models."""
    return []


def pull(name: str) -> str:
    """Fetches a model from Hugging Face; returns its full name. A folder is only looked at."""
    transformers = imported("transformers", "torch")
    if folder := _folder(name):
        return f"{PREFIX}{folder}"
    asked = name.removeprefix(PREFIX)
    if not can_fetch(name, check_here):
        return name
    try:
        with quiet(progress=True):
            transformers.ClapModel.from_pretrained(asked, use_safetensors=True)
            transformers.ClapProcessor.from_pretrained(asked)
    except Exception as e:
        raise SpaceUnavailable(f"{name} could not be fetched: {reason(e)}") from None
    return name


def _folder(name: str) -> Path | None:
    """The folder that a name means; None for a repository of Hugging Face.

    Raises SpaceUnavailable for what is neither, and for a folder without a model.
    """
    asked = name.removeprefix(PREFIX)
    if not asked:
        raise SpaceUnavailable(f"say which model: {PREFIX}OWNER/REPOSITORY or {PREFIX}FOLDER.")
    if not looks_like_path(asked) and os.sep in asked:
        check_repository(name, asked)
        return None
    folder = expanded(asked).absolute()
    if not os.path.isfile(folder / "config.json"):
        other = of_folder(str(folder))
        hint = (
            did_you_mean([other])
            if other
            else (
                ": name a folder with config.json and weights as safetensors, or one of Hugging "
                f"Face, such as {PREFIX}laion/clap-htsat-unfused."
            )
        )
        raise SpaceUnavailable(f"{folder} holds no CLAP model{hint}")
    if not any(os.path.isfile(folder / one) for one in _TOKENIZERS):
        # transformers would make up an empty one
        raise SpaceUnavailable(f"{folder} holds no tokenizer: {' or '.join(_TOKENIZERS)}.")
    return folder


def _resolved(name: str) -> tuple[str, str, str]:
    """The full name, and what transformers is told: folder or repository, and revision."""
    if folder := _folder(name):
        return f"{PREFIX}{folder}", str(folder), "main"
    asked = name.removeprefix(PREFIX)
    # where a repository has none, transformers fetches those that Hugging Face's converter
    # has proposed to it, at a revision of their own
    revision = cached_revision(asked, _WEIGHTS)
    fetched = in_hub_cache(asked, ("config.json",)) and in_hub_cache(asked, _TOKENIZERS)
    if revision is None or not fetched:
        raise not_here(name)
    return name, asked, revision


def _loaded(name: str) -> tuple[str, Any, Any, Any]:
    transformers = imported("transformers", "torch")
    name, asked, revision = _resolved(name)
    try:
        with offline(), quiet():
            config = transformers.ClapConfig.from_pretrained(asked, local_files_only=True)
            model, said = transformers.ClapModel.from_pretrained(
                asked,
                config=config,
                revision=revision,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
            front = transformers.ClapFeatureExtractor.from_pretrained(asked, local_files_only=True)
            tokenizer = transformers.AutoTokenizer.from_pretrained(asked, local_files_only=True)
    except MemoryError:
        raise SpaceUnavailable(f"{name} needs more memory than there is.") from None
    except Exception as e:  # of many kinds: OSError, ValueError, SafetensorError, …
        why = "its weights do not fit its config.json." if "mismatched" in str(e) else reason(e)
        raise SpaceUnavailable(f"{name} cannot be loaded: {why}") from None
    # transformers makes up what a file lacks, at random, and only warns
    if missing := [k for k in said["missing_keys"] if not k.endswith("position_ids")]:
        some = ", ".join(sorted(missing)[:2])
        raise SpaceUnavailable(
            f"{name} cannot be loaded: {len(missing)} weights are missing ({some}, …): "
            "the file is another model's."
        )
    return name, model, front, tokenizer
