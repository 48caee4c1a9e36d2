"""Checkpoints of open_clip's own trainer, made into weights that cannot hold a program.

The trainer writes ``{"epoch": …, "state_dict": {"module.…": tensor}, "optimizer": …}`` with
PyTorch's pickle. It is read once, when somebody asks for it, by PyTorch's reader for weights
alone, and its tensors are written as safetensors; everything else reads only those.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path
from pickle import UnpicklingError  # raised by PyTorch; nothing is unpickled here
from typing import Any

from mmsearch.errors import SpaceUnavailable
from mmsearch.spaces.on_torch import imported, quiet, reason

KINDS = (".pt", ".pth", ".bin", ".ckpt")
# what stands before names where a model was trained in several processes, or compiled
_WRAPPERS = ("module.", "_orig_mod.")


def checkpoints_in(folder: Path) -> list[Path]:
    """The files of a folder that may be checkpoints."""
    return sorted(path for path in folder.glob("*") if path.suffix in KINDS)


def convert(file: Path, out: Path) -> None:
    """Writes the weights in a checkpoint as safetensors, whole or not at all.

    Raises SpaceUnavailable for a file that holds anything but weights, or cannot be read, and
    for a place that is taken.
    """
    torch = imported("torch", "safetensors.torch")
    if out.exists():
        raise SpaceUnavailable(f"{out} is there already: remove it first, or use it.")
    try:
        mapped = zipfile.is_zipfile(file)  # so that what is not wanted is not read
        with quiet():
            found = torch.load(str(file), map_location="cpu", weights_only=True, mmap=mapped)
    except UnpicklingError:  # whose message advises to trust the file
        raise SpaceUnavailable(
            f"{file} is damaged, or holds more than weights: it is not read."
        ) from None
    except Exception as e:  # of many kinds: RuntimeError, EOFError, …
        raise SpaceUnavailable(f"{file} cannot be read as weights alone: {reason(e)}") from None
    state = found.get("state_dict", found) if isinstance(found, dict) else found
    try:
        tensors = _weights(state)
    except _Refused as e:
        raise SpaceUnavailable(f"{file} {e}.") from None
    except Exception as e:  # PyTorch's: not enough memory, or another kind of tensor
        raise SpaceUnavailable(f"{file} holds weights that cannot be read: {reason(e)}") from None
    if not tensors:
        raise SpaceUnavailable(f"{file} holds no weights: a state_dict of tensors is wanted.")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as work:
            written = Path(work) / out.name
            imported("safetensors.torch").save_file(tensors, written)
            os.replace(written, out)
    except OSError as e:
        raise SpaceUnavailable(f"{out} cannot be written: {e.strerror or e}.") from None
    except Exception as e:  # safetensors' own, of which a full disk is one
        raise SpaceUnavailable(f"{out} cannot be written: {reason(e)}") from None


class _Refused(Exception):
    """Weights that are not taken, and why."""


def _weights(state: Any) -> dict[str, Any]:
    """Name -> a tensor of its own memory; empty if it is no state_dict.

    Raises _Refused for a tensor that safetensors cannot hold, and for two of one name.
    """
    torch = imported("torch")
    if not isinstance(state, dict):
        return {}
    tensors = {}
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            return {}
        for wrapper in _WRAPPERS:
            name = name.removeprefix(wrapper)
        if name in tensors:
            raise _Refused(f"holds two tensors that are called {name[:80]!r}")
        if (
            value.layout != torch.strided
            or value.is_quantized
            or value.is_meta
            or value.is_complex()
        ):
            raise _Refused(
                f"holds {name[:80]!r}, which is sparse, quantised, complex or without values"
            )
        tensors[name] = value.detach().clone().contiguous()
    return tensors
