"""Version 3 of ``mini``: the towers of today beside a tokenizer that told case apart."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from mmsearch.spaces.folder import SEEN
from mmsearch.spaces.mini import ASSETS
from mmsearch.train.mini.folding import fold

DIGEST = "adfafe00f18036444820eccd49de60bd06b33b09648a8798ac3ac340d9fb449f"
# the pieces that are spelt otherwise since
CASED = (Path(__file__).parent / "mini" / "cased.txt").read_text("utf-8").split("\n")[:-1]
FOLDING = 4  # normalizers that came with version 4


def write_mini_3(folder: Path) -> Path:
    """The space folder as it was shipped; its digest tells that it is the same."""
    folder.mkdir()
    for path in ASSETS.iterdir():
        if path.name != SEEN:  # which came with version 4, too
            shutil.copyfile(path, folder / path.name)
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    steps = tokenizer["normalizer"]["normalizers"]
    assert [step["type"] for step in steps[-FOLDING:]] == ["Lowercase", "NFD", "Replace", "NFC"]
    del steps[-FOLDING:]
    before = {fold(cased): cased for cased in CASED}
    pieces = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = [[before.get(name, name), score] for name, score in pieces]
    text = json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(text, "utf-8")
    card = json.loads((folder / "card.json").read_text("utf-8"))
    card |= {"version": "3", "digest": DIGEST}
    (folder / "card.json").write_text(json.dumps(card), "utf-8")
    return folder
