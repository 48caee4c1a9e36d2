"""Rebuild `tests/samples/`, the corpus that `make demo` indexes, from the packages it comes from.

The corpus is committed; nobody needs this script to use it. It is here so that every file can be
traced and made again: it reads the packages below, unpacked, and writes photos, drawings, sounds,
the texts taken from packages, and `CREDITS.md`. The texts that were written for this project
(marked `own` in the table) are sources themselves: they stay as they are and must be there.

Get and unpack the packages (the versions that were used are in `PACKAGES`):

    apt-get download gcompris-qt-data tuxpaint-stamps-default openclipart-png \
        lomiri-wallpapers-16.04 fortunes-zh
    pip download --no-deps scikit-image scikit-learn
    for f in *.deb; do dpkg -x "$f" "${f%%_*}"; done
    for f in *.whl; do python -m zipfile -e "$f" "${f%%-*}"; done

    python tests/make_samples.py --gcompris gcompris-qt-data --tuxpaint tuxpaint-stamps-default \
        --openclipart openclipart-png --lomiri lomiri-wallpapers-16.04 --fortunes fortunes-zh \
        --skimage scikit_image --sklearn scikit_learn

The same packages and the same versions of Pillow, pillow-heif, libsndfile and soxr give the same
bytes. Needs only what mmsearch itself needs.
"""

from __future__ import annotations

import argparse
import io
import re
import struct
import sys
import textwrap
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pillow_heif
import soundfile
import soxr
from PIL import Image

MAX_SIDE = 640
QUALITY = 85
PEAK = 0.95
EXIF_ORIENTATION = 0x0112

# key -> (name, version, where its terms are stated, folder inside the unpacked package)
PACKAGES = {
    "gcompris": (
        "Debian gcompris-qt-data",
        "3.1-2",
        "its `copyright` file; the credits inside each activity (`ActivityInfo.qml`); the `README`"
        " beside the files in GCompris's repository (invent.kde.org/education/gcompris)",
        "usr/share/gcompris-qt/rcc",
    ),
    "tuxpaint": (
        "Debian tuxpaint-stamps-default",
        "2022.06.04-1",
        "its `copyright` file",
        "usr/share/tuxpaint/stamps",
    ),
    "openclipart": (
        "Debian openclipart-png",
        "1:0.18+dfsg-19",
        "its `copyright` file (Creative Commons public domain dedication)",
        "usr/share/openclipart/png",
    ),
    "lomiri": (
        "Debian lomiri-wallpapers-16.04",
        "20.04.0-2",
        "its `copyright` file",
        "usr/share/backgrounds",
    ),
    "fortunes": (
        "Debian fortunes-zh",
        "2.98",
        "its `copyright` file",
        "usr/share/games/fortunes",
    ),
    "skimage": (
        "PyPI scikit-image",
        "0.26.0",
        "the docstrings in `skimage/data/_fetchers.py`",
        "skimage/data",
    ),
    "sklearn": (
        "PyPI scikit-learn",
        "1.9.1",
        "`sklearn/datasets/images/README.txt`",
        "sklearn/datasets/images",
    ),
}

LICENCES = {
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC-BY-1.0": "https://creativecommons.org/licenses/by/1.0/",
    "CC-BY-2.0": "https://creativecommons.org/licenses/by/2.0/",
    "CC-BY-3.0": "https://creativecommons.org/licenses/by/3.0/",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC-BY-SA-2.0": "https://creativecommons.org/licenses/by-sa/2.0/",
    "CC-BY-SA-3.0": "https://creativecommons.org/licenses/by-sa/3.0/",
    "CC-BY-SA-4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "GPL-2": "https://www.gnu.org/licenses/old-licenses/gpl-2.0.html",
    "GPL-3": "https://www.gnu.org/licenses/gpl-3.0.html",
    "GPL-3+": "https://www.gnu.org/licenses/gpl-3.0.html",
    "FAL": "https://artlibre.org/licence/lal/en/ (Free Art License; the package carries 1.2)",
    "public domain": "no conditions",
}

COMMONS = "https://commons.wikimedia.org/wiki/File:"
TUX = "Bill Kendrick and the Tux Paint contributors"
ART4APPS = "Art4Apps"
FARM = "Bruno Coudoin and others"
ALLORGE = "Lionel Allorge (cut: Yves Combe)"
BAND = "Sylvain Dechy, Jérome Blanchard, Julie Jules, Chloé Tuvuku"


@dataclass(frozen=True)
class Sample:
    """One file: where it goes, what it is, where it comes from and how it is made."""

    path: str
    what: str
    package: str = ""
    source: str = ""
    author: str = ""
    licence: str = ""
    link: str = ""
    how: str = "fit"  # fit: a picture to MAX_SIDE, a sound by its suffix; copy: byte for byte
    rate_hz: int = 22_050
    seconds: float | None = None
    names: tuple[str, ...] = ()


def photo(
    name: str,
    what: str,
    package: str,
    source: str,
    author: str,
    licence: str,
    link: str = "",
    how: str = "fit",
) -> Sample:
    return Sample(f"photos/{name}", what, package, source, author, licence, link, how)


def drawing(name: str, what: str, source: str, author: str = "", how: str = "fit") -> Sample:
    who = author or "unnamed"
    return Sample(f"drawings/{name}", what, "openclipart", source, who, "public domain", how=how)


def sound(
    name: str,
    what: str,
    package: str,
    source: str,
    author: str,
    licence: str,
    link: str = "",
    how: str = "copy",
    seconds: float | None = None,
) -> Sample:
    return Sample(
        f"sounds/{name}", what, package, source, author, licence, link, how, seconds=seconds
    )


def own(name: str, what: str) -> Sample:
    return Sample(f"texts/{name}", what, "", "", "the mmsearch project", "CC0-1.0", how="own")


SAMPLES = [
    # photos -------------------------------------------------------------------------------------
    photo("astronaut.jpg", "Eileen Collins in an orange suit beside a model shuttle",
          "skimage", "astronaut.png", "NASA", "public domain", "https://flic.kr/p/r9qvLn"),
    photo("coffee.jpg", "a cup of espresso on a wooden table", "skimage", "coffee.png",
          "Rachel Michetti, Pikolo Espresso Bar", "CC0-1.0"),
    photo("tabby.jpg", "the face of Chelsea the cat", "skimage", "chelsea.png",
          "Stefan van der Walt", "CC0-1.0"),
    photo("rocket.jpg", "a Falcon 9 on its pad at dusk", "skimage", "rocket.jpg", "SpaceX",
          "public domain", "https://www.flickr.com/photos/spacexphotos/16511594820/", how="copy"),
    photo("galaxies.jpg", "the Hubble eXtreme Deep Field", "skimage", "hubble_deep_field.jpg",
          "NASA", "public domain",
          "http://hubblesite.org/newscenter/archive/releases/2012/37/image/a/"),
    photo("cameraman.tiff", "a man behind a camera on a tripod, black and white", "skimage",
          "camera.png", "Lav Varshney", "CC0-1.0"),
    photo("pagoda.jpg", "a Chinese pavilion above a lake", "sklearn", "china.jpg",
          "danielbuechele", "CC-BY-2.0",
          "https://www.flickr.com/photos/danielbuechele/6061409035/", how="copy"),
    photo("dahlia.jpg", "an orange dahlia", "sklearn", "flower.jpg",
          "vultilion (the README's link; its text says danielbuechele)", "CC-BY-2.0",
          "https://www.flickr.com/photos/vultilion/6056698931/", how="copy"),
    photo("bee.jpg", "a bee at an orange flower", "gcompris", "erase/resource/bee.webp",
          "aussiegall", "CC-BY-2.0", COMMONS + "Pollinationn.jpg"),
    photo("butterfly.jpg", "a butterfly on a violet flower", "gcompris",
          "erase/resource/butterfly.webp", "Jee & Rani Nature Photography", "CC-BY-SA-4.0",
          COMMONS + "Parantica_aglea_at_Nayikayam_Thattu.jpg"),
    photo("cheetah.jpg", "a cheetah in the grass", "gcompris", "erase/resource/cheetah.webp",
          "Charles J. Sharp", "CC-BY-SA-4.0", COMMONS + "Cheetah_(Acinonyx_jubatus)_female_2.jpg"),
    photo("dolphin.jpg", "a dolphin under water", "gcompris", "erase/resource/dolphin.webp",
          "טל שמע", "CC-BY-SA-4.0", COMMONS + "Eilat_Dolphin_Reef_(3).jpg"),
    photo("kitten.jpg", "a ginger kitten outdoors", "gcompris", "erase/resource/kitten.webp",
          "GalgenTX", "CC-BY-2.0", COMMONS + "A_posing_kitten_(Flickr).jpg"),
    photo("meerkats.webp", "three meerkats standing", "gcompris", "erase/resource/meerkats.webp",
          "Charles J. Sharp", "CC-BY-SA-4.0", COMMONS + "Meerkat_(Suricata_suricatta)_Tswalu.jpg"),
    photo("penguin.jpg", "a chinstrap penguin", "gcompris", "erase/resource/penguin.webp",
          "Gordon Leggett", "CC-BY-SA-4.0",
          COMMONS + "2019-03-03_Chinstrap_penguin_on_Barrientos_Island,_Antarctica.jpg"),
    photo("squirrel.jpg", "a squirrel behind a tree trunk", "gcompris",
          "erase/resource/squirrel.webp", "Роман Наумов", "CC-BY-SA-4.0",
          COMMONS + "Білка_на_дереві_в_дендропарку_Олександрія.jpg"),
    photo("swans.jpg", "two swans with cygnets", "gcompris", "erase/resource/swans.webp",
          "Charles J. Sharp", "CC-BY-SA-4.0", COMMONS + "Mute_swans_(Cygnus_olor)_and_cygnets.jpg"),
    photo("toucan.jpg", "a toucan on a branch", "gcompris", "erase/resource/toucan.webp",
          "LG Nyqvist", "CC-BY-SA-4.0", COMMONS + "Pteroglossus_torquatus_Costa_Rica.jpg"),
    photo("yarn.heic", "a young cat playing with wool", "gcompris",
          "explore_farm_animals/resource/animals/cat.webp", "Loliloli", "public domain",
          COMMONS + "Spielendes_Kätzchen.JPG"),
    photo("chickens.jpg", "brown chickens on grass", "gcompris",
          "explore_farm_animals/resource/animals/chicken.webp", "Tranquilles", "public domain",
          COMMONS + "Chickens_at_Tranquilles_B%26B.JPG"),
    photo("cow.jpg", "a black and white cow in a meadow", "gcompris",
          "explore_farm_animals/resource/animals/cow.webp", "Dohduhdah", "public domain",
          COMMONS + "Cow-IMG_2050.JPG"),
    photo("shepherd.jpg", "a German shepherd dog", "gcompris",
          "explore_farm_animals/resource/animals/dog.webp", "Hans Kemperman", "public domain",
          COMMONS + "German-shepherd-4040871920._(2).jpg"),
    photo("horses.jpg", "a band of wild horses", "gcompris",
          "explore_farm_animals/resource/animals/horse.webp", "Seth Zeigler", "public domain",
          COMMONS + "Nokota_Horse_Stud_Band.jpg"),
    photo("owl.jpg", "an owl on a branch", "gcompris",
          "explore_farm_animals/resource/animals/owl.webp", "Lepale", "public domain",
          COMMONS + "Owl_The_Nightbird.jpg"),
    photo("sheep.jpg", "a sheep", "gcompris", "explore_farm_animals/resource/animals/sheep.webp",
          "Rob Mitchell", "public domain", COMMONS + "Sheep_(33625876592).jpg"),
    photo("panda.webp", "a giant panda", "gcompris",
          "explore_world_animals/resource/animals/panda.webp", "Aaron Logan", "CC-BY-1.0",
          COMMONS + "Lightmatter_panda.jpg"),
    photo("tundra.jpg", "a polar bear walking over snow", "gcompris",
          "explore_world_animals/resource/animals/polar_bear.webp", "Arturo de Frias Marques",
          "CC-BY-SA-4.0", COMMONS + "Polar_Bear_AdF.jpg"),
    photo("paris.jpg", "the Eiffel tower", "gcompris",
          "explore_monuments/resource/france/eiffelTower.webp", "Tognopop", "public domain",
          COMMONS + "Eiffel_Tower_20051010.jpg"),
    photo("wall.jpg", "the Great Wall of China on green hills", "gcompris",
          "explore_monuments/resource/wonders/greatWallofChina.webp", "Nicolas Perrault III",
          "public domain", COMMONS + "Great_Wall_of_China_July_2006.JPG"),
    photo("pyramids.jpg", "the pyramids at Gizah", "gcompris",
          "details/resource/image/GizahPyramids_background.webp", "Ricardo Liberato",
          "CC-BY-SA-2.0", COMMONS + "Pyramids_at_Gizah.jpg"),
    photo("bridge.jpg", "Tower Bridge in London at night", "gcompris",
          "details/resource/image/TowerBridgeLondon_background.webp", "David Iliff",
          "CC-BY-SA-4.0", COMMONS + "Tower_Bridge_London_Feb_2006.jpg"),
    photo("windmill.jpg", "a windmill on Fanoe", "gcompris",
          "details/resource/image/FanoeWindmill_background.webp", "Cnyborg", "CC-BY-SA-3.0",
          COMMONS + "DK_Fanoe_Windmill01.JPG"),
    photo("porch.jpg", "two dogs looking out of a door", "lomiri",
          "friends_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", "CC-BY-4.0", how="exif6"),
    photo("stream.avif", "a stream in a forest", "lomiri", "life_by_Aitzol_Berasategi.jpg",
          "Aitzol Berasategi", "CC-BY-4.0"),
    photo("mountains.jpg", "the Picos de Europa", "lomiri",
          "picosdeeuropa_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", "CC-BY-4.0"),
    photo("sunset.jpg", "a low sun over hills", "lomiri", "sunset_by_Aitzol_Berasategi.jpg",
          "Aitzol Berasategi", "CC-BY-4.0", how="progressive"),
    photo("dandelions.jpg", "dandelion clocks in a meadow", "lomiri",
          "seeding_by_Clements_Engelhardt.jpg", "Clemens Engelhardt", "CC0-1.0"),
    photo("fig.jpg", "half a fig in a red bowl", "lomiri", "Picture_0B_by_freespace.jpg",
          'Trevor "Freespace"', "CC-BY-4.0"),
    photo("firetruck.png", "a fire engine, cut out", "tuxpaint",
          "vehicles/emergency/firetruck.png", TUX, "GPL-2"),
    photo("balloon.png", "a hot air balloon, cut out", "tuxpaint",
          "vehicles/flight/balloon360.png", TUX, "GPL-2", "", how="copy"),
    photo("elephant.png", "an elephant, cut out", "tuxpaint", "animals/mammals/elephant.png", TUX,
          "GPL-2", "", how="copy"),
    photo("gull.png", "a gull in flight, cut out", "tuxpaint", "animals/birds/seagull.png", TUX,
          "GPL-2", "", how="copy"),
    photo("drums.png", "a drum kit, cut out", "tuxpaint", "hobbies/music/percussion/drumkit.png",
          TUX, "GPL-2", "", how="copy"),
    # drawings -----------------------------------------------------------------------------------
    drawing("train.png", "a toy steam train", "recreation/toys/kiddy_train_orlando_kara_.png",
            "orlando_kara…"),
    drawing("sailing.png", "two sailing boats at sunset", "recreation/holiday/sailing_sunset.png"),
    drawing("fireworks.gif", "fireworks over black, two frames",
            "recreation/holiday/fireworks_ganson2.png+recreation/holiday/fireworks_ganson1.png",
            "ganson", how="gif"),
    drawing("lantern.png", "a red lantern under a full moon",
            "recreation/holiday/midautumn1_01.png"),
    drawing("snowman.png", "a snowman with a broom", "recreation/holiday/snowman_01.png"),
    drawing("birthday.png", "a birthday cake with candles", "recreation/holiday/birthday_cake.png"),
    drawing("piano.png", "an upright piano", "recreation/music/piano_geraint_luff_01.png",
            "geraint_luff"),
    drawing("lighthouse.png", "a red and white lighthouse",
            "buildings/lighthouse_matthew_gates_.png", "matthew_gates"),
    drawing("soup.png", "a bowl of steaming soup", "food/bowl_of_steaming_soup_01.png"),
    drawing("bicycle.png", "a bicycle", "transportation/vehicles/bicycle_01.png"),
    drawing("cat.png", "a grey and white cat lying down",
            "animals/mammals/housecats/gatto_cat_architetto_fra_03.png", "architetto_fra…"),
    Sample("drawings/horse.png", "the outline of a horse", "skimage", "horse.png",
           "Andreas Preuss", "CC0-1.0", how="copy"),
    Sample("drawings/dog.webp", "a cartoon dog with a bone", "gcompris",
           "lang/resource/words_sample/dog.webp", ART4APPS, "CC-BY-SA-3.0", how="copy"),
    Sample("drawings/fruit.webp", "a basket of fruit", "gcompris",
           "lang/resource/words_sample/fruit.webp", ART4APPS, "CC-BY-SA-3.0", how="copy"),
    # sounds -------------------------------------------------------------------------------------
    sound("meow.ogg", "a cat", "gcompris", "explore_farm_animals/resource/animals/cat.ogg", FARM,
          "GPL-3"),
    sound("henhouse.mp3", "chickens", "gcompris",
          "explore_farm_animals/resource/animals/chickens.ogg", FARM, "GPL-3", how="fit"),
    sound("moo.ogg", "a cow", "gcompris", "explore_farm_animals/resource/animals/cow.ogg", FARM,
          "GPL-3"),
    sound("quack.flac", "a duck", "gcompris", "explore_farm_animals/resource/animals/duck.ogg",
          FARM, "GPL-3", how="fit"),
    sound("neigh.wav", "a horse", "gcompris", "explore_farm_animals/resource/animals/horse.ogg",
          FARM, "GPL-3", how="fit"),
    sound("hoot.ogg", "an owl", "gcompris", "explore_farm_animals/resource/animals/owl.ogg", FARM,
          "GPL-3"),
    sound("baa.ogg", "a sheep", "gcompris", "explore_farm_animals/resource/animals/sheep.ogg",
          FARM, "GPL-3"),
    sound("bark.ogg", "a dog barking", "gcompris", "memory-sound/resource/LRBark_1_LA_cut.ogg",
          ALLORGE, "FAL"),
    sound("rain.ogg", "rain in a garden", "gcompris",
          "memory-sound/resource/LRRain_in_garden_01_LA_cut.ogg", ALLORGE, "FAL"),
    sound("brakes.ogg", "a train slowing down", "gcompris",
          "memory-sound/resource/LRTrain_slowing_down_01_LA_cut.ogg", ALLORGE, "FAL"),
    sound("drumming.ogg", "a drum kit", "tuxpaint", "hobbies/music/percussion/drumkit.ogg", TUX,
          "GPL-2"),
    sound("cockcrow.ogg", "a rooster", "tuxpaint", "animals/birds/rooster.ogg", TUX, "GPL-2"),
    sound("pond.ogg", "frogs in a pond during a storm", "gcompris",
          "memory-sound/resource/LRFrogsInPondDuringStormLACut.ogg", ALLORGE, "FAL"),
    sound("piano.flac", "a piano", "gcompris", "instruments/resource/piano.ogg", BAND, "GPL-3+",
          how="fit"),
    sound("violin.ogg", "a violin", "gcompris", "instruments/resource/violin.ogg", BAND,
          "GPL-3+"),
    sound("fiddle.mp3", "The Wind that Shakes the Barley, a fiddle tune", "gcompris",
          "explore_world_music/resource/music/ireland.ogg", "peakfiddler", "CC-BY-3.0",
          COMMONS + "The_Wind_that_Shakes_the_Barley.ogg", how="fit", seconds=34.0),
    sound("thunder.wav", "a clap of thunder", "tuxpaint", "naturalforces/lightningbolt.ogg", TUX,
          "GPL-2", how="fit"),
    sound("caw.ogg", "a crow", "tuxpaint", "animals/birds/crow.ogg", TUX, "GPL-2"),
    sound("blackbird.ogg", "a blackbird singing", "tuxpaint", "animals/birds/blackbird.ogg", TUX,
          "GPL-2"),
    sound("buzz.ogg", "a bee", "tuxpaint", "animals/insects/bee.ogg", TUX, "GPL-2"),
    sound("growl.ogg", "a tiger", "tuxpaint", "animals/mammals/cats/tiger.ogg", TUX, "GPL-2"),
    sound("siren.mp3", "a fire engine", "tuxpaint", "vehicles/emergency/firetruck.ogg", TUX,
          "GPL-2", how="fit"),
    sound("moon.ogg", "radio speech from the Moon", "tuxpaint", "space/apollo_lander.ogg", TUX,
          "GPL-2"),
    # texts --------------------------------------------------------------------------------------
    own("en/thunderstorm.md", "a summer thunderstorm"),
    own("en/coffee.txt", "how to make coffee"),
    own("en/dogs.txt", "dogs at the beach"),
    own("en/launch.md", "a rocket launch at night"),
    own("en/garden.html", "a flower garden in September"),
    Sample("texts/en/farm.txt", "farm animals and what they say", "gcompris",
           "explore_farm_animals/resource/board/board1.qml", "the GCompris authors", "GPL-3+",
           how="qml"),
    Sample("texts/en/wildlife.pdf", "wild animals of the world", "gcompris",
           "explore_world_animals/resource/board/board1.qml"
           "+explore_world_animals/resource/board/board2.qml"
           "+explore_world_animals/resource/board/board3.qml",
           "the GCompris authors", "GPL-3+", how="qml-pdf"),
    Sample("texts/en/music.md", "the music of nine regions", "gcompris",
           "explore_world_music/resource/board/board1.qml", "the GCompris authors", "GPL-3+",
           how="qml-md"),
    own("zh/thunderstorm.txt", "a summer thunderstorm (simplified Chinese)"),
    own("zh/pagoda.md", "a pavilion by a lake (simplified Chinese)"),
    own("zh/cats.html", "living with a kitten (simplified Chinese)"),
    own("zh/train.txt", "travelling by train (simplified Chinese)"),
    own("zh/market.txt", "food at a night market (traditional Chinese)"),
    Sample("texts/zh/planets.txt", "the Sun, the planets and the Moon in one line each", "tuxpaint",
           "space", TUX, "GPL-2", how="captions",
           names=("planets/0_sun", "planets/1_mercury", "planets/2_venus", "planets/3_earth",
                  "planets/4_mars", "planets/5_jupiter", "planets/6_saturn", "planets/7_uranus",
                  "planets/8_neptune", "planets/9_pluto", "moon/moon_full",
                  "moon/moon_crescent", "apollo_lander", "spacewalk", "voyager2")),
    Sample("texts/zh/mountains.txt", "Tang poems on mountains, birds, rain and snow", "fortunes",
           "tang300", "Meng Haoran, Wang Wei, Liu Zongyuan, Zu Yong, Li Shangyin",
           "public domain", how="tang",
           names=("春晓", "山居秋暝", "鹿柴", "终南山", "江雪", "终南望余雪", "夜雨寄北")),
    Sample("texts/zh/rivers.md", "Tang poems on rivers, boats and a temple bell", "fortunes",
           "tang300", "Zhang Ji, Wang Zhihuan, Meng Haoran, Du Fu", "public domain", how="tang",
           names=("枫桥夜泊", "登鹳雀楼", "宿建德江", "早寒江上有怀", "登高")),
    Sample("texts/zh/lute.txt", "Tang poems on music, in the encoding GB 18030", "fortunes",
           "tang300", "Li Bai, Liu Changqing, Li Duan, Li Yi", "public domain", how="tang-gb18030",
           names=("听蜀僧浚弹琴", "弹琴", "听筝", "夜上受降城闻笛", "江南逢李龟年")),
]  # fmt: skip


# where the bytes come from -----------------------------------------------------------------------


@cache
def read_rcc(path: Path) -> dict[str, bytes]:
    """The files inside a Qt resource file (format versions 1 to 3, plain or zlib)."""
    raw = path.read_bytes()
    if raw[:4] != b"qres":
        raise ValueError(f"{path}: not a Qt resource file")
    version, tree, data, names = struct.unpack(">4I", raw[4:20])
    node_size = 14 if version == 1 else 22
    found: dict[str, bytes] = {}

    def walk(node: int, prefix: str) -> None:
        at = tree + node * node_size
        name_at, flags = struct.unpack(">IH", raw[at : at + 6])
        if node:
            (length,) = struct.unpack(">H", raw[names + name_at : names + name_at + 2])
            start = names + name_at + 6
            prefix += "/" + raw[start : start + 2 * length].decode("utf-16-be")
        if flags & 2:
            count, first = struct.unpack(">II", raw[at + 6 : at + 14])
            for child in range(first, first + count):
                walk(child, prefix)
            return
        (offset,) = struct.unpack(">I", raw[at + 10 : at + 14])
        (size,) = struct.unpack(">I", raw[data + offset : data + offset + 4])
        body = raw[data + offset + 4 : data + offset + 4 + size]
        found[prefix] = zlib.decompress(body[4:]) if flags & 1 else body

    walk(0, "")
    return found


def fetch(roots: dict[str, Path], package: str, source: str) -> bytes:
    """The bytes of `source` in a package; a GCompris path is looked up in its activity's .rcc."""
    folder = roots[package] / PACKAGES[package][3]
    if package != "gcompris":
        return (folder / source).read_bytes()
    activity = source.split("/", 1)[0]
    return read_rcc(folder / f"{activity}.rcc")[f"/gcompris/src/activities/{source}"]


# pictures ----------------------------------------------------------------------------------------


def make_picture(sample: Sample, bodies: list[bytes]) -> bytes:
    suffix = Path(sample.path).suffix
    frames = []
    for body in bodies:
        with Image.open(io.BytesIO(body)) as opened:
            picture: Image.Image = opened.copy()
        if suffix in {".png", ".gif"}:
            picture = picture.convert("RGBA")
        elif picture.mode != "L":
            picture = picture.convert("RGB")
        side = 320 if suffix in {".tiff", ".gif"} else MAX_SIDE
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        frames.append(picture)
    first = frames[0]
    out = io.BytesIO()
    if suffix == ".gif":
        shown = [f.convert("RGB").quantize(64) for f in frames]
        shown[0].save(out, "GIF", save_all=True, append_images=shown[1:], duration=400, loop=0)
    elif suffix == ".heic":
        pillow_heif.from_pillow(first).save(out, quality=60, format="HEIF")
    elif suffix == ".avif":
        first.save(out, "AVIF", quality=60, max_threads=1)
    elif suffix == ".webp":
        first.save(out, "WEBP", quality=80, method=6)
    elif suffix == ".tiff":
        first.save(out, "TIFF", compression="tiff_lzw")
    elif suffix == ".png":
        first.save(out, "PNG", optimize=True)
    elif sample.how == "exif6":
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = 6
        turned = first.transpose(Image.Transpose.ROTATE_90)
        turned.save(out, "JPEG", quality=QUALITY, optimize=True, exif=exif)
    else:
        progressive = sample.how == "progressive"
        first.save(out, "JPEG", quality=QUALITY, optimize=True, progressive=progressive)
    return out.getvalue()


# sounds ------------------------------------------------------------------------------------------


def make_sound(sample: Sample, bodies: list[bytes]) -> bytes:
    wave, rate_hz = soundfile.read(io.BytesIO(bodies[0]), dtype="float64", always_2d=True)
    mono = wave.mean(axis=1)
    if sample.seconds is not None:
        mono = mono[: int(sample.seconds * rate_hz)]
        fade = min(len(mono), rate_hz)
        mono[-fade:] *= np.linspace(1.0, 0.0, fade)
    if rate_hz > sample.rate_hz:
        mono = soxr.resample(mono, rate_hz, sample.rate_hz, quality="HQ")
        rate_hz = sample.rate_hz
    loudest = float(np.abs(mono).max())
    if loudest > PEAK:
        mono = mono * (PEAK / loudest)
    out = io.BytesIO()
    kind = Path(sample.path).suffix[1:].upper()
    if kind == "MP3":
        soundfile.write(out, mono, rate_hz, format=kind, compression_level=0.5)
    else:
        soundfile.write(out, mono, rate_hz, format=kind, subtype="PCM_16")
    return out.getvalue()


# texts -------------------------------------------------------------------------------------------

TITLE = {
    "farm": "Farm animals",
    "wildlife": "Wild animals from around the world",
    "music": "Music around the world",
    "planets": "太阳系",
    "mountains": "唐诗：山、鸟、雨、雪",
    "rivers": "唐诗：江、船、钟声",
    "lute": "唐诗：听琴",
}


def board_entries(bodies: list[bytes]) -> list[tuple[str, str]]:
    """The (title, text) pairs of GCompris boards."""
    pair = re.compile(
        r'"title": qsTr\("((?:[^"\\]|\\.)+)"\),\s*"text": qsTr\("((?:[^"\\]|\\.)+)"\)'
    )
    return [found for body in bodies for found in pair.findall(body.decode())]


def make_pdf(title: str, paragraphs: list[str]) -> bytes:
    """A one-page PDF with real text: Helvetica, Latin-1, no dates, so always the same bytes."""

    def escape(line: str) -> str:
        return line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")

    lines = [line for text in paragraphs for line in [*textwrap.wrap(text, 92), ""]]
    drawn = [f"BT /F1 16 Tf 50 790 Td ({escape(title)}) Tj /F1 10 Tf 0 -16 Td 13 TL"]
    drawn += [f"({escape(line)}) '" for line in lines]
    page = "\n".join([*drawn, "ET"]).encode("latin-1", "replace")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(page), page),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    out = b"%PDF-1.4\n"
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer << /Size %d /Root 1 0 R >>\n" % (len(objects) + 1)
    return out + b"startxref\n%d\n%%%%EOF\n" % start


def make_text(sample: Sample, read: Callable[[str], bytes]) -> bytes:
    title = TITLE[Path(sample.path).stem]
    if sample.how.startswith("qml"):
        entries = board_entries([read(part) for part in sample.source.split("+")])
        if sample.how == "qml-pdf":
            return make_pdf(title, [f"{name}. {text}" for name, text in entries])
        if sample.how == "qml-md":
            body = "\n".join(f"## {n}\n\n{textwrap.fill(t, 96)}\n" for n, t in entries)
            return f"# {title}\n\n{body}".encode()
        body = "\n".join(textwrap.fill(f"{n}: {t}", 96) + "\n" for n, t in entries)
        return f"{title}\n\n{body}".encode()
    if sample.how == "captions":
        lines = []
        for name in sample.names:
            caption = read(f"{sample.source}/{name}.txt").decode()
            lines += re.findall(r"^zh_CN\.utf8=(.+)$", caption, flags=re.MULTILINE)
        return "\n".join([title, "", *lines, ""]).encode()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", read(sample.source).decode())
    poems = {p.split("\n", 1)[0].strip("《》"): p.strip() for p in plain.split("\n%\n")}
    mark = "# " if sample.path.endswith(".md") else ""
    text = "\n\n".join([mark + title, *(poems[name] for name in sample.names)]) + "\n"
    return text.encode("gb18030" if sample.how == "tang-gb18030" else "utf-8")


# the folder and its credits ----------------------------------------------------------------------


def changes(sample: Sample) -> str:
    """What was done to the original, in words: several of the licences ask for it."""
    kind, suffix = sample.path.split("/", 1)[0], Path(sample.path).suffix[1:]
    if sample.how == "own":
        return "written for this project"
    if sample.how == "copy":
        return "none"
    if kind == "sounds":
        cut = f"first {sample.seconds:g} s, faded out; " if sample.seconds else ""
        return f"{cut}mixed to mono, at most {sample.rate_hz} Hz, peak at most {PEAK}, as {suffix}"
    if kind == "texts":
        return {
            "qml": "titles and texts collected into one file, a heading added",
            "qml-md": "titles and texts collected into one file, a heading added",
            "qml-pdf": "titles and texts collected into one PDF, a heading added",
            "captions": "Chinese captions collected into one file, a heading added",
            "tang": "poems chosen, colour codes removed, a heading added",
            "tang-gb18030": "poems chosen, colour codes removed, a heading added, re-encoded",
        }[sample.how]
    side = 320 if suffix in {"tiff", "gif"} else MAX_SIDE
    done = f"longer side at most {side} px, saved as {suffix}"
    return done + {
        "exif6": ", pixels turned on purpose and EXIF orientation 6 set so that it shows upright",
        "progressive": ", progressive",
        "gif": ", two drawings as the two frames of one animation",
    }.get(sample.how, "")


def credits_page() -> str:
    lines = [
        "# The sample corpus: credits",
        "",
        "`make demo` indexes this folder. Every file, where it comes from, who made it, under which"
        " terms, and what was changed. Each file keeps its own licence: the folder is a collection"
        " of separate works, and mmsearch's licence does not cover them. Made by"
        " `tests/make_samples.py`; edit the table there, not this page.",
        "",
        "## Packages",
        "",
        "| package | version | where its terms are stated |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {version} | {terms} |" for name, version, terms, _ in PACKAGES.values()]
    lines += ["", "## Licences", "", "| short name | text |", "|---|---|"]
    used = {sample.licence for sample in SAMPLES}
    lines += [f"| {name} | {where} |" for name, where in LICENCES.items() if name in used]
    lines += [
        "",
        "Notes. The photographs from GCompris had been cropped and sharpened by its authors, who"
        " name each change in `ActivityInfo.qml`; the Art4Apps drawings had been enlarged and"
        " smoothed by them. Where GCompris names a photograph as public domain (its `README`"
        " beside the file), Debian's `copyright` lists it under the GPL-3 of the whole package;"
        " both allow this use. The `README` of `memory-sound` says that every sound with LA in its"
        " name is Lionel Allorge's, under the Free Art License, where Debian's pattern misses one"
        " (`LRFrogs…`). The poems are some twelve centuries old; the package that collects"
        " them is GPL-3+. Openclipart's authors are as far as the file names give them.",
        "",
        "## Files",
        "",
        "| file | what | from | author | licence | changes |",
        "|---|---|---|---|---|---|",
    ]
    for s in sorted(SAMPLES, key=lambda s: s.path):
        origin = ""
        if s.package:
            sources = ", ".join(f"`{part}`" for part in s.source.split("+"))
            origin = f"{PACKAGES[s.package][0]}: {sources}" + (f"; <{s.link}>" if s.link else "")
        lines.append(
            f"| `{s.path}` | {s.what} | {origin} | {s.author} | {s.licence} | {changes(s)} |"
        )
    return "\n".join([*lines, ""])


def make(sample: Sample, roots: dict[str, Path]) -> bytes:
    def read(source: str) -> bytes:
        return fetch(roots, sample.package, source)

    if sample.how == "copy":
        return read(sample.source)
    if sample.path.startswith("texts/"):
        return make_text(sample, read)
    bodies = [read(part) for part in sample.source.split("+")]
    if sample.path.startswith("sounds/"):
        return make_sound(sample, bodies)
    return make_picture(sample, bodies)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Rebuild tests/samples from unpacked packages (see this file's docstring)."
    )
    for key, (name, version, _, _) in PACKAGES.items():
        parser.add_argument(
            f"--{key}", type=Path, required=True, help=f"{name} {version}, unpacked"
        )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "samples")
    args = parser.parse_args()
    roots: dict[str, Path] = {key: getattr(args, key) for key in PACKAGES}
    out: Path = args.out
    for sample in SAMPLES:
        target = out / sample.path
        if sample.how == "own":
            if not target.is_file():
                raise SystemExit(f"{target} is missing: it was written by hand, restore it")
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(make(sample, roots))
    (out / "CREDITS.md").write_text(credits_page(), encoding="utf-8", newline="\n")
    expected = {out / sample.path for sample in SAMPLES} | {out / "CREDITS.md"}
    present = {path for path in out.rglob("*") if path.is_file()}
    for stray in sorted(present - expected):
        sys.stderr.write(f"not in the table: {stray}\n")
    total = sum(path.stat().st_size for path in expected)
    sys.stdout.write(f"{len(SAMPLES)} files and CREDITS.md, {total / 1e6:.2f} MB in {out}\n")
    return 1 if present - expected else 0


if __name__ == "__main__":
    sys.exit(main())
