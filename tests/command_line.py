"""The command line, called in the process of the tests: starting another takes a second."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from mmsearch.cli import main


@dataclass(frozen=True)
class Done:
    """What ``subprocess.run`` tells."""

    returncode: int
    stdout: str
    stderr: str


def mmsearch(*args: str, home: Path) -> Done:
    """Run ``mmsearch ARGS`` as its own process would: the same entry, streams and exit code."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMSEARCH_HOME", str(home))
        patch.setenv("COLUMNS", "100")
        patch.setattr(sys, "argv", ["mmsearch", *args])
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        with pytest.raises(SystemExit) as left:
            main()
    code = left.value.code
    assert code is None or isinstance(code, int)
    said = []
    for stream in (out, err):
        stream.flush()
        assert isinstance(stream.buffer, io.BytesIO)
        said.append(stream.buffer.getvalue().decode("utf-8", "surrogateescape"))
    return Done(code or 0, *said)
