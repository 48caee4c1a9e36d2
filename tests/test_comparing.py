"""The process that reads Parquet files from strangers: limited, and never waited for in vain."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmsearch.store import Snapshot, comparing
from mmsearch.store.confined import ConfinedPath
from stored import fill

POSIX = pytest.mark.skipif(not hasattr(socket, "send_fds"), reason="passes open files on")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ConfinedPath]]:
    """The two files of a segment of three rows, and a reader that was not started."""
    fill(tmp_path / "ix", range(3))
    (segment,) = Snapshot.open(tmp_path / "ix").segments
    reader = comparing._Reader()
    monkeypatch.setattr(comparing, "_reader", reader)
    yield [segment.place / name for name in ("parts.parquet", "parts.arrow")]
    reader.close()


@POSIX
def test_a_reader_that_cannot_be_asked_is_ended_and_the_next_one_answers(
    files: list[ConfinedPath], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        raise OSError("too many open files are on their way")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "send_fds", refused)
        assert "cannot be read" in str(comparing.difference(*files, rows=3))
    assert comparing.difference(*files, rows=3) is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_reader_has_limits_of_memory_and_processor_time(files: list[ConfinedPath]) -> None:
    assert comparing.difference(*files, rows=3) is None
    child = comparing._reader._child
    assert child is not None
    limits = Path(f"/proc/{child.pid}/limits").read_text().splitlines()
    soft = {line[:26].strip(): line[26:].split()[0] for line in limits}
    assert int(soft["Max data size"]) == comparing.MEMORY_BYTES
    assert int(soft["Max cpu time"]) <= comparing.CPU_S + 60
