"""The same failures in a space on PyTorch: a device that is lost, memory that runs out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")

from corpora import update
from mmsearch import ProcessingFailed, SpaceUnavailable
from mmsearch.indexer import Options, run
from mmsearch.spaces.openclip import OpenClip
from mmsearch.types import Modality, Vectors
from notes import texts, unindexed, write_notes
from tiny_clip import tiny_clip


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """An index of 300 notes about the sea, which are about hills by now."""
    write_notes(tmp_path / "notes", 300, "the sea")
    space = f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}"
    run([tmp_path / "notes"], tmp_path / "ix", space, Options())
    write_notes(tmp_path / "notes", 300, "the hills")
    return tmp_path / "ix"


def fail(patch: pytest.MonkeyPatch, n: int, error: Exception) -> None:
    """Lets the model raise an error for all but its first n inputs."""
    encode, seen = OpenClip.encode, 0

    def failing(
        self: OpenClip, modality: Modality, data: Sequence[Any], asked: bool = False
    ) -> Vectors:
        nonlocal seen
        seen += len(data)
        if seen > n:
            raise error
        return encode(self, modality, data, asked)

    patch.setattr(OpenClip, "encode", failing)


def lacking(self: OpenClip, ids: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_device_that_is_lost_half_way_loses_nothing(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = index.with_name("notes")
    lost = torch.AcceleratorError if hasattr(torch, "AcceleratorError") else RuntimeError
    with monkeypatch.context() as patch:
        fail(patch, 64, lost("CUDA error: device-side assert triggered\nCompile with …"))
        with pytest.raises(ProcessingFailed, match=r"does not encode text any more: CUDA error"):
            update(folder, index)
    kept = texts(index)
    assert len(kept) == 300 and unindexed(index) == {}
    encoded = sum("hills" in text for text in kept)
    report = update(folder, index)
    assert (report.indexed, report.unchanged) == (300 - encoded, encoded)
    assert all("hills" in text for text in texts(index))


def test_a_device_without_memory_for_one_input_says_so_and_loses_nothing(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = index.with_name("notes")
    with monkeypatch.context() as patch:
        patch.setattr(OpenClip, "_texts", lacking)
        with pytest.raises(SpaceUnavailable, match="has too little memory for one input"):
            update(folder, index)
    assert len(texts(index)) == 300 and all("sea" in text for text in texts(index))
    assert update(folder, index).indexed == 300
