"""Is every sound read whole, and are its windows the very samples that FFmpeg gives?

    python benchmarks/sounds_whole.py [--seconds 10.7 30.7 60.7 120.7 210.7 300.7]

FFmpeg's encoders (through the extra ``av``) write MP3 of constant and variable rate, with and
without the Xing frame that tells its length, with and without a cover, and AAC, ALAC, Opus, WMA
and FLAC in the files that people have of them. Each is decoded twice: as it is indexed, and by
FFmpeg. The sound is noise under a tone that rises, so that no two places of it are alike.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from typing import Any, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from common import save, table
from mmsearch.errors import MmsearchError
from mmsearch.media import HEAD_BYTES, decode, sniff
from mmsearch.types import Preprocess

Mono = NDArray[np.float32]  # (samples,), in [-1, 1]
SEARCHED = 4096  # samples: how far two decoders may place the same sound apart


class Form(NamedTuple):
    """How a sound is written."""

    label: str
    name: str
    container: str
    encoder: str
    rate_hz: int = 44_100
    channels: int = 2
    bit_rate: int | None = None
    rate: str = "constant"  # or variable, average
    xing: bool = True
    cover: bool = False


def _mp3(label: str, **more: Any) -> Form:
    return Form(f"MP3, {label}", "a.mp3", "mp3", "libmp3lame", **more)


FORMS = (
    _mp3("constant 160 kbit/s", bit_rate=160_000),
    _mp3("constant 160 kbit/s, no Xing", bit_rate=160_000, xing=False),
    _mp3("constant 64 kbit/s mono 22 kHz, no Xing", bit_rate=64_000, rate_hz=22_050, channels=1,
         xing=False),
    _mp3("variable", rate="variable"),
    _mp3("variable, no Xing", rate="variable", xing=False),
    _mp3("average 128 kbit/s, no Xing", bit_rate=128_000, rate="average",
         xing=False),
    _mp3("variable, a cover of 400 kB", rate="variable", cover=True),
    _mp3("constant, no Xing, a cover of 400 kB", bit_rate=160_000, xing=False,
         cover=True),
    Form("AAC in m4a", "a.m4a", "ipod", "aac"),
    Form("AAC in m4a, mono 16 kHz", "a.m4a", "ipod", "aac", 16_000, 1),
    Form("ALAC in m4a", "a.m4a", "ipod", "alac"),
    Form("Opus in m4a", "a.m4a", "mp4", "libopus", 48_000),
    Form("AAC alone", "a.aac", "adts", "aac"),
    Form("WMA", "a.wma", "asf", "wmav2", bit_rate=128_000),
    Form("FLAC in mka", "a.mka", "matroska", "flac"),
    Form("Opus in ogg", "a.opus", "ogg", "libopus", 48_000),
)  # fmt: skip


def sound(rate_hz: int, seconds: float) -> Mono:
    """A tone that rises, and noise."""
    time_s = np.arange(round(rate_hz * seconds)) / rate_hz
    noise = np.random.default_rng(0).normal(0, 0.05, len(time_s))
    # quiet and loud by turns, so that a variable rate varies
    loud = 0.2 + 0.1 * np.sign(np.sin(time_s / 3))
    return (loud * (np.sin(2 * np.pi * (200 + 5 * time_s) * time_s) + noise)).astype(np.float32)


def written(form: Form, mono: Mono) -> bytes:
    """The sound as FFmpeg writes it."""
    buffer, layout = io.BytesIO(), {1: "mono", 2: "stereo"}[form.channels]
    options = {} if form.xing else {"write_xing": "0"}
    with av.open(buffer, "w", form.container, options=options) as file:
        file.metadata["title"] = "A Walk"
        options = {"abr": "1"} if form.rate == "average" else {}
        stream = file.add_stream(form.encoder, form.rate_hz, layout=layout, options=options)
        if form.bit_rate is not None:
            stream.bit_rate = form.bit_rate
        elif form.rate == "variable":  # -q:a 4
            stream.codec_context.options = {"global_quality": "472", "flags": "+qscale"}
        frame = av.AudioFrame.from_ndarray(np.stack([mono] * form.channels), "fltp", layout)
        frame.sample_rate = form.rate_hz
        for packet in _packets(stream, frame, layout):
            file.mux(packet)
    data = buffer.getvalue()
    return _with_cover(data) if form.cover else data


def _packets(stream: Any, frame: av.AudioFrame, layout: str) -> Iterator[Any]:
    context = stream.codec_context
    context.open()
    fifo = av.AudioFifo()
    for one in av.AudioResampler(context.format, layout, frame.sample_rate).resample(frame):
        fifo.write(one)
    while (some := fifo.read(context.frame_size or 1024) or fifo.read()) is not None:
        yield from stream.encode(some)
    yield from stream.encode(None)


def _with_cover(data: bytes) -> bytes:
    """An MP3 file with a picture in an ID3 tag before it; the tag that it had is taken off."""

    def syncsafe(number: int) -> bytes:
        return bytes(number >> shift & 127 for shift in (21, 14, 7, 0))

    if data[:3] == b"ID3":
        length = sum(byte << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
        data = data[10 + length :]
    # what a JPEG file may hold: bytes of 255, which begin frames of sound, too
    picture = b"\xff\xd8\xff\xe0" + np.random.default_rng(1).bytes(400_000)
    body = b"\0image/jpeg\0\3\0" + picture
    frame = b"APIC" + len(body).to_bytes(4, "big") + b"\0\0" + body
    return b"ID3\3\0\0" + syncsafe(len(frame)) + frame + data


def by_ffmpeg(data: bytes) -> Mono:
    """All that FFmpeg decodes, mono."""
    pieces = []
    with av.open(io.BytesIO(data)) as file:
        for frame in file.decode(file.streams.audio[0]):
            array = frame.to_ndarray().astype(np.float64)
            if frame.format.name.startswith("s16"):
                array /= 1 << 15
            elif frame.format.name.startswith("s32"):
                array /= 1 << 31
            if not frame.format.is_planar:
                array = array.reshape(-1, len(frame.layout.channels)).T
            pieces.append(array.mean(axis=0).astype(np.float32))
    return np.concatenate(pieces)


def as_indexed(data: bytes, name: str, rate_hz: int) -> Mono:
    """The windows of a sound, one behind the other, at its own rate."""
    kind = sniff(data[:HEAD_BYTES], name)
    assert kind is not None, name
    preprocess = Preprocess(image_px=64, sample_rate_hz=rate_hz, window_s=10.0)
    windows = [part.data for part in decode(io.BytesIO(data), kind, preprocess)]
    return np.concatenate(windows)  # type: ignore[arg-type]


def compared(form: Form, seconds: float) -> dict[str, Any]:
    """A sound of so many seconds: how much of it is indexed, and how far it is FFmpeg's."""
    data = written(form, sound(form.rate_hz, seconds))
    row: dict[str, Any] = {"form": form.label, "seconds": seconds, "bytes": len(data)}
    ours, theirs = np.empty(0, np.float32), by_ffmpeg(data)
    try:
        ours = as_indexed(data, form.name, form.rate_hz)
    except MmsearchError as error:
        row["error"] = str(error)
        return row
    row["indexed_s"] = round(len(ours) / form.rate_hz, 4)
    row["ffmpeg_s"] = round(len(theirs) / form.rate_hz, 4)
    # where the same second is in both, and how much the two differ from there on
    middle = slice(len(theirs) // 2, len(theirs) // 2 + form.rate_hz)
    around = ours[max(0, middle.start - SEARCHED) : middle.stop + SEARCHED]
    at = int(np.argmax(np.correlate(around, theirs[middle], "valid")))
    shift = max(0, middle.start - SEARCHED) + at - middle.start
    a, b = (ours[shift:], theirs) if shift >= 0 else (ours, theirs[-shift:])
    same = min(len(a), len(b))
    row["shift_samples"] = shift
    row["difference"] = float(np.abs(a[:same] - b[:same]).max())
    # the samples that one decoder gives at the beginning or end and the other does not
    row["missing_samples"] = len(theirs) - len(ours)
    return row


def main() -> None:
    """Prints a table and writes ``results/sounds_whole.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=float, nargs="+", default=[10.7, 30.7, 60.7, 120.7, 210.7, 300.7]
    )
    args = parser.parse_args()
    rows = [compared(form, seconds) for form in FORMS for seconds in args.seconds]
    lines = [("sound", "indexed beside FFmpeg's", "difference at most")]
    for row in rows:
        label = f"{row['form']}, {row['seconds']:g} s"
        if "error" in row:
            lines.append((label, row["error"], ""))
            continue
        lengths = f"{row['indexed_s']} s, {row['ffmpeg_s']} s"
        lines.append((label, lengths, f"{row['difference']:.1e}, {row['shift_samples']} samples"))
    table(lines)
    save("sounds_whole", {"rows": rows})


if __name__ == "__main__":
    main()
