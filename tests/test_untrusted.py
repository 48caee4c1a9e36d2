"""What an index or a space folder brings from elsewhere is checked before it is used."""

from __future__ import annotations

import base64
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import mmsearch
from mmsearch.errors import IndexDamaged, SpaceUnavailable
from mmsearch.spaces.graphs import open_session
from mmsearch.spaces.mini import ASSETS
from mmsearch.spaces.tokens import encode, open_tokenizer
from mmsearch.store import manifest
from mmsearch.store.confined import ConfinedPath
from mmsearch.store.files import checksum
from mmsearch.store.manifest import FileRef
from tiny_space import WIDTH, part, write_pairs, write_space


def rules_of_mini() -> bytes:
    """The trie, and what it replaces characters with, as SentencePiece compiled them."""
    normalizer = json.loads((ASSETS / "tokenizer.json").read_text("utf-8"))["normalizer"]
    return base64.b64decode(normalizer["normalizers"][0]["precompiled_charsmap"])


def with_replacements(change: Any) -> bytes:
    """Mini's rules with other replacements of the same trie."""
    content = rules_of_mini()
    at = 4 + int.from_bytes(content[:4], "little")
    return content[:at] + bytes(change(content[at:]))


def tokenizer_with(folder: Path, charsmap: Any) -> ConfinedPath:
    """Mini's tokenizer with other precompiled rules, as a file that came from elsewhere."""
    body = json.loads((ASSETS / "tokenizer.json").read_text("utf-8"))
    body["normalizer"]["normalizers"][0]["precompiled_charsmap"] = charsmap
    (folder / "tokenizer.json").write_text(json.dumps(body), "utf-8")
    return ConfinedPath(folder) / "tokenizer.json"


def test_precompiled_rules_that_replace_a_letter_with_a_few_are_taken(tmp_path: Path) -> None:
    path = tokenizer_with(tmp_path, base64.b64encode(rules_of_mini()).decode())
    plain = open_tokenizer(ASSETS / "tokenizer.json")
    text = "Ａ dog № ﷺ"
    assert encode(open_tokenizer(path), text).ids == encode(plain, text).ids


@pytest.mark.parametrize("letters", [65, 1 << 20])
def test_precompiled_rules_that_replace_a_letter_with_many_are_refused(
    tmp_path: Path, letters: int
) -> None:
    rules = with_replacements(lambda found: b"x" * letters + found)
    with pytest.raises(SpaceUnavailable, match="it replaces a letter with too many"):
        open_tokenizer(tokenizer_with(tmp_path, base64.b64encode(rules).decode()))


@pytest.mark.parametrize(
    "content",
    [b"", b"abc", rules_of_mini()[:1000], b"\x06\0\0\0" + bytes(6), b"\0\0\0\0\xff\xfe"],
    ids=["empty", "no size", "cut", "half a number", "not UTF-8"],
)
def test_damaged_precompiled_rules_are_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SpaceUnavailable, match=r"tokenizer\.json"):
        open_tokenizer(tokenizer_with(tmp_path, base64.b64encode(content).decode()))


@pytest.mark.parametrize("charsmap", ["%%%", "abc", 7], ids=["signs", "cut", "number"])
def test_precompiled_rules_that_are_no_base64_are_refused(tmp_path: Path, charsmap: Any) -> None:
    with pytest.raises(SpaceUnavailable, match=r"tokenizer\.json"):
        open_tokenizer(tokenizer_with(tmp_path, charsmap))


def graph_with_weights_in(folder: Path, name: str, facts: dict[str, str]) -> ConfinedPath:
    """A graph that gives a vector from a file beside it. facts: where in the file."""
    tensor = numpy_helper.from_array(np.zeros((1, 4), np.float32), "v")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": name, **facts}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    out = helper.make_tensor_value_info("vector", TensorProto.FLOAT, (1, 4))
    nodes = [helper.make_node("Identity", ["v"], ["vector"])]
    graph = helper.make_graph(nodes, "g", [], [out], [tensor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, folder / "text.onnx")
    return ConfinedPath(folder) / "text.onnx"


@pytest.mark.parametrize("facts", [{}, {"offset": "0", "length": "16"}], ids=["whole", "part"])
@pytest.mark.parametrize("kind", ["link", "folder", "nothing", "file"])
def test_weights_are_read_only_from_a_plain_file_beside_the_graph(
    tmp_path: Path, kind: str, facts: dict[str, str]
) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.arange(4, dtype="<f4").tobytes())
    folder = tmp_path / "space"
    folder.mkdir()
    path = graph_with_weights_in(folder, "text.bin", facts)
    if kind == "link":
        (folder / "text.bin").symlink_to(secret)
    elif kind == "folder":
        (folder / "text.bin").mkdir()
    elif kind == "file":
        secret.rename(folder / "text.bin")
        (found,) = open_session(path).run(["vector"], {})
        assert found.tolist() == [[0, 1, 2, 3]]
        return
    with pytest.raises(SpaceUnavailable, match="has weights beyond the end of their file"):
        open_session(path)


@pytest.fixture(scope="module")
def composite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of two lanes, which keeps the vectors of made-up texts."""
    home = tmp_path_factory.mktemp("composite")
    part(home / "seen", write_space(home / "a"), "image", "text")
    part(home / "heard", write_space(home / "b", seed=3), "text", "audio")
    write_pairs(home / "pairs", sounds=True)
    mmsearch.index(home / "pairs", home / "ix", f"{home / 'seen'}+{home / 'heard'}")
    return home / "ix"


def saved(array: Any, save: Any = np.save) -> bytes:
    file = io.BytesIO()
    save(file, array)
    return file.getvalue()


ROWS = np.zeros((128, 2 * WIDTH), np.float16)
FALSE_HEAD = saved(np.zeros((1, 2 * WIDTH), np.float16)).replace(b"(1, ", b"(17592186044416, ", 1)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"garbage", FALSE_HEAD, saved(ROWS, np.savez), saved(ROWS)[:-2],
        saved(ROWS.astype(np.float32)), saved(ROWS[:, 1:]), saved(ROWS.T), saved(ROWS.ravel()),
        saved(np.full_like(ROWS, np.nan)), saved(np.full_like(ROWS, np.inf)),
        saved(np.zeros((5000, 2 * WIDTH), np.float16)),
    ],
    ids=["empty", "garbage", "false head", "archive", "cut", "float32", "narrow", "turned", "flat",
         "no numbers", "infinite", "many"],
)  # fmt: skip
def test_made_up_texts_of_another_form_are_damage(
    composite: Path, tmp_path: Path, content: bytes
) -> None:
    folder = shutil.copytree(composite, tmp_path / "ix")
    (kept,) = folder.glob("query/*/made-up.npy")
    kept.unlink()
    kept.write_bytes(content)
    was = manifest.read(folder)
    ref = FileRef(*checksum(ConfinedPath(kept.parent) / kept.name))
    manifest.write(folder, replace(was, query={**was.query, kept.name: ref}))
    index = mmsearch.open(folder)
    with pytest.raises(IndexDamaged, match=r"made-up\.npy is damaged.*`mmsearch index`"):
        index.search("a red square")
    assert index.search("a red square", to="image")
