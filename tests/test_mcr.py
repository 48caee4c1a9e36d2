"""C-MCR: bridges that are learned from unpaired sounds and pictures, too.

Needs the extra ``torch`` (`make test-torch`); without it everything here is left out.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mmsearch.errors import SpaceUnavailable
from mmsearch.spaces import load_encoder
from mmsearch.spaces.maps import unit
from mmsearch.train import mcr
from mmsearch.types import Modality
from test_bridge import cli, rows, spaces_of


def test_c_mcr_learns_from_what_is_unpaired(
    tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spaces = spaces_of(tmp_path / "spaces")
    monkeypatch.setattr(mcr, "STEPS", 200)
    pairs = ("bridge", "--from", spaces / "heard", "--to", spaces / "seen", "--method", "c-mcr",
             "--captions", spaces / "captions.txt", "--out", tmp_path / "bridge")  # fmt: skip
    rc, _, err = cli(*pairs)
    assert rc == 2 and "--heard" in err and "--seen" in err
    rc, _, err = cli(*pairs[:6], "ridge", *pairs[7:], "--seen", samples / "photos")
    assert rc == 2 and "--seen is for --method c-mcr" in err
    rc, said, err = cli(
        *pairs, "--heard", samples / "sounds", "--seen", samples / "photos", "--json"
    )
    assert rc == 0, err
    assert json.loads(said)["recall_at_1"] > 0.1  # of 20 by chance 0.05
    encoder = load_encoder(f"bridge:{tmp_path / 'bridge'}")
    found = encoder.encode(Modality.AUDIO, [np.ones(800, np.float32)])
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    np.save(tmp_path / "bridge" / "second.npy", np.ones((3, 3), np.float32))
    with pytest.raises(SpaceUnavailable, match="was changed"):
        load_encoder(f"bridge:{tmp_path / 'bridge'}")


def test_c_mcr_finds_a_map_across_a_gap() -> None:
    x = rows(2000, 24, 0)
    y, gap = x[:, ::-1].copy(), rows(1, 24, 5) * 0.9
    heard, seen = unit(rows(500, 24, 3) + gap), rows(500, 24, 4)
    before = torch.random.get_rng_state()
    made = mcr.c_mcr(x, y, heard, seen, steps=100)
    assert torch.equal(torch.random.get_rng_state(), before)
    fresh = rows(200, 24, 2)
    scores = made(unit(fresh + gap)) @ fresh[:, ::-1].T
    assert (scores.argmax(1) == np.arange(200)).mean() > 0.3
    again = mcr.c_mcr(x, y, heard, seen, steps=100)
    assert np.array_equal(again.second, made.second)
