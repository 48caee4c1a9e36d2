"""Pictures: any format → one uint8 (px, px, 3) RGB square, or one of squares.

Squashed, cropped, padded or kept in shape, as the space wants it. What makes it cheap: a JPEG is
unpacked at an 8th to the full of its size by libjpeg itself (`draft`), everything else happens on
the small square: orientation, alpha, colour profile, depth. Measured on a 12-megapixel mosaic of
real photos at quality 88 and px=224, against `Image.open(f).convert("RGB").resize(...)`: 0.20 of
the CPU time for a baseline JPEG; the pixels differ by 1 of 255 on average. A progressive one costs
0.45 until `jpeg.py` leaves out the scans that an 8th of the size does not show.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from mmsearch.errors import DecodeError, LimitExceeded
from mmsearch.media.exif import ORIENTATION, facts, read_exif
from mmsearch.media.jpeg import without_fine_luma
from mmsearch.media.limits import Limits, OutOfMemory
from mmsearch.media.sniff import HEAD_BYTES, is_heif
from mmsearch.types import Modality, Part, Preprocess

# An explicit list: Pillow would also try EPS (runs Ghostscript), and stubs that can only
# fail (WMF, BUFR, GRIB, HDF5, MPEG). MPO, phones' JPEG with several pictures, comes as JPEG.
FORMATS = (
    *("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "DIB", "AVIF", "HEIF", "JPEG2000", "MPO"),
    *("ICO", "CUR", "ICNS", "PPM", "TGA", "PCX", "DCX", "PSD", "QOI", "DDS", "SGI", "SUN"),
    *("XBM", "XPM", "MSP", "BLP"),
)
MAX_ICC_BYTES = 4 << 20  # printers' CMYK tables have 0.5–2 MB

_STRIP_ROWS = 256
_RIBBON = 8  # times as long as wide: the whole of such a picture is never resized
_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_UPRIGHT = {  # EXIF orientation -> what makes it upright; the values of ImageOps.exif_transpose
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def parts(
    data: bytes, preprocess: Preprocess, limits: Limits, skip_parts: int = 0
) -> Iterator[Part]:
    """The one part of a picture (none when it is to be skipped)."""
    if skip_parts:
        return
    image = open_image(data, limits)
    if image.info.get("progressive") and _at_an_8th(image, preprocess):
        image = open_image(without_fine_luma(data), limits)
    array, meta = square(image, preprocess, limits)
    yield Part(Modality.IMAGE, 0, array, meta=meta)


def _at_an_8th(image: Image.Image, preprocess: Preprocess) -> bool:
    """Whether `draft` will ask libjpeg for an 8th of each side, the least it gives."""
    least = _least(image.size, preprocess)
    return image.format == "JPEG" and all(
        side >= 8 * one for side, one in zip(image.size, least, strict=True)
    )


def _least(size: tuple[int, int], preprocess: Preprocess) -> tuple[int, int]:
    """What width and height a picture of a size must have before it is fitted: the last step
    is a reduction."""
    px = preprocess.image_px
    width, height = cells_of(size, preprocess) if preprocess.image_fit == "cells" else (1, 1)
    draft = preprocess.image_draft
    return round(width * px * draft), round(height * px * draft)


def cells_of(size: tuple[int, int], preprocess: Preprocess) -> tuple[int, int]:
    """How many squares of ``image_px`` a picture of a width and height is made of: columns, rows.

    As many as fit into its shape when it is scaled to the area of ``image_cells`` of them, one at
    least; of a ribbon as many as it is longer than wide. As Gemma 4 counts them.
    """
    (width, height), px, most = size, preprocess.image_px, preprocess.image_cells
    factor = math.sqrt(most * px**2 / (width * height))
    columns, rows = math.floor(factor * width / px), math.floor(factor * height / px)
    if rows == 0:
        return min(width // height, most), 1
    if columns == 0:
        return 1, min(height // width, most)
    return columns, rows


def open_image(data: bytes, limits: Limits) -> Image.Image:
    """A lazily opened Pillow picture; nothing of it is unpacked yet."""
    if len(data) > limits.max_image_bytes:
        raise LimitExceeded(
            f"picture of {len(data):,} bytes; at most {limits.max_image_bytes:,} are read"
        )
    if data[4:8] == b"ftyp" and data[8:12] not in (b"avif", b"avis") and is_heif(data[:HEAD_BYTES]):
        _register_heif()
    try:
        return Image.open(io.BytesIO(data), formats=_formats(data))
    except Exception as error:
        raise _translated(error, "picture") from error


def _formats(data: bytes) -> tuple[str, ...]:
    """The plugins to try: asking for more than JPEG and PNG imports all of them (100 ms, once)."""
    if data.startswith((b"\xff\xd8\xff", b"\x89PNG")):
        return ("JPEG", "PNG")
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)  # a build may lack some


def square(
    image: Image.Image, preprocess: Preprocess, limits: Limits
) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """The picture as uint8 (height, width, 3), as the space wants it, and what is known about it.

    meta: width, height (upright), format where it has one, and what EXIF has of ``exif.facts``.
    Raises DecodeError, LimitExceeded.
    """
    name = image.format or "picture"
    width, height = image.size
    if not width * height:
        raise DecodeError(f"the {name} has no pixels")
    if width * height > limits.max_pixels:
        raise _too_many(width, height, limits.max_pixels)
    try:
        drafted = image.draft(None, _least(image.size, preprocess)) is not None
        if image.width * image.height > limits.max_decoded_pixels:
            raise _too_many(image.width, image.height, limits.max_decoded_pixels)
        image.load()
        if not drafted:
            width, height = image.size  # TIFF turns itself upright while loading
        exif = read_exif(image)
        orientation = exif.get(ORIENTATION, 1)
        small = _fitted(image, preprocess, (width, height))
        if orientation in _UPRIGHT:
            small = small.transpose(_UPRIGHT[orientation])
            if orientation >= 5:
                width, height = height, width
        meta: dict[str, Any] = {"width": width, "height": height}
        if image.format:
            meta["format"] = name
        return np.array(small, dtype=np.uint8), meta | facts(exif)
    except LimitExceeded:
        raise
    except Exception as error:
        raise _translated(error, f"{name} picture") from error


def _fitted(image: Image.Image, preprocess: Preprocess, full: tuple[int, int]) -> Image.Image:
    """RGB, (px, px) or of such squares: squashed, its middle, all of it on a ground, or in shape.

    full: its width and height, of which less may have been unpacked. Sizes and places are rounded
    as torchvision's Resize and CenterCrop and open_clip's ResizeKeepRatio and CenterCropOrPad round
    them.
    """
    px, (width, height) = preprocess.image_px, image.size
    resampling = _RESAMPLING[preprocess.image_resampling]
    if preprocess.image_fit == "cells":
        columns, rows = cells_of(full, preprocess)
        return _small_rgb(image, (columns * px, rows * px), resampling)
    if preprocess.image_fit == "crop":
        short, long = min(width, height), max(width, height)
        longer = int(px * long / short)
        offset = round((longer - px) / 2.0)
        if longer <= _RIBBON * px:
            size = (longer, px) if width > height else (px, longer)
            at = (offset, 0) if width > height else (0, offset)
            whole = _small_rgb(image, size, resampling)
            return whole.crop((*at, at[0] + px, at[1] + px))
        # only the middle of it is made; rounded a little otherwise
        start, stop = offset * long / longer, (offset + px) * long / longer
        box = (start, 0, stop, short) if width > height else (0, start, short, stop)
        return _small_rgb(image, (px, px), resampling, box)
    if preprocess.image_fit == "pad":
        ratio = max(width, height) / px
        size = max(1, round(width / ratio)), max(1, round(height / ratio))
        whole = Image.new("RGB", (px, px), (preprocess.image_fill,) * 3)
        at = (px - size[0]) // 2, (px - size[1]) // 2
        whole.paste(_small_rgb(image, size, resampling), at)
        return whole
    return _small_rgb(image, (px, px), resampling)


def _small_rgb(
    image: Image.Image,
    size: tuple[int, int],
    resampling: Image.Resampling,
    box: tuple[float, float, float, float] | None = None,
) -> Image.Image:
    """RGB of a size: transparency on white, colours in sRGB, any depth brought to 8 bits.

    box: left, top, right, bottom of what is taken; all if left out.
    """
    mode = image.mode
    if "transparency" in image.info and mode in ("1", "L", "P", "RGB"):
        image = image.convert("RGBA")
    elif mode in ("P", "PA"):
        image = image.convert("RGBA" if mode == "PA" or image.has_transparency_data else "RGB")
    elif mode == "1":
        image = image.convert("L")
    elif mode in ("La", "RGBa"):
        image = image.convert(mode.upper())
    elif mode.startswith("I;16") and mode != "I;16":
        # Pillow 13 resizes big-endian values wrongly
        image = Image.fromarray(np.asarray(image).astype(np.uint16))
    small = image if image.size == size else image.resize(size, resampling, box)
    if small.mode.startswith("I") or small.mode == "F":
        return _eight_bits(small, *_extremes(image)).convert("RGB")
    if small.mode in ("RGBA", "LA"):
        rgba = small.convert("RGBA")
        small = Image.new("RGB", rgba.size, "white")
        small.paste(rgba, mask=rgba.getchannel("A"))
    icc = image.info.get("icc_profile")
    if icc and small.mode in ("RGB", "CMYK") and len(icc) <= MAX_ICC_BYTES:
        transform = _to_srgb(bytes(icc), small.mode)
        if transform is not None:
            return cast(Image.Image, ImageCms.applyTransform(small, transform))
    return small if small.mode == "RGB" else small.convert("RGB")


def _extremes(image: Image.Image) -> tuple[float, float]:
    """The least and the most of a picture's values that are numbers; 0 where there are none."""
    low, high = math.inf, -math.inf
    for top in range(0, image.height, _STRIP_ROWS):  # a copy of all of it could be too large
        strip = image.crop((0, top, image.width, min(top + _STRIP_ROWS, image.height)))
        values = np.asarray(strip)
        numbers = values[np.isfinite(values)] if image.mode == "F" else values
        if numbers.size:
            low, high = min(low, float(numbers.min())), max(high, float(numbers.max()))
    return (low, high) if low <= high else (0.0, 0.0)


def _eight_bits(image: Image.Image, low: float, high: float) -> Image.Image:
    """Gray of 16 or 32 bits or floats → 8 bits, by the range that the values show.

    low, high: the least and the most of them before the picture was made small, which overshoots.
    Up to 1 (floats), 255, 4095 (12-bit cameras and scanners in 16-bit files) or 65535 the full
    range is known; beyond it, or below zero, the values are stretched from least to most.
    """
    values = np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    tops: tuple[float, ...] = (1.0, 255.0, 65535.0) if image.mode == "F" else (4095.0, 65535.0)
    if image.mode == "I" and high <= 255.0:
        tops = (255.0,)
    top = next((t for t in tops if high <= t), None)
    if low < 0.0 or top is None:
        values, top = values - low, max(high - low, 1e-12)
    return Image.fromarray((values * (255.0 / top)).round().clip(0, 255).astype(np.uint8))


@lru_cache(maxsize=16)  # a camera writes the same profile into every picture
def _to_srgb(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from ``icc`` to sRGB, None where there is nothing to do or it is broken.

    On a (224, 224) square it costs 2 ms, building it 5 ms.
    """
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        description = ImageCms.getProfileDescription(profile)
        if mode == "RGB" and "srgb" in description.lower():
            return None
        return ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None  # a broken profile: the plain colours are the better guess


@lru_cache(maxsize=1)
def _register_heif() -> None:
    """HEIC costs an import of 65 ms, paid by the first file that needs it."""
    import pi_heif

    pi_heif.register_heif_opener()


def _too_many(width: int, height: int, most: int) -> LimitExceeded:
    return LimitExceeded(f"picture of {width:,} × {height:,} pixels; at most {most:,} are unpacked")


def _translated(error: Exception, what: str) -> DecodeError | LimitExceeded:
    """Pillow's many exceptions as one sentence for a person."""
    message = str(error).strip() or type(error).__name__
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return LimitExceeded(
            "picture of more pixels than Pillow opens in this process (PIL.Image.MAX_IMAGE_PIXELS)"
        )
    if isinstance(error, MemoryError):
        return OutOfMemory(what)
    if isinstance(error, UnidentifiedImageError):
        return DecodeError("is no picture, or its header is damaged or not supported")
    if "truncated" in message.lower() or isinstance(error, EOFError):
        return DecodeError(f"the {what} is cut short ({message})")
    return DecodeError(f"the {what} is damaged or not supported ({message})")
