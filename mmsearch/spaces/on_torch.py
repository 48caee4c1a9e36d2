"""What the spaces that run on PyTorch share: devices, precision, batches that fit the memory."""

from __future__ import annotations

import hashlib
import itertools
import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from textwrap import shorten
from threading import Lock
from typing import Any

import numpy as np

from mmsearch import forks
from mmsearch.errors import SpaceUnavailable, UsageError, install
from mmsearch.spaces import CPU_BATCH, GPU_BATCH, Placement
from mmsearch.spaces.catalogue import languages_of
from mmsearch.spaces.cleaning import encodable
from mmsearch.spaces.naming import looks_like_repository
from mmsearch.spaces.vocabulary import Vocabulary
from mmsearch.store.confined import AnyPath
from mmsearch.types import Modality, Space, Vectors

MAX_THREADS = 64  # that a batch is shared out to
_REASON_CHARS = 300
_offline_lock = forks.Lock()


def imported(first: str, *others: str) -> Any:
    """A module, and others imported with it; SpaceUnavailable says how to install them."""
    from importlib import import_module

    try:
        for name in others:
            import_module(name)
        return import_module(first)
    except ImportError as e:
        raise SpaceUnavailable(
            f"this space runs on PyTorch, and {e.name or e} is not installed; {install('torch')}."
        ) from None


def device_of(name: str | None) -> Any:
    """The torch device that was asked for; None is a GPU where there is one.

    Raises UsageError for one that torch does not know or that is not there.
    """
    torch = imported("torch")
    if name != "cpu" and torch.cuda._is_in_bad_fork():
        raise _after_fork("PyTorch's GPU")
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name is None:
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device is cpu, cuda, cuda:1, … or mps; not {name!r}.") from None
    there = {"cpu": True, "cuda": cuda, "mps": mps}.get(device.type, False)
    if not there or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        have = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if cuda else []
        have += ["mps"] if mps else []
        raise UsageError(
            f"--device {name}: PyTorch sees no such device; there is: {', '.join([*have, 'cpu'])}."
        )
    return device


def _after_fork(what: str) -> SpaceUnavailable:
    return SpaceUnavailable(
        f"{what} was in use before this process was forked, and cannot be used in the child: open "
        "the index in each worker, after the fork, or start workers by spawn."
    )


def precision(
    device: Any, dtype: str | None, no_fp16: str = ""
) -> Callable[[], AbstractContextManager[Any]]:
    """What a model runs in: autocast to 16 bits, or nothing for fp32.

    dtype: one of ``spaces.DTYPES``; None is fp16 on a GPU and fp32 on a CPU. no_fp16: why a model
    cannot run in fp16; bf16 is in its place then. Raises UsageError.
    """
    torch = imported("torch")
    half = "bf16" if no_fp16 else "fp16"
    wanted = dtype or (half if device.type == "cuda" else "fp32")
    if wanted == "fp32":
        return nullcontext
    if wanted == "fp16" and no_fp16:
        raise UsageError(f"--dtype fp16: {no_fp16}; take bf16 or fp32.")
    if wanted == "fp16" and device.type == "cpu":
        raise UsageError("--dtype fp16 needs a GPU; on a CPU there are fp32 and bf16.")
    kind = torch.float16 if wanted == "fp16" else torch.bfloat16
    return lambda: torch.autocast(device.type, kind)


class InBatches:
    """Runs a tower over inputs, as many at a time as the device has memory for.

    Safe to call from several threads: while one waits for a GPU's answer, another prepares
    and starts the next batch, so that the GPU does not wait. On a CPU a batch is shared out to
    threads, each of which runs its part on one core: that is faster than all cores on the whole
    (``benchmarks/threads.py``: ViT-B-32 1.12 times, CLAP 1.26 times on two cores), for none waits
    for the others within a layer, and what prepares inputs runs beside towers.
    """

    def __init__(self, device: Any, size: int, share: bool = True) -> None:
        """share: whether batches may be shared out to threads."""
        self.device = device
        self.size = size
        self._starting = Lock()
        self._share = share and device.type == "cpu"
        self._pool: ThreadPoolExecutor | None = None
        self._begun = 0  # threads of it
        forks.renewed(self, InBatches._renew)

    def _renew(self) -> None:
        """See ``forks.renewed``."""
        if self._pool is not None:
            forks.abandon(self._pool)
        self._starting, self._pool, self._begun = Lock(), None, 0

    def __call__(
        self,
        inputs: Sequence[Any],
        prepare: Callable[[Sequence[Any]], Any],
        tower: Callable[[Any], Any],
        width: int,
    ) -> Vectors:
        """float32 (n, width): what the tower gives for each input, scaled to unit length.

        prepare: makes a tensor on the CPU of some inputs, which the tower gets on the device,
        or what is pinned and brought there as one is.
        Where the device runs out of memory half as many are tried, down to one.
        """
        torch = imported("torch")
        out = np.empty((len(inputs), width), np.float32)
        run = partial(self._run, prepare, tower)
        at = 0
        while at < len(inputs):
            some = inputs[at : at + self.size]
            try:
                shared = self._share and len(some) > 1
                out[at : at + len(some)] = self._shared(some, run) if shared else run(some)
            except torch.OutOfMemoryError:
                self._halve(len(some))
                continue
            at += len(some)
        return out

    @forks.native
    def _run(
        self, prepare: Callable[[Sequence[Any]], Any], tower: Callable[[Any], Any], some: Any
    ) -> Vectors:
        torch = imported("torch")
        with torch.inference_mode():
            x = prepare(some)
            if self.device.type == "cpu":
                rows = tower(x)
            else:
                if self.device.type == "cuda":
                    x = x.pin_memory()
                with self._starting:
                    rows = tower(x.to(self.device, non_blocking=True))
            found: Vectors = torch.nn.functional.normalize(rows.float(), dim=-1).cpu().numpy()
            return found  # the device has answered

    def _shared(self, some: Sequence[Any], run: Callable[[Any], Vectors]) -> Vectors:
        """The same, each thread a part of the inputs; as many threads as PyTorch may use here."""
        torch = imported("torch")
        threads = int(torch.get_num_threads())
        parts = min(len(some), threads, MAX_THREADS)
        if parts == 1:
            return run(some)
        with self._starting:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(MAX_THREADS, "tower", self._begin)
        ends = [len(some) * i // parts for i in range(parts + 1)]
        pieces = [some[a:b] for a, b in itertools.pairwise(ends)]
        begun = self._begun
        found = list(self._pool.map(run, pieces))
        if self._begun != begun:
            # PyTorch gives threads that are yet to come what was set last, by whichever thread
            torch.set_num_threads(threads)
        return np.concatenate(found)

    def _begin(self) -> None:
        """In each thread of the pool, once: it uses one core."""
        imported("torch").set_num_threads(1)
        with self._starting:
            self._begun += 1

    def _halve(self, tried: int) -> None:
        if tried == 1:
            raise SpaceUnavailable(
                f"{self.device} has too little memory for one input of this model: "
                "take a smaller one, or --device cpu."
            ) from None
        self.size = min(self.size, max(1, tried // 2))
        if self.device.type == "cuda":
            imported("torch").cuda.empty_cache()


class OnTorch:
    """What encoders on PyTorch have in common; see ``Encoder``.

    A subclass sets ``model``, calls ``place``, sets ``space`` and then has ``batches``.
    Raises UsageError for a device or dtype that is not there.
    """

    space: Space
    model: Any
    cpu_batch, gpu_batch = CPU_BATCH, GPU_BATCH
    no_fp16 = ""  # why it cannot run in fp16

    def __init__(self, placement: Placement) -> None:
        self.device = device_of(placement.device)
        self.precision = precision(self.device, placement.dtype, self.no_fp16)
        self._compile, self._compiling = placement.compile, forks.Lock()
        self._vocabulary: Vocabulary | None = None  # from the first text on
        self._compiled: dict[str, Callable[..., Any]] = {}
        self.tower = placement.tower or "fp32"
        self.carry = placement.carry
        self.side_by_side = 2  # while one batch comes to its end, the next has begun
        usual = self.cpu_batch if self.device.type == "cpu" else self.gpu_batch
        self._batches = {
            m: InBatches(self.device, placement.batch_size or usual[m], not placement.compile)
            for m in Modality
        }
        self._process = forks.depth()

    @property
    def batch_sizes(self) -> Mapping[Modality, int]:
        """How many inputs of a modality go to the device at a time."""
        return {modality: self._batches[modality].size for modality in self.space.modalities}

    @property
    def files(self) -> Mapping[str, AnyPath]:
        """The text tower as ONNX, with its tokenizer, maybe that for pictures; see ``portable``."""
        from mmsearch.spaces.portable import towers

        return towers(self)

    def unknown(self, texts: Sequence[str]) -> list[float]:
        """See ``Encoder``: 0 for a tokenizer of bytes, as CLIP's is."""
        with self._compiling:
            if self._vocabulary is None:
                self._vocabulary = _vocabulary_of(getattr(self, "tokenizer", None))
        return [self._vocabulary.unknown(encodable(text)) for text in texts]

    @property
    def languages(self) -> str:
        """What is published of the model."""
        return languages_of(self.space.name)

    def picture_side(self) -> Any:
        """The tower for pictures as a module: uint8 (n, px, px, 3) to rows (n, d); None where
        it cannot be kept."""
        return None

    def place(self) -> None:
        """Brings the model to its device, to be asked and not trained.

        On a GPU with channels last, as pictures arrive: convolutions are faster so.
        Raises SpaceUnavailable where it does not fit.
        """
        torch = imported("torch")
        try:
            self.model.to(self.device).eval().requires_grad_(False)
            if self.device.type == "cuda":
                self.model.to(memory_format=torch.channels_last)
        except torch.OutOfMemoryError:
            raise SpaceUnavailable(
                f"{self.device} has too little memory for this model: take a smaller one, or "
                "--device cpu."
            ) from None

    def call(self, method: str, *args: Any, **more: Any) -> Any:
        """A method of the model, compiled by ``torch.compile`` where the placement says so.

        Compiling happens with the first batch, and once more for others of another length.
        """
        if not self._compile:
            return getattr(self.model, method)(*args, **more)
        torch = imported("torch", "torch._dynamo", "torch._inductor.exc")
        with self._compiling:
            if method not in self._compiled:
                self._compiled[method] = torch.compile(getattr(self.model, method))
        try:
            return self._compiled[method](*args, **more)
        except (torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.InductorError) as e:
            raise SpaceUnavailable(
                f"{self.space.name} cannot be compiled here: {reason(e)} Leave out --compile."
            ) from None

    def batches(self, modality: Modality) -> InBatches:
        """What runs a modality's tower. Raises SpaceUnavailable where there is none, and in a
        child of the process that brought it to a GPU."""
        self.space.require(modality)
        if self.device.type != "cpu" and self._process != forks.depth():
            raise _after_fork(f"{self.space.name} on {self.device}")
        return self._batches[modality]


def _vocabulary_of(own: Any) -> Vocabulary:
    """What the tokenizer of a model knows, asked of a copy: transformers changes its own."""
    backend = getattr(getattr(own, "tokenizer", own), "backend_tokenizer", None)
    if backend is None:
        return Vocabulary(None)
    copied = imported("tokenizers").Tokenizer.from_str(backend.to_str())
    copied.no_truncation()
    copied.no_padding()
    return Vocabulary(copied)


def digest_of(model: Any, more: str = "") -> str:
    """SHA-256 (hex) over a model's weights as they were loaded, and what else makes a vector."""
    torch = imported("torch")
    found = hashlib.sha256(more.encode())
    for name, value in sorted(model.state_dict().items()):
        found.update(f"{name} {tuple(value.shape)} {value.dtype}\0".encode())
        flat = value.detach().cpu().reshape(-1).contiguous()
        found.update(flat.view(torch.uint8).numpy().data)
    return found.hexdigest()


@contextmanager
def offline() -> Iterator[None]:
    """Keeps the Hugging Face libraries to what is here: nothing is fetched unasked."""
    constants = imported("huggingface_hub.constants")
    with _offline_lock:
        before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
        try:
            yield
        finally:
            constants.HF_HUB_OFFLINE = before


def check_repository(name: str, repository: str) -> None:
    """Raises SpaceUnavailable for what no repository of Hugging Face can be called."""
    utils = imported("huggingface_hub.utils")
    try:
        utils.validate_repo_id(repository)
        valid = looks_like_repository(repository)
    except utils.HFValidationError:
        valid = False
    if not valid:
        raise SpaceUnavailable(
            f"{name} is no model: those of Hugging Face are called OWNER/REPOSITORY, not "
            f"{repository!r}."
        )


def in_hub_cache(repository: str, names: Iterable[str]) -> bool:
    """Whether one of some files of a Hugging Face repository was fetched before."""
    hub = imported("huggingface_hub")
    try:
        return any(isinstance(hub.try_to_load_from_cache(repository, n), str) for n in names)
    except ValueError:  # no such name is possible
        return False


def cached_revision(repository: str, names: Iterable[str]) -> str | None:
    """The revision at which one of some files was fetched before: main, or a proposed one."""
    hub, constants = imported("huggingface_hub"), imported("huggingface_hub.constants")
    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "refs"
    proposed = sorted(path.relative_to(folder).as_posix() for path in folder.glob("refs/pr/*"))
    several = list(names)
    for revision in ("main", *proposed):
        if any(
            isinstance(hub.try_to_load_from_cache(repository, name, revision=revision), str)
            for name in several
        ):
            return revision
    return None


def not_here(name: str) -> SpaceUnavailable:
    """What is said of a model whose weights were never fetched."""
    return SpaceUnavailable(
        f"the weights of {name} are not on this machine: fetch them once with "
        f"`mmsearch spaces pull {name}`."
    )


def reason(error: Exception) -> str:
    """A library's error as one line that ends a sentence."""
    if isinstance(error, KeyError):
        return f"{error} is missing."
    lines = str(error).strip().splitlines() or [type(error).__name__]
    more = lines[1] if len(lines) > 1 and lines[0].rstrip().endswith(":") else ""
    said = shorten(f"{lines[0]} {more}", _REASON_CHARS, placeholder=" …").rstrip(" .,;:")
    return said if said.endswith(("?", "!", "…")) else f"{said}."


@contextmanager
def quiet(progress: bool = False) -> Iterator[None]:
    """Keeps what libraries log, warn of and draw from stderr: what matters is said here.

    open_clip logs to the root, which would give itself a handler that prints; transformers
    has one of its own. progress: their bars stay, for what is fetched.
    """
    root, nothing = logging.getLogger(), logging.NullHandler()
    loggers = [
        logging.getLogger(name)
        for name in ("transformers", "huggingface_hub", "sentence_transformers")
    ]
    levels = [logger.level for logger in loggers]
    root.addHandler(nothing)
    bars = [] if progress else _shown_bars()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    for bar in bars:
        bar.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeHandler(nothing)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for bar in bars:
            bar.enable_progress_bar()


def _shown_bars() -> list[Any]:
    """The module of transformers, where it is used, that draws progress bars now."""
    module = sys.modules.get("transformers.utils.logging")
    return [module] if module is not None and module.is_progress_bar_enabled() else []
