"""Drawings for training: what their words become, and what the rule keeps out of training."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmsearch.train.mini import drawings, split
from mmsearch.train.mini.data import PICTURE_PX, Photo, Sources

SVG = """<svg xmlns="http://www.w3.org/2000/svg"><metadata><rdf:RDF><cc:Work rdf:about="">
<dc:title>{title}</dc:title><dc:subject><rdf:Bag>{keywords}</rdf:Bag></dc:subject>
<dc:creator><cc:Agent><dc:title>{creator}</dc:title></cc:Agent></dc:creator>
</cc:Work></rdf:RDF></metadata><title>not this</title></svg>"""


def draw(
    sources: Sources, name: str, title: str, keywords: str, creator: str = "", colour: int = 0
) -> None:
    """A drawing of Open Clip Art: a square of its own colour, half of it transparent."""
    assert sources.clipart is not None
    picture = sources.clipart / "png" / f"{name}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((20, 30, 4), np.uint8)
    pixels[:10] = (colour % 256, colour // 256, 9, 255)
    Image.fromarray(pixels).save(picture)
    svg = (sources.clipart / "svg" / f"{name}.svg").absolute()
    svg.parent.mkdir(parents=True, exist_ok=True)
    items = "".join(f"<rdf:li>{one}</rdf:li>" for one in keywords.split(","))
    svg.write_text(SVG.format(title=title, keywords=items, creator=creator), "utf-8")


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    (tmp_path / "data" / "flickr8k").mkdir(parents=True)
    (tmp_path / "data" / "captions").mkdir()
    row = {"image": "1.jpg", "en": ["A small bird sits on a horse ."], "zh": []}
    (tmp_path / "data" / "flickr8k" / "train.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    coco = gzip.compress(json.dumps({"en": ["An armadillo"]}).encode() + b"\n")
    (tmp_path / "data" / "captions" / "coco_val2017_captions.jsonl.gz").write_bytes(coco)
    (tmp_path / "stamps" / "animals").mkdir(parents=True)
    return Sources(tmp_path / "data", tmp_path, tmp_path / "stamps", tmp_path / "openclipart")


def stamp(sources: Sources, stem: str, caption: str) -> None:
    assert sources.stamps is not None
    Image.new("RGBA", (8, 8), (1, 2, 3, 4)).save(sources.stamps / "animals" / f"{stem}.png")
    (sources.stamps / "animals" / f"{stem}.txt").write_text(caption + "\nzh_CN.utf8=一\n", "utf-8")


@pytest.mark.parametrize(
    "stem",
    ["frog", "frog-2", "Frog_mirror", "frog_red", "frog03", "frog_left_01", "frog-b", "FROG_small"],
)
def test_variants_of_a_drawing_are_one_family_and_on_one_side(stem: str) -> None:
    assert split.family(stem) == "frog"
    assert split.held_out(stem) == split.held_out("frog")


def test_families_keep_what_tells_drawings_apart() -> None:
    assert split.family("tree_frog") == "tree_frog"
    assert split.family("C_filled") == split.family("c_outline_2") == "c"
    assert split.family("005") == "005"
    assert split.family("red") == "red"
    assert split.family("FlowerAndPot") == "flower_and_pot"


def test_about_a_fifth_of_the_families_is_held_out_and_always_the_same() -> None:
    held = [stem for stem in map("animal{}".format, "abcdefghijklmnopqrstuvwxyz")]
    names = [f"{a}{b}" for a in held for b in ("foot", "head", "tail", "wing", "eye")]
    share = sum(map(split.held_out, names)) / len(names)
    assert 0.1 < share < 0.3
    assert [split.held_out(one) for one in ("crow", "frog")] == [True, False]


def test_nouns_are_whole_words_in_singular_or_plural() -> None:
    assert split.nouns_in(["Two pies", "a road_sign"]) == {"pie", "road sign"}
    assert split.nouns_in(["lightbulbs", "LightBulb"]) == {"light bulb"}
    assert split.nouns_in(["pier", "a road and a sign", "spear"]) == frozenset()
    assert split.nouns_in(["scissors_02"]) == {"scissors"}


def test_there_are_twenty_nouns_that_are_spelt_in_lower_case() -> None:
    assert len(split.NOUNS) == 20
    assert all(noun in split.nouns_in([one]) for noun, many in split.NOUNS.items() for one in many)


def test_metadata_is_read_from_the_block_and_unescaped_twice() -> None:
    svg = SVG.format(
        title="Caf&amp;eacute;", keywords="<rdf:li>a cup</rdf:li><rdf:li></rdf:li>", creator="Mo"
    )
    assert drawings.metadata(svg) == ("Café", ("a cup",), "Mo")
    assert drawings.metadata("<svg><title>x</title></svg>") == ("", (), "")


def test_the_authors_name_cut_short_is_taken_off_a_files_name() -> None:
    assert drawings.without_author("straw_tote_linda_kim_01", "Linda Kim") == "straw_tote"
    assert drawings.without_author("glace_01_jean-victor_bal_01", "Jean-Victor Balin") == "glace_01"
    assert drawings.without_author("pantyhose_rollandin_fra1", "Rollandin Francesco") == "pantyhose"
    assert drawings.without_author("contour_giraffe", "Nicu Buculei") == "contour_giraffe"


def test_captions_are_the_title_the_title_with_keywords_and_the_keywords(sources: Sources) -> None:
    draw(sources, "animals/a_01", "Bored dog", "mammal,dog,hash,animal,signs_and_symbols")
    draw(sources, "animals/b_giraffe", "Clipart by Somebody - contour_chipmunk", "mammal", colour=1)
    draw(sources, "food/c", "Coffee (B and W)", "icecream,menu", colour=2)
    draw(sources, "unsorted/x1_7", "Part of the Flat Icon Collection", "unsorted", colour=3)
    found = {clip.name: clip.en for clip in drawings.clipart(sources)}
    assert found == {
        "png/animals/a_01.png": ("bored dog", "bored dog, animal, mammal", "animal mammal"),
        "png/animals/b_giraffe.png": ("giraffe", "giraffe, mammal", "mammal"),
        "png/food/c.png": ("coffee", "coffee, ice cream", "ice cream"),
    }


def test_names_in_other_languages_give_only_words_that_english_captions_have(
    sources: Sources,
) -> None:
    who = "Architetto Francesco Rollandin"
    draw(sources, "animals/cigno_architetto_frances_01", "Cigno", "bird", who)
    draw(sources, "animals/armadillo_architetto_fra_01", "Armadillo", "mammal", who, colour=1)
    found = [clip.en for clip in drawings.clipart(sources)]
    assert found == [("armadillo",), ("bird",)]


def test_flags_and_logos_are_left_out_and_equal_pictures_are_one_with_the_words_of_all(
    sources: Sources,
) -> None:
    draw(sources, "signs_and_symbols/flags/europe/france", "france", "flag")
    draw(sources, "logos/velocette", "Velocette", "motorcycle", colour=1)
    draw(sources, "tools/hammer", "Hammer", "tool", colour=2)
    draw(sources, "unsorted/mallet", "Mallet", "globe", colour=2)
    (clip,) = drawings.clipart(sources)
    assert clip.name == "png/tools/hammer.png"
    assert clip.keywords == ("tool", "globe", "mallet")
    assert drawings.noun_pictures([clip])["globe"] == [clip]


def test_no_noun_nor_its_variants_nor_the_category_is_trained_on(sources: Sources) -> None:
    draw(sources, "food/pear_01", "Pear", "fruit")
    draw(sources, "food/fruit_green", "Fruit", "pear", colour=1)
    draw(sources, "food/fruit_red", "Fruit", "food", colour=2)  # a variant of the one above
    draw(sources, "computer/icons/mouse", "Mouse", "hardware", colour=3)
    draw(sources, "animals/mouse_brown", "Mouse", "mammal", colour=4)
    assert [photo.name for photo in drawings.training_clipart(sources)] == [
        "png/animals/mouse_brown.png"
    ]
    assert [clip.name for clip in drawings.held_clipart(sources)] == [
        "png/computer/icons/mouse.png",
        "png/food/fruit_green.png",
        "png/food/fruit_red.png",
        "png/food/pear_01.png",
    ]


def test_a_few_variants_of_one_drawing_are_trained_on_the_same_ones_every_time(
    sources: Sources,
) -> None:
    for number in range(9):
        draw(sources, f"shapes/star_{number}pt", "gramastar", "stars", colour=number)
    names = [photo.name for photo in drawings.training_clipart(sources)]
    assert len(names) == drawings.OF_A_FAMILY
    drawings.clipart.cache_clear()
    assert [photo.name for photo in drawings.training_clipart(sources)] == names


def test_every_stamp_is_on_one_side_and_nouns_are_never_trained_on(sources: Sources) -> None:
    for stem, caption in (
        ("crow", "A crow."),
        ("crow-2", "Another crow."),
        ("frog", "A frog."),
        ("fruit", "A ripe pear."),
    ):
        stamp(sources, stem, caption)
    assert [one.en[0] for one in drawings.training_stamps(sources)] == ["A frog."]
    assert [one.en[0] for one in drawings.held_stamps(sources)] == [
        "Another crow.",
        "A crow.",
        "A ripe pear.",
    ]


def test_views_are_white_coloured_and_two_photos_and_the_same_every_time(sources: Sources) -> None:
    draw(sources, "tools/hammer", "Hammer", "tool", colour=200)
    drawing = Photo("png/tools/hammer.png", ("hammer",))
    behind = [np.full((PICTURE_PX, PICTURE_PX, 3), value, np.uint8) for value in (10, 20, 30)]
    views = drawings.views(sources, drawing, behind)
    assert [(view.shape, view.dtype) for view in views] == [
        ((PICTURE_PX, PICTURE_PX, 3), np.uint8)
    ] * 4
    assert views[0][-1, 0].tolist() == [255, 255, 255]  # what is transparent is white
    assert views[0][PICTURE_PX // 4, PICTURE_PX // 2].tolist() == [200, 0, 9]
    again = drawings.views(sources, drawing, behind)
    assert all(np.array_equal(a, b) for a, b in zip(views, again, strict=True))
    for view in views[2:]:
        assert (view == (200, 0, 9)).all(2).any()
        assert (view[..., 0] == view[..., 1]).mean() > 0.4  # the photo is seen around it


def test_a_wrong_folder_is_named(sources: Sources, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="openclipart-png"):
        drawings.clipart(Sources(sources.data, tmp_path, None, tmp_path / "nothing"))
