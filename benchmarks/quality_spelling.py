"""How texts are typed: in capitals, in full width, with accents; and names, which are written with
a capital letter.

Flickr8k's validation photos by captions as written and in other spellings, paired over photos.
Names: the Chinese word for each of ``NAMES`` among them all, by the mean reciprocal rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import mmsearch
from common import Line
from mmsearch.train.mini import data
from mmsearch.train.mini.data import Sources
from quality_photos import unpack

GOAL, K = 1.0, 10  # points of R@K that a spelling may cost or bring
DRAWS, SEED = 2_000, 0
_ACCENTED = str.maketrans("aeiou", "áêìöü")

SPELLINGS: dict[str, Callable[[str], str]] = {
    "UPPER": str.upper,
    "Title": str.title,
    "lower": str.lower,
    "full width": lambda text: "".join(
        chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c.replace(" ", "\u3000") for c in text
    ),
    "accents": lambda text: text.translate(_ACCENTED),
}
NAMES = (
    "France 法国|Germany 德国|Italy 意大利|Spain 西班牙|Russia 俄罗斯|China 中国|Japan 日本|"
    "Korea 韩国|India 印度|Brazil 巴西|Mexico 墨西哥|Canada 加拿大|Australia 澳大利亚|"
    "Egypt 埃及|Greece 希腊|Turkey 土耳其|Poland 波兰|Sweden 瑞典|Norway 挪威|Finland 芬兰|"
    "Denmark 丹麦|Switzerland 瑞士|Austria 奥地利|Netherlands 荷兰|Belgium 比利时|"
    "Portugal 葡萄牙|Ireland 爱尔兰|Scotland 苏格兰|England 英格兰|America 美国|Africa 非洲|"
    "Europe 欧洲|Asia 亚洲|Paris 巴黎|London 伦敦|Berlin 柏林|Rome 罗马|Tokyo 东京|"
    "Beijing 北京|Shanghai 上海|New York 纽约|Moscow 莫斯科|Madrid 马德里|Vienna 维也纳|"
    "Sydney 悉尼|Singapore 新加坡|Monday 星期一|Tuesday 星期二|Wednesday 星期三|"
    "Thursday 星期四|Friday 星期五|Saturday 星期六|Sunday 星期日|January 一月|February 二月|"
    "March 三月|April 四月|June 六月|July 七月|August 八月|September 九月|October 十月|"
    "November 十一月|December 十二月|Christmas 圣诞节|Easter 复活节|Halloween 万圣节|"
    "English 英语|French 法语|German 德语|Japanese 日语|Chinese 中文|Buddha 佛陀|Jesus 耶稣|"
    "Einstein 爱因斯坦|Shakespeare 莎士比亚|Mozart 莫扎特|Beethoven 贝多芬|Google 谷歌|"
    "Microsoft 微软|Facebook 脸书|Olympics 奥运会|Internet 互联网"
)

Found = np.ndarray  # (photos,): the share of each photo's captions that find it


def recall(space: mmsearch.Embedder, seen: np.ndarray, captions: Sequence[Sequence[str]]) -> Found:
    """The share of each photo's captions that find it among the first K."""
    asked = space.encode_query([text for own in captions for text in own])
    scores = np.asarray(asked) @ np.asarray(seen).T
    own = np.repeat(np.arange(len(captions)), [len(several) for several in captions])
    ranks = (scores >= scores[np.arange(len(own)), own][:, None]).sum(1)
    return np.bincount(own, ranks <= K) / np.bincount(own)


def mean(what: str, values: Found, **more: object) -> Line:
    """The mean in percent; its interval draws the photos anew."""
    at = np.random.default_rng(SEED).integers(0, len(values), (DRAWS, len(values)))
    low, high = map(float, np.percentile(100 * values[at].mean(1), [2.5, 97.5]))
    return Line(what, 100 * float(values.mean()), low, high, digits=2, **more)  # type: ignore[arg-type]


def name_line(space: mmsearch.Embedder, what: str, spell: Callable[[str], str]) -> Line:
    """How well a name's Chinese word is found by the name in some spelling."""
    english, chinese = zip(*(pair.rsplit(" ", 1) for pair in NAMES.split("|")), strict=True)
    scores = np.asarray(space.encode_document([spell(name) for name in english])) @ (
        np.asarray(space.encode_document(chinese)).T
    )
    ranks = (scores >= scores.diagonal()[:, None]).sum(1)
    return mean(f"MRR of {len(english)} names' Chinese words, {what}", 1 / ranks)


def lines(folder: Path, name: str, before: Path | None, work: Path) -> list[Line]:
    """R@10 in each spelling less that as written, and what was found as written before."""
    photos = data.photos(Sources(folder, folder), "val")
    unpack(folder, work)
    paths = [work / "photos" / photo.name for photo in photos]
    space = mmsearch.load_space(name)
    seen = space.encode_images(paths)
    then = None if before is None else mmsearch.load_space(before)
    old = None if then is None else then.encode_images(paths)
    found = []
    for language in ("en", "zh"):
        captions = [getattr(photo, language) for photo in photos]
        written = recall(space, seen, captions)
        found.append(mean(f"R@{K} {language} → image, as written", written))
        for spelling, spell in SPELLINGS.items():
            spelt = [[spell(text) for text in own] for own in captions]
            what = f"R@{K} {language} → image, {spelling}, less that as written"
            found.append(mean(what, recall(space, seen, spelt) - written, goal=-GOAL))
        if then is not None and old is not None:
            gained = written - recall(then, old, captions)
            found.append(mean(f"R@{K} {language} → image, less that of {then.space}", gained))
            for spelling, spell in SPELLINGS.items():
                spelt = [[spell(text) for text in own] for own in captions]
                what = f"R@{K} {language} → image by {then.space}, {spelling}"
                found.append(mean(what, recall(then, old, spelt)))
    for one in (space, then):
        if one is not None:
            cases = {"as written": str, "lower": str.lower, "UPPER": str.upper}
            found += [name_line(one, f"{c}, {one.space}", spell) for c, spell in cases.items()]
    return found
