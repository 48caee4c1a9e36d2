"""Encoders that fail, for tests: the real one, with a fault that a test decides on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mmsearch.spaces.folder import FolderSpace
from mmsearch.types import Modality, Vectors

Fault = Callable[[Modality, Sequence[Any]], None]  # raises what the encoder is to raise


def break_encoder(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    """Lets every space in a folder, ``mini`` too, ask ``fault`` before it encodes."""
    encode = FolderSpace.encode

    def broken(
        self: FolderSpace, modality: Modality, data: Sequence[Any], asked: bool = False
    ) -> Vectors:
        fault(modality, data)
        return encode(self, modality, data, asked)

    monkeypatch.setattr(FolderSpace, "encode", broken)


def after(n: int, error: Exception) -> Fault:
    """Raises the error for everything that comes after n inputs."""
    seen = 0

    def fault(modality: Modality, data: Sequence[Any]) -> None:
        nonlocal seen
        seen += len(data)
        if seen > n:
            raise error

    return fault


def on_text(word: str, error: Exception) -> Fault:
    """Raises the error for texts with a word in them."""

    def fault(modality: Modality, data: Sequence[Any]) -> None:
        if modality is Modality.TEXT and any(word in text for text in data):
            raise error

    return fault
