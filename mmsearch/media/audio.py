"""Sounds: any format that libsndfile reads → mono windows at the space's rate.

Streamed block by block through one resampler, so a day of sound takes the memory of seconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import floor
from typing import Any, BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from mmsearch import forks
from mmsearch.errors import DecodeError, LimitExceeded, UsageError
from mmsearch.given import shown
from mmsearch.media import mpeg, wave
from mmsearch.media.limits import Limits, OutOfMemory
from mmsearch.types import Modality, Part, Preprocess

Mono = NDArray[np.float32]  # (samples,), in [-1, 1]

MIN_TAIL_S = 0.5
"""A shorter rest after the last whole window says nothing and is dropped, unless it is all."""
MAX_RATE_HZ = 1_536_000  # twice the fastest converter sold; beyond lie broken headers
MIN_RATE_HZ = 100
BLOCK_SAMPLES = 1 << 18  # values (frames × channels) read at a time: 1 MB
MAX_FLOAT = 16.0  # a loud mix goes a little beyond 1; integers given as floats go far
MAX_MISSING_S = 0.1
"""Headers may promise this much more than there is: writers pad and round."""

_SEEKS_NEARLY = ("OGG", "MP3")  # measured: Vorbis up to 844 frames beside the one asked for

TAGS = ("title", "artist", "album", "genre")

# libsndfile repairs a header that promises too much, and says so only in its log.
_SHORTFALL = re.compile(
    r"^\s*(?:data|SSND|BODY|Data Size|RIFF|Riff size|riff|FORM)\s*:\s*(\d+) \(should be (\d+)\)",
    re.MULTILINE,
)
# Of what libsndfile says of a file it cannot read, what tells no more than that. The first two it
# says of any stream that it cannot open, or cannot seek in.
_SAYS_NOTHING = (
    *("File does not exist", "pipe", "not recognised", "malformed", "nspecified", "unknown error"),
    *("Internal", "psf_", "SF_INFO"),
)
_UNKNOWN_LENGTH = 0x7FFF_0000  # programs that write into a pipe promise 2 or 4 GB


# soundfile has one lock for all files that it opens
_opened = forks.native(soundfile.SoundFile)


def parts(
    source: BinaryIO, preprocess: Preprocess, limits: Limits, skip_parts: int = 0
) -> Iterator[Part]:
    """One part a window, streamed.

    A header that promises more than there is may only be noticed at the end: then the
    parts before it have been given already, and DecodeError follows.
    """
    try:
        with _opened(wave.with_length(mpeg.with_length(source))) as sound:
            _check_header(sound, limits)
            meta = _meta(sound)
            start_frame = _start_frame(sound, preprocess, skip_parts)
            blocks = _blocks(sound, start_frame, limits)
            windows = cut_windows(blocks, sound.samplerate, preprocess, start_frame, skip_parts)
            for number, (window, start_s, end_s) in enumerate(windows, skip_parts):
                yield Part(Modality.AUDIO, number, window, start_s, end_s, dict(meta))
    except (DecodeError, LimitExceeded):
        raise
    except Exception as error:
        raise _translated(error) from error


def cut_windows(
    blocks: Iterator[Mono],
    rate_hz: int,
    preprocess: Preprocess,
    start_frame: int = 0,
    skip_windows: int = 0,
) -> Iterator[tuple[Mono, float, float]]:
    """Blocks at ``rate_hz``, the first beginning at ``start_frame`` → (window, start_s, end_s).

    Every window but the last has round(window_s × sample_rate_hz) samples. The times come from
    counting input frames, so they carry no drift.
    """
    target_hz, window_s = preprocess.sample_rate_hz, preprocess.window_s
    window_samples = round(window_s * target_hz)
    drop = skip_windows * window_samples - start_frame * target_hz // rate_hz
    resampler = soxr.ResampleStream(rate_hz, target_hz, 1, dtype="float32", quality="HQ")
    number, frames, pending = skip_windows, start_frame, np.zeros(0, np.float32)
    for block, last in _with_last(blocks):
        frames += len(block)
        out = block if rate_hz == target_hz else resampler.resample_chunk(block, last=last)
        if drop:
            dropped = min(drop, len(out))
            out, drop = out[dropped:], drop - dropped
        pending = np.concatenate([pending, out])
        while len(pending) >= window_samples:
            window, pending = pending[:window_samples], pending[window_samples:]
            yield np.clip(window, -1.0, 1.0), number * window_s, (number + 1) * window_s
            number += 1
    duration_s = frames / rate_hz
    enough = len(pending) >= MIN_TAIL_S * target_hz or number == 0
    if len(pending) and enough:
        start_s = number * window_s
        yield np.clip(pending, -1.0, 1.0), start_s, max(duration_s, start_s)
    elif number == 0:
        raise DecodeError("holds no sound (0 samples)")


def samples_and_rate(sound: tuple[Any, ...]) -> tuple[NDArray[Any], int]:
    """(samples, sample_rate_hz) of a sound that was given as an array. Raises UsageError."""
    wanted = (
        f"a sound is a path or (samples, sample_rate_hz), {MIN_RATE_HZ} to {MAX_RATE_HZ:,} a second"
    )
    if len(sound) != 2:
        raise UsageError(f"{wanted}; got {len(sound)} things.")
    samples, rate_hz = sound
    number = isinstance(rate_hz, int | float | np.integer | np.floating)
    if not number or not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise UsageError(f"{wanted}; got {shown(rate_hz)} for the rate.")
    if isinstance(samples, str | bytes | bytearray):
        raise UsageError(f"{wanted}; got {type(samples).__name__} for the samples.")
    try:
        return np.asarray(samples), round(float(rate_hz))
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"{wanted}; the samples are no array of numbers ({error}).") from None


def array_blocks(samples: NDArray[Any], rate_hz: int, limits: Limits) -> Iterator[Mono]:
    """Cut a sound that was given as an array into blocks.

    samples: (samples,) or (samples, channels); floats in [-1, 1], or integers of 8, 16 or 32 bits
    that use their whole range.

    Raises DecodeError for another array, LimitExceeded for too long a sound.
    """
    wide = samples.dtype.kind in "iu" and samples.dtype.itemsize > 4
    if samples.ndim not in (1, 2) or samples.dtype.kind not in "iuf" or wide:
        raise DecodeError(
            "a sound is an array of (samples,) or (samples, channels), floats in [-1, 1] or "
            f"integers of 8, 16 or 32 bits; got {samples.dtype} {samples.shape}"
        )
    if samples.ndim == 2 and len(samples) > 1 and not 1 <= samples.shape[1] <= len(samples):
        raise DecodeError(
            f"a sound is an array of (samples, channels); got {samples.shape}. If the channels "
            "come first, transpose it"
        )
    if len(samples) > limits.max_audio_s * rate_hz:
        raise too_long(len(samples) / rate_hz, limits)
    for at in range(0, len(samples), BLOCK_SAMPLES):
        block = samples[at : at + BLOCK_SAMPLES]
        if block.dtype.kind in "iu":
            bits = np.iinfo(block.dtype)
            offset = 2 ** (bits.bits - 1) if block.dtype.kind == "u" else 0
            block = (block.astype(np.float64) - offset) / 2 ** (bits.bits - 1)
        elif not np.abs(block).max() <= MAX_FLOAT:
            raise DecodeError(
                f"samples that are floats lie in [-1, 1]; got {np.abs(block).max():g} in size. "
                "Divide 16-bit samples by 32,768, and leave out what is no number"
            )
        yield mixed(block.reshape(len(block), -1))


def _start_frame(sound: soundfile.SoundFile, preprocess: Preprocess, skip_parts: int) -> int:
    """Seek to a whole second before the first wanted window; returns the frame.

    Whole seconds keep the resampler's phase, and at least half a second before the window
    fills its filter: the windows equal those of a full run. Where libsndfile seeks only
    nearly, the sound is read from its start, at some hundred times real time.
    """
    second = floor(skip_parts * preprocess.window_s - 0.5)
    if second <= 0 or not sound.seekable() or sound.format in _SEEKS_NEARLY:
        return 0
    frame = second * sound.samplerate
    if frame >= sound.frames:
        raise DecodeError(f"is shorter now than {skip_parts * preprocess.window_s:g} s")
    return int(sound.seek(frame))


def _blocks(sound: soundfile.SoundFile, start_frame: int, limits: Limits) -> Iterator[Mono]:
    """Mono float32 blocks until the data ends; DecodeError where that is before the header's.

    Of MP3, which has no header but one that some encoders put in, what is there is read.
    """
    rate_hz, promised = sound.samplerate, sound.frames
    size = max(256, BLOCK_SAMPLES // sound.channels)
    frames = start_frame
    while True:
        block = sound.read(size, dtype="float32", always_2d=True)
        if not len(block):
            break
        frames += len(block)
        if frames > limits.max_audio_s * rate_hz:
            raise too_long(frames / rate_hz, limits)
        yield mixed(block)
    missing = promised - frames > MAX_MISSING_S * rate_hz
    if missing and promised < 2**62 and sound.format != "MP3":
        raise cut_short(promised / rate_hz, frames / rate_hz)


def mixed(block: NDArray[Any]) -> Mono:
    """(frames, channels) → their mean; what is no number (NaN, infinite) becomes silence."""
    if not np.isfinite(block).all():
        block = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
    mixed = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
    return np.ascontiguousarray(mixed, dtype=np.float32)


def _check_header(sound: soundfile.SoundFile, limits: Limits) -> None:
    rate_hz = sound.samplerate
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise DecodeError(
            f"claims {rate_hz:,} samples a second; {MIN_RATE_HZ}–{MAX_RATE_HZ:,} can be read"
        )
    duration_s = sound.frames / rate_hz
    for found in reversed(list(_SHORTFALL.finditer(sound.extra_info))):  # the data, then its frame
        promised, actual = int(found[1]), int(found[2])
        if actual < promised < _UNKNOWN_LENGTH:
            claimed_s = duration_s * promised / max(actual, 1)
            if claimed_s - duration_s > MAX_MISSING_S:
                raise cut_short(claimed_s, duration_s)
    if duration_s > limits.max_audio_s and sound.frames < 2**62:
        raise too_long(duration_s, limits)


def _meta(sound: soundfile.SoundFile) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "duration_s": round(sound.frames / sound.samplerate, 3),
        "sample_rate_hz": sound.samplerate,
        "channels": sound.channels,
        "format": sound.format,
    }
    for key in TAGS:
        value = getattr(sound, key, "")
        if value and value.strip():
            meta[key] = value.strip()[:500]
    return meta


def _with_last(blocks: Iterator[Mono]) -> Iterator[tuple[Mono, bool]]:
    """Each block, and whether it is the last: the resampler must be flushed with it."""
    held = next(blocks, None)
    while held is not None:
        following = next(blocks, None)
        yield held, following is None
        held = following


def cut_short(promised_s: float, actual_s: float) -> DecodeError:
    """What is said of a sound that ends before its header says."""
    return DecodeError(f"header promises {promised_s:,.1f} s, data ends after {actual_s:,.1f} s")


def too_long(duration_s: float, limits: Limits) -> LimitExceeded:
    """What is said of a sound that is longer than ``limits.max_audio_s``."""
    return LimitExceeded(
        f"sound of {duration_s:,.0f} s; at most {limits.max_audio_s:,.0f} are read"
    )


def _translated(error: Exception) -> DecodeError:
    """libsndfile's errors as one sentence; many of its codes carry no text, or none for people."""
    if isinstance(error, MemoryError):
        return OutOfMemory("sound")
    message = getattr(error, "error_string", None) or ""
    if not message and not isinstance(error, soundfile.LibsndfileError):
        message = str(error) or type(error).__name__
    if "unimplemented" in message:
        return DecodeError(
            "the sound is damaged, or uses a feature of its format that libsndfile does not read"
        )
    message = message.strip().removeprefix("Error : ").rstrip(".")
    if any(words in message for words in _SAYS_NOTHING):
        message = ""
    detail = f" ({message})" if message else ""
    return DecodeError(f"the sound is damaged, cut short or not supported{detail}")
