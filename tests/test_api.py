"""The facade: every verb of the command line is a method, with the same arguments and results."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
import typer

import command_line
import mmsearch
from mmsearch.cli.app import app

# command -> method of Index, where the two are called otherwise
OTHERWISE = {"index": "sync", "query": "search"}
# `eval` asks an index by mmsearch.evaluation.evaluate, which stands above it
NO_METHODS = {"eval"}
# what a method needs no argument for
OF_A_COMMAND = {"index", "json", "strict", "plot", "space", "abandon"}  # abandon_reencode
RENAMED = {"param": "params", "names": "ids"}


def commands() -> dict[str, list[str]]:
    """The commands that take an index, and their arguments."""
    group = typer.main.get_command(app)
    found = {}
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        arguments = [one.name for one in command.params]
        if "index" in arguments:
            found[name] = arguments
    return found


def test_every_command_that_takes_an_index_is_a_method() -> None:
    for name in commands():
        if name not in NO_METHODS:
            assert callable(getattr(mmsearch.Index, OTHERWISE.get(name, name))), name
    assert len(commands()) > 8


@pytest.mark.parametrize("name", [n for n in commands() if n not in NO_METHODS])
def test_a_method_takes_what_the_command_does(name: str) -> None:
    method = getattr(mmsearch.Index, OTHERWISE.get(name, name))
    taken = set(inspect.signature(method).parameters)
    for argument in commands()[name]:
        if argument not in OF_A_COMMAND:
            assert RENAMED.get(argument, argument) in taken, f"{name} --{argument}"


def test_index_and_sync_take_the_same() -> None:
    index = dict(inspect.signature(mmsearch.index).parameters)
    sync = dict(inspect.signature(mmsearch.Index.sync).parameters)
    for name in ("path", "space", "sources"):
        del index[name]
    del sync["self"], sync["sources"]
    assert index == sync


def test_a_method_gives_what_the_command_prints(tmp_path: Path, samples: Path) -> None:
    index = mmsearch.index(samples / "texts", tmp_path / "a.index")
    assert index.report is not None and index.report.indexed > 5

    def printed(*args: object) -> dict[str, object]:
        at = ["--index", str(tmp_path / "b.index"), "--json"]
        done = command_line.mmsearch(*map(str, args), *at, home=tmp_path)
        assert done.returncode == 0, done.stderr
        body: dict[str, object] = json.loads(done.stdout)
        return body

    def same(body: dict[str, object], other: dict[str, object]) -> None:
        taken = ("seconds", "stages", "took_ms", "filter_ms", "index", "bytes", "generation")
        ours, theirs = ({k: v for k, v in one.items() if k not in taken} for one in (body, other))
        assert ours == theirs

    same(printed("index", samples / "texts"), index.report.to_json())
    same(printed("index", samples / "texts"), index.sync(samples / "texts").to_json())
    same(printed("query", "a dog"), index.search("a dog").to_json())
    same(printed("compact"), index.compact().to_json())
    same(printed("info", "--skipped", "--ignored"), index.info(skipped=True, ignored=True))
    assert printed("verify")["problems"] == index.verify() == list(mmsearch.verify(index.path))
    merged = mmsearch.merge([index.path], tmp_path / "c.index")
    other = printed("merge", index.path)
    assert merged.merged is not None and other["parts"] == merged.merged.parts
    assert merged.merged.replaced == 0 and other["replaced"] == len(
        {h.path for h in merged.search("a", k=100)}
    )


def test_the_space_encodes_a_text_alone_or_several() -> None:
    space = mmsearch.load_space()
    one, several = space.encode_query("a dog"), space.encode_query(["a dog", "rain"])
    assert one.shape == (512,) and several.shape == (2, 512)
    assert (several[0] == one).all() and (space.encode_document("a dog") == one).all()


def test_a_hit_says_that_its_file_is_gone(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    note = tmp_path / "notes" / "a.txt"
    note.write_text("a dog on a beach")
    index = mmsearch.index(tmp_path / "notes", tmp_path / "a.index")
    (hit,) = index.search("a dog")
    assert not hit.missing and "missing" not in hit.to_json()
    note.unlink()
    (hit,) = index.search("a dog")
    assert hit.missing and hit.to_json()["missing"] is True
    at = ["--index", str(index.path)]
    assert "a.txt  (missing)" in command_line.mmsearch("query", "a dog", *at, home=tmp_path).stdout
