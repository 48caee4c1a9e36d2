"""Progressive JPEGs without their fine scans: the same pixels from a fraction of the file."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmsearch.errors import DecodeError
from mmsearch.media import image_array
from mmsearch.media.jpeg import without_fine_luma
from mmsearch.types import Preprocess

PREPROCESS = Preprocess(image_px=32, sample_rate_hz=16000, window_s=10.0)


def busy(width: int, height: int) -> Image.Image:
    """Shades with noise on them, so that every scan has something to say."""
    y, x = np.mgrid[0:height, 0:width]
    shades = np.stack([255 * x / width, 255 * y / height, 128 + 100 * np.sin(x / 9)], axis=2) / 2
    noise = np.random.default_rng(0).integers(0, 128, (height, width, 3))
    return Image.fromarray((shades + noise).astype(np.uint8))


def jpeg(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=75, **options)
    return buffer.getvalue()


def eighth(data: bytes) -> np.ndarray:
    """What libjpeg makes of it at an 8th of each side."""
    with Image.open(io.BytesIO(data)) as image:
        full = image.size
        image.draft(None, (full[0] // 8, full[1] // 8))
        assert image.width == -(-full[0] // 8)
        return np.asarray(image)


PHOTO = jpeg(busy(417, 402), progressive=True)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_an_8th_of_a_progressive_jpeg_keeps_its_very_pixels(mode: str, subsampling: int) -> None:
    data = jpeg(busy(417, 402).convert(mode), progressive=True, subsampling=subsampling)
    less = without_fine_luma(data)
    assert len(less) < 0.8 * len(data)
    assert np.array_equal(eighth(less), eighth(data))


def test_restart_markers_and_metadata_stay() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = jpeg(busy(417, 402), progressive=True, restart_marker_rows=1, exif=exif)
    less = without_fine_luma(data)
    assert len(less) < 0.8 * len(data)
    assert np.array_equal(eighth(less), eighth(data))
    assert Image.open(io.BytesIO(less)).getexif()[0x0112] == 6


def test_a_picture_for_the_index_is_the_one_libjpeg_drafts() -> None:
    with Image.open(io.BytesIO(PHOTO)) as image:
        image.draft(None, (48, 48))
        truth = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC))
    assert np.array_equal(image_array(PHOTO, PREPROCESS), truth)


def test_a_baseline_jpeg_and_other_bytes_come_back_as_they_are() -> None:
    baseline = jpeg(busy(64, 64))
    for data in (baseline, b"", b"\xff\xd8", b"\xff\xd8\xff", b"no picture at all"):
        assert without_fine_luma(data) == data


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_cut_file_is_left_to_libjpeg_and_is_an_error(share: float) -> None:
    cut = PHOTO[: int(share * len(PHOTO))]
    assert without_fine_luma(cut) == cut
    with pytest.raises(DecodeError):
        image_array(cut, PREPROCESS)


@given(st.integers(0, len(PHOTO) - 1), st.integers(0, 255), st.integers(0, len(PHOTO)))
def test_damage_anywhere_gives_bytes_no_longer_than_they_were(
    at: int, value: int, length: int
) -> None:
    damaged = (PHOTO[:at] + bytes([value]) + PHOTO[at + 1 :])[:length]
    less = without_fine_luma(damaged)
    assert len(less) <= len(damaged)
    assert less[:2] == damaged[:2]
