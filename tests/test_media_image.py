"""Pictures: answered to Pillow's own full decode."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from mmsearch.errors import DecodeError, LimitExceeded
from mmsearch.media import Limits, decode, image_array, sniff
from mmsearch.media.image import cells_of
from mmsearch.types import Modality, Preprocess

PX = 64
PREPROCESS = Preprocess(image_px=PX, sample_rate_hz=16000, window_s=10.0)


def photo(width: int = 200, height: int = 120) -> Image.Image:
    """Smooth and without symmetry, so that a wrong turn shows."""
    y, x = np.mgrid[0:height, 0:width]
    red = 255 * x / width
    green = 255 * y / height
    blue = 255 * np.exp(-((x - width / 4) ** 2 + (y - height / 3) ** 2) / 900)
    return Image.fromarray(np.stack([red, green, blue], axis=2).astype(np.uint8))


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def reference(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB").resize((PX, PX), Image.Resampling.BICUBIC))


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def array(data: bytes) -> np.ndarray:
    out = image_array(data, PREPROCESS)
    assert out.dtype == np.uint8
    assert out.shape == (PX, PX, 3)
    return out


@pytest.mark.parametrize(
    "format", ["PNG", "BMP", "GIF", "TIFF", "PPM", "TGA", "PCX", "SGI", "QOI", "DDS", "JPEG2000"]
)
def test_a_lossless_format_gives_the_pixels_of_a_full_decode(format: str) -> None:
    data = saved(photo(), format)
    truth = reference(Image.open(io.BytesIO(data)))
    assert np.array_equal(array(data), truth)


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF", "HEIF"])
def test_a_lossy_format_is_near_the_original(format: str) -> None:
    import pillow_heif

    try:
        if format == "HEIF":
            buffer = io.BytesIO()
            pillow_heif.from_pillow(photo()).save(buffer, quality=95)
            data = buffer.getvalue()
        else:
            data = saved(photo(), format, quality=95)
    except (KeyError, OSError, RuntimeError):
        pytest.skip(f"no {format} encoder in this build")
    assert sniff(data[:8192], "x.bin") == "image"
    assert difference(array(data), reference(photo())) < 2.0


def test_a_picture_that_has_the_size_already_keeps_its_very_pixels() -> None:
    data = saved(photo(PX, PX), "JPEG", quality=88)
    assert np.array_equal(array(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_stands_upright(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format == "WEBP" else {}
    data = saved(photo(), format, exif=exif, **options)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert difference(array(data), reference(upright)) < 1.0
    part = next(decode(data, "image", PREPROCESS))
    assert (part.meta["width"], part.meta["height"]) == upright.size


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_large_jpeg_is_turned_after_it_was_drafted(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(photo(1600, 1200), "JPEG", exif=exif, quality=92)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert difference(array(data), reference(upright)) < 2.0
    assert next(decode(data, "image", PREPROCESS)).meta["width"] == upright.width


def test_transparent_pixels_are_white() -> None:
    image = photo().convert("RGBA")
    image.putalpha(0)
    assert (array(saved(image, "PNG")) == 255).all()
    palette = photo().quantize(16)
    assert (array(saved(palette, "PNG", transparency=bytes(16))) == 255).all()
    gray = Image.new("LA", (90, 90), (0, 0))
    assert (array(saved(gray, "PNG")) == 255).all()


def test_half_transparent_black_on_white_is_gray() -> None:
    half = Image.new("RGBA", (90, 90), (0, 0, 0, 128))
    assert abs(int(array(saved(half, "PNG"))[0, 0, 0]) - 127) <= 1


def test_colour_under_full_transparency_does_not_bleed() -> None:
    image = Image.new("RGBA", (400, 400), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (100, 100, 300, 300))
    out = array(saved(image, "PNG")).astype(int)
    assert (out[..., 0] <= out[..., 2] + 2).all()  # nowhere redder than white or blue


def test_cmyk_jpeg_shows_the_colours_that_were_meant() -> None:
    data = saved(photo().convert("CMYK"), "JPEG", quality=95)
    assert difference(array(data), reference(photo())) < 3.0


def test_gray_one_bit_and_palette_pictures_match_pillow() -> None:
    for image in (photo().convert("L"), photo().convert("1"), photo().quantize(64)):
        data = saved(image, "PNG")
        truth = Image.open(io.BytesIO(data))
        truth = truth.convert("L") if truth.mode == "1" else truth
        assert difference(array(data), reference(truth)) < 1.0


def test_sixteen_bit_gray_keeps_its_shades() -> None:
    shades = np.linspace(0, 65535, 200 * 120).reshape(120, 200).astype(np.uint16)
    out = array(saved(Image.fromarray(shades), "PNG"))
    truth = reference(Image.fromarray((shades / 257).astype(np.uint8)))
    assert difference(out, truth) < 1.0


def test_twelve_bits_in_a_sixteen_bit_file_are_not_black() -> None:
    shades = np.linspace(0, 4095, 200 * 120).reshape(120, 200).astype(np.uint16)
    assert array(saved(Image.fromarray(shades), "TIFF")).max() > 240


def test_floats_with_numbers_missing_are_scaled_by_what_is_there() -> None:
    values = np.linspace(-3.0, 7.0, 120 * 200, dtype=np.float32).reshape(120, 200)
    values[5, 5] = np.nan
    out = array(saved(Image.fromarray(values), "TIFF"))
    assert out.min() < 15
    assert out.max() > 240


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (90, 90), c) for c in ("red", "lime", "blue")]
    for format in ("GIF", "WEBP", "PNG", "TIFF"):
        data = saved(frames[0], format, save_all=True, append_images=frames[1:])
        assert difference(array(data), reference(frames[0])) < 3.0


def test_a_colour_profile_is_turned_into_srgb() -> None:
    """A profile whose red primary is sRGB's green, and the other way round, swaps the two."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"tmp!").replace(b"gXYZ", b"rXYZ").replace(b"tmp!", b"gXYZ")
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))
    out = array(saved(photo(), "PNG", icc_profile=swapped))
    assert difference(out, reference(photo())[..., [1, 0, 2]]) < 1.0


def test_an_srgb_profile_and_a_broken_one_change_nothing() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"broken"):
        data = saved(photo(), "PNG", icc_profile=profile)
        assert np.array_equal(array(data), reference(photo()))


def test_what_is_known_of_a_picture_is_plain_json() -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2021:05:06 07:08:09"
    exif.get_ifd(0x8769)[0x9011] = "+02:00"
    part = next(decode(saved(photo(), "JPEG", exif=exif), "image", PREPROCESS))
    assert part.modality is Modality.IMAGE
    assert part.meta == {
        "width": 200,
        "height": 120,
        "format": "JPEG",
        "taken": "2021-05-06T07:08:09+02:00",
    }


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("Apple", "iPhone 15", "Apple iPhone 15"),
        ("NIKON CORPORATION\0\0", " COOLPIX  P50 ", "NIKON CORPORATION COOLPIX P50"),
        ("", "Pixel 8", "Pixel 8"),
    ],
)
def test_the_camera_and_the_place_are_kept(make: str, model: str, camera: str) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = make, model
    place = {1: "S", 2: (33.0, 51.0, 24.12), 3: "E", 4: (151.0, 12.0, 36.0)}
    exif.get_ifd(0x8825).update(place)
    meta = next(decode(saved(photo(), "JPEG", exif=exif), "image", PREPROCESS)).meta
    assert (meta["camera"], meta["latitude"], meta["longitude"]) == (camera, -33.8567, 151.21)


@pytest.mark.parametrize(
    "place",
    [
        {1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)},
        {1: "N", 2: (95.0, 0.0, 0.0), 3: "E", 4: (10.0, 0.0, 0.0)},
        {1: "N", 2: (48.0, 0.0, 0.0)},
        {2: (48.0,), 4: (11.0,)},
    ],
)
def test_a_place_that_makes_no_sense_is_left_out(place: dict[int, object]) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8825).update(place)
    meta = next(decode(saved(photo(), "JPEG", exif=exif), "image", PREPROCESS)).meta
    assert "latitude" not in meta and "longitude" not in meta


def test_nonsense_in_the_date_is_left_out() -> None:
    exif = Image.Exif()
    exif[0x0132] = "0000:00:00 00:00:00"
    assert "taken" not in next(decode(saved(photo(), "JPEG", exif=exif), "image", PREPROCESS)).meta


def test_half_a_picture_is_an_error_and_not_half_gray() -> None:
    data = saved(photo(), "JPEG")
    with pytest.raises(DecodeError, match="cut short"):
        image_array(data[: len(data) // 2], PREPROCESS)


def test_too_many_pixels_are_refused_by_name() -> None:
    with pytest.raises(LimitExceeded, match=r"200 × 120 pixels; at most 1,000"):
        image_array(saved(photo(), "PNG"), PREPROCESS, Limits(max_pixels=1000))
    with pytest.raises(LimitExceeded, match="bytes"):
        image_array(saved(photo(), "PNG"), PREPROCESS, Limits(max_image_bytes=100))


def test_the_draft_of_a_large_jpeg_counts_and_not_its_header() -> None:
    data = saved(photo(1600, 1200), "JPEG")
    image_array(data, PREPROCESS, Limits(max_decoded_pixels=200_000))
    with pytest.raises(LimitExceeded):
        image_array(saved(photo(1600, 1200), "PNG"), PREPROCESS, Limits(max_decoded_pixels=200_000))


def test_postscript_is_never_handed_to_ghostscript() -> None:
    data = saved(photo(), "EPS")
    assert sniff(data[:8192], "x.eps") is None
    with pytest.raises(DecodeError):
        image_array(data, PREPROCESS)


def test_a_path_bytes_a_file_and_a_picture_give_the_same(tmp_path: Path) -> None:
    data = saved(photo(), "PNG")
    path = tmp_path / "名字.png"
    path.write_bytes(data)
    truth = array(data)
    assert np.array_equal(image_array(path, PREPROCESS), truth)
    assert np.array_equal(image_array(str(path), PREPROCESS), truth)
    with path.open("rb") as file:
        assert np.array_equal(image_array(file, PREPROCESS), truth)
    assert np.array_equal(image_array(photo(), PREPROCESS), truth)


def test_a_missing_file_and_a_folder_say_so(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="no such file"):
        image_array(tmp_path / "none.png", PREPROCESS)
    with pytest.raises(DecodeError, match="not a regular file"):
        image_array(tmp_path, PREPROCESS)


# -- how a space wants it fitted


def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * height)
    small = rng.integers(0, 256, (max(2, height // 9), max(2, width // 9), 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("size", [(301, 200), (199, 301), (64, 64), (65, 640), (40, 31), (3, 500)])
@pytest.mark.parametrize("resampling", ["bicubic", "bilinear"])
def test_a_crop_is_the_middle_of_the_whole(size: tuple[int, int], resampling: str) -> None:
    preprocess = replace(PREPROCESS, image_fit="crop", image_resampling=resampling)
    short, long = min(size), max(size)
    longer = int(PX * long / short)
    whole_size = (longer, PX) if size[0] > size[1] else (PX, longer)
    image = noise(*size)
    whole = image.resize(whole_size, Image.Resampling[resampling.upper()])
    left, top = (round((one - PX) / 2) for one in whole_size)
    wanted = np.asarray(whole.crop((left, top, left + PX, top + PX))).astype(int)
    found = image_array(image, preprocess).astype(int)
    assert np.abs(found - wanted).max() <= (0 if long <= 8 * short else 2)


def test_a_padded_picture_is_whole_on_its_ground() -> None:
    preprocess = replace(PREPROCESS, image_fit="pad", image_fill=9)
    image = noise(300, 100)
    found = image_array(image, preprocess)
    height = round(100 / (300 / PX))
    top = (PX - height) // 2
    wanted = image.resize((PX, height), Image.Resampling.BICUBIC)
    assert (found[top : top + height] == np.asarray(wanted)).all()
    assert (found[:top] == 9).all()
    assert (found[top + height :] == 9).all()
    assert image_array(noise(1, 900), preprocess).shape == (PX, PX, 3)


CELLS = replace(PREPROCESS, image_px=48, image_fit="cells", image_cells=280)


@pytest.mark.parametrize(
    ("size", "cells"),  # of Gemma 4's own front end
    [
        ((640, 480), (19, 14)),
        ((480, 640), (14, 19)),
        ((1, 1), (16, 16)),
        ((77, 131), (12, 21)),
        ((1000, 37), (86, 3)),
        ((300, 2), (204, 1)),
        ((2, 300), (1, 204)),
        ((1000, 1), (280, 1)),
        ((1, 281), (1, 280)),
        ((280, 1), (280, 1)),
    ],
)
def test_a_picture_of_cells_keeps_its_shape(size: tuple[int, int], cells: tuple[int, int]) -> None:
    assert cells_of(size, CELLS) == cells
    image = noise(*size)
    found = image_array(image, CELLS)
    width, height = cells[0] * 48, cells[1] * 48
    wanted = image.resize((width, height), Image.Resampling.BICUBIC)
    assert (found == np.asarray(wanted)).all()


def test_a_turned_picture_of_cells_is_upright(tmp_path: Path) -> None:
    image = noise(320, 200)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    wanted = image_array(image.transpose(Image.Transpose.ROTATE_270), CELLS).astype(int)
    found = image_array(tmp_path / "turned.png", CELLS).astype(int)
    assert found.shape == wanted.shape == (21 * 48, 13 * 48, 3)
    assert np.abs(found - wanted).max() <= 2


def test_a_jpeg_of_cells_is_never_unpacked_smaller_than_they_are(tmp_path: Path) -> None:
    path, few = tmp_path / "photo.jpg", replace(CELLS, image_cells=12, image_draft=2.0)
    for size in ((1801, 1207), (6000, 130)):  # the first is unpacked at a quarter
        image = noise(*size)
        image.save(path, quality=95)
        columns, rows = cells_of(size, few)
        wanted = image.resize((columns * 48, rows * 48), Image.Resampling.BICUBIC)
        found = image_array(path, few)
        assert found.shape == (rows * 48, columns * 48, 3)
        # of noise; at an 8th it would be 17
        assert np.abs(found - np.asarray(wanted).astype(int)).mean() < 10


def test_a_ribbon_is_cropped_without_making_the_whole() -> None:
    preprocess = replace(PREPROCESS, image_fit="crop")
    found = image_array(Image.new("RGB", (100_000, 1), "red"), preprocess)  # 6.4 million wide
    assert (found == (255, 0, 0)).all()


def test_a_jpeg_is_unpacked_as_finely_as_the_space_asks(tmp_path: Path) -> None:
    image = noise(1600, 1200)
    image.save(tmp_path / "photo.jpg", quality=92)
    exact = replace(PREPROCESS, image_draft=1000.0)
    with Image.open(tmp_path / "photo.jpg") as opened:
        wanted = np.asarray(opened.resize((PX, PX), Image.Resampling.BICUBIC)).astype(int)
    assert (image_array(tmp_path / "photo.jpg", exact) == wanted).all()
    coarse = np.abs(image_array(tmp_path / "photo.jpg", PREPROCESS) - wanted).mean()
    fine = replace(PREPROCESS, image_draft=6.0)
    assert 0 < np.abs(image_array(tmp_path / "photo.jpg", fine) - wanted).mean() < coarse


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0, "u2 of 12 bits", "u2", "i4", ">u2"])
def test_a_deep_picture_is_that_of_8_bits_also_where_resizing_overshoots(top: object) -> None:
    values = np.full((600, 600), 60.0, np.float32)
    values[150:450, 150:450] = 255.0  # edges, at which bicubic goes beyond both values
    if isinstance(top, float):
        deep = values / 255 * np.float32(top)
    else:
        most = {"u2 of 12 bits": 4095, "u2": 65535, ">u2": 65535, "i4": 255}[str(top)]
        deep = (values / 255 * most).astype(str(top).split()[0])
    expected = array(saved(Image.fromarray(values.astype(np.uint8)), "PNG"))
    image = Image.fromarray(deep)
    assert image.mode == {">u2": "I;16B", "u2": "I;16", "i4": "I"}.get(str(top), image.mode)
    assert difference(array(saved(image, "TIFF")), expected) < 1


def test_numbers_missing_at_a_corner_do_not_change_the_range() -> None:
    values = np.full((600, 600), 60.0, np.float32)
    values[150:450, 150:450] = 255.0
    whole = array(saved(Image.fromarray(values), "TIFF"))
    values[0, 0], values[599, 599] = np.nan, np.inf
    assert difference(array(saved(Image.fromarray(values), "TIFF")), whole) < 1


def test_a_picture_without_pixels_or_closed_is_refused() -> None:
    with pytest.raises(DecodeError, match="has no pixels"):
        image_array(Image.new("RGB", (0, 0)), PREPROCESS)
    closed = Image.open(io.BytesIO(saved(photo(), "PNG")))
    closed.close()
    with pytest.raises(DecodeError, match="cannot be read"):
        image_array(closed, PREPROCESS)


def test_pillows_own_limit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(LimitExceeded, match=r"PIL\.Image\.MAX_IMAGE_PIXELS"):
        array(saved(photo(), "PNG"))


@pytest.mark.parametrize("format", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0MM\xd7*\0\0\0\x08", b"Exif\0\0MM\0*\xff\xff\xff\xf0", b"Exif\0\0", b"x" * 40]
)
def test_a_picture_is_read_whatever_its_exif_is(format: str, exif: bytes) -> None:
    image = photo()
    plain = saved(image, format)
    assert (array(saved(image, format, exif=exif)) == array(plain)).all()
