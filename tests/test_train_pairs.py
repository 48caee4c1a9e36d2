"""What a training is asked to do: recipes and pairs, right and wrong.

Needs ``onnx`` of the extra ``torch`` to write its tiny space (`make test-train`).
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from mmsearch.errors import UsageError
from mmsearch.train.pairs import Heard, Thing, read_pairs
from mmsearch.train.recipe import read_recipe
from mmsearch.train.split import held_out, merged
from tiny_space import write_pairs, write_recipe

# -- what is asked


@pytest.mark.parametrize(
    ("change", "line", "why"),
    [
        (("batch = 32", "batch = 1"), 14, "a batch of one"),
        (("batch = 32", 'batch = "many"'), 14, "batch is a whole number"),
        (("steps = 30", "stepz = 30"), 13, "there is no key 'stepz' here"),
        (("share = 0.3", "share = 1.5"), 10, "share is from 0 to below 0.9"),
        (('name = "coloured"\n', ""), 1, "the key 'name' is missing"),
        (("rate = 0.01", "rate = 0"), 15, "rate is above 0"),
        (("rate = 0.01", "rate = inf"), 15, "rate is a finite number"),
        (("rate = 0.01", "rate = 1e30"), 15, "rate is above 0 to 100"),
        (("threads = 1", "threads = 1000000"), 18, "threads is from 0 to 256"),
        (("seed = 3", "seed = -3"), 4, "seed is from 0 to 4,294,967,295"),
        (("threads = 1", 'device = "meta"'), 18, "device is auto, cpu, cuda or cuda:0"),
        (("threads = 1", "warm_up = nan"), 18, "warm_up is a finite number"),
        (("threads = 1", "decay = -1.0"), 18, "decay is from 0 to 1,000"),
        (('"coloured"', '"a\\tb"'), 1, "printable characters"),
        (('out = "out"', 'out = "a\\u0000b"'), 2, "out holds a NUL character"),
        (("seed = 3", 'folder = "x"'), 4, "there is no key 'folder' here"),
        (("[[pairs]]", "[pairs]"), 6, "write [[pairs]], not [pairs]"),
        (("[train]", "[image]\nlayer_decay = 0.0\n[train]"), 13, "layer_decay is above 0 to 1"),
        (("[train]", "[teacher]\nweight = 2.0\n[train]"), 13, "a weight needs a teacher"),
        (("[train]", '[teacher]\nspace = "x"\nweight = -1\n[train]'), 14, "weight is from 0"),
        (("[train]", "[lora]\nrank = 4\n[train]"), 13, "adapters are for start = 'openclip:"),
    ],
)
def test_a_broken_recipe_is_refused_with_its_line(
    tmp_path: Path, change: tuple[str, str], line: int, why: str
) -> None:
    path = write_recipe(tmp_path)
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(UsageError) as e:
        read_recipe(path)
    assert f"recipe.toml:{line}: " in str(e.value)
    assert why in str(e.value)


def test_a_recipe_that_is_no_toml_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("name = 'a'\nout = \n")
    with pytest.raises(UsageError, match=r"r\.toml:2: not TOML: Invalid value, column 7\."):
        read_recipe(tmp_path / "r.toml")


def test_a_recipe_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_recipe(path).name == "coloured"


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ('{"image": "red.png"', "not JSON"),
        ('["red.png"]', "wanted a JSON object"),
        ('{"image": "red.png"}', "a pair needs two of"),
        ('{"image": 3, "text": "red"}', "image: wanted the path of one file, got 3"),
        ('{"image": "none.png", "text": "red"}', 'image: there is no file "none.png" beside'),
        ('{"image": "red.png", "text": [1]}', "text: wanted a text or a list of texts"),
        ('{"image": "red.png", "text": ""}', "text: the text is empty"),
        ('{"image": "red.png", "text": "caf\xe9"}', "not JSON"),
        ('{"image": "%s", "text": "x"}' % ("a" * 5000), 'image: "aaa'),
    ],
)
def test_a_broken_pair_is_refused_with_its_line(tmp_path: Path, row: str, why: str) -> None:
    (tmp_path / "red.png").write_bytes(b"")
    path = tmp_path / "pairs.jsonl"
    first = '{"image": "red.png", "text": "red"}\n\n'
    path.write_bytes((first + row + "\n").encode("latin-1"))
    with pytest.raises(UsageError) as e:
        read_pairs(path)
    assert f"pairs.jsonl:3: {why}" in str(e.value)


def test_rows_are_those_of_eval(tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(b"")
    path, heard = tmp_path / "pairs.jsonl", Heard()
    row = '{"id": 7, "image": "red.png", "pt-BR": "vermelho", "zh": null, "captoin": "red"}'
    path.write_bytes(b"\xef\xbb\xbf" + row.encode())
    (thing,) = read_pairs(path, heard)
    assert thing.texts == {"pt-BR": ("vermelho",)}
    assert heard.ignored == {"id", "captoin"}


def test_a_pipe_is_no_file_of_pairs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pairs.jsonl")
    with pytest.raises(UsageError, match="is not a file"):
        read_pairs(tmp_path / "pairs.jsonl")


def test_pictures_inside_parquet_are_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet as pq

    for image in (b"png", {"bytes": b"png", "path": "a.png"}):
        pq.write_table(
            pa.Table.from_pylist([{"image": image, "text": "x"}]), tmp_path / "p.parquet"
        )
        with pytest.raises(UsageError, match="embedded files are not read"):
            read_pairs(tmp_path / "p.parquet")


def write_tar(path: Path, **members: bytes) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_what_is_no_pair_in_a_tar_is_left_alone_and_half_a_pair_is_named(tmp_path: Path) -> None:
    whole = {"./a.png": b"x", "./a.txt": b"red", "README.md": b"hello", "__MACOSX/a.json": b"{}"}
    path, heard = write_tar(tmp_path / "t.tar", **whole, **{"b.png": b"x"}), Heard()
    (thing,) = read_pairs(path, heard)
    assert (thing.key, thing.texts) == ("a.png", {"text": ("red",)})
    assert heard.skipped == [f"{path}: b: nothing beside it belongs to it"]
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(UsageError, match="cut short"):
        read_pairs(path)


def things_of(folder: Path, *rows: dict[str, object]) -> list[Thing]:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return merged(read_pairs(path))


def test_rows_of_one_picture_are_one_thing_however_its_path_is_written(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "red.png").write_bytes(b"")
    (tmp_path / "link.png").symlink_to("red.png")
    same = ("red.png", "./red.png", "sub/../red.png", str(tmp_path / "red.png"), "link.png")
    rows = [{"image": name, "en": f"red {i}"} for i, name in enumerate(same)]
    (thing,) = things_of(tmp_path, *rows)
    assert thing.texts == {"en": tuple(f"red {i}" for i in range(5))}
    assert thing.key == "red.png"


def test_what_shares_a_picture_or_a_sound_is_held_out_together(tmp_path: Path) -> None:
    for i in range(60):
        (tmp_path / f"{i}.png").write_bytes(b"")
        (tmp_path / f"{i}.wav").write_bytes(b"")
    rows = [{"image": f"{i}.png", "en": "x"} for i in range(60)]
    rows += [{"image": f"{i}.png", "audio": f"{i // 2}.wav"} for i in range(60)]
    things = things_of(tmp_path, *rows)
    out = held_out(things, 0.4)
    assert 10 < sum(out) < 110
    for i in range(60):  # two pictures and one sound
        assert len({out[i], out[i ^ 1], out[60 + i], out[60 + (i ^ 1)]}) == 1


def test_jsonl_parquet_and_tar_say_the_same(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet as pq

    write_pairs(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    with tarfile.open(tmp_path / "pairs.tar", "w") as tar:
        for row in rows:
            stem = Path(row["image"]).stem
            (tmp_path / f"{stem}.json").write_text(json.dumps({"en": row["en"]}))
            tar.add(tmp_path / row["image"], row["image"])
            tar.add(tmp_path / f"{stem}.json", f"{stem}.json")
    jsonl, parquet, tar = (
        read_pairs(tmp_path / name) for name in ("pairs.jsonl", "rows.parquet", "pairs.tar")
    )
    said = [(t.key, t.texts) for t in jsonl]
    assert [(t.key, t.texts) for t in parquet] == said
    assert [(t.key, t.texts) for t in tar] == said
    # a tar of the same name is where a JSONL file's pictures are looked for first
    assert jsonl[0].image == (tmp_path / "pairs.tar", rows[0]["image"])
