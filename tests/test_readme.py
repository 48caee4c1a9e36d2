"""The README's commands do what they say."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

import command_line
import mmsearch
from mmsearch.indexer import Options, run
from mmsearch.sample_queries import sample_queries
from mmsearch.train.recipe import read_recipe

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")

# what the README calls by a name that everybody has -> a sample
STAND_INS = {
    "~/Pictures": "photos",
    "~/Recordings": "sounds",
    "~/Notes": "texts",
    "cat.jpg": "photos/tabby.jpg",
    "photo.jpg": "photos/coffee.jpg",
    "waves.ogg": "sounds/rain.ogg",
}
TRAINED = ("flowers.toml", "./flowers")  # commands with these need torch


def commands() -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.S | re.M)
    blocks = [text for language, text in fenced if language in ("", "sh")]
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line.startswith("mmsearch ")))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def write_pairs(folder: Path, samples: Path) -> None:
    """What belongs together among the samples, by the names of the files."""
    rows = [
        {"image": str(path), "text": path.stem.replace("_", " ")}
        for path in sorted((samples / "photos").glob("*.jpg"))
    ]
    rows += [
        {"audio": str(path), "text": path.stem.replace("_", " "), "label": path.stem}
        for path in sorted((samples / "sounds").glob("*.ogg"))
    ]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")


def write_recipe(folder: Path) -> None:
    """The README's recipe, over squares and a space that train in seconds."""
    import tiny_space

    tiny_space.write_space(folder / "tiny")
    pairs = tiny_space.write_pairs(folder / "squares")
    recipe = recipe_of_the_readme().replace('"mini"', '"tiny"').replace("120", "5")
    (folder / "flowers.toml").write_text(recipe.replace("pairs.jsonl", str(pairs)), "utf-8")


def recipe_of_the_readme() -> str:
    found = re.search(r"```toml\n(.*?)```", README, flags=re.S)
    assert found is not None
    return found[1]


def write_large(folder: Path) -> None:
    """An index with lists to tune, shards to merge, and queries."""
    (folder / "nothing").mkdir()
    options = Options(ann="ivfpq")
    run([folder / "nothing"], folder / "default", None, options)
    index = mmsearch.open(folder / "default")
    index.add([{"text": text} for text in sample_queries(700)])
    index.compact()  # an add trains no lists
    for shard in ("shard1", "shard2"):
        run([folder / "nothing"], folder / shard)
        mmsearch.open(folder / shard).add([{"text": shard}])
    (folder / "asked.txt").write_text("\n".join(sample_queries(50, seed=2)), "utf-8")


def test_the_readmes_recipe_is_one(tmp_path: Path) -> None:
    (tmp_path / "flowers.toml").write_text(recipe_of_the_readme(), "utf-8")
    recipe = read_recipe(tmp_path / "flowers.toml")
    assert (recipe.name, recipe.train.steps, recipe.image.layers) == ("flowers", 120, 2)


def test_there_are_commands_to_run() -> None:
    assert commands()[0].startswith("mmsearch index ") and len(commands()) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("command", commands())
def test_the_readmes_command_works(
    command: str, home: Path, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(command, comments=True)[1:]
    if "pairs.jsonl" in words:
        write_pairs(home, samples)
    if set(words) & set(TRAINED):
        for needed in ("torch", "open_clip", "peft", "onnx"):
            pytest.importorskip(needed)
        if "flowers.toml" in words:
            write_recipe(home)
    if words[0] in ("tune", "merge") and not (home / "asked.txt").exists():
        write_large(home)
    words = [str(samples / STAND_INS[w]) if w in STAND_INS else w for w in words]
    monkeypatch.chdir(home)
    done = command_line.mmsearch(*words, home=home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_every_benchmark_the_readme_names_is_there() -> None:
    named = set(re.findall(r"benchmarks/\w+\.py", README))
    assert named and all((Path(__file__).parents[1] / name).exists() for name in named)
