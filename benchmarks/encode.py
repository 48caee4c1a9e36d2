"""Does the pipeline waste anything? Indexing against bare decoding plus bare encoding.

    python benchmarks/encode.py [--photos 1000] [--pairs 5] [--work DIR]

Makes mosaics of the bundled real photos, 2 to 12 megapixels, JPEG quality 88, a
quarter of them progressive, and measures in alternating pairs: the wall time of
``mmsearch index`` over them, and the ideal: (CPU seconds of decoding the same
files bare + CPU seconds of encoding them bare) / cores. Start-up (the time of
indexing two photos) is taken off. Then what decoding one large JPEG costs
against Pillow's ordinary way, and the cost of texts and sounds.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from common import SAMPLES, cores, save, table
from mmsearch.indexer import run
from mmsearch.media import audio_windows, image_array
from mmsearch.spaces import load_encoder
from mmsearch.types import Modality

QUALITY = 88


def tiles() -> list[Image.Image]:
    """The bundled photos, in RGB."""
    photos = []
    for path in sorted((SAMPLES / "photos").glob("*.jpg")):
        with Image.open(path) as image:
            photos.append(ImageOps.exif_transpose(image).convert("RGB"))
    return photos


def mosaic(photos: list[Image.Image], megapixels: float, seed: int) -> Image.Image:
    """A 4:3 picture of real photos side by side at their own size."""
    rng = random.Random(seed)
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    height = round(width * 3 / 4)
    canvas = Image.new("RGB", (width, height))
    y = 0
    while y < height:
        x = 0
        row = rng.randint(240, 420)
        while x < width:
            tile = rng.choice(photos)
            tile = ImageOps.mirror(tile) if rng.random() < 0.5 else tile
            left = rng.randint(0, max(0, tile.width - 300))
            tile = tile.crop((left, 0, tile.width, min(row, tile.height)))
            canvas.paste(tile, (x, y))
            x += tile.width
        y += row
    return canvas


def make(folder: Path, n: int) -> None:
    """Writes n mosaics of 2 to 12 megapixels, unless they are there."""
    if folder.exists() and len(list(folder.iterdir())) == n:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    photos = tiles()
    for i in range(n):
        image = mosaic(photos, 2 + 10 * (i / max(1, n - 1)), i)
        image.save(folder / f"{i:05d}.jpg", quality=QUALITY, progressive=i % 4 == 0)


def index_wall(folder: Path, space: str | None = None) -> float:
    """Wall seconds of bringing a fresh index up to date with a folder."""
    with tempfile.TemporaryDirectory() as work:
        started = time.perf_counter()
        report = run([folder], Path(work) / "ix", space)
        wall = time.perf_counter() - started
    if report.skipped or not report.indexed:
        raise SystemExit(f"{folder}: {report}")
    return wall


def bare_cpu(folder: Path, encoder: Any) -> tuple[float, float]:
    """CPU seconds of decoding and of encoding the folder's files, nothing else running."""
    preprocess = encoder.space.preprocess
    decode = encode = 0.0
    batch: list[Any] = []
    paths = sorted(folder.iterdir())
    for i, path in enumerate(paths):
        started = time.process_time()
        batch.append(image_array(path, preprocess))
        decode += time.process_time() - started
        if len(batch) == 32 or i == len(paths) - 1:
            started = time.process_time()
            encoder.encode(Modality.IMAGE, batch)
            encode += time.process_time() - started
            batch = []
    return decode, encode


def cpu_of(action: Any, repeats: int) -> float:
    """Median CPU seconds of an action."""
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        action()
        seconds.append(time.process_time() - started)
    return statistics.median(seconds)


def decode_ratio(folder: Path, progressive: bool, encoder: Any) -> float:
    """Cost of our decoding of a 12-megapixel JPEG over Pillow's ordinary way."""
    path = folder / f"12mp-{progressive}.jpg"
    mosaic(tiles(), 12, 7).save(path, quality=QUALITY, progressive=progressive)
    px = encoder.space.preprocess.image_px

    def ordinary() -> None:
        with Image.open(path) as image:
            image.convert("RGB").resize((px, px))

    ours = cpu_of(lambda: image_array(path, encoder.space.preprocess), 9)
    return ours / cpu_of(ordinary, 9)


def captions_and_passages() -> list[str]:
    """64 texts, in turn a caption of 12 words and a passage of 200."""
    words = (SAMPLES / "texts/en/thunderstorm.md").read_text().split()
    return [" ".join(words[i % 40 : i % 40 + (12 if i % 2 else 200)]) for i in range(64)]


def text_ms(encoder: Any) -> float:
    """Wall milliseconds a text, in batches of 64: captions and passages of 200 words."""
    texts = captions_and_passages()
    encoder.encode(Modality.TEXT, texts)
    started = time.perf_counter()
    for _ in range(5):
        encoder.encode(Modality.TEXT, texts)
    return (time.perf_counter() - started) / 5 / len(texts) * 1000


def sound_speed(folder: Path, encoder: Any, space: str | None = None) -> float:
    """Seconds of sound indexed in a second: files to vectors through the pipeline.

    encoder: of the space that is named, or of the built-in one.
    """
    import soundfile

    preprocess = encoder.space.preprocess
    sounds = [
        np.concatenate([w for w, _, _ in audio_windows(path, preprocess)])
        for path in sorted((SAMPLES / "sounds").iterdir())
    ]
    whole = np.concatenate(sounds)
    corpus = folder / "sounds"
    shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir()
    seconds = 0.0
    for i in range(20):
        samples = np.roll(whole, i * 100_000)[: 60 * preprocess.sample_rate_hz]
        soundfile.write(corpus / f"{i}.flac", samples, preprocess.sample_rate_hz)
        seconds += len(samples) / preprocess.sample_rate_hz
    return seconds / index_wall(corpus, space)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "mmsearch-encode"
    )
    args = parser.parse_args()
    photos, few = args.work / f"photos-{args.photos}", args.work / "few"
    make(photos, args.photos)
    make(few, 2)
    encoder = load_encoder("mini")
    bare_cpu(few, encoder)
    pairs = []
    for i in range(args.pairs):
        startup = index_wall(few)
        wall = index_wall(photos) - startup
        decode, encode = bare_cpu(photos, encoder)
        ideal = (decode + encode) / cores()
        pairs.append(
            {
                "wall_s": wall,
                "startup_s": startup,
                "decode_cpu_s": decode,
                "encode_cpu_s": encode,
                "ratio": wall / ideal,
            }
        )
        print(f"pair {i + 1}: {wall:.1f} s against {ideal:.1f} s ideal: {wall / ideal:.3f}")
    ratio = statistics.median(p["ratio"] for p in pairs)
    baseline = decode_ratio(args.work, False, encoder)
    progressive = decode_ratio(args.work, True, encoder)
    text, sound = text_ms(encoder), sound_speed(args.work, encoder)
    save(
        "encode",
        {
            "photos": args.photos,
            "pairs": pairs,
            "ratio": ratio,
            "decode_12mp_baseline_ratio": baseline,
            "decode_12mp_progressive_ratio": progressive,
            "text_ms": text,
            "sound_times_real_time": sound,
        },
    )
    table(
        [
            ("what", "figure", "goal"),
            (f"index {args.photos} photos / ideal", f"{ratio:.3f}", "<= 1.15"),
            ("12 MP baseline JPEG / Pillow", f"{baseline:.3f}", "<= 0.333"),
            ("12 MP progressive JPEG / Pillow", f"{progressive:.3f}", "<= 0.5"),
            ("ms a text, in batches", f"{text:.2f}", "<= 5"),
            ("sound, times real time", f"{sound:.0f}", ">= 50"),
        ]
    )


if __name__ == "__main__":
    main()
