"""Rebuild `tests/samples/`, the corpus that `make demo` indexes, from the packages it comes from.

The corpus is committed; nobody needs this script to use it. It is here so that every file can be
traced and made again: it reads the packages below, unpacked, and writes photos, drawings, sounds,
the texts taken from packages, and `CREDITS.md`. The texts that were written for this project
(marked `own` in `sample_table.py`) are sources themselves: they stay as they are and must be there.

Get and unpack the packages (the versions that were used are in `PACKAGES`):

    apt-get download gcompris-qt-data tuxpaint-stamps-default openclipart-png \
        lomiri-wallpapers-16.04 fortunes-zh
    pip download --no-deps scikit-image scikit-learn
    for f in *.deb; do dpkg -x "$f" "${f%%_*}"; done
    for f in *.whl; do python -m zipfile -e "$f" "${f%%-*}"; done

    python tests/make_samples.py --gcompris gcompris-qt-data --tuxpaint tuxpaint-stamps-default \
        --openclipart openclipart-png --lomiri lomiri-wallpapers-16.04 --fortunes fortunes-zh \
        --skimage scikit_image --sklearn scikit_learn

The same packages and the same versions of Pillow, pillow-heif, libsndfile and soxr give the same
bytes. Needs only what mmsearch itself needs.
"""

from __future__ import annotations

import argparse
import io
import re
import struct
import sys
import textwrap
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pillow_heif
import soundfile
import soxr
from PIL import Image

from sample_table import LICENCES, PACKAGES, SAMPLES, Sample

MAX_SIDE = 640
QUALITY = 85
PEAK = 0.95
EXIF_ORIENTATION = 0x0112

# where the bytes come from -----------------------------------------------------------------------


@cache
def read_rcc(path: Path) -> dict[str, bytes]:
    """The files inside a Qt resource file (format versions 1 to 3, plain or zlib)."""
    raw = path.read_bytes()
    if raw[:4] != b"qres":
        raise ValueError(f"{path}: not a Qt resource file")
    version, tree, data, names = struct.unpack(">4I", raw[4:20])
    node_size = 14 if version == 1 else 22
    found: dict[str, bytes] = {}

    def walk(node: int, prefix: str) -> None:
        at = tree + node * node_size
        name_at, flags = struct.unpack(">IH", raw[at : at + 6])
        if node:
            (length,) = struct.unpack(">H", raw[names + name_at : names + name_at + 2])
            start = names + name_at + 6
            prefix += "/" + raw[start : start + 2 * length].decode("utf-16-be")
        if flags & 2:
            count, first = struct.unpack(">II", raw[at + 6 : at + 14])
            for child in range(first, first + count):
                walk(child, prefix)
            return
        (offset,) = struct.unpack(">I", raw[at + 10 : at + 14])
        (size,) = struct.unpack(">I", raw[data + offset : data + offset + 4])
        body = raw[data + offset + 4 : data + offset + 4 + size]
        found[prefix] = zlib.decompress(body[4:]) if flags & 1 else body

    walk(0, "")
    return found


def fetch(roots: dict[str, Path], package: str, source: str) -> bytes:
    """The bytes of `source` in a package; a GCompris path is looked up in its activity's .rcc."""
    folder = roots[package] / PACKAGES[package][3]
    if package != "gcompris":
        return (folder / source).read_bytes()
    activity = source.split("/", 1)[0]
    return read_rcc(folder / f"{activity}.rcc")[f"/gcompris/src/activities/{source}"]


# pictures ----------------------------------------------------------------------------------------


def make_picture(sample: Sample, bodies: list[bytes]) -> bytes:
    suffix = Path(sample.path).suffix
    frames = []
    for body in bodies:
        with Image.open(io.BytesIO(body)) as opened:
            picture: Image.Image = opened.copy()
        if suffix in {".png", ".gif"}:
            picture = picture.convert("RGBA")
        elif picture.mode != "L":
            picture = picture.convert("RGB")
        side = 320 if suffix in {".tiff", ".gif"} else MAX_SIDE
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        frames.append(picture)
    first = frames[0]
    out = io.BytesIO()
    if suffix == ".gif":
        shown = [f.convert("RGB").quantize(64) for f in frames]
        shown[0].save(out, "GIF", save_all=True, append_images=shown[1:], duration=400, loop=0)
    elif suffix == ".heic":
        pillow_heif.from_pillow(first).save(out, quality=60, format="HEIF")
    elif suffix == ".avif":
        first.save(out, "AVIF", quality=60, max_threads=1)
    elif suffix == ".webp":
        first.save(out, "WEBP", quality=80, method=6)
    elif suffix == ".tiff":
        first.save(out, "TIFF", compression="tiff_lzw")
    elif suffix == ".png":
        first.save(out, "PNG", optimize=True)
    elif sample.how == "exif6":
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = 6
        turned = first.transpose(Image.Transpose.ROTATE_90)
        turned.save(out, "JPEG", quality=QUALITY, optimize=True, exif=exif)
    else:
        progressive = sample.how == "progressive"
        first.save(out, "JPEG", quality=QUALITY, optimize=True, progressive=progressive)
    return out.getvalue()


# sounds ------------------------------------------------------------------------------------------


def make_sound(sample: Sample, bodies: list[bytes]) -> bytes:
    wave, rate_hz = soundfile.read(io.BytesIO(bodies[0]), dtype="float64", always_2d=True)
    mono = wave.mean(axis=1)
    if sample.seconds is not None:
        mono = mono[: int(sample.seconds * rate_hz)]
        fade = min(len(mono), rate_hz)
        mono[-fade:] *= np.linspace(1.0, 0.0, fade)
    if rate_hz > sample.rate_hz:
        mono = soxr.resample(mono, rate_hz, sample.rate_hz, quality="HQ")
        rate_hz = sample.rate_hz
    loudest = float(np.abs(mono).max())
    if loudest > PEAK:
        mono = mono * (PEAK / loudest)
    out = io.BytesIO()
    kind = Path(sample.path).suffix[1:].upper()
    if kind == "MP3":
        soundfile.write(out, mono, rate_hz, format=kind, compression_level=0.5)
    else:
        soundfile.write(out, mono, rate_hz, format=kind, subtype="PCM_16")
    return out.getvalue()


# texts -------------------------------------------------------------------------------------------

TITLE = {
    "farm": "Farm animals",
    "wildlife": "Wild animals from around the world",
    "music": "Music around the world",
    "planets": "太阳系",
    "mountains": "唐诗：山、鸟、雨、雪",
    "rivers": "唐诗：江、船、钟声",
    "lute": "唐诗：听琴",
}


def board_entries(bodies: list[bytes]) -> list[tuple[str, str]]:
    """The (title, text) pairs of GCompris boards."""
    pair = re.compile(
        r'"title": qsTr\("((?:[^"\\]|\\.)+)"\),\s*"text": qsTr\("((?:[^"\\]|\\.)+)"\)'
    )
    return [found for body in bodies for found in pair.findall(body.decode())]


def make_pdf(title: str, paragraphs: list[str]) -> bytes:
    """A one-page PDF with real text: Helvetica, Latin-1, no dates, so always the same bytes."""

    def escape(line: str) -> str:
        return line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")

    lines = [line for text in paragraphs for line in [*textwrap.wrap(text, 92), ""]]
    drawn = [f"BT /F1 16 Tf 50 790 Td ({escape(title)}) Tj /F1 10 Tf 0 -16 Td 13 TL"]
    drawn += [f"({escape(line)}) '" for line in lines]
    page = "\n".join([*drawn, "ET"]).encode("latin-1", "replace")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(page), page),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    out = b"%PDF-1.4\n"
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer << /Size %d /Root 1 0 R >>\n" % (len(objects) + 1)
    return out + b"startxref\n%d\n%%%%EOF\n" % start


def make_text(sample: Sample, read: Callable[[str], bytes]) -> bytes:
    title = TITLE[Path(sample.path).stem]
    if sample.how.startswith("qml"):
        entries = board_entries([read(part) for part in sample.source.split("+")])
        if sample.how == "qml-pdf":
            return make_pdf(title, [f"{name}. {text}" for name, text in entries])
        if sample.how == "qml-md":
            body = "\n".join(f"## {n}\n\n{textwrap.fill(t, 96)}\n" for n, t in entries)
            return f"# {title}\n\n{body}".encode()
        body = "\n".join(textwrap.fill(f"{n}: {t}", 96) + "\n" for n, t in entries)
        return f"{title}\n\n{body}".encode()
    if sample.how == "captions":
        lines = []
        for name in sample.names:
            caption = read(f"{sample.source}/{name}.txt").decode()
            lines += re.findall(r"^zh_CN\.utf8=(.+)$", caption, flags=re.MULTILINE)
        return "\n".join([title, "", *lines, ""]).encode()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", read(sample.source).decode())
    poems = {p.split("\n", 1)[0].strip("《》"): p.strip() for p in plain.split("\n%\n")}
    mark = "# " if sample.path.endswith(".md") else ""
    text = "\n\n".join([mark + title, *(poems[name] for name in sample.names)]) + "\n"
    return text.encode("gb18030" if sample.how == "tang-gb18030" else "utf-8")


# the folder and its credits ----------------------------------------------------------------------


def changes(sample: Sample) -> str:
    """What was done to the original, in words: several of the licences ask for it."""
    kind, suffix = sample.path.split("/", 1)[0], Path(sample.path).suffix[1:]
    if sample.how == "own":
        return "written for this project"
    if sample.how == "copy":
        return "none"
    if kind == "sounds":
        cut = f"first {sample.seconds:g} s, faded out; " if sample.seconds else ""
        return f"{cut}mixed to mono, at most {sample.rate_hz} Hz, peak at most {PEAK}, as {suffix}"
    if kind == "texts":
        return {
            "qml": "titles and texts collected into one file, a heading added",
            "qml-md": "titles and texts collected into one file, a heading added",
            "qml-pdf": "titles and texts collected into one PDF, a heading added",
            "captions": "Chinese captions collected into one file, a heading added",
            "tang": "poems chosen, colour codes removed, a heading added",
            "tang-gb18030": "poems chosen, colour codes removed, a heading added, re-encoded",
        }[sample.how]
    side = 320 if suffix in {"tiff", "gif"} else MAX_SIDE
    done = f"longer side at most {side} px, saved as {suffix}"
    return done + {
        "exif6": ", pixels turned on purpose and EXIF orientation 6 set so that it shows upright",
        "progressive": ", progressive",
        "gif": ", two drawings as the two frames of one animation",
    }.get(sample.how, "")


def credits_page() -> str:
    lines = [
        "# The sample corpus: credits",
        "",
        "`make demo` indexes this folder. Every file, where it comes from, who made it, under which"
        " terms, and what was changed. Each file keeps its own licence: the folder is a collection"
        " of separate works, and mmsearch's licence does not cover them. Made by"
        " `tests/make_samples.py` from `tests/sample_table.py`; edit the table, not this page.",
        "",
        "## Packages",
        "",
        "| package | version | where its terms are stated |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {version} | {terms} |" for name, version, terms, _ in PACKAGES.values()]
    lines += ["", "## Licences", "", "| short name | text |", "|---|---|"]
    used = {sample.licence for sample in SAMPLES}
    lines += [f"| {name} | {where} |" for name, where in LICENCES.items() if name in used]
    lines += [
        "",
        "Notes. The photographs from GCompris had been cropped and sharpened by its authors, who"
        " name each change in `ActivityInfo.qml`; the Art4Apps drawings had been enlarged and"
        " smoothed by them. Where GCompris names a photograph as public domain (its `README`"
        " beside the file), Debian's `copyright` lists it under the GPL-3 of the whole package;"
        " both allow this use. The `README` of `memory-sound` says that every sound with LA in its"
        " name is Lionel Allorge's, under the Free Art License, where Debian's pattern misses one"
        " (`LRFrogs…`). The poems are some twelve centuries old; the package that collects"
        " them is GPL-3+. Openclipart's authors are as far as the file names give them.",
        "",
        "## Files",
        "",
        "| file | what | from | author | licence | changes |",
        "|---|---|---|---|---|---|",
    ]
    for s in sorted(SAMPLES, key=lambda s: s.path):
        origin = ""
        if s.package:
            sources = ", ".join(f"`{part}`" for part in s.source.split("+"))
            origin = f"{PACKAGES[s.package][0]}: {sources}" + (f"; <{s.link}>" if s.link else "")
        lines.append(
            f"| `{s.path}` | {s.what} | {origin} | {s.author} | {s.licence} | {changes(s)} |"
        )
    return "\n".join([*lines, ""])


def make(sample: Sample, roots: dict[str, Path]) -> bytes:
    def read(source: str) -> bytes:
        return fetch(roots, sample.package, source)

    if sample.how == "copy":
        return read(sample.source)
    if sample.path.startswith("texts/"):
        return make_text(sample, read)
    bodies = [read(part) for part in sample.source.split("+")]
    if sample.path.startswith("sounds/"):
        return make_sound(sample, bodies)
    return make_picture(sample, bodies)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Rebuild tests/samples from unpacked packages (see this file's docstring)."
    )
    for key, (name, version, _, _) in PACKAGES.items():
        parser.add_argument(
            f"--{key}", type=Path, required=True, help=f"{name} {version}, unpacked"
        )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "samples")
    args = parser.parse_args()
    roots: dict[str, Path] = {key: getattr(args, key) for key in PACKAGES}
    out: Path = args.out
    for sample in SAMPLES:
        target = out / sample.path
        if sample.how == "own":
            if not target.is_file():
                raise SystemExit(f"{target} is missing: it was written by hand, restore it")
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(make(sample, roots))
    (out / "CREDITS.md").write_text(credits_page(), encoding="utf-8", newline="\n")
    expected = {out / sample.path for sample in SAMPLES} | {out / "CREDITS.md"}
    present = {path for path in out.rglob("*") if path.is_file()}
    for stray in sorted(present - expected):
        sys.stderr.write(f"not in the table: {stray}\n")
    total = sum(path.stat().st_size for path in expected)
    sys.stdout.write(f"{len(SAMPLES)} files and CREDITS.md, {total / 1e6:.2f} MB in {out}\n")
    return 1 if present - expected else 0


if __name__ == "__main__":
    sys.exit(main())
