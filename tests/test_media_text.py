"""Texts: passages written out by hand, graphemes by construction, encodings by Python's codecs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmsearch.errors import DecodeError, LimitExceeded
from mmsearch.media import Limits, decode, passages, sniff
from mmsearch.media.encoding import decode_text
from mmsearch.media.html import visible_text
from mmsearch.spaces import load_encoder
from mmsearch.types import Part, Preprocess

MEDIA = Path(__file__).parents[1] / "mmsearch" / "media"
PREPROCESS = Preprocess(image_px=64, sample_rate_hz=16000, window_s=10.0)
SMALL = Preprocess(64, 16000, 10.0, passage_words=10, passage_cjk_chars=15, passage_overlap=0.2)

CHINESE = "今天天气很好，我们一起去公园散步。孩子们在草地上奔跑，老人坐在长椅上聊天。"
TAIWAN = "今天天氣很好，我們一起去公園散步。孩子們在草地上奔跑，老人坐在長椅上聊天。"
JAPANESE = "今日は天気がいいので、公園へ散歩に行きました。カタカナもあります。"
KOREAN = "오늘은 날씨가 좋아서 공원에 산책하러 갔습니다. 아이들이 잔디밭에서 뛰어다닙니다."
RUSSIAN = "Сегодня хорошая погода, и мы пошли гулять в парк. Дети бегают по траве."
FRENCH = "Aujourd'hui il fait très beau, nous sommes allés à la forêt où l'été s'achève."
GREEK = "Σήμερα ο καιρός είναι καλός και πήγαμε μια βόλτα στο πάρκο με τα παιδιά."
TURKISH = "Bugün hava çok güzel, parka yürüyüşe gittik; çocuklar çimlerin üzerinde koşuyor."
THAI = "วันนี้อากาศดีมาก เราไปเดินเล่นที่สวนสาธารณะ เด็กๆ วิ่งเล่นบนสนามหญ้า"
HEBREW = "היום מזג האוויר יפה מאוד, והלכנו לטייל בפארק. הילדים רצים על הדשא."
POLISH = "Dzisiaj jest ładna pogoda, więc poszliśmy na spacer do parku, a żółw śpi."


def parts(data: bytes, kind: str = "text", preprocess: Preprocess = PREPROCESS) -> list[Part]:
    return list(decode(data, kind, preprocess))


def test_a_short_text_is_one_passage_with_its_white_space_in_order() -> None:
    assert [p.data for p in parts(b"  one\ttwo\n three \r\n\r\n four ")] == ["one two three four"]


def test_passages_end_with_sentences_and_share_one_with_the_last() -> None:
    text = "A b c d. E f g h. I j. K l m n o p q. R s t u v."
    assert list(passages(text, SMALL)) == [
        "A b c d. E f g h. I j.",
        "I j. K l m n o p q.",
        "p q. R s t u v.",
    ]


def test_a_paragraph_is_a_better_end_than_a_later_sentence() -> None:
    text = "A b c d e f g.\n\nH. I j k l m n o."
    assert list(passages(text, SMALL)) == ["A b c d e f g.", "f g. H. I j k l m n o."]


def test_chinese_is_counted_in_characters_and_ends_behind_its_stop() -> None:
    text = "一二三四五六七八九。”甲乙丙丁戊己庚。"
    first, second = passages(text, SMALL)
    assert first == "一二三四五六七八九。”"
    assert second == "甲乙丙丁戊己庚。"


def test_a_line_that_wraps_in_chinese_gets_no_blank() -> None:
    assert list(passages("今天\n天气", PREPROCESS)) == ["今天天气"]
    assert list(passages("今天\n\n天气", PREPROCESS)) == ["今天 天气"]


def test_two_hundred_words_are_one_passage_and_two_hundred_and_one_are_two() -> None:
    assert len(list(passages("word " * 200, PREPROCESS))) == 1
    assert len(list(passages("word " * 201, PREPROCESS))) == 2
    assert len(list(passages("字" * 300, PREPROCESS))) == 1
    assert len(list(passages("字" * 301, PREPROCESS))) == 2


def test_code_and_numbers_make_passages_that_the_built_in_space_reads_whole() -> None:
    encoder = load_encoder("mini")
    code = "\n".join(path.read_text("utf-8") for path in sorted(MEDIA.glob("*.py")))
    numbers = " ".join(f"{n * 7919 % 100_003 / 1000:.3f}," for n in range(5000))
    table = "\n".join(f"| [`ix_{n}`](https://example.org/ix/{n}) | {n}% |" for n in range(500))
    mixed = "".join(f"调用 get_{n}() 返回第{n}行。" for n in range(500))
    for text in (code, numbers, table, mixed):
        assert not any(encoder.truncated(list(passages(text, encoder.space.preprocess))))


def test_a_long_run_of_letters_and_signs_weighs_what_its_tokens_do() -> None:
    of_prose = next(passages("Well, said he; " * 100, PREPROCESS))
    of_code = next(passages("self._at[n]+=m " * 100, PREPROCESS))
    assert len(of_prose.split()) == 200
    assert len(of_code.split()) == int(
        200 / (9 * 3 / 5)
    )  # nine tokens; of prose, five in three words


def test_offsets_lead_back_to_the_text() -> None:
    text = "".join(f"Sentence number {i} has words. " for i in range(300))
    for part in parts(text.encode()):
        assert isinstance(part.data, str)
        at = part.meta["offset"]
        assert text[at : at + 20] == part.data[:20]


def test_skipped_passages_keep_the_numbers_of_the_others() -> None:
    data = ("word " * 1000).encode()
    rest = list(decode(data, "text", PREPROCESS, skip_parts=3))
    assert rest == parts(data)[3:]
    assert rest[0].part_no == 3


# Clusters that must never be parted, each one by UAX 29 (extended grapheme clusters).
CLUSTERS = [
    *("a", "字", ".", "。", "한", "é", "e\u0301", "a\u0308\u0323", "字\ufe00", "👍🏽", "❤\ufe0f"),
    *("👨\u200d👩\u200d👧\u200d👦", "🏳\ufe0f\u200d🌈", "🇨🇳", "🇫🇷", "क्षि", "नी", "กำ", "ก็", "각"),
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
]


@given(st.lists(st.sampled_from([*CLUSTERS, " ", "\n"]), min_size=1, max_size=400))
@settings(max_examples=150, deadline=None)
def test_no_passage_ever_parts_a_grapheme(clusters: list[str]) -> None:
    text = "".join(clusters)
    edges, at = set(), 0
    for cluster in clusters:
        edges.add(at)
        at += len(cluster)
    edges.add(at)
    from mmsearch.media.cutting import spans

    for start, end in spans(text, SMALL):
        assert start in edges
        assert end in edges


@given(
    st.one_of(st.text(max_size=2000), st.text("0aé界.,\n ", max_size=500)),
    st.sampled_from([0.0, 0.15, 0.5, 0.9]),
)
@example("0\n000000000000000 00", 0.0)
@settings(max_examples=200, deadline=None)
def test_nothing_readable_is_lost_and_lengths_are_bounded(text: str, overlap: float) -> None:
    from mmsearch.media.cutting import normalised, spans

    preprocess = Preprocess(64, 16000, 10.0, 10, 15, overlap)
    covered = [False] * len(text)
    last = (-1, -1)
    for start, end in spans(text, preprocess):
        assert start > last[0]
        assert end > last[1]
        last = (start, end)
        covered[start:end] = [True] * (end - start)
        assert 0 < len(normalised(text[start:end])) <= 15 * 60 + 10
    assert all(c.isspace() or seen for c, seen in zip(text, covered, strict=True))


def test_a_run_without_spaces_is_cut_into_bounded_passages_quickly() -> None:
    out = list(passages("x" * 200_000, PREPROCESS))
    assert all(len(passage) <= 24 * 200 for passage in out)


@pytest.mark.parametrize("repeats", [1, 20])
@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        *(
            (CHINESE, e)
            for e in ("utf-8", "utf-8-sig", "gb18030", "utf-16", "utf-16-le", "utf-16-be")
        ),
        *((TAIWAN, e) for e in ("big5", "utf-16-le", "utf-32", "utf-32-le")),
        *((JAPANESE, e) for e in ("cp932", "euc_jp", "iso2022_jp", "utf-16-be", "utf-32-be")),
        *((KOREAN, e) for e in ("cp949", "johab", "iso2022_kr", "utf-16-le")),
        *((RUSSIAN, e) for e in ("cp1251", "koi8_r", "iso8859_5", "cp866", "mac_cyrillic")),
        *((RUSSIAN, e) for e in ("utf-16-le", "utf-32-le")),
        *((FRENCH, e) for e in ("latin-1", "cp1252", "mac_roman", "cp850", "utf-16-le")),
        *((POLISH, e) for e in ("cp1250", "iso8859_2")),
        *((GREEK, e) for e in ("cp1253", "iso8859_7")),
        *((TURKISH, e) for e in ("cp1254", "iso8859_9")),
        *((THAI, e) for e in ("tis_620", "cp874")),
        (HEBREW, "cp1255"),
        ("plain English", "utf-16-le"),
    ],
)
def test_text_in_any_encoding_is_read(text: str, encoding: str, repeats: int) -> None:
    text = "\n".join([text] * repeats)
    assert sniff(text.encode(encoding)[:8192], "notes.txt") == "text"
    assert decode_text(text.encode(encoding)) == text


@pytest.mark.parametrize("text", ["中文", "你好，世界", "春眠不觉晓，处处闻啼鸟。"])
def test_even_two_chinese_characters_are_not_taken_for_korean(text: str) -> None:
    assert decode_text(text.encode("gb18030")) == text


def test_a_few_broken_bytes_do_not_change_the_encoding() -> None:
    data = CHINESE.encode() * 5
    text = decode_text(data[:100] + b"\xff" + data[101:])
    assert text.startswith("今天天气很好")
    assert text.count("\ufffd") <= 3


@pytest.mark.parametrize("data", [bytes(range(256)) * 4, bytes(1000), b"\x7fELF\x00\x01" * 100])
def test_binary_is_not_text(data: bytes) -> None:
    with pytest.raises(DecodeError, match="binary"):
        decode_text(data)


def test_no_words_is_said_so() -> None:
    with pytest.raises(DecodeError, match="no words"):
        parts(b" \n ")


def test_more_text_than_the_limit_is_refused() -> None:
    with pytest.raises(LimitExceeded, match="more than 10 bytes"):
        list(decode(b"12345678901", "text", PREPROCESS, Limits(max_text_bytes=10)))


def test_front_matter_gives_the_title_and_is_left_out() -> None:
    part = parts(b'---\ntitle: "My trip"\ntags:\n  - sea\n---\n\nWe went to the sea.\n')[0]
    assert (part.data, part.meta["title"]) == ("We went to the sea.", "My trip")
    assert parts(b"# A heading\n\nwords")[0].meta["title"] == "A heading"
    assert parts(b"---\nno matter\n")[0].data == "--- no matter"


@pytest.mark.parametrize(
    ("text", "author"),
    [
        ("---\ntitle: The Sea\nauthor: 'Jane Doe' \n---\nwords", "Jane Doe"),
        ("---\nauthor: Jane   Doe\nauthor: J. Roe\n---\nwords", "Jane Doe"),
        ("---\nauthor: [a, b]\n---\nwords", None),
        ("---\nauthor:\n  - a\n---\nwords", None),
        (f"---\nauthor: {'x' * 999}\n---\nwords", "x" * 300),
        ("=======\nThe Sea\n=======\n\n:Date: today\n  or so\n:Author: Jane Doe\n\nw", "Jane Doe"),
        ("The Sea\n-------\n:authors: A, B\n", "A, B"),
        ("The Sea\n-------\n\nwords\n\n:Author: Jane Doe\n", None),
        ("words\n\nThe Sea\n-------\n:Author: Jane Doe\n", None),
    ],
)
def test_the_author_that_a_text_names_is_kept(text: str, author: str | None) -> None:
    assert parts(text.encode())[0].meta.get("author") == author


@pytest.mark.parametrize("mark", [" ", "'", ":a:", "\n ", ": "])
def test_what_a_text_tells_of_itself_is_found_in_linear_time(mark: str) -> None:
    many = mark * (500_000 // len(mark))
    for text in (f"---\ntitle: '{many}x\n---\nw", f"T\n=\n\n:a:{many}x"):
        assert parts(text.encode())


def test_html_gives_what_a_reader_sees() -> None:
    page = (
        "<!doctype html><html><head><title>Caf&eacute; &amp; bar</title><style>p{}</style></head>"
        "<body><script>var x = '<p>no</p>';</script language=js><h1>Menu</h1>"
        "<p>Soup&nbsp;&lt;hot&gt;</p>"
        "<ul><li>bread<li>wine</ul><!-- not this --><noscript>nor this</noscript>end"
    )
    title, _, text, _ = visible_text(page)
    assert title == "Café & bar"
    assert " ".join(text.split()) == "Menu Soup <hot> bread wine end"


def test_a_page_keeps_its_author_and_what_stands_in_its_boxes() -> None:
    page = (
        '<head><meta name="Author" content=" Jane&nbsp;Doe "><meta name=author content="J. Roe">'
        '<meta name=author content="J. Roe"><meta name=author content=" ">'
        "<meta name=author><meta name=x content=y></head>"
        "<p>Dear<textarea rows=2>sea &amp; sky</textarea>you<textarea>left open"
    )
    (part,) = parts(page.encode(), "html")
    assert (part.data, part.meta["author"]) == ("Dear sea & sky you left open", "Jane Doe; J. Roe")
    long = f'<meta name=author content="{"long " * 1000}"><p>words'.encode()
    assert len(parts(long, "html")[0].meta["author"]) == 300


def test_a_page_says_what_its_pictures_show() -> None:
    page = (
        '<h1><img src=a alt="A grey whale"/> Whales</h1><p>be<img src=b alt="">fore'
        "<img src=c alt='picture1.png'><img src=d alt='count' width=1 height=1><img alt>"
        "<img src=e><noscript><img alt='not shown'></noscript><p><img alt=T>he end"
    )
    (part,) = parts(page.encode(), "html")
    assert part.data == "A grey whale Whales before The end"
    assert part.meta["section"] == "A grey whale Whales"


@pytest.mark.parametrize("where", ["<meta charset=gb2312>", '<?xml encoding="gb2312"?>'])
def test_html_in_the_encoding_that_it_names(where: str) -> None:
    data = f"<html>{where}<body>{CHINESE}".encode("gb18030")
    assert parts(data, "html")[0].data == CHINESE


@pytest.mark.parametrize(
    "bad",
    [
        *("<", "<!--", "<a ", "<div>", "</", '<a b="', "&#", "<![CDATA[", "<?", "<script>"),
        *("<textarea>", "<img alt=a>"),
    ],
)
def test_html_made_to_be_slow_is_not(bad: str) -> None:
    """HTMLParser.close() alone takes minutes over half a megabyte of unclosed comments."""
    import time

    start = time.process_time()
    visible_text("<p>words</p>" + bad * (500_000 // len(bad)))
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("head", "name", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "notes.txt", "image"),
        (b"plain words", "README", "text"),
        (b"#!/bin/sh\n", "run", None),
        (b"{}", "photo.json", None),
        (b"<svg xmlns='x'>", "a.svg", None),
        (b"import os", "a.py", None),
        (b"<html>", "INDEX", "html"),
        (b"ID3 tags are old.", "music.txt", "text"),
        (b"\x00\x00\x00\x18ftypmp42", "film.mp4", None),
        (b"RIFF\x00\x00\x00\x00AVI LIST", "film.avi", None),
        (b"OggS" + bytes(24) + b"\x80theora", "film.ogv", None),
        (b"PK\x03\x04", "report.docx", "office"),
    ],
)
def test_content_decides_what_a_file_is(head: bytes, name: str, kind: str | None) -> None:
    assert sniff(head, name) == kind


def test_include_takes_further_texts_by_name_or_path() -> None:
    assert sniff(b"{}", "sub/a.json", ("*.json",)) == "text"
    assert sniff(b"{}", "sub/a.json", ("sub/*",)) == "text"
    assert sniff(b"{}", "sub/a.json", ("other/*",)) is None


@pytest.mark.parametrize(
    ("head", "name", "reason"),
    [
        (b"PK\x03\x04", "bomb.png", "named .png, but is a ZIP archive"),
        (b"words", "words.mp3", "named .mp3, but is text"),
        (b"", "none.jpg", "empty file"),
        (bytes(100), "zero.pdf", "all zero bytes"),
        (b"\x00\x00\x00\x18ftypmp42", "film.heic", "MP4 or QuickTime"),
    ],
)
def test_a_name_that_promises_what_the_content_is_not_is_an_error(
    head: bytes, name: str, reason: str
) -> None:
    with pytest.raises(DecodeError, match=reason) as caught:
        sniff(head, name)
    assert caught.value.stage == "sniff"


def test_sniffing_costs_less_than_a_tenth_of_a_millisecond() -> None:
    import time

    heads = [("a.jpg", b"\xff\xd8\xff" + bytes(8000)), ("a.txt", CHINESE.encode()[:8000] * 60)]
    for name, head in heads:
        start = time.process_time()
        for _ in range(200):
            sniff(head[:8192], name)
        assert (time.process_time() - start) / 200 < 100e-6


@pytest.mark.parametrize("control", ["\a", "\x01\x02"])
def test_a_stray_control_character_does_not_make_a_binary_file_of_a_short_note(
    control: str,
) -> None:
    data = f"A short note with a bell{control} in it.\n".encode()
    assert sniff(data, "bel.txt") == "text"
    (part,) = parts(data)
    assert part.data == "A short note with a bell in it."
    assert sniff(b"\x01\x02\x03" * 20, "x") is None
