"""What a GPU makes of it: photos a second, where the time goes, and the README's loop beside it.

    python benchmarks/gpu.py [--space openclip:…] [--photos FOLDER] [--device cuda] [--dtype fp16]

Needs the extra ``torch``. Without ``--space`` it is ViT-B-32 with random weights; without
``--photos``, 2,000 mosaics of the bundled photos of 2 to 12 megapixels are made. Indexes them
at each batch size, says what the stages took, and compares with the loop of open_clip's README
on that device (one picture at a time) and with the same loop in batches of 64. Run with
``--device cpu`` it shows that it runs; the figures worth having are those of a GPU.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from common import Line, save, table
from encode import make
from mmsearch.indexer import Options, run
from mmsearch.spaces import Placement
from pipeline import vit

LOOP_PHOTOS = 400  # of the straightforward loop: it is slow


def loop(name: str, paths: list[Path], device: str, batch: int) -> float:
    """Photos a second of open_clip's README: open, preprocess, encode, in this process."""
    import open_clip
    import torch
    from PIL import Image

    asked = name.removeprefix("openclip:")
    model, _, tag = asked.partition("/") if not asked.startswith("local-dir:") else (asked, "", "")
    made, _, preprocess = open_clip.create_model_and_transforms(
        model, pretrained=tag or None, device=device
    )
    made.eval()
    started = time.perf_counter()
    with torch.no_grad(), torch.autocast(torch.device(device).type, enabled=device != "cpu"):
        for at in range(0, len(paths), batch):
            some = [preprocess(Image.open(path)) for path in paths[at : at + batch]]
            features = made.encode_image(torch.stack(some).to(device))
            features /= features.norm(dim=-1, keepdim=True)
            features.cpu()
    return len(paths) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--space")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--count", type=int, default=2000, help="of the photos that are made")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "mmsearch-gpu")
    args = parser.parse_args()
    import torch

    photos = args.photos or args.work / f"photos-{args.count}"
    if args.photos is None:
        make(photos, args.count)
    name = args.space or vit(args.work / "vit-b-32")
    paths = sorted(path for path in photos.rglob("*") if path.is_file())
    lines, found = [], []
    for size in args.batch_sizes:
        placement = Placement(args.device, args.dtype, size)
        shutil.rmtree(args.work / "ix", ignore_errors=True)
        options = Options(workers=args.workers, placement=placement)
        stages: dict[str, Any] = {}
        report = run([photos], args.work / "ix", name, options)
        stages = report.stages.to_json()
        work_s = report.stages.work_s
        rate = report.parts / work_s
        found.append({"batch_size": size, "photos_per_s": rate, "stages": stages})
        busy = 100 * stages["encoder_busy_s"] / work_s
        lines.append(Line(f"photos/s in batches of {size}", rate, note=f"encoder busy {busy:.0f}%"))
        print(f"batches of {size}: {stages['advice']}")
    best = max(one["photos_per_s"] for one in found)
    some = paths[:LOOP_PHOTOS]
    for batch in (1, 64):
        rate = loop(name, some, args.device, batch)
        what = "the README's loop" if batch == 1 else f"the same in batches of {batch}"
        lines.append(Line(f"{what}, photos/s", rate, note=f"ours {best / rate:.1f} ×"))
        found.append({"loop_batch": batch, "photos_per_s": rate})
    device = torch.cuda.get_device_name(0) if args.device.startswith("cuda") else "CPU"
    save("gpu", {"space": name if args.space else "ViT-B-32, random weights", "device": device,
                 "dtype": args.dtype, "photos": len(paths), "found": found})  # fmt: skip
    table([("what", "figure", "goal"), *(line.row() for line in lines)])


if __name__ == "__main__":
    main()
