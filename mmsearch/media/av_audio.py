"""Sounds that libsndfile does not read, by FFmpeg (the extra ``av``): AAC and ALAC in MP4, WMA, ….

FFmpeg gets an open file and the name of the one format that the first bytes tell of: it opens
nothing by itself, and no format leads it to another file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import DecodeError, LimitExceeded
from mmsearch.media import audio, others
from mmsearch.media.limits import Limits, OutOfMemory
from mmsearch.media.sniff import HEAD_BYTES
from mmsearch.types import Modality, Part, Preprocess

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer

_MAX_TEXT_CHARS = 500
# What is looked at to find out what a file holds; more streams than these are no sound.
_OPTIONS = {"probesize": "8000000", "analyzeduration": "10000000", "max_streams": "64"}
_SCALES = {"u1": 128.0, "i2": 32768.0, "i4": 2147483648.0}
# What FFmpeg knows of and was never taught, such as "Not yet implemented, patches welcome".
_UNREAD = (
    av.error.PatchWelcomeError,
    av.error.NotImplementedError,
    av.error.ExperimentalError,
    av.error.LookupError,  # no decoder for it
)
_EXACT = ("mov",)  # formats whose header says how long the sound is, to the sample


def parts(
    source: BinaryIO, preprocess: Preprocess, limits: Limits, skip_parts: int = 0
) -> Iterator[Part]:
    """One part a window, streamed; decoded from the start, some hundred times real time.

    meta: duration_s (as the header says, where it does), sample_rate_hz, channels, format, title
    and artist. What is damaged is left out as long as anything can be decoded; a header that
    promises more than there is may only be noticed at the end, and DecodeError follows.
    """
    head = source.read(HEAD_BYTES)
    source.seek(0)
    demuxer = others.sound_format(head)
    if demuxer is None:
        raise DecodeError("is no sound that is known here")
    try:
        with av.open(
            source, "r", demuxer, _OPTIONS, io_open=_refused, metadata_errors="replace"
        ) as file:
            stream = _stream(file)
            frames = _decoded(file, stream)
            first = next(frames, None)
            if first is None:
                raise DecodeError("holds no sound (0 samples)")
            rate_hz = first.sample_rate
            promised_s = _promised_s(stream, demuxer)
            meta = _meta(file, stream, rate_hz, promised_s)
            blocks = _blocks(first, frames, promised_s, limits)
            windows = audio.cut_windows(blocks, rate_hz, preprocess)
            for number, (window, start_s, end_s) in enumerate(windows):
                if number >= skip_parts:
                    yield Part(Modality.AUDIO, number, window, start_s, end_s, dict(meta))
    except MemoryError as error:
        raise OutOfMemory("sound") from error
    except (DecodeError, LimitExceeded):
        raise
    # A damaged file leads FFmpeg to places that no file has: an error of the system's. Where the
    # disk is to blame, the caller learns it from the file.
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise DecodeError(_reason(error)) from error


def _reason(error: Exception) -> str:
    """FFmpeg's errors for a person. Its own words are for its developers, or say nothing more."""
    if isinstance(error, _UNREAD):
        return "uses a feature of its format that FFmpeg does not read"
    return "the sound is damaged, cut short or not supported"


def _refused(url: str, flags: int, options: dict[str, Any]) -> NoReturn:
    """What FFmpeg would open beside the file."""
    raise DecodeError("refers to another file, which is not opened")


def _stream(file: InputContainer) -> AudioStream:
    stream = next(iter(file.streams.audio), None)
    if stream is None:
        raise DecodeError("holds no sound")
    if stream.codec_context is None:
        raise DecodeError("holds a sound in a way that FFmpeg does not know")
    stream.codec_context.thread_count = 1  # one process decodes one file
    return stream


def _decoded(file: InputContainer, stream: AudioStream) -> Iterator[av.AudioFrame]:
    """The frames; packets that are damaged are left out, unless all are."""
    error: av.error.FFmpegError | None = None
    any_frame = False
    for packet in file.demux(stream):
        try:
            frames = packet.decode()
        except (av.error.InvalidDataError, av.error.EOFError) as e:
            error = error or e
            continue
        for frame in frames:
            any_frame = True
            yield frame
    if error is not None and not any_frame:
        raise error


def _blocks(
    first: av.AudioFrame, rest: Iterator[av.AudioFrame], promised_s: float | None, limits: Limits
) -> Iterator[audio.Mono]:
    """Mono blocks of about a megabyte, at the rate of the first frame."""
    rate_hz = first.sample_rate
    if not audio.MIN_RATE_HZ <= rate_hz <= audio.MAX_RATE_HZ:
        raise DecodeError(f"claims {rate_hz:,} samples a second")
    most = limits.max_audio_s * rate_hz
    if promised_s is not None and promised_s > limits.max_audio_s:
        raise audio.too_long(promised_s, limits)
    held: list[audio.Mono] = []
    samples = waiting = 0
    frame: av.AudioFrame | None = first
    while frame is not None:
        if frame.sample_rate != rate_hz:
            raise DecodeError(f"changes from {rate_hz:,} to {frame.sample_rate:,} samples a second")
        mono = _mono(frame)
        samples += len(mono)
        if samples > most:
            raise audio.too_long(samples / rate_hz, limits)
        held.append(mono)
        waiting += len(mono)
        if waiting >= audio.BLOCK_SAMPLES:
            yield np.concatenate(held)
            held, waiting = [], 0
        frame = next(rest, None)
    if held:
        yield np.concatenate(held)
    if promised_s is not None and promised_s - samples / rate_hz > audio.MAX_MISSING_S:
        raise audio.cut_short(promised_s, samples / rate_hz)


def _mono(frame: av.AudioFrame) -> audio.Mono:
    """The mean of the channels of a frame, whatever its samples are stored as."""
    array: NDArray[Any] = frame.to_ndarray()  # (channels, samples), or (1, samples × channels)
    if not frame.format.is_planar:
        array = array.reshape(-1, len(frame.layout.channels)).T
    scale = _SCALES.get(array.dtype.str[1:])
    if scale is not None:
        offset = 128 if array.dtype == np.uint8 else 0
        array = (array.astype(np.float32) - offset) / scale
    return audio.mixed(array.T)


def _promised_s(stream: AudioStream, demuxer: str) -> float | None:
    """How long the header says that the sound is, where it says so exactly."""
    if demuxer not in _EXACT or stream.duration is None or stream.time_base is None:
        return None
    return float(stream.duration * stream.time_base)


def _meta(
    file: InputContainer, stream: AudioStream, rate_hz: int, promised_s: float | None
) -> dict[str, Any]:
    context = stream.codec_context
    assert context is not None
    meta: dict[str, Any] = {
        "sample_rate_hz": rate_hz,
        "channels": context.channels,
        "format": context.name.upper(),
    }
    if promised_s is None and file.duration is not None:
        promised_s = file.duration / av.time_base
    if promised_s is not None:
        meta["duration_s"] = round(promised_s, 3)
    told = {k.lower(): v for k, v in [*stream.metadata.items(), *file.metadata.items()]}
    for key in audio.TAGS:
        value = told.get(key, "")
        if value.strip():
            meta[key] = value.strip()[:_MAX_TEXT_CHARS]
    return meta
