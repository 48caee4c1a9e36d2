"""The table of the bundled samples: every file, where it comes from, whose it is, its terms."""

from __future__ import annotations

from dataclasses import dataclass

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
