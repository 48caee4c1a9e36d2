"""What several tests share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def samples() -> Path:
    """The bundled sample corpus."""
    return Path(__file__).parent / "samples"
