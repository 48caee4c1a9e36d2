"""Does the pipeline keep a large model busy? Needs the extra ``torch``; on the CPU.

    python benchmarks/pipeline.py [--photos 240] [--large 24] [--pairs 5] [--work DIR]

1. ViT-B-32 and CLAP's HTSAT with random weights, written by their libraries' own classes:
   indexing JPEG files of 2 to 12 megapixels, and sound files of a minute, against the ideal,
   (CPU seconds of decoding the same files bare + CPU seconds of encoding them bare) / cores, in
   alternating pairs, start-up taken off.
2. 12-megapixel JPEG files against the loop of open_clip's README, picture after picture.
3. An encoder that only sleeps, as a perfect GPU would let this process: the share of the time
   between its first and its last batch in which it was busy, at several speeds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import soundfile

import mmsearch
from common import SAMPLES, Line, cores, save, table
from encode import bare_cpu, make, mosaic, tiles
from mmsearch.indexer import Options, opening, run
from mmsearch.media import audio_windows
from mmsearch.spaces import CPU_BATCH, load_encoder
from mmsearch.types import Modality, Preprocess, Space, Vectors

MEGAPIXELS = 12
SOUNDS, SOUND_S = 12, 60


def vit(folder: Path) -> str:
    """ViT-B-32 with random weights as a folder of open_clip; the space's name."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    if not (folder / "open_clip_model.safetensors").exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        model = open_clip.create_model("ViT-B-32", pretrained=None)
        config = {
            "model_cfg": open_clip.get_model_config("ViT-B-32"),
            "preprocess_cfg": model.visual.preprocess_cfg,
        }
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        state = {k: v.contiguous() for k, v in model.state_dict().items()}
        save_file(state, folder / "open_clip_model.safetensors")
    return f"openclip:local-dir:{folder}"


def htsat(folder: Path) -> str:
    """CLAP's audio tower at its usual size and a small text tower, random; the space's name."""
    from tokenizers import Tokenizer, models, processors
    from transformers import (
        ClapConfig,
        ClapFeatureExtractor,
        ClapModel,
        ClapProcessor,
        PreTrainedTokenizerFast,
    )

    if not (folder / "config.json").exists():
        small = {"num_hidden_layers": 2, "vocab_size": 64, "max_position_embeddings": 66}
        ClapModel(ClapConfig(text_config=small)).save_pretrained(folder)
        words = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
        bare = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
        bare.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=bare, pad_token="<pad>", unk_token="<unk>", model_max_length=64
        )
        front = ClapFeatureExtractor(truncation="rand_trunc")
        ClapProcessor(front, tokenizer).save_pretrained(folder)
    return f"clap:{folder}"


def indexed(folder: Path, space: str, work: Path) -> tuple[float, dict[str, Any]]:
    """Wall seconds of the stages of a fresh index, and its stage report."""
    shutil.rmtree(work / "ix", ignore_errors=True)
    report = run([folder], work / "ix", space)
    if report.skipped or not report.indexed:
        raise SystemExit(f"{folder}: {report}")
    return report.stages.work_s, report.stages.to_json()


def sounds(folder: Path) -> Path:
    """Sound files of a minute, made of the bundled ones."""
    if folder.exists():
        return folder
    rate_hz = 48_000
    preprocess = Preprocess(1, rate_hz, 10.0)
    whole = np.concatenate(
        [w for path in sorted((SAMPLES / "sounds").iterdir())
         for w, _, _ in audio_windows(path, preprocess)]
    )  # fmt: skip
    folder.mkdir(parents=True)
    for i in range(SOUNDS):
        samples = np.resize(np.roll(whole, i * 100_003), SOUND_S * rate_hz)
        soundfile.write(folder / f"{i}.flac", samples, rate_hz)
    return folder


def bare_sounds(folder: Path, encoder: Any) -> tuple[float, float]:
    """CPU seconds of decoding and of encoding, nothing else running."""
    decode = encode = 0.0
    for path in sorted(folder.iterdir()):
        started = time.process_time()
        windows = [w for w, _, _ in audio_windows(path, encoder.space.preprocess)]
        decode += time.process_time() - started
        started = time.process_time()
        encoder.encode(Modality.AUDIO, windows)
        encode += time.process_time() - started
    return decode, encode


def against_ideal(
    folder: Path, few: Path, space: str, bare: Any, pairs: int, work: Path
) -> list[dict[str, Any]]:
    """Pairs of an index and its ideal, in turn."""
    encoder, found = load_encoder(space), []
    bare(few, encoder)
    for i in range(pairs):
        startup, _ = indexed(few, space, work)
        wall, stages = indexed(folder, space, work)
        decode, encode = bare(folder, encoder)
        ideal = (decode + encode) / cores()
        ratio = (wall - startup) / ideal
        found.append(
            {"wall_s": wall, "startup_s": startup, "decode_cpu_s": decode,
             "encode_cpu_s": encode, "ratio": ratio, "stages": stages}
        )  # fmt: skip
        print(f"{space[:9]} {i + 1}: {wall - startup:.1f} s, ideal {ideal:.1f} s: {ratio:.3f}")
    return found


def readme_loop(folder: Path, model_folder: Path) -> tuple[float, Vectors]:
    """Seconds of open_clip's README over the files: open, preprocess, encode, one at a time.

    And the vectors, float32 (n, d).
    """
    import open_clip
    import torch
    from PIL import Image

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{model_folder}")
    model.eval()
    rows = []
    started = time.perf_counter()
    with torch.no_grad():
        for path in sorted(folder.iterdir()):
            image = preprocess(Image.open(path)).unsqueeze(0)
            features = model.encode_image(image)
            features /= features.norm(dim=-1, keepdim=True)
            rows.append(features)
    return time.perf_counter() - started, torch.cat(rows).numpy()


class Sleeper:
    """An encoder that takes its time and nothing else."""

    side_by_side = 1
    files: Mapping[str, Path] = {}

    def __init__(self, each_s: float) -> None:
        self.space = Space("sleeper", "0" * 64, 8, (Modality.IMAGE,), Preprocess(224, 16_000, 10))
        self._each_s, self._spans = each_s, list[tuple[float, float]]()

    @property
    def batch_sizes(self) -> Mapping[Modality, int]:
        return CPU_BATCH

    def encode(self, modality: Modality, data: Sequence[Any], asked: bool = False) -> Vectors:
        """Sleeps, then gives the same vector for all."""
        started = time.perf_counter()
        time.sleep(self._each_s * len(data))
        self._spans.append((started, time.perf_counter()))
        return np.tile(np.eye(1, 8, dtype=np.float32), (len(data), 1))

    languages = ""

    def truncated(self, texts: Sequence[str]) -> list[int]:
        """None are."""
        return [0] * len(texts)

    def unknown(self, texts: Sequence[str]) -> list[float]:
        """Nothing is."""
        return [0.0] * len(texts)

    @property
    def busy(self) -> float:
        """Its share of the time between its first and its last batch."""
        inside = sum(stop - start for start, stop in self._spans)
        return inside / (self._spans[-1][1] - self._spans[0][0])


def asleep(folder: Path, each_s: float, work: Path) -> tuple[float, dict[str, Any]]:
    """How busy a sleeper was kept, and the stage report."""
    encoder, usual = Sleeper(each_s), opening.load_encoder
    opening.load_encoder = lambda name, placement: encoder  # type: ignore[assignment]
    shutil.rmtree(work / "ix", ignore_errors=True)
    try:
        report = run([folder], work / "ix", "sleeper", Options())
    finally:
        opening.load_encoder = usual
    return encoder.busy, report.stages.to_json()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=int, default=240)
    parser.add_argument("--large", type=int, default=24)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "mmsearch-pipeline"
    )
    args = parser.parse_args()
    work, median = args.work, statistics.median
    photos, few, large = work / f"photos-{args.photos}", work / "few", work / f"large-{args.large}"
    make(photos, args.photos)
    make(few, 2)
    if not large.exists():
        large.mkdir()
        for i in range(args.large):
            mosaic(tiles(), MEGAPIXELS, i).save(large / f"{i:03}.jpg", quality=88)
    one = work / "one-sound"
    if not one.exists():
        one.mkdir()
        shutil.copy(next(iter(sorted(sounds(work / "sounds").iterdir()))), one)
    name, clap = vit(work / "vit-b-32"), htsat(work / "htsat")
    pictures = against_ideal(photos, few, name, bare_cpu, args.pairs, work)
    heard = against_ideal(work / "sounds", one, clap, bare_sounds, args.pairs, work)
    loops = []
    for _ in range(args.pairs):
        startup, _ = indexed(few, name, work)
        wall, _ = indexed(large, name, work)
        loop, theirs = readme_loop(large, work / "vit-b-32")
        loops.append({"loop_s": loop, "wall_s": wall - startup, "ratio": loop / (wall - startup)})
    ours = mmsearch.load_space(name).encode_images(sorted(large.iterdir()))
    cosine = float((ours * theirs).sum(axis=1).min())
    shutil.rmtree(work / "vit-ix", ignore_errors=True)
    shutil.copytree(work / "ix", work / "vit-ix")  # for benchmarks/cold.py
    decode = sum(pair["decode_cpu_s"] for pair in pictures) / len(pictures) / args.photos
    delivered_s = decode / cores()  # a photo every so many seconds is what decoders can give
    sleepers = {}
    for times in (1.1, 1.5, 3.0):
        sleepers[times] = asleep(photos, times * delivered_s, work)
    stages = pictures[-1]["stages"]
    waited = ("load_s", "decoders_waited_s", "encoder_waited_s", "write_s", "other_s")
    parts = sum(stages[name] for name in waited)
    lines = [
        Line("ViT-B-32 on photos of 2-12 MP / ideal", median(p["ratio"] for p in pictures),
             goal=1.10, at_most=True, digits=3),
        Line("CLAP on sounds of a minute / ideal", median(p["ratio"] for p in heard),
             goal=1.10, at_most=True, digits=3),
        Line(f"the README's loop on {MEGAPIXELS} MP files / indexing them",
             median(p["ratio"] for p in loops), goal=2, digits=2),
        Line("least cosine of theirs and ours on those", cosine, digits=6),
        Line("the stage report's sum / wall time", parts / stages["wall_s"], digits=3),
        *(Line(f"a sleeping encoder {times:g} × slower than the decoders, busy %", 100 * busy,
               goal=95) for times, (busy, _) in sleepers.items()),
    ]  # fmt: skip
    save("pipeline", {
        "photos": args.photos, "large": args.large, "pictures": pictures, "sounds": heard,
        "loops": loops, "least_cosine": cosine,
        "sleepers": {str(t): found for t, found in sleepers.items()},
        "figures": [line.to_json() for line in lines],
    })  # fmt: skip
    table([("what", "figure", "goal"), *(line.row() for line in lines)])


if __name__ == "__main__":
    main()
