"""What a picture's EXIF says: how it was held, when and where it was taken, and with what."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from PIL import Image

from mmsearch.errors import LimitExceeded

ORIENTATION = 0x0112
_MAKE, _MODEL, _DATETIME, _EXIF_IFD, _GPS_IFD = 0x010F, 0x0110, 0x0132, 0x8769, 0x8825
_DATETIME_ORIGINAL, _OFFSET_ORIGINAL = 0x9003, 0x9011
_MAX_CAMERA_CHARS = 100


def read_exif(image: Image.Image) -> Image.Exif:
    """The EXIF of a picture, empty where it cannot be read: the pixels are there all the same."""
    try:
        exif = image.getexif()
        exif.get(ORIENTATION)
        return exif
    except (MemoryError, LimitExceeded):
        raise
    except Exception:
        return Image.Exif()


def facts(exif: Image.Exif) -> dict[str, Any]:
    """``taken`` (ISO 8601), ``camera``, and ``latitude`` and ``longitude`` in degrees, positive to
    the north and east; each where it is there and makes sense."""
    found = {"taken": _taken(exif), "camera": _camera(exif)}
    return {key: value for key, value in found.items() if value} | _place(exif)


def _camera(exif: Image.Exif) -> str:
    """Who made the camera and what it is called, the name once where the model has it, too."""
    try:
        words = [str(exif.get(tag, "")).replace("\0", " ").split() for tag in (_MAKE, _MODEL)]
    except Exception:  # see ``_taken``
        return ""
    make, model = (" ".join(one) for one in words)
    named = make and not model.casefold().startswith(make.casefold())
    return (f"{make} {model}" if named else model).strip()[:_MAX_CAMERA_CHARS]


def _place(exif: Image.Exif) -> dict[str, float]:
    try:
        told = exif.get_ifd(_GPS_IFD)
        latitude, longitude = _degrees(told, 1, "S"), _degrees(told, 3, "W")
    except Exception:  # see ``_taken``
        return {}
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180) or latitude == longitude == 0:
        return {}  # without a fix, cameras write zeros
    return {"latitude": round(latitude, 6), "longitude": round(longitude, 6)}


def _degrees(told: Mapping[int, Any], tag: int, negative: str) -> float:
    degrees, minutes, seconds = (float(one) for one in told[tag + 1])
    value = degrees + minutes / 60 + seconds / 3600
    return -value if str(told.get(tag, "")).strip("\0 ").upper() == negative else value


def _taken(exif: Image.Exif) -> str | None:
    """When the picture was taken, as ISO 8601 with the camera's offset where it is known."""
    try:
        details = exif.get_ifd(_EXIF_IFD)
        stamp = str(details.get(_DATETIME_ORIGINAL) or exif.get(_DATETIME) or "")
        taken = datetime.strptime(stamp.strip("\0 ")[:19], "%Y:%m:%d %H:%M:%S").isoformat()
        offset = str(details.get(_OFFSET_ORIGINAL, "")).strip("\0 ")
        return datetime.fromisoformat(taken + offset).isoformat()
    except Exception:  # EXIF is written by thousands of programs; its date is only a comfort
        return None
