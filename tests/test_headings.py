"""Headings: what is one, and that passages stay below theirs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsearch.media import decode
from mmsearch.media.cutting import normalised
from mmsearch.media.headings import in_plain_text, passages_below
from mmsearch.media.html import visible_text
from mmsearch.types import Preprocess

SMALL = Preprocess(64, 16000, 10.0, passage_words=12, passage_cjk_chars=18, passage_overlap=0.25)

MARKDOWN = """\
# Birds #

About birds.

## Owls

```
# not a heading

## nor this
```
They hunt.

#hashtag

Larks
=====
They sing.
# no blank line before

A rule comes next, no heading

---

Two\nlines
-----
"""


def test_headings_of_markdown_are_found_and_nothing_else() -> None:
    found = [(one.level, one.title) for one in in_plain_text(MARKDOWN)]
    assert found == [(0, "Birds"), (1, "Owls"), (0, "Larks")]


def test_headings_of_restructuredtext_are_found() -> None:
    text = (
        "======\nWhales\n======\n\nSome.\n\nOf ships\n--------\n\nMore.\n\nSails\n~~~~~\n\nEnd.\n"
    )
    assert [(one.level, one.title) for one in in_plain_text(text)] == [
        (0, "Whales"),
        (1, "Of ships"),
        (2, "Sails"),
    ]


def test_number_signs_behind_a_title_are_left_out_and_those_of_a_word_are_not() -> None:
    text = "# Birds ##\n\n## C#\n\n# Of F# ### \n\n# ##\n"
    assert [one.title for one in in_plain_text(text)] == ["Birds", "C#", "Of F#", "##"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Sea\n===\n\n~~~~~~~\n Ships\n~~~~~~~\n\nwords\n\nSails\n~~~~~\n", "Sea Ships Sails"),
        ("~~~~~\nShips\n~~~~~\nwords", "Ships"),
        ("~~~~\n# a long line of code\n~~~~\n\n# Sea\n", "Sea"),
        ("~~~\nls\n~~~\n\n# Sea\n", "Sea"),
        ("~~~~~~~~~~\nls\n~~~~~~~~~~\n\n# Sea\n", "Sea"),
        ("~~~~~\nShips\nSails\n~~~~~\n\n# Sea\n", "Sea"),
        ("~~~~~\n\nShips\n~~~~~\n\n# Sea\n", "Sea"),
        ("~~~~~ sh\nShips\n~~~~~\n\n# Sea\n", "Sea"),
        ("~~~~~\n~~~~~\n~~~~~\nShips\n\n# Sea\n", ""),
        ("Run:\n~~~\nls\n~~~\n\n# Sea\n", "Sea"),
        ("Run:\n```\nls\n```\n\n# Sea\n", "Sea"),
        ("Ships\n`````\nwords", "Ships"),
    ],
)
def test_titles_in_tildes_are_told_from_fenced_code(text: str, found: str) -> None:
    assert [one.title for one in in_plain_text(text)] == found.split()


def test_headings_of_a_page_are_found_where_they_stand() -> None:
    page = (
        "<title>T</title><body>\n<p>Before</p><h1>One &amp; <b>only</b></h1><p>Words</p>"
        "<h3></h3><h2>\n Two</h2>Rest<script>let h = '<h1>no</h1>'</script><h2>left open<p>end"
    )
    _, _, text, headings = visible_text(page)
    assert [(one.level, one.title) for one in headings] == [(0, "One & only"), (1, "Two")]
    assert [text[one.start : one.end] for one in headings] == ["One & only", "Two"]


def test_a_passage_begins_with_its_heading_and_names_its_section() -> None:
    text = (
        "# Birds\n\nOne two three four five six.\n\n## Owls\n\nSeven eight nine ten eleven.\n\n"
        "## Larks\n\nTwelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen."
    )
    read = list(decode(text.encode(), "text", SMALL))
    assert [(p.data, p.meta["section"]) for p in read] == [
        ("# Birds One two three four five six.", "Birds"),
        ("## Owls Seven eight nine ten eleven.", "Birds › Owls"),
        (
            "## Larks Twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen.",
            "Birds › Larks",
        ),
    ]


def test_no_passage_ends_with_a_heading() -> None:
    text = "One two three four five six seven eight nine.\n\n# Head\n\n" + "More words. " * 9
    read = [p.data for p in decode(text.encode(), "text", SMALL)]
    assert read[0] == "One two three four five six seven eight nine."
    assert str(read[1]).startswith("# Head More words.")


@given(
    st.lists(
        st.sampled_from(
            [
                "# A",
                "## B b",
                "word",
                "Some words. ",
                "\n",
                "\n\n",
                "C\n===",
                "```",
                "~~~~",
                "~~~~~~",
                "今天天气",
                " ",
            ]
        ),
        max_size=80,
    )
)
@settings(max_examples=300, deadline=None)
def test_whatever_is_a_heading_no_word_is_lost(pieces: list[str]) -> None:
    text = "\n".join(pieces)
    headings = in_plain_text(text)
    assert [one.start for one in headings] == sorted(one.start for one in headings)
    for one in headings:
        assert normalised(text[one.start : one.end]).strip("#=~ ").startswith(one.title)
    covered = 0
    for start, end, _ in passages_below(text, SMALL, headings):
        assert not text[covered:start].strip()
        assert covered < end
        covered = end
    assert not text[covered:].strip()


@pytest.mark.parametrize(
    "text",
    [
        "# " * 200_000,
        "=\n" * 200_000,
        "a\n=\n" * 100_000,
        "#" * 500_000,
        "~" * 500_000,
        f"# a{' ' * 500_000}b",
        ("~" * 999 + "\n") * 500,
    ],
)
def test_headings_are_found_in_linear_time(text: str) -> None:
    in_plain_text(text)


def test_a_passage_that_begins_with_the_line_above_a_title_is_below_it() -> None:
    text = "=====\nTitle\n=====\n\nwords of it\n\n# Head {#name .class}\n\nmore\n"
    first, second = in_plain_text(text)
    assert (first.start, first.title) == (0, "Title")
    assert second.title == "Head"
    (part,) = decode(text.encode(), "text", Preprocess(64, 16000, 10.0))
    assert part.meta["section"] == "Title"
