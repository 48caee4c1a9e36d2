"""Lanes: an index of several spaces, ``a+b``, and how their hits meet."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import mmsearch
from mmsearch.calibrate import Chance, chance, surprise
from mmsearch.cli.app import app
from mmsearch.errors import IndexDamaged, SpaceMismatch, SpaceUnavailable, UsageError
from mmsearch.indexer import Options, compact, merge, reencode, run
from mmsearch.spaces import load_encoder
from mmsearch.spaces.lanes import lanes_of
from mmsearch.store import Snapshot, Writer, manifest, verify
from mmsearch.types import Modality, Space
from tiny_space import WIDTH, part, write_pairs, write_space

IMAGES = SOUNDS = 72
TEXTS = ["a red square", "pale blue", "a warm green square", "dull", "grey black white", "cyan"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``seen`` (pictures, texts) and ``heard`` (texts, sounds), of different sizes, ``pairs`` with
    pictures, sounds and texts, and indexes of them: ``both``, ``one`` and ``other``."""
    home = tmp_path_factory.mktemp("lanes")
    part(home / "seen", write_space(home / "a"), "image", "text")
    part(home / "heard", write_space(home / "b", seed=3), "text", "audio")
    pairs = write_pairs(home / "pairs", sounds=True)
    for i, text in enumerate(TEXTS):
        (home / "pairs" / f"{i}.txt").write_text(text)
    shutil.move(pairs, home / "pairs.jsonl")
    run([home / "pairs"], home / "both", f"{home / 'seen'}+{home / 'heard'}")
    run([home / "pairs"], home / "one", str(home / "seen"))
    run([home / "pairs"], home / "other", str(home / "heard"))
    return home


def cli(*args: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(a) for a in args])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.stdout, done.stderr


def found(index: Path, *args: object, **kwargs: object) -> list[tuple[str | None, float]]:
    return [(h.path, h.score) for h in mmsearch.open(index).search(*args, **kwargs)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "lanes"),
    [
        ("mini", ["mini"]),
        ("mini+clap:laion/x", ["mini", "clap:laion/x"]),
        ("openclip:ViT-B-32/laion2b+clap:/c++/x+y", ["openclip:ViT-B-32/laion2b", "clap:/c++/x+y"]),
        ("openclip:local-dir:/a+b/c+gemma@256", ["openclip:local-dir:/a+b/c", "gemma@256"]),
        ("clap:/a+mini", ["clap:/a", "mini"]),
        ("nonsense+mini", ["nonsense+mini"]),
        ("mini+clpa:laion/x", ["mini", "clpa:laion/x"]),
    ],
)
def test_a_plus_joins_names_and_stays_in_places(name: str, lanes: list[str]) -> None:
    assert lanes_of(name) == lanes


def test_a_plus_in_the_name_of_a_folder_is_not_a_lane(made: Path, tmp_path: Path) -> None:
    odd = shutil.copytree(made / "seen", tmp_path / "a+b")
    assert lanes_of(str(odd)) == [str(odd)]
    assert lanes_of(f"{odd}+{made / 'heard'}") == [str(odd), str(made / "heard")]
    assert load_encoder(str(odd)).space.dimension == WIDTH


def test_each_lane_holds_what_it_is_the_first_to_take(made: Path) -> None:
    space = mmsearch.open(made / "both").space
    assert [set(held) for held in space.held] == [{"image", "text"}, {"text", "audio"}]
    assert space.name == "seen+heard" and space.dimension == 2 * WIDTH
    assert set(space.modalities) == set(Modality)
    whole = load_encoder(str(made / "a")).space
    with pytest.raises(UsageError, match=r"tiny\+heard: .*heard adds nothing"):
        Space.joined([whole, space.lanes[1]])
    with pytest.raises(UsageError, match="adds nothing"):
        Space.joined([space, whole])
    heard, both = space.lanes[1], Space.joined([space.lanes[1], whole])
    assert [set(held) for held in both.held] == [{*heard.modalities}, {"image", "text"}]


def test_each_lane_answers_as_an_index_of_its_space_alone_would(made: Path) -> None:
    assert len(mmsearch.open(made / "both")) == IMAGES + SOUNDS + len(TEXTS)
    picture, sound = made / "pairs" / "pale_red.png", made / "pairs" / "dark_blue.wav"
    for to in ("image", "text"):
        for asked in ({"text": "a red square"}, {"image": picture}):
            assert found(made / "both", to=to, **asked) == found(made / "one", to=to, **asked)
    assert found(made / "both", audio=sound, to="text") == found(
        made / "other", audio=sound, to="text"
    )
    for asked in ({"text": "a red square"}, {"audio": sound}):
        assert found(made / "both", to="audio", **asked) == found(
            made / "other", to="audio", **asked
        )
    both, alone = Snapshot.open(made / "both"), Snapshot.open(made / "other")
    assert sum(len(s.lanes[1].vectors) for s in both.segments) == len(alone)


def test_a_slip_of_the_pen_is_told_of_the_lane_that_has_it() -> None:
    with pytest.raises(SpaceUnavailable, match="did you mean clap:laion/x"):
        load_encoder("mini+clpa:laion/x")


def test_an_evaluation_asks_what_a_lane_can_answer(made: Path, tmp_path: Path) -> None:
    shutil.copy(made / "pairs.jsonl", made / "pairs" / "pairs.jsonl")
    figures = {}
    for name in ("both", "one", "other"):
        code, out, err = cli(
            "eval", made / "pairs" / "pairs.jsonl", "--index", made / name, "--json"
        )
        assert code == 0, err
        figures[name] = {
            (d["query"], d["target"]): d["measures"] for d in json.loads(out)["directions"]
        }
    (made / "pairs" / "pairs.jsonl").unlink()
    assert set(figures["both"]) == {*figures["one"], *figures["other"]}
    for alone in ("one", "other"):
        for direction, measures in figures[alone].items():
            assert figures["both"][direction] == measures


def test_what_is_out_of_reach_is_said(made: Path) -> None:
    picture = made / "pairs" / "pale_red.png"
    results = mmsearch.open(made / "both").search(image=picture, k=500)
    assert results.out_of_reach == ("audio",) and len(results) == IMAGES + len(TEXTS)
    assert results.to_json()["out_of_reach"] == ["audio"]
    ix = ("--index", made / "both")
    _, out, _ = cli("query", "--image", picture, *ix)
    assert "not looked for: audio" in out
    _, out, _ = cli("query", "--image", picture, "--where", "modality = 'audio'", *ix)
    assert "meets the filter" not in out and "not looked for: audio" in out
    for asked in ({"text": "red"}, {"image": picture, "to": "image"}):
        found = mmsearch.open(made / "both").search(**asked)  # type: ignore[arg-type]
        assert found.out_of_reach == () and "out_of_reach" not in found.to_json()
    only = mmsearch.open(made / "both").search("red", where="modality = 'audio'")
    assert [h.surprise for h in only] == [None] * 10  # nothing met


def test_texts_are_found_by_the_first_space_that_takes_them(made: Path, tmp_path: Path) -> None:
    words = part(tmp_path / "words", write_space(tmp_path / "c", seed=9), "text")
    name = f"{words}+{made / 'seen'}+{made / 'heard'}"
    run([made / "pairs"], tmp_path / "ix", name)
    run([made / "pairs"], tmp_path / "alone", str(words))
    space = mmsearch.open(tmp_path / "ix").space
    assert [set(held) for held in space.held] == [{"text"}, {"image", "text"}, {"text", "audio"}]
    texts = found(tmp_path / "ix", "a red square", to="text")
    assert texts == found(tmp_path / "alone", "a red square", to="text")
    for to in ("image", "audio"):
        assert found(tmp_path / "ix", "blue", to=to) == found(made / "both", "blue", to=to)
    with pytest.raises(UsageError, match="words adds nothing"):
        load_encoder(f"{made / 'seen'}+{words}")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("{seen}+", "'' is none"),
        ("+{seen}", "joins spaces"),
        ("{seen}+nothere", "'nothere' is none"),
        ("{seen} + {heard}", None),
    ],
)
def test_what_follows_a_plus_and_is_no_space_is_named(
    made: Path, name: str, said: str | None
) -> None:
    whole = name.format(seen=made / "seen", heard=made / "heard")
    if said is None:
        assert load_encoder(whole).space == mmsearch.open(made / "both").space
        return
    with pytest.raises(SpaceUnavailable, match=said):
        load_encoder(whole)


def test_an_index_whose_first_run_was_stopped_is_empty_and_says_so(
    made: Path, tmp_path: Path
) -> None:
    with Writer(tmp_path / "ix", mmsearch.open(made / "both").space):
        pass  # killed before its first commit
    code, out, _ = cli("query", "a red square", "--index", tmp_path / "ix")
    assert code == 0 and "the index is empty" in out
    index = mmsearch.open(tmp_path / "ix")
    assert len(index.search("red")) == 0
    assert [len(one) for one in index.search_batch(["red", "blue"])] == [0, 0]


def test_what_shares_no_lane_is_told_and_a_bridge_is_named(made: Path) -> None:
    index = mmsearch.open(made / "both")
    picture = made / "pairs" / "pale_red.png"
    with pytest.raises(SpaceUnavailable, match=r"finds image, text, and not audio.*bridge"):
        index.search(image=picture, to="audio")
    assert {h.modality for h in index.search(image=picture, k=200)} == {"image", "text"}
    code, _, err = cli("query", "--image", picture, "--to", "audio", "--index", made / "both")
    assert code != 0 and err.count("\n") == 1


def test_where_lanes_meet_surprise_decides_and_everything_is_found_once(made: Path) -> None:
    index = mmsearch.open(made / "both")
    hits = index.search("a red square", k=500).hits
    assert len(hits) == len(index) == len({h.id for h in hits})
    surprises = [h.surprise for h in hits]
    assert surprises == sorted(surprises, reverse=True)  # type: ignore[type-var]
    for modality in Modality:
        mine = [h.score for h in hits if h.modality == modality]
        assert mine == sorted(mine, reverse=True)
    assert hits[0].to_json()["surprise"] == hits[0].surprise
    alone = index.search("a red square", to="image", k=3)
    assert [h.surprise for h in alone] == [None] * 3 and "surprise" not in alone[0].to_json()


def test_a_batch_finds_what_single_queries_find(made: Path) -> None:
    index = mmsearch.open(made / "both")
    texts = ["a red square", "blue", "warm"]
    batch = index.search_batch(texts, k=20)
    assert batch.surprises is not None and batch.surprises.shape == (3, 20)
    for text, results in zip(texts, batch, strict=True):
        alone = index.search(text, k=20)
        assert [h.id for h in results] == [h.id for h in alone]
        assert [h.surprise for h in results] == pytest.approx([h.surprise for h in alone], abs=1e-4)
    space = mmsearch.load_space(f"{made / 'seen'}+{made / 'heard'}")
    vectors = np.concatenate(
        [space.encode_document(texts), space.encode_images([made / "pairs" / "pale_red.png"])]
    )
    mixed = index.search_batch(vectors=vectors, k=20)
    assert [h.id for h in mixed[0]] == [h.id for h in batch[0]]
    pictured = index.search(image=made / "pairs" / "pale_red.png", k=20)
    assert [h.id for h in mixed[3]] == [h.id for h in pictured]
    sound = space.encode_audio([made / "pairs" / "pale_red.wav"])
    only = index.search_batch(vectors=np.concatenate([vectors[:1], sound]), k=5, to="audio")
    assert only.surprises is None
    both = index.search_batch(vectors=np.concatenate([vectors[:1], sound]), k=5, to="text")
    assert both.surprises is None and len(both[1]) == 5
    with pytest.raises(SpaceMismatch):
        index.search(vector=mmsearch.load_space(str(made / "seen")).encode_document(["red"])[0])


def test_filters_and_removals_hold_in_every_lane(made: Path, tmp_path: Path) -> None:
    index = mmsearch.open(shutil.copytree(made / "both", tmp_path / "ix"))
    some = index.search("a red square", k=500, where="modality != 'text'")
    assert len(some) == IMAGES + SOUNDS
    again = index.search("a red square", k=500, where="path like '%pale%'", to="audio")
    assert len(again) == 12 and all("pale" in str(h.path) for h in again)
    assert index.delete(paths=made / "pairs" / "pale_red.wav") == 1
    assert len(index.search("red", to="audio", k=500)) == SOUNDS - 1
    added = index.add([{"text": "a dark orange square"}, made / "pairs" / "pale_red.wav"])
    assert index.get(added[0]) is not None and len(index) == IMAGES + SOUNDS + len(TEXTS) + 1
    assert index.search("a dark orange square", to="text")[0].id == added[0]
    assert verify(index.path) == []
    compact(index.path)
    assert index.refresh() and len(index.snapshot.segments) == 1 and verify(index.path) == []
    assert index.search("a dark orange square", to="text")[0].id == added[0]
    assert len(index.search("red", to="audio", k=500)) == SOUNDS


def test_a_second_run_encodes_nothing_and_a_moved_file_keeps_its_vectors(
    made: Path, tmp_path: Path
) -> None:
    shutil.copytree(made / "pairs", tmp_path / "pairs")
    run([tmp_path / "pairs"], tmp_path / "ix", f"{made / 'seen'}+{made / 'heard'}")
    before = found(tmp_path / "ix", "red", to="audio", k=1)
    (tmp_path / "pairs" / "deep").mkdir()
    (path,) = [Path(str(p)) for p, _ in before]
    path.rename(path.parent / "deep" / path.name)
    report = run([tmp_path / "pairs"], tmp_path / "ix")
    assert (report.parts, report.moved) == (0, 1)
    after = found(tmp_path / "ix", "red", to="audio", k=1)
    assert after == [(str(path.parent / "deep" / path.name), before[0][1])]
    assert verify(tmp_path / "ix") == []


@pytest.mark.slow
def test_each_lane_has_lists_of_its_own(made: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made / "both", tmp_path / "ix")
    index = mmsearch.open(folder)
    index.add([{"text": f"{a} {b}"} for a in TEXTS for b in map(str, range(120))])
    run([made / "pairs"], folder, None, Options(ann="ivfpq", memory="1MB"))
    known = manifest.read(folder)
    assert set(known.anns) == {lane.fingerprint for lane in known.space.lanes}
    assert verify(folder) == [] and index.refresh()
    for to in ("image", "audio", "text"):
        lists = [h.id for h in index.search("a red square", to=to, k=5)]
        exact = [h.id for h in index.search("a red square", to=to, k=5, recall=1)]
        assert set(lists) == set(exact)
    _, out, _ = cli("info", "--index", folder)
    assert out.count("search    ivfpq") == 2 and "recall@10" in out
    code, out, _ = cli("tune", "--index", folder, "--recall", "0.9")
    assert code == 0
    assert out.count("recall@10") == 2 and "seen:" in out and "heard:" in out
    assert {a.facts["target"] for a in manifest.read(folder).anns.values()} == {0.9}
    run([made / "pairs"], folder, None, Options(ann="flat"))
    assert manifest.read(folder).anns == {} and verify(folder) == []
    assert not list((folder / "ann").glob("*.quantiser"))


@pytest.mark.slow
def test_lists_of_one_lane_outlast_the_training_of_another(made: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made / "both", tmp_path / "ix")
    index = mmsearch.open(folder)
    index.add([{"text": f"{a} {b}"} for a in TEXTS for b in map(str, range(120))])
    run([made / "pairs"], folder, None, Options(ann="ivfpq"))
    first, second = manifest.read(folder).anns.values()
    index.add([{"text": "one more"}])
    (folder / "ann" / f"{second.name}.quantiser").unlink()
    run([made / "pairs"], folder)
    anns = manifest.read(folder).anns
    assert [a.name for a in anns.values() if a.name == first.name] == [first.name]
    assert second.name not in [a.name for a in anns.values()]
    for segment in Snapshot.open(folder).segments:
        assert all(lane.code_blocks is not None for lane in segment.lanes)
    assert verify(folder) == []


def test_an_index_is_reencoded_into_lanes_and_out_of_them(made: Path, tmp_path: Path) -> None:
    run([made / "pairs"], tmp_path / "ix", str(made / "a"))
    lanes = f"{made / 'seen'}+{made / 'heard'}"
    done = reencode(tmp_path / "ix", lanes, keep=tmp_path / "old")
    assert done.report.parts == IMAGES + SOUNDS + len(TEXTS)
    assert verify(tmp_path / "ix") == verify(tmp_path / "old") == []
    assert found(tmp_path / "ix", "red", to="audio") == found(made / "both", "red", to="audio")
    reencode(tmp_path / "ix", str(made / "a"))
    assert manifest.read(tmp_path / "ix").space.lanes == () and verify(tmp_path / "ix") == []
    reencode(tmp_path / "ix", lanes)
    reencode(tmp_path / "ix", str(made / "a"), keep=tmp_path / "lanes")
    assert verify(tmp_path / "lanes") == []
    assert found(tmp_path / "lanes", "red", k=9) == found(made / "both", "red", k=9)


def test_indexes_of_the_same_lanes_are_merged(made: Path, tmp_path: Path) -> None:
    merge(tmp_path / "all", [made / "both"])
    assert found(tmp_path / "all", "blue", k=9) == found(made / "both", "blue", k=9)
    assert verify(tmp_path / "all") == []
    with pytest.raises(SpaceMismatch):
        merge(tmp_path / "all", [made / "one"])


def test_an_index_keeps_the_towers_of_all_lanes(made: Path, tmp_path: Path) -> None:
    for name in ("seen", "heard"):
        shutil.copytree(made / name, tmp_path / name)
    run([made / "pairs"], tmp_path / "ix", f"{tmp_path / 'seen'}+{tmp_path / 'heard'}")
    shutil.rmtree(tmp_path / "seen")
    shutil.rmtree(tmp_path / "heard")
    assert found(tmp_path / "ix", "blue", k=9) == found(made / "both", "blue", k=9)
    assert mmsearch.open(tmp_path / "ix").add([{"text": "orange"}])
    first = next((tmp_path / "ix" / "query").glob("*/*/tokenizer.json"))
    text = first.read_bytes()
    first.unlink()  # other indexes may have the same file
    first.write_bytes(text + b" ")
    with pytest.raises(IndexDamaged, match=r"tokenizer\.json"):
        mmsearch.open(tmp_path / "ix").search("blue")
    assert [p.path for p in verify(tmp_path / "ix")] == [str(first)]
    run([made / "pairs"], tmp_path / "ix", f"{made / 'seen'}+{made / 'heard'}")
    assert verify(tmp_path / "ix") == []


def test_damage_in_the_second_lane_is_seen(made: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made / "both", tmp_path / "ix")
    heard = manifest.read(folder).space.lanes[1].fingerprint
    (vectors,) = folder.glob(f"segments/*/vectors-{heard}.npy")
    raw = bytearray(vectors.read_bytes())
    raw[-3] ^= 1
    vectors.write_bytes(raw)
    assert [p.path for p in verify(folder)] == [str(vectors)]
    with pytest.raises(IndexDamaged, match=vectors.name):
        mmsearch.open(folder).search("red", to="audio", k=500)


def test_lanes_on_the_command_line(made: Path, tmp_path: Path) -> None:
    name = f"{made / 'seen'}+{made / 'heard'}"
    code, out, err = cli("index", made / "pairs", "--space", name, "--index", tmp_path / "ix")
    assert code == 0 and "indexed 150" in out + err
    code, out, _ = cli("query", "a red square", "-k", "5", "--index", tmp_path / "ix")
    assert code == 0 and out.count("pairs") == 5 and "by chance" in out
    code, out, _ = cli("info", "--index", tmp_path / "ix")
    assert "seen+heard" in out and out.count("lane  ") == 2 and "for text, audio" in out
    code, _, err = cli(
        "index", made / "pairs", "--space", f"{name}+mini", "--index", tmp_path / "x"
    )
    assert code != 0 and "mini adds nothing" in err and not (tmp_path / "x").exists()
    code, _, err = cli("index", made / "pairs", "--space", "mini", "--index", tmp_path / "ix")
    assert code != 0 and "seen+heard" in err


# -- what scores mean -----------------------------------------------------------------------


def best_of(nq: int, parts: int, seed: int = 0) -> np.ndarray:
    """What chance gives: the best of so many cosines of a mean of 0 and a deviation of 0.1."""
    return 0.1 * np.random.default_rng(seed).standard_normal((nq, parts)).astype(np.float32).max(1)


@pytest.mark.parametrize("n", [1, 8, 100, 512, 20_000])
def test_chance_is_as_surprising_in_small_collections_as_in_large(n: int) -> None:
    """The best that has nothing to do with the query exceeds 1 about once in ten times."""
    sample = min(n, 512)
    by_chance = chance(best_of(128, sample), sample)
    found = surprise(best_of(500, n, 1)[:, None], by_chance, n)
    assert 0.01 < np.mean(found > 1) < 0.25
    assert -0.5 < np.median(found) < 0.7


def test_surprise_says_how_rare_a_score_is_and_keeps_the_order() -> None:
    by_chance = Chance(0.3, 0.05, 100)
    scores = np.tanh(np.array([[0.53, 0.3, 0.1, -np.inf]], np.float32))
    scores[0, 3] = -np.inf  # none
    found = surprise(scores, by_chance, 100)[0]
    assert found[0] == pytest.approx(2, abs=0.01) and found[1] == pytest.approx(0, abs=0.01)
    assert found[1] > found[2] > found[3] == -np.inf
    assert surprise(scores, by_chance, 10_000)[0, 0] == pytest.approx(0, abs=0.01)


def test_no_more_parts_than_there_are_score_as_high_and_what_is_far_above_has_an_order() -> None:
    by_chance = Chance(0.3, 0.01, 8)
    scores = np.tanh(np.linspace(-2, 2, 41, dtype=np.float32))[None]
    found = surprise(scores, by_chance, 8)[0]
    assert found[0] == pytest.approx(-np.log10(8), abs=1e-6)
    assert (np.diff(found) >= 0).all() and (np.diff(found[28:]) > 0).all()
    assert np.diff(found[28:], 2) == pytest.approx(0, abs=1e-3)  # a straight line there


def test_surprise_hardly_depends_on_how_far_the_cosines_of_a_space_spread() -> None:
    best, scores = best_of(128, 200), best_of(40, 200, 1)
    found = surprise(scores, chance(best, 200), 200)
    for times, more in ((0.2, 0.0), (0.2, 0.3), (0.4, 0.4)):
        other = surprise(times * scores + more, chance(times * best + more, 200), 200)
        assert other == pytest.approx(found, abs=0.15)


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.4), (0.5, 0.8), (0.85, 0.97)])
def test_the_same_thing_again_is_beyond_chance_among_things_that_are_alike(
    low: float, high: float
) -> None:
    by_chance = chance(np.random.default_rng(0).uniform(low, high, 40), 40)
    again, copied, alike = surprise(np.float32([[0.9998, 0.99, high]]), by_chance, 40)[0]
    assert again > 3 and again > copied > alike and alike < 1.5


def test_a_few_queries_that_do_fit_change_little() -> None:
    best = best_of(128, 200)
    some = best.copy()
    some[:10] += 5
    plain, mixed = chance(best, 200), chance(some, 200)
    assert plain is not None and mixed is not None
    assert mixed.location == pytest.approx(plain.location, abs=0.15)
    assert mixed.width == pytest.approx(plain.width, rel=0.25)


def test_where_nothing_is_known_of_chance_the_order_stays() -> None:
    scores = np.array([[0.9, 0.2, -np.inf]], np.float32)
    assert chance(best_of(7, 10), 10) is None and chance(best_of(50, 1), 0) is None
    found = surprise(scores, None, 2)
    assert 0 < found[0, 1] < found[0, 0] < 0.01 and np.isneginf(found[0, 2])
    assert np.isfinite(surprise(scores[:, :2], chance(np.full(30, 0.5), 9), 9)).all()


def test_an_index_keeps_made_up_texts_to_tell_what_chance_gives(made: Path) -> None:
    index = mmsearch.open(made / "both")
    (kept,) = (made / "both" / "query").glob("*/made-up.npy")
    texts = np.load(kept)
    assert texts.dtype == np.float16 and texts.shape == (128, 2 * WIDTH)
    assert len(index.search("a warm square", to="text")) == len(TEXTS)
    by_chance = index._view.chances.of(1, Modality.AUDIO, [0, 1])
    assert by_chance is not None and by_chance.parts == SOUNDS
    sounds = index.search("a red square", to="audio", k=SOUNDS)
    best = surprise(np.float32([[sounds[0].score]]), by_chance, SOUNDS)
    mixed = next(h for h in index.search("a red square", k=500) if h.modality == "audio")
    assert mixed.surprise == pytest.approx(float(best[0, 0]), abs=1e-4)


def test_a_query_for_which_no_lanes_meet_has_no_surprise_among_others(
    made: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(made / "both", tmp_path / "ix")
    index = mmsearch.open(folder)
    index.delete(paths=[made / "pairs" / f"{i}.txt" for i in range(len(TEXTS))])
    space = mmsearch.load_space(f"{made / 'seen'}+{made / 'heard'}")
    vectors = np.concatenate(
        [space.encode_document(["red"]), space.encode_images([made / "pairs" / "pale_red.png"])]
    )
    met, alone = index.search_batch(vectors=vectors, k=5)
    assert None not in [h.surprise for h in met]
    assert [h.surprise for h in alone] == [None] * 5
    json.dumps([one.to_json() for one in (met, alone)], allow_nan=False)


def test_a_stored_vector_holds_that_of_each_lane_and_0_where_a_part_is_in_none(made: Path) -> None:
    index = mmsearch.open(made / "both")
    for kind, lanes in (("image", [True, False]), ("audio", [False, True]), ("text", [True, True])):
        (hit,) = index.search("a red square", to=kind, k=1)
        got = index.get(hit.id, vectors=True)
        assert got is not None and got.vector is not None
        blocks = [got.vector[columns] for columns in index.space.columns]
        lengths = [float(np.linalg.norm(block)) for block in blocks]
        assert lengths == pytest.approx([float(there) for there in lanes], abs=1e-3)
        assert index.search(vector=got.vector, to=kind, k=1)[0].id == hit.id


def test_vectors_of_ones_own_are_of_unit_length_in_each_lane(made: Path, tmp_path: Path) -> None:
    index = mmsearch.open(shutil.copytree(made / "both", tmp_path / "ix"))
    image, audio = index.search("a", to="image", k=1)[0], index.search("a", to="audio", k=1)[0]
    stored = [index.get(hit.id, vectors=True).vector for hit in (image, audio)]  # type: ignore[union-attr]
    text = stored[0] * 3 + stored[1] * 5  # of different lengths in the two
    index.add(
        [{"modality": "image"}, {"text": "own"}], ids=["own", "both"], vectors=[stored[0], text]
    )
    got = index.get(["own", "both"], vectors=True)
    expected = [stored[0], stored[0] + stored[1]]
    assert np.allclose([hit.vector for hit in got if hit], expected, atol=1e-3)
    for modality, vector, why in (
        ("image", text, "is not 0 in heard, which does not hold image"),
        ("image", stored[1], "is 0 in seen, which takes image"),
        ("text", stored[0], "is 0 in heard, which takes text"),
    ):
        with pytest.raises(UsageError, match=why):
            index.add([{"modality": modality}], vectors=[vector])
    assert verify(index.path) == []
