"""The demo prints commands that can be pasted into a shell."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parent / "demo.sh"
# what stands in for mmsearch: it shows what it was called with, as one line
SHOWS = "import json, sys; print('called', json.dumps(sys.argv[1:]))"


@pytest.mark.skipif(shutil.which("sh") is None, reason="there is no sh")
def test_what_the_demo_prints_can_be_pasted_and_does_what_the_demo_did(tmp_path: Path) -> None:
    program = tmp_path / "it's a place" / "mmsearch"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{SHOWS}" "$@"\n')
    program.chmod(0o755)
    samples, index = tmp_path / 'the "best" samples', tmp_path / "in $HOME & more"
    done = subprocess.run(
        ["sh", DEMO, program, index, samples], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    printed = [line for line in lines if line.startswith("   ")]
    did = [json.loads(line.removeprefix("called ")) for line in lines if line.startswith("called ")]
    assert len(printed) == len(did) == 5
    assert did[0] == [
        "query", "a hot air balloon over the trees", "--to", "image", "-k", "3",
        "--index", str(index),
    ]  # fmt: skip
    for line, wanted in zip(printed, did, strict=True):
        pasted = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
        assert json.loads(pasted.stdout.removeprefix("called ")) == wanted
    assert str(samples / "photos" / "coffee.jpg") in did[2]
