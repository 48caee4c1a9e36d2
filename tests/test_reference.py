"""The reference is made from the docstrings, and names everything that is public."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mmsearch

DOCS = Path(__file__).parents[1] / "docs"


def test_the_reference_is_what_the_docstrings_say_now() -> None:
    command = [sys.executable, str(DOCS / "make_reference.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=DOCS.parent)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_in_the_reference() -> None:
    page = (DOCS / "reference.md").read_text("utf-8")
    for name in mmsearch.__all__:
        assert any(f"{form}\n" in page for form in (f"## {name}", f"### mmsearch.{name}")) or (
            f"- `{name}` (" in page or name == "__version__"
        ), name
