"""One vector for everything that a pairs file names, in the space of an index."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np

from mmsearch.errors import DecodeError, LimitExceeded, SpaceUnavailable
from mmsearch.evaluation.pool import Held
from mmsearch.evaluation.things import File, Side, Things
from mmsearch.query import MAX_QUERY_WINDOWS, audio_parts, image_part, mean_of_windows
from mmsearch.spaces import Encoder
from mmsearch.types import Modality, Vectors

Progress = Callable[[str, int, int], None]  # what is being done, how many are done, of how many
_BATCH_TEXTS = 64


def tells_apart(encoder: Encoder) -> bool:
    """Whether a text that is asked has another vector than the same text stored."""
    text = ["a dog on a beach"]
    asked, stored = (encoder.encode(Modality.TEXT, text, asked) for asked in (True, False))
    return not np.array_equal(asked, stored)


def encode_texts(
    encoder: Encoder,
    texts: Sequence[str],
    what: str,
    progress: Progress | None,
    asked: bool = True,
) -> Vectors:
    """float32 (n, d): one row for each text, in order. asked: or as stored ones."""
    out = np.empty((len(texts), encoder.space.dimension), np.float32)
    for at in range(0, len(texts), _BATCH_TEXTS):
        some = list(texts[at : at + _BATCH_TEXTS])
        out[at : at + len(some)] = encoder.encode(Modality.TEXT, some, asked)
        if progress:
            progress(what, at + len(some), len(texts))
    return out


def number_of(file: File, pool: Held) -> int | None:
    """The number of the item that a file is in an index; None where it is not held."""
    return next((pool.by_path[p] for p in file.places if p in pool.by_path), None)


def encode_files(
    encoder: Encoder, things: Things, side: Side, pool: Held, progress: Progress | None
) -> tuple[Vectors, dict[int, str]]:
    """float32 (n, d): one row for each file of a side, as a query with it would be; and
    which files cannot be asked with, with the reason. Their rows are zeros.

    What the index holds is not decoded again: its stored vectors are used.
    """
    files = things.files[side]
    numbers = [number_of(file, pool) for file in files]
    out = np.zeros((len(files), encoder.space.dimension), np.float32)
    unreadable: dict[int, str] = {}  # number of the file -> line, side and reason
    stored = [i for i, number in enumerate(numbers) if number is not None]
    if stored:
        out[stored] = pool.vectors_of([n for n in numbers if n is not None])
    others = [i for i, number in enumerate(numbers) if number is None]
    for done, i in enumerate(others, 1):
        try:
            out[i : i + 1] = _encode_file(encoder, side, files[i], pool)
        except SpaceUnavailable as e:  # of a model that is not here: as little for the rest
            rest = others[done - 1 :]
            more = f" (and {len(rest) - 1:,} more)" if len(rest) > 1 else ""
            reason = (
                f"{things.path}:{files[i].line}: {side}: {files[i].places[0]}{more} is not in the "
                f"index and cannot be asked with: {e}"
            )
            unreadable |= dict.fromkeys(rest, reason)
            break
        except (DecodeError, LimitExceeded, OSError) as e:
            unreadable[i] = f"{things.path}:{files[i].line}: {side}: {e}"
        if progress:
            progress(f"encoding {side} files that are not in the index", done, len(others))
    return out, unreadable


def _encode_file(encoder: Encoder, side: Side, file: File, pool: Held) -> Vectors:
    path = next((p for p in file.places if os.path.isfile(p)), None)
    if path is None:
        raise DecodeError(f"{file.places[0]} is no file, and {pool.snapshot.folder} lacks it")
    preprocess = encoder.space.preprocess
    if side == Modality.IMAGE:
        return encoder.encode(Modality.IMAGE, [image_part(path, preprocess).data])
    windows = (part.data for part in audio_parts(path, preprocess))
    return mean_of_windows(encoder, islice(windows, MAX_QUERY_WINDOWS))
