"""Sounds as FFmpeg's own encoders write them, through PyAV."""

from __future__ import annotations

import io
from collections.abc import Iterator

import av
import numpy as np

SECONDS = 23.4

# file name, FFmpeg's format and encoder, rate, channels; whether the samples are those that went in
WRITTEN = [
    ("memo.m4a", "ipod", "aac", 44100, 2, False),
    ("memo.m4a", "ipod", "alac", 44100, 2, True),
    ("memo.m4a", "mp4", "libopus", 48000, 1, False),
    ("memo.aac", "adts", "aac", 22050, 1, False),
    ("memo.wma", "asf", "wmav2", 44100, 2, False),
    ("memo.mka", "matroska", "flac", 44100, 1, True),
    ("memo.wv", "wv", "wavpack", 44100, 2, False),
]


def tone(rate_hz: int, seconds: float = SECONDS) -> np.ndarray:
    """A tone that rises, so that no window is like another."""
    time_s = np.arange(round(rate_hz * seconds)) / rate_hz
    return (0.3 * np.sin(2 * np.pi * (200 + 20 * time_s) * time_s)).astype(np.float32)


def written(
    format: str, encoder: str, rate_hz: int, channels: int, mono: np.ndarray, **tags: str
) -> bytes:
    """A sound as FFmpeg writes it."""
    buffer, layout = io.BytesIO(), {1: "mono", 2: "stereo"}[channels]
    with av.open(buffer, "w", format=format) as file:
        file.metadata.update(tags)
        stream = file.add_stream(encoder, rate=rate_hz, layout=layout)
        if encoder == "wmav2":
            stream.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(np.stack([mono] * channels), "fltp", layout)
        frame.sample_rate = rate_hz
        # the encoder says how many samples it takes at a time, and in which form
        for piece in _pieces(stream, frame, layout):
            file.mux(piece)
    return buffer.getvalue()


def filmed(format: str, encoder: str, mono: np.ndarray, rate_hz: int = 48000) -> bytes:
    """A sound with a picture that moves beside it."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format) as file:
        video = file.add_stream("libvpx" if format == "webm" else "mpeg4", rate=10)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        audio = file.add_stream(encoder, rate=rate_hz, layout="mono")
        if encoder == "wmav2":
            audio.bit_rate = 128_000
        for shade in range(20):
            pixels = np.full((64, 64, 3), shade * 10, np.uint8)
            file.mux(video.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        file.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(mono[None], "fltp", "mono")
        frame.sample_rate = rate_hz
        for piece in _pieces(audio, frame, "mono"):
            file.mux(piece)
    return buffer.getvalue()


def _pieces(stream: av.AudioStream, frame: av.AudioFrame, layout: str) -> Iterator[av.Packet]:
    context = stream.codec_context
    if not context.is_open:
        context.open()
    fifo = av.AudioFifo()
    for one in av.AudioResampler(context.format, layout, frame.sample_rate).resample(frame):
        fifo.write(one)
    while (some := fifo.read(context.frame_size or 1024) or fifo.read()) is not None:
        yield from stream.encode(some)
    yield from stream.encode(None)
