"""The README's commands do what they say."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

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


def commands() -> list[str]:
    blocks = re.findall(r"```(?:sh)?\n(.*?)```", README, flags=re.S)
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line.startswith("mmsearch ")))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def test_there_are_commands_to_run() -> None:
    assert commands()[0].startswith("mmsearch index ") and len(commands()) >= 6


@pytest.mark.parametrize("command", commands())
def test_the_readmes_command_works(command: str, home: Path, samples: Path) -> None:
    words = shlex.split(command, comments=True)[1:]
    words = [str(samples / STAND_INS[w]) if w in STAND_INS else w for w in words]
    done = subprocess.run(
        [sys.executable, "-m", "mmsearch", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "MMSEARCH_HOME": str(home)},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_every_benchmark_the_readme_names_is_there() -> None:
    named = set(re.findall(r"benchmarks/\w+\.py", README))
    assert named and all((Path(__file__).parents[1] / name).exists() for name in named)
