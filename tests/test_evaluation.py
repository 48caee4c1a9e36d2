"""`mmsearch eval`: measures, intervals, pairs, and whole runs over an index."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytrec_eval

from corpora import copy_samples
from mmsearch.ann import ivfpq
from mmsearch.api import Index
from mmsearch.errors import LimitExceeded, SpaceUnavailable, UsageError
from mmsearch.evaluation import compare, evaluate, intervals, pairs
from mmsearch.evaluation.intervals import DRAWS, bootstrap, ends, units_of
from mmsearch.evaluation.measures import MEANS, per_query, recall_curve
from mmsearch.evaluation.pool import exact_ranks, held
from mmsearch.indexer import Options, run
from mmsearch.indexer.opening import open_writer
from mmsearch.indexer.quantise import update_ann
from mmsearch.pairs import MAX_LINE_BYTES
from mmsearch.store import PartRow
from mmsearch.types import Modality


def test_the_measures_are_those_of_trec_eval() -> None:
    rng = np.random.default_rng(3)
    names = "success_1 success_5 success_10 recip_rank ndcg_cut_10 map".split()
    theirs = dict(zip(MEANS, names, strict=True))
    ranks, relevant, scored = [], {}, {}
    for q in range(60):
        n = int(rng.integers(15, 60))
        right = rng.choice(n, int(rng.integers(1, 15)), replace=False)
        order = rng.permutation(n)  # target -> place
        ranks.append(order[right] + 1)
        relevant[f"q{q}"] = {f"d{t}": int(t in right) for t in range(n)}
        scored[f"q{q}"] = {f"d{t}": float(n - order[t]) for t in range(n)}
    judge = pytrec_eval.RelevanceEvaluator(
        relevant, {"success.1,5,10", "recip_rank", "ndcg_cut.10", "map"}
    )
    judged = judge.evaluate(scored)
    values, best = per_query(ranks)
    for q in range(60):
        for column, name in enumerate(MEANS):
            wanted = judged[f"q{q}"][theirs[name]]
            assert values[q, column] == pytest.approx(wanted, abs=1e-6), (q, name)
        assert best[q] == min(ranks[q])


def test_measures_of_one_query_by_hand() -> None:
    values, best = per_query([np.array([4, 2])])
    ndcg = (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3))
    assert best.tolist() == [2]
    assert values[0].tolist() == pytest.approx([0, 1, 1, 1 / 2, ndcg, (1 / 2 + 2 / 4) / 2])


def test_the_recall_curve_counts_who_is_answered_within_k() -> None:
    curve = recall_curve(np.array([1, 3, 100, 5000]))
    assert len(curve) == 100
    assert (curve[0], curve[1], curve[2], curve[98], curve[99]) == (0.25, 0.25, 0.5, 0.5, 0.75)


def test_the_interval_of_a_share_is_that_of_the_binomial() -> None:
    hits = np.zeros((400, 1))
    hits[:100] = 1
    one = np.ones(400, np.int64)
    low, high = ends(bootstrap(hits, one, np.arange(400), 0))
    half = 1.96 * math.sqrt(0.25 * 0.75 / 400)
    assert low[0] == pytest.approx(0.25 - half, abs=0.006)
    assert high[0] == pytest.approx(0.25 + half, abs=0.006)


def test_the_bootstrap_draws_whole_units_as_a_plain_loop_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(5)
    units = np.repeat(np.arange(6), [1, 5, 2, 3, 1, 4])
    values, ranks = rng.random((16, 2)), rng.integers(1, 30, 16)
    monkeypatch.setattr(intervals, "_BLOCK_CELLS", 16 * 300)  # blocks change nothing
    draws = bootstrap(values, ranks, units, 9)
    again = np.random.default_rng(9)
    for draw in draws:
        times = again.multinomial(6, np.full(6, 1 / 6))
        rows = np.concatenate([np.tile(np.flatnonzero(units == u), times[u]) for u in range(6)])
        wanted = [*values[rows].mean(axis=0), np.median(ranks[rows])]
        assert draw.tolist() == pytest.approx(wanted)
    assert len(draws) == DRAWS


def test_five_captions_of_a_photo_make_the_interval_as_wide_as_the_photo_alone() -> None:
    photos = (np.arange(80) % 2)[:, None].astype(float)
    alone = ends(bootstrap(photos, np.ones(80, np.int64), np.arange(80), 0))
    captions = np.repeat(photos, 5, axis=0)
    together = ends(bootstrap(captions, np.ones(400, np.int64), np.arange(400) // 5, 0))
    assert np.allclose(alone, together)


def test_queries_that_share_a_target_share_a_unit() -> None:
    units = units_of([[1], [2, 3], [3, 4], [1], [5], [4]]).tolist()
    assert units[0] == units[3] and units[1] == units[2] == units[5]
    assert len({units[0], units[1], units[4]}) == 3 and max(units) == 2


# -- an index of known vectors ----------------------------------------------

IMAGES, SOUNDS, WINDOWS = 1500, 40, 3


def unit(n: int, seed: int) -> np.ndarray:
    v = np.random.default_rng(seed).standard_normal((n, 512))
    return (v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float16)


def row(name: str, part_no: int, modality: Modality) -> PartRow:
    part = name if part_no == 0 else f"{name}#{part_no}"
    return PartRow(
        part, 1, f"{name}.x", modality, part_no, None, None, None, {}, 1, 1, 1, 1, bytes(16)
    )


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """IVF-PQ over 1,500 random pictures and 40 sounds of three windows, in two segments."""
    work = tmp_path_factory.mktemp("known")
    (work / "none").mkdir()
    run([work / "none"], work / "ix", None, Options(ann="ivfpq"))
    writer, _ = open_writer(work / "ix", None)
    with writer:
        root = writer.root("/gone")
        pictures, windows = unit(IMAGES, 1), unit(SOUNDS * WINDOWS, 2)
        rows = [(row(f"i{n}", 0, Modality.IMAGE), v) for n, v in enumerate(pictures)]
        for n, v in enumerate(windows):
            rows.append((row(f"s{n // WINDOWS}", n % WINDOWS, Modality.AUDIO), v))
        for some in (rows[:700], rows[700:]):
            writer.extend((replace(r, root=root), v) for r, v in some)
            writer.commit()
        update_ann(writer)
        writer.finish()
    return work / "ix"


@pytest.mark.slow
def test_exact_ranks_are_those_of_numpy_over_items_and_not_parts(known: Path) -> None:
    snapshot = Index(known).snapshot
    xq = unit(20, 7).astype(np.float32)
    rng = np.random.default_rng(0)
    for modality, vectors, n, parts in (
        (Modality.IMAGE, unit(IMAGES, 1), IMAGES, 1),
        (Modality.AUDIO, unit(SOUNDS * WINDOWS, 2), SOUNDS, WINDOWS),
    ):
        pool = held(snapshot, modality, {"/gone/i3.x", "/gone/s3.x"})
        assert len(pool) == n and list(pool.by_path.values()) == [3]
        scores = (xq @ vectors.astype(np.float32).T).reshape(20, n, parts).max(axis=2)
        places = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1) + 1
        targets = [rng.choice(n, size, replace=False).tolist() for size in [1, 2, 5, 30] * 5]
        ranks = exact_ranks(pool, xq, targets)
        for q, own in enumerate(targets):
            assert ranks[q].tolist() == places[q, own].tolist()


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), "utf-8")
    return path


@pytest.mark.slow
def test_what_quantising_loses_is_seen_apart_from_what_the_model_loses(
    known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ivfpq, "_EXACT_ROWS", 0)
    index = Index(known)
    for segment in index._view.lanes[0]:
        monkeypatch.setattr(segment, "_facts", {**segment._facts, "nprobe": 12})
    # each sound belongs to a picture that is among the first ten by exact search
    windows = unit(SOUNDS * WINDOWS, 2).astype(np.float32).reshape(SOUNDS, WINDOWS, 512)
    xq = windows.mean(axis=1) / np.linalg.norm(windows.mean(axis=1), axis=1, keepdims=True)
    order = np.argsort(-(xq @ unit(IMAGES, 1).astype(np.float32).T), axis=1)
    right = [int(order[n, n % 10]) for n in range(SOUNDS)]
    rows = [
        {"image": f"i{i}.x", "audio": f"s{n}.x", "text": f"thing {n}"} for n, i in enumerate(right)
    ]
    found = evaluate(index, write(tmp_path / "pairs.jsonl", *rows))
    assert found.search == "ivfpq" and found.not_in_index == {"image": 0, "audio": 0}
    by_name = {d.name: d for d in found.directions}
    one = by_name["audio → image"]
    assert one.measures["recall@10"].value == 1 and one.measures["recall@1"].value == 0.1
    hits = 0
    for vector, i in zip(xq, right, strict=True):
        hits += f"i{i}" in [hit.id for hit in index.search(vector=vector, to="image", k=10)]
    assert one.ann is not None and one.ann["recall@10"].value == pytest.approx(hits / SOUNDS)
    assert 0 < one.ann["recall@10"].value < 1
    assert (one.pool, one.queries) == (IMAGES, SOUNDS)
    assert by_name["image → audio"].ann is not None
    assert by_name["image → text"].ann is None  # the captions are searched exactly
    same = compare(index, index, tmp_path / "pairs.jsonl").differences
    assert {d.name for d in same} == set(by_name)
    for difference in same:
        assert ("ann recall@1" in difference.measures) == (difference.target != "text")
        for measure in difference.measures.values():
            assert (measure.value, measure.low, measure.high) == (0, 0, 0) and not measure.real


def test_a_real_difference_is_called_real(known: Path, tmp_path: Path) -> None:
    """An index that lacks the distractors finds what the other does not."""
    right = unit(IMAGES, 1)[:SOUNDS]
    (tmp_path / "none").mkdir()
    run([tmp_path / "none"], tmp_path / "ix")
    writer, _ = open_writer(tmp_path / "ix", None)
    with writer:
        root = writer.root("/gone")
        pairs_of = [(row(f"i{n}", 0, Modality.IMAGE), v) for n, v in enumerate(right)]
        pairs_of += [(row(f"s{n}", 0, Modality.AUDIO), v) for n, v in enumerate(right)]
        writer.extend((replace(r, root=root), v) for r, v in pairs_of)
        writer.commit()
        writer.finish()
    rows = [{"image": f"i{n}.x", "audio": f"s{n}.x"} for n in range(SOUNDS)]
    found = compare(known, tmp_path / "ix", write(tmp_path / "pairs.jsonl", *rows))
    there = next(d for d in found.differences if d.name == "audio → image")
    assert found.b.directions[0].measures["recall@1"].value == 1
    assert there.measures["recall@1"].value > 0.9 and there.measures["recall@1"].real
    assert there.measures["median_rank"].value < 0 and there.measures["median_rank"].real


# -- whole runs over samples ------------------------------------------------

ROWS: list[dict[str, Any]] = [
    {
        "image": "photos/coffee.jpg",
        "en": ["a cup of coffee", "a warm drink"],
        "zh": "一杯咖啡",
        "label": "coffee",
        "split": "test",
    },
    {"image": "photos/tabby.jpg", "en": "an animal", "label": "cat"},
    {"image": "tabby.jpg", "en": ["a cat", "an animal"]},
    {"image": "photos/pagoda.jpg", "zh": ["一座宝塔"], "label": "pagoda", "audio": None},
    {"audio": "sounds/bark.ogg", "en": ["a dog barks", "an animal"], "label": "dog"},
    {"audio": "sounds/rain.ogg", "en": "rain", "label": "rain", "image": "photos/porch.jpg"},
]


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> tuple[Path, Path]:
    """(index, pairs): nine samples, indexed as two roots, and pairs beside them."""
    work = tmp_path_factory.mktemp("indexed")
    copy_samples(samples, work / "corpus")
    run([work / "corpus" / "photos", work / "corpus" / "sounds"], work / "ix")
    return work / "ix", write(work / "corpus" / "pairs.jsonl", *ROWS)


def test_every_direction_that_the_pairs_allow_is_measured(indexed: tuple[Path, Path]) -> None:
    found = evaluate(*indexed)
    sizes = {d.name: (d.queries, d.pool, d.units) for d in found.directions}
    assert sizes == {
        "en → image": (5, 4, 3),
        "en → audio": (3, 3, 2),
        "image → en": (3, 6, 3),
        "audio → en": (2, 6, 2),
        "zh → image": (2, 4, 2),
        "image → zh": (2, 2, 2),
        "audio → image": (1, 4, 1),
        "image → audio": (1, 3, 1),
    }
    assert found.search == "exact" and all(d.ann is None for d in found.directions)
    by_name = {d.name: d for d in found.directions}
    assert by_name["zh → image"].measures["recall@1"].value == 1
    assert by_name["image → audio"].measures["recall@1"].low is None  # one unit
    assert [(c.modality, c.items, c.classes) for c in found.classifications] == [
        ("image", 4, 4),
        ("audio", 2, 2),
    ]
    assert found.classifications[1].accuracy.value == 1
    assert any("split" in note for note in found.notes)


def test_the_ranks_are_those_that_a_search_gives(indexed: tuple[Path, Path]) -> None:
    index = Index(indexed[0])
    wanted = {
        "a cup of coffee": {"coffee.jpg"},
        "a warm drink": {"coffee.jpg"},
        "an animal": {"tabby.jpg"},
        "a cat": {"tabby.jpg"},
        "rain": {"porch.jpg"},
    }
    ranks, precision = [], []
    for results in index.search_batch(list(wanted), to="image"):
        names = [Path(str(hit.path)).name for hit in results]
        (right,) = wanted[str(results.query.text)]
        ranks.append(names.index(right) + 1)
        precision.append(1 / ranks[-1])
    one = evaluate(*indexed).directions[0]
    assert one.name == "en → image"
    assert one.measures["median_rank"].value == np.median(ranks)
    assert one.measures["recall@1"].value == np.mean(np.array(ranks) == 1)
    assert one.measures["map"].value == pytest.approx(np.mean(precision))


def test_a_caption_of_two_photos_has_both_as_right_answers(
    indexed: tuple[Path, Path], tmp_path: Path
) -> None:
    index, _ = indexed
    names = ("photos/coffee.jpg", "photos/tabby.jpg", "photos/pagoda.jpg", "photos/porch.jpg")
    folder = index.parent / "corpus"
    rows = [{"image": str(folder / name), "text": "a picture"} for name in names]
    found = evaluate(index, write(tmp_path / "pairs.jsonl", *rows))
    there, back = found.directions
    assert (there.name, there.queries, there.measures["map"].value) == ("text → image", 1, 1)
    assert there.measures["ndcg@10"].value == 1
    assert (back.queries, back.pool, back.units) == (4, 1, 1)


def test_a_file_that_is_not_in_the_index_is_asked_with_but_is_no_target(
    indexed: tuple[Path, Path], tmp_path: Path, samples: Path
) -> None:
    kitten = str(samples / "photos" / "kitten.jpg")
    rows = [
        {"image": kitten, "text": "a kitten"},
        {"image": "coffee.jpg", "text": "a cup of coffee"},
    ]
    found = evaluate(indexed[0], write(tmp_path / "pairs.jsonl", *rows))
    there, back = found.directions
    assert found.not_in_index == {"image": 1, "audio": 0}
    assert (there.name, there.queries, there.unanswerable) == ("text → image", 1, 1)
    assert (back.name, back.queries, back.measures["recall@1"].value) == ("image → text", 2, 1)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", ":2: not JSON"),
        ("[1]", ":2: wanted a JSON object, got [1]"),
        ("[" * 100_000, ":2: not JSON"),
        ('{"image": ["a.jpg"]}', ':2: image: wanted the path of one file, got ["a.jpg"]'),
        ('{"image": "a\\u0000b"}', ":2: image: "),
        ('{"image": "coffee.jpg", "text": 3}', ":2: text: wanted a text or a list of texts, got 3"),
        ('{"image": "coffee.jpg", "en": ["x", null]}', ":2: en: wanted a text"),
        ('{"image": "coffee.jpg", "zh": " "}', ":2: zh: the text is empty"),
        ('{"image": "coffee.jpg", "zh": "\\ud800"}', ":2: zh: "),
        ('{"image": "coffee.jpg", "label": ["x"]}', ":2: label: wanted a text, got"),
        ('{"image": "nowhere.jpg", "en": "x"}', ":2: image: nowhere.jpg is neither"),
        ('{"image": "%s", "en": "x"}' % ("a" * 5000), ":2: image: "),
    ],
)
def test_a_bad_line_is_named_with_its_field(
    indexed: tuple[Path, Path], tmp_path: Path, line: str, words: str
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"image": "coffee.jpg", "en": "coffee"}\n' + line + "\n")
    with pytest.raises(UsageError) as e:
        evaluate(indexed[0], path)
    assert str(e.value).startswith(str(path) + words)


def test_a_file_that_cannot_be_read_is_left_out_counted_and_named(
    indexed: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"not a picture")
    rows = [
        {"image": "bad.jpg", "en": "a cup of tea"},
        {"image": "coffee.jpg", "en": "a cup of coffee"},
    ]
    path = write(tmp_path / "pairs.jsonl", *rows)
    found = evaluate(indexed[0], path)
    assert found.unreadable == {"image": 1, "audio": 0}
    assert {d.name: d.queries for d in found.directions} == {"en → image": 1, "image → en": 1}
    (note,) = [note for note in found.notes if note.startswith("left out: ")]
    assert f"{path}:1: image: " in note and "bad.jpg" in note
    with pytest.raises(UsageError, match=r"pairs.jsonl:1: image: .*bad.jpg"):
        evaluate(indexed[0], path, strict=True)


def test_what_is_always_right_is_not_certain_and_few_groups_are_said(
    indexed: tuple[Path, Path],
) -> None:
    found = evaluate(*indexed)
    (sounds,) = [d for d in found.directions if d.name == "audio → en"]
    right = sounds.measures["recall@10"]
    assert (sounds.units, right.value, right.high) == (2, 1, 1)
    assert right.low == pytest.approx(2 / (2 + 1.96**2), abs=1e-4)  # Wilson's, at 2 of 2
    assert any("fewer than 10 independent groups" in note for note in found.notes)


def test_wilsons_interval_is_the_published_one() -> None:
    # Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E, table I
    for right, of, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)):
        assert intervals.wilson(right / of, of) == pytest.approx((low, high), abs=5e-5)
    assert intervals.wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert intervals.wilson(1 / 29, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_a_file_without_a_usable_pair_is_an_error(
    indexed: tuple[Path, Path], tmp_path: Path
) -> None:
    path = tmp_path / "pairs.jsonl"
    for rows, words in (
        ([], "is empty"),
        ([{"image": "coffee.jpg"}, {"text": "x"}], "no line puts two things together"),
        ([{"image": "coffee.jpg", "label": "x"}], "no pair can be asked"),
    ):
        with pytest.raises(UsageError, match=words):
            evaluate(indexed[0], write(path, *rows))
    path.write_bytes(b'{"text": "\xff"}')
    with pytest.raises(UsageError, match="1: not JSON"):
        evaluate(indexed[0], path)
    for place in (tmp_path, tmp_path / "nothing.jsonl"):
        with pytest.raises(UsageError, match=str(place)):
            evaluate(indexed[0], place)


def test_limits_are_stated(
    indexed: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"x": "y" * MAX_LINE_BYTES}))
    with pytest.raises(LimitExceeded, match=r"1: the line has more than 1,048,576 bytes"):
        evaluate(indexed[0], path)
    monkeypatch.setattr(pairs, "MAX_ROWS", 1)
    with pytest.raises(LimitExceeded, match="2: more than 1 rows"):
        evaluate(indexed[0], write(path, {"image": "a", "text": "b"}, {"image": "a", "text": "c"}))


def test_two_indexes_are_compared_on_what_both_can_answer(
    indexed: tuple[Path, Path], tmp_path: Path
) -> None:
    index, path = indexed
    fewer = tmp_path / "fewer"
    (tmp_path / "photos").mkdir()
    for name in ("coffee.jpg", "tabby.jpg"):
        content = (path.parent / "photos" / name).read_bytes()
        (tmp_path / "photos" / name).write_bytes(content)
    run([tmp_path / "photos"], fewer)
    (tmp_path / "coffee").mkdir()
    rows = [
        {"image": "coffee.jpg", "en": "a cup of coffee"},
        {"image": "tabby.jpg", "en": "a cat"},
        {"image": str(path.parent / "photos" / "pagoda.jpg"), "en": "a pagoda"},
    ]
    found = compare(index, fewer, write(tmp_path / "pairs.jsonl", *rows))
    assert [d.queries for d in found.a.directions] == [3, 3]
    assert [d.queries for d in found.b.directions] == [2, 3]
    assert found.b.not_in_index["image"] == 1
    assert [(d.name, d.queries) for d in found.differences] == [
        ("en → image", 2),
        ("image → en", 3),
    ]


# -- the command ------------------------------------------------------------


def mmsearch(*args: str | Path, code: str = "") -> subprocess.CompletedProcess[str]:
    program = code + "\nfrom mmsearch.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, args)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "100"},
        timeout=120,
    )


def test_the_command_prints_one_json_object_and_draws(
    indexed: tuple[Path, Path], tmp_path: Path
) -> None:
    index, path = indexed
    done = mmsearch("eval", path, "--index", index, "--json", "--plot", tmp_path / "recall.png")
    assert done.returncode == 0 and done.stderr == ""
    body = json.loads(done.stdout)
    assert body == json.loads(json.dumps(evaluate(*indexed).to_json()))
    assert body["schema"] == 1 and len(body["directions"]) == 8
    assert list(body["directions"][0]["measures"]) == [*MEANS, "median_rank"]
    assert (tmp_path / "recall.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_prints_a_table_for_people(indexed: tuple[Path, Path]) -> None:
    index, path = indexed
    done = mmsearch("eval", path, "-i", index, "--compare", index)
    assert done.returncode == 0 and done.stderr == ""
    assert "each against all image items of the index (4)" in done.stdout
    assert "each against the en captions of the pairs (6)" in done.stdout
    assert "exact search: no ANN loss" in done.stdout
    assert "en → image  B - A on 5 queries in 3 independent groups" in done.stdout
    assert "  R@1           +0.0pp  [+0.0, +0.0]  equal" in done.stdout


def test_what_goes_wrong_is_one_line(indexed: tuple[Path, Path], tmp_path: Path) -> None:
    index, path = indexed
    folder = tmp_path / "folder.png"
    folder.mkdir()
    no_plot = "import sys; sys.modules['matplotlib'] = None"
    for args, code, words, exit_code in (
        (
            (path, "--index", index, "--plot", "x.png"),
            no_plot,
            "install the extra plot: pip install '.[plot]' in",
            2,
        ),
        ((path, "--index", index, "--plot", "x.doc"), "", "a plot is one of", 2),
        ((path, "--index", index, "--plot", folder), "", "is a folder", 2),
        ((path, "--index", index, "--plot", tmp_path / "no" / "x.png"), "", "is no folder", 2),
        ((tmp_path / "none", "--index", index), "", "cannot be read", 2),
        ((path, "--index", tmp_path / "none"), "", "", 3),
        ((path, "--index", index, "--compare", tmp_path / "none"), "", "", 3),
    ):
        done = mmsearch("eval", *args, code=code)
        assert done.returncode == exit_code and done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith("mmsearch: ") and words in line


def test_a_space_that_gives_no_numbers_is_a_clear_error(
    indexed: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index(indexed[0])
    encoder = index._load_encoder(index._view)
    nothing = np.full((1, encoder.space.dimension), np.nan, np.float32)
    monkeypatch.setattr(type(encoder), "encode", lambda *_, **__: nothing)
    with pytest.raises(SpaceUnavailable, match="vectors that are not finite"):
        index.search("rain")
