"""What several tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from corpora import copy_samples
from mmsearch.spaces import load_encoder

# as the command line does: FAISS's threads must not wait busily beside other tests
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture(scope="session")
def samples() -> Path:
    """The bundled sample corpus."""
    return Path(__file__).parent / "samples"


@pytest.fixture
def corpus(tmp_path: Path, samples: Path) -> Path:
    """A folder of nine samples, old enough for their times to be trusted."""
    copy_samples(samples, tmp_path / "corpus")
    return tmp_path / "corpus"


@pytest.fixture(scope="session", autouse=True)
def own_folders_of_a_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests keep for all indexes lies in no real user's folders, and each run begins anew."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CACHE", "DATA"):
            patch.setenv(f"XDG_{name}_HOME", str(tmp_path_factory.mktemp(name.lower())))
        yield


@pytest.fixture(scope="session", autouse=True)
def mini_stays_loaded() -> Iterator[None]:
    """What a process has loaded of the built-in space serves each test."""
    encoder = load_encoder("mini")
    yield
    assert encoder is load_encoder("mini")


@pytest.fixture(autouse=True)
def only_towers_for_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The models of tests are so small that indexes would carry their towers for pictures, too;
    writing one takes seconds."""
    monkeypatch.setattr("mmsearch.spaces.portable.SMALL_BYTES", 0)


@pytest.fixture(autouse=True)
def one_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is not told how many decoders it may have starts one: each takes half a second."""
    monkeypatch.setattr("mmsearch.indexer.running.available_cores", lambda: 1)
