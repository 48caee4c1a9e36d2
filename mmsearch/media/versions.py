"""Which programs decode files: what they refused is tried again when one of them changes."""

from __future__ import annotations

from functools import cache

from mmsearch.version import __version__

_PACKAGES = ("pillow", "pi-heif", "soundfile", "soxr", "pypdfium2", "chardet", "av")


@cache
def decoders() -> str:
    """The versions of all that recognises and decodes files, such as "mmsearch 0.1.0, pillow 12.0".

    Two processes with the same text read the same files in the same way.
    """
    return ", ".join(
        [f"mmsearch {__version__}", *(f"{name} {_version(name)}" for name in _PACKAGES)]
    )


def _version(name: str) -> str:
    # here, not above: it takes a decoder longer to import than all else but NumPy
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:  # an extra, or bundled by somebody without its metadata
        return "unknown"
