"""What the sound towers hear in every training clip, clean and disturbed."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray

from mmsearch.spaces.graphs import open_session
from mmsearch.train.mini import data
from mmsearch.train.mini.export_audio import write_features
from mmsearch.train.mini.sound_effects import effects
from mmsearch.train.mini.sound_towers import (
    AISFX_RATE_HZ,
    PEAK_FLOOR,
    YAMNET_RATE_HZ,
    AiSfx,
    YamNet,
)

WINDOW_S = 10.0
NAMED_VIEWS, OTHER_VIEWS = 7, 4  # of a sound with words, and of one without: clean, then disturbed
BELOW_DB = (10.0, 30.0)  # how far below a sound with words another lies behind it
BACKGROUNDS = 300  # sounds to lie behind others

Wave = NDArray[np.float32]
Precise = NDArray[np.float64]


def aisfx() -> AiSfx:
    """aiSFX with the weights of its package."""
    return AiSfx(data.package_file("aisfx", "models/checkpoint.pth", "aisfx"))


def decode(content: bytes, rate_hz: int) -> Wave:
    """A sound file as float32 (samples,) mono, at most ``WINDOW_S`` seconds of it."""
    wave, own_rate_hz = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    mono = wave[: int(own_rate_hz * WINDOW_S)].mean(1)
    return soxr.resample(mono, own_rate_hz, rate_hz).astype(np.float32)


def disturb(
    wave: Wave, other: Wave | None, rng: np.random.Generator, below_db: tuple[float, float]
) -> Wave:
    """The clip at another speed, place, colour and distance, over noise or another clip."""
    x: Precise = wave.astype(np.float64)
    if rng.random() < 0.6:
        speed = float(np.exp(rng.uniform(-0.15, 0.15)))
        x = soxr.resample(x, AISFX_RATE_HZ, AISFX_RATE_HZ / speed)
    if rng.random() < 0.5 and len(x) > AISFX_RATE_HZ:
        keep = int(len(x) * rng.uniform(0.5, 1.0))
        start = int(rng.integers(0, len(x) - keep + 1))
        x = x[start : start + keep]
    if rng.random() < 0.3:  # a room: exponentially dying noise
        tail = rng.standard_normal(int(AISFX_RATE_HZ * 0.3))
        tail *= np.exp(-np.arange(len(tail)) / (AISFX_RATE_HZ * rng.uniform(0.02, 0.1)))
        size = len(x) + len(tail)
        wet = np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(tail, size), size)[: len(x)]
        x = x + (wet / (np.abs(wet).max() + 1e-9) * np.abs(x).max() * rng.uniform(0.1, 0.6))
    if rng.random() < 0.5:  # a tilted or dulled spectrum
        spectrum = np.fft.rfft(x)
        hz = np.fft.rfftfreq(len(x), 1 / AISFX_RATE_HZ)
        gain_db = rng.uniform(-4, 4) * np.log2(np.maximum(hz, 50.0) / 1000.0)
        if rng.random() < 0.4:
            gain_db -= 24.0 * np.maximum(0.0, np.log2(np.maximum(hz, 1.0) / rng.uniform(3e3, 1e4)))
        x = np.fft.irfft(spectrum * 10 ** (gain_db / 20), len(x))
    if rng.random() < 0.5:  # background: hiss, rumble, or another clip far below
        if rng.random() < 0.5 or other is None or not other.any():
            hiss = np.fft.rfft(rng.standard_normal(len(x)))
            slope = np.maximum(np.arange(len(hiss)), 1.0) ** rng.uniform(-1.0, 0.0)
            noise: Precise = np.fft.irfft(hiss * slope, len(x))
        else:
            noise = np.resize(other, len(x)).astype(np.float64)
        level = np.sqrt(np.mean(x**2)) * 10 ** (-rng.uniform(*below_db) / 20)
        x = x + noise / (np.sqrt(np.mean(noise**2)) + 1e-9) * level
    if rng.random() < 0.3:  # late, or with silence behind
        before, after = (int(AISFX_RATE_HZ * rng.uniform(0, 2)) for _ in range(2))
        x = np.pad(x, (before, after))
    return x[: int(AISFX_RATE_HZ * WINDOW_S)].astype(np.float32)


def views_of(sound: data.Sound, wave: Wave, others: Sequence[Wave]) -> list[Wave]:
    """The clip as it is, then disturbed: with others far behind it where it has a name, and
    also beside it where it has none."""
    rng = np.random.default_rng(zlib.crc32(sound.name.encode()))
    views, count, (least, most) = [wave], NAMED_VIEWS if sound.en else OTHER_VIEWS, BELOW_DB
    for _ in range(count - 1):
        other = others[int(rng.integers(len(others)))] if others else None
        views.append(disturb(wave, other, rng, (least if sound.en else 0.0, most)))
    return views


def heard(sources: data.Sources, threads: int) -> dict[str, NDArray[Any]]:
    """What is heard in each view of each sound of ``every``, in order.

    ``features`` float16 (views, f), see ``AiSfx``; ``classes`` float16 (views, 521), YAMNet's
    mean probabilities; ``clip`` int64 (views,), the number of the sound, whose first view is
    clean. What is mixed into sounds are effects only: no sound that is ever held out is in
    another's views.
    """
    with TemporaryDirectory() as folder:
        graph = Path(folder) / "features.onnx"
        write_features(graph, aisfx())
        session = open_session(graph)
    teacher = YamNet(sources.yamnet / "yamnet_dequant_fp16.npz")
    behind = [decode(content, AISFX_RATE_HZ) for _, content in effects(sources)]
    others = behind[:: max(1, len(behind) // BACKGROUNDS)]
    del behind

    @torch.inference_mode()
    def hear(one: tuple[data.Sound, bytes]) -> tuple[NDArray[Any], NDArray[Any]]:
        sound, content = one
        views = views_of(sound, decode(content, AISFX_RATE_HZ), others)
        features = [session.run(["features"], {"x": view[None]})[0][0] for view in views]
        classes = []
        for view in views:
            low = soxr.resample(view, AISFX_RATE_HZ, YAMNET_RATE_HZ)
            low = low / max(float(np.abs(low).max()), PEAK_FLOOR)
            classes.append(teacher(torch.from_numpy(low)).mean(0).numpy())
        return np.array(features, np.float16), np.array(classes, np.float16)

    with ThreadPoolExecutor(threads) as pool:
        rows = list(pool.map(hear, every(sources)))
    return {
        "features": np.concatenate([features for features, _ in rows]),
        "classes": np.concatenate([classes for _, classes in rows]),
        "clip": np.repeat(np.arange(len(rows)), [len(features) for features, _ in rows]),
    }


def every(sources: data.Sources) -> Iterator[tuple[data.Sound, bytes]]:
    """All sounds: first those with words, then the effects."""
    yield from data.sounds(sources)
    yield from effects(sources)
