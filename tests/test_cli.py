"""The command line: what it prints, where, and how it exits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import mmsearch
from mmsearch import errors, index, load_space
from mmsearch.cli import EXIT_CODES
from mmsearch.cli.edge import exit_code
from mmsearch.cli.show import show_skipped
from mmsearch.media import lift_pillows_ceiling
from mmsearch.spaces import load_encoder

README = Path(__file__).parents[1] / "README.md"
SAMPLES = Path(__file__).parent / "samples"


def _all_errors() -> list[type[errors.MmsearchError]]:
    return [
        e
        for e in vars(errors).values()
        if isinstance(e, type) and issubclass(e, errors.MmsearchError)
    ]


@pytest.mark.parametrize("error", _all_errors(), ids=lambda e: e.__name__)
def test_every_public_error_has_an_exit_code_that_the_readme_lists(
    error: type[errors.MmsearchError],
) -> None:
    code = exit_code(error("x"))
    assert code in EXIT_CODES.values() and code not in (0, 130)
    assert f"| {code} |" in README.read_text()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> Path:
    """A home with an index `default` over a few samples."""
    home = tmp_path_factory.mktemp("home")
    corpus = tmp_path_factory.mktemp("corpus")
    for name in ("photos/coffee.jpg", "photos/tabby.jpg", "sounds/bark.ogg", "texts/en/coffee.txt"):
        (corpus / Path(name).name).write_bytes((samples / name).read_bytes())
    (corpus / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (corpus / "program.py").write_text("print(1)\n")
    done = mmsearch("index", str(corpus), "--json", home=home)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {k: report[k] for k in ("indexed", "unchanged", "removed", "ignored", "skipped")} == {
        "indexed": 4,
        "unchanged": 0,
        "removed": 0,
        "ignored": 1,
        "skipped": 1,
    }
    return home


def test_a_query_prints_one_json_object_of_the_documented_form(home: Path) -> None:
    done = mmsearch("query", "a cup of coffee", "--to", "image", "--json", "-k", "2", home=home)
    assert done.returncode == 0 and done.stderr == ""
    body = json.loads(done.stdout)
    assert list(body) == ["schema", "query", "index", "space", "took_ms", "filter_ms", "hits"]
    assert body["schema"] == 1
    assert body["query"] == {"text": "a cup of coffee", "to": "image", "k": 2}
    assert body["index"] == str(home / "default") and body["space"] == "mini"
    assert [h["rank"] for h in body["hits"]] == [1, 2]
    first = body["hits"][0]
    assert list(first) == [
        "rank", "score", "id", "item_id", "modality", "path", "start_s", "end_s", "text", "meta",
    ]  # fmt: skip
    assert Path(first["path"]).name == "coffee.jpg" and first["modality"] == "image"
    assert first["score"] > body["hits"][1]["score"]
    assert first["meta"]["width"] > 0


def test_results_show_the_passage_of_a_text_and_the_span_of_a_sound(home: Path) -> None:
    done = mmsearch("query", "coffee", home=home)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    sound = next(line for line in lines if "bark.ogg" in line)
    assert " 0:00.0-0:0" in sound
    at = next(i for i, line in enumerate(lines) if "coffee.txt" in line)
    assert lines[at + 1].startswith(" " * 18) and len(lines[at + 1].strip()) > 20


def test_an_empty_index_answers_with_no_hits(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    done = mmsearch("index", str(tmp_path / "nothing"), home=tmp_path / "home")
    assert done.returncode == 0
    done = mmsearch("query", "a dog", "--json", home=tmp_path / "home")
    assert done.returncode == 0 and json.loads(done.stdout)["hits"] == []
    assert "the index is empty" in mmsearch("query", "a dog", home=tmp_path / "home").stdout


def test_skipped_files_are_listed_with_their_reason(home: Path) -> None:
    done = mmsearch("info", "--skipped", home=home)
    assert done.returncode == 0
    (line,) = done.stdout.splitlines()
    assert line.endswith("broken.png: is no picture, or its header is damaged or not supported")
    (row,) = json.loads(mmsearch("info", "--skipped", "--json", home=home).stdout)["skipped_files"]
    assert row["stage"] == "decode"
    body = json.loads(mmsearch("info", "--json", home=home).stdout)
    assert (body["items"], body["skipped"], body["ignored"]) == (4, 1, 1)
    assert body["search"].startswith("exact")


def test_files_that_failed_are_listed_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"path": "/x/a.jpg", "reason": "the decoder was killed", "stage": "decode"}
    show_skipped({"skipped_files": [], "failed_files": [row]})
    told = "/x/a.jpg: the decoder was killed (failed; the next run tries it again)\n"
    assert capsys.readouterr().out == told


def test_strict_exits_with_1_when_a_file_was_skipped(home: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    done = mmsearch("index", str(tmp_path), "--index", "strict", "--strict", home=home)
    assert done.returncode == 1 and "skipped 1" in done.stdout


def test_verify_says_what_is_damaged_and_exits_with_1(home: Path, tmp_path: Path) -> None:
    assert mmsearch("verify", home=home).stdout == "all is well\n"
    copy = tmp_path / "default"
    shutil.copytree(home / "default", copy)
    damaged = next(copy.rglob("vectors-*.npy"))
    damaged.write_bytes(damaged.read_bytes()[:-7] + b"1234567")
    done = mmsearch("verify", "--index", str(copy), home=home)
    assert done.returncode == 1
    assert str(damaged) in done.stdout and "restore it from a copy" in done.stdout


def test_delete_takes_a_file_out_of_the_results(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "default", tmp_path / "default")
    at = ("--index", str(tmp_path / "default"))
    found = json.loads(mmsearch("query", "coffee", "--json", *at, home=home).stdout)["hits"]
    coffee = next(h["path"] for h in found if h["path"].endswith("coffee.jpg"))
    assert mmsearch("delete", coffee, *at, home=home).stdout == "deleted 1\n"
    left = json.loads(mmsearch("query", "coffee", "--json", *at, home=home).stdout)["hits"]
    assert [h["path"] for h in left] == [h["path"] for h in found if h["path"] != coffee]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["query", "a dog", "--index", "nowhere"], 3, "there is no index at"),
        (["query"], 2, "exactly one of"),
        (["query", "a", "--image", "x.jpg"], 2, "exactly one of"),
        (["query", "   "], 2, "is empty"),
        (["query", "a dog", "--to", "smell"], 2, "not 'smell'"),
        (["query", "a dog", "-k", "0"], 2, "1 to 10,000"),
        (["query", "--image", "nowhere.jpg"], 7, "nowhere.jpg"),
        (["query", "--audio", __file__], 7, "test_cli.py"),
        (["query", "--image", "nowhere.jpg"], 7, "nowhere.jpg: there is no such file"),
        (["query", "--image", f"{SAMPLES}/sounds/bark.ogg"], 7, "is a sound; a picture is wanted"),
        (["query", "--audio", f"{SAMPLES}/photos/coffee.jpg"], 7, "is a picture; a sound is wa"),
        (["query", "--audio", f"{SAMPLES}/texts/en/coffee.txt"], 7, "is a text; a sound is want"),
        (["query", "--audio", str(SAMPLES)], 7, "is a folder; name a file in it"),
        (["query", "--image", __file__], 7, "is text; a picture is wanted, such as jpg, png, webp"),
        (["index", "/nowhere/at/all"], 2, "there is no file or folder"),
        (["index", ".", "--space", "minni"], 6, "minni"),
        (["index", ".", "--ann", "hnsw"], 2, "auto, flat, ivfpq"),
        (["index", ".", "--index", "a b?"], 2, "cannot name an index"),
        (["info", "--index", "nowhere"], 3, "there is no index at"),
        (["verify", "--index", "nowhere"], 3, "there is no index at"),
        (["delete", "x", "--index", "nowhere"], 3, "there is no index at"),
        (["index", ".", "--foo"], 2, "mmsearch index: no such option: --foo"),
        (["index", ".", "--workers", "0"], 2, "see `mmsearch index --help`"),
        (["index", ".", "--batch-size", "0"], 2, "see `mmsearch index --help`"),
        (["index"], 2, "mmsearch index: missing argument"),
        (["query", "-k", "x"], 2, "mmsearch query: "),
        (["query", "a", "b"], 2, "mmsearch query: "),
        (["eval"], 2, "mmsearch eval: missing argument"),
        (["eval", "default", "pairs.jsonl"], 2, "mmsearch eval: got unexpected extra argument"),
        (["eval", "pairs.jsonl", "--index", "nowhere"], 3, "there is no index at"),
        (["spaces", "pull"], 2, "see `mmsearch spaces pull --help`"),
        (["quary", "a dog"], 2, "mmsearch: no such command 'quary'"),
        (["--foo"], 2, "mmsearch: no such option: --foo"),
    ],
)
def test_a_mistake_gets_one_clear_line_and_its_exit_code(
    home: Path, args: list[str], code: int, words: str
) -> None:
    done = mmsearch(*args, home=home)
    assert done.returncode == code, done.stderr
    (line,) = done.stderr.splitlines()
    assert words in line and line.startswith("mmsearch")
    assert done.stdout == ""


def test_without_a_command_there_is_help() -> None:
    done = mmsearch(home=Path())
    assert done.returncode == 2 and "Usage: mmsearch [OPTIONS] COMMAND" in done.stdout + done.stderr
    assert mmsearch("--help", home=Path()).returncode == 0


def test_deleting_what_is_not_there_is_said(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "default", tmp_path / "default")
    at = ("--index", str(tmp_path / "default"))
    found = json.loads(mmsearch("query", "coffee", "--json", *at, home=home).stdout)["hits"]
    coffee = next(h for h in found if h["path"].endswith("coffee.jpg"))
    tabby = next(h for h in found if h["path"].endswith("tabby.jpg"))
    folder = str(Path(coffee["path"]).parent)
    done = mmsearch(
        "delete", "nowhere", coffee["id"], tabby["path"], "n2", "--json", *at, home=home
    )
    assert done.returncode == 2
    assert json.loads(done.stdout) == {"schema": 1, "deleted": 2}
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f"mmsearch: nothing in {tmp_path / 'default'} is called nowhere, n2: name"
    )
    done = mmsearch("delete", folder, *at, home=home)
    assert (done.returncode, done.stdout, done.stderr) == (0, "deleted 2\n", "")
    done = mmsearch("delete", folder, *at, home=home)
    assert (done.returncode, done.stdout) == (2, "deleted 0\n")


def test_a_batch_of_no_inputs_is_no_batch(tmp_path: Path) -> None:
    for size in (0, -1, 70_000, True, 2.5):
        with pytest.raises(errors.UsageError, match="a batch has 1 to 65,536 inputs, not"):
            load_space("clap:nobody/nothing", batch_size=size)  # type: ignore[arg-type]
        with pytest.raises(errors.UsageError, match="a batch has 1 to 65,536 inputs, not"):
            index(tmp_path, tmp_path / "ix", batch_size=size)  # type: ignore[arg-type]
    assert not (tmp_path / "ix").exists()


def test_what_is_missing_is_installed_from_the_folder_that_is_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(errors.SpaceUnavailable, match=r"not installed; .*'\.\[torch\]' in"):
        load_encoder("clap:nobody/nothing")
    for source in Path(errors.__file__).parent.rglob("*.py"):
        assert "mmsearch[" not in source.read_text("utf-8"), source  # it is on no index


def test_deleting_from_an_index_that_is_not_there_makes_none(tmp_path: Path) -> None:
    mmsearch("delete", "x", "--index", "nowhere", home=tmp_path)
    assert not (tmp_path / "nowhere").exists()


def test_every_command_has_help_with_an_example() -> None:
    for command in ("index", "query", "info", "verify", "delete", "spaces"):
        done = mmsearch(command, "--help", home=Path())
        assert done.returncode == 0 and f"mmsearch {command}" in done.stdout.split("Options")[0]


def test_spaces_says_what_is_ready_here() -> None:
    done = mmsearch("spaces", home=Path())
    mini = next(line for line in done.stdout.splitlines() if line.startswith("mini "))
    assert mini.split(maxsplit=2)[:2] == ["mini", "ready"]
    assert "image, text, audio" in mini
    assert "openclip:ViT-B-32/laion2b_s34b_b79k" in done.stdout


def test_a_reader_that_has_seen_enough_is_no_error(home: Path) -> None:
    command = f"{sys.executable} -m mmsearch query coffee -k 4 | head -n 1"
    env = {**os.environ, "MMSEARCH_HOME": str(home)}
    command += "; echo ${PIPESTATUS[0]}"
    bash = {"shell": True, "executable": shutil.which("bash")}
    done = subprocess.run(command, **bash, capture_output=True, text=True, env=env)  # type: ignore[call-overload]
    assert done.stderr == "" and len(done.stdout.splitlines()) == 2
    assert done.stdout.endswith("\n0\n")


@pytest.mark.parametrize("after_s", [0.05, 0.15, 0.3])
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_while_the_program_starts_is_no_traceback(home: Path, after_s: float) -> None:
    command = [sys.executable, "-c", _STOPPED, "info"]
    env = {**os.environ, "MMSEARCH_HOME": str(home), "AFTER_S": str(after_s)}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode in (0, 130) and "Traceback" not in done.stderr


# The signal comes so many seconds after our own code began to load.
_STOPPED = """
import os, signal
from mmsearch.__main__ import main
signal.setitimer(signal.ITIMER_REAL, float(os.environ["AFTER_S"]))
signal.signal(signal.SIGALRM, signal.default_int_handler)
main()
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("args", ["--version", "query coffee", "info --json"])
def test_a_full_disk_under_the_output_is_one_line(home: Path, args: str) -> None:
    env = {**os.environ, "MMSEARCH_HOME": str(home)}
    command = f"{sys.executable} -m mmsearch {args} > /dev/full"
    what = "output" if args.startswith("--") else "input or output"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, env=env)
    assert (done.returncode, done.stderr) == (1, f"mmsearch: {what}: No space left on device.\n")


def test_a_picture_larger_than_pillow_warns_of_can_be_asked_with(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    lift_pillows_ceiling.cache_clear()
    with Image.open(SAMPLES / "photos/coffee.jpg") as image:
        image.save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    done = mmsearch("query", "--image", str(tmp_path / "large.png"), "--json", home=home)
    assert done.returncode == 0 and done.stderr == ""
    assert Path(json.loads(done.stdout)["hits"][0]["path"]).name == "coffee.jpg"


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--device", "foo", "leave out --device"),
        ("--device", "cuda", "leave out --device"),
        ("--dtype", "fp64", "leave out --device"),
        ("--tower", "int8", "leave out --device"),
        ("--tower", "int3", "--tower is one of fp32, fp16, int8"),
    ],
)
def test_where_a_space_knows_no_choice_none_is_taken_silently(
    home: Path, tmp_path: Path, option: str, value: str, words: str
) -> None:
    done = mmsearch("index", str(tmp_path), option, value, home=home)  # with nothing to encode
    assert done.returncode == 2 and words in done.stderr
