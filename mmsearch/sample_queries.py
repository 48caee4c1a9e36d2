"""Queries such as people type, for measuring an index when nobody has asked it yet.

The tuner needs queries of another kind than what is stored: text queries lie far
from the vectors of pictures, and a recall measured with stored vectors is not the
one that users see. These are put together from the lists below, which were written
for this: sentences about scenes, single things, sounds, and what people look up in
texts; some in Chinese. They need not be true of the corpus; they lie where queries lie.
"""

from __future__ import annotations

import random


def _listed(text: str) -> list[str]:
    return [" ".join(entry.split()) for entry in text.split("|")]


_WHO = _listed("""
a man|a woman|a little girl|a young boy|two children|an old couple|a group of friends|
a crowd of people|a bride and groom|a cyclist|a skier|a surfer|a football player|a chef|a street
musician|a firefighter|a fisherman|a climber|a baby|a teacher and her students|a brown dog|two dogs|
a black cat|a white horse|a flock of birds|a herd of cows|an elephant|a butterfly|a seagull|a duck|
a red car|a yellow bus|a steam train|a sailing boat|a motorcycle|an airplane|a tractor|a bicycle|
a wooden house|a lighthouse|a bridge|a snowman|a kite|a robot
""")
_DOES = _listed("""
is running|is sitting|jumps into the air|is standing alone|is playing with a ball|
is looking at the camera|is smiling|walks away|is sleeping|is waiting|is covered in mud|
is seen from above|is reflected in the water|is reading a book|is eating an ice cream|
is holding an umbrella|wears a blue jacket|wears a hat and sunglasses|is climbing up|is dancing|
is carrying a heavy bag|rides past|rests in the shade|is talking on a phone|is drinking|
is surrounded by flowers|moves quickly|is painted green|has just arrived|is fighting the wind|
is being washed|casts a long shadow|is laughing|points at something
""")
_WHERE = _listed("""
on the beach|in the snow|in a crowded street|on a mountain trail|in the kitchen|
at night|at sunset|in the rain|under a tree|near a river|on a green field|in front of a church|
in a swimming pool|on a stage|in a park|by the window|at a market|on the roof|in the forest|
beside a fence|at the airport|in an old town|on a wooden table|in a dark room|in the desert|
at a birthday party|on the road|by the sea|in a museum|at the station|over the city|
in a garden|in a stadium|on a frozen lake
""")
_THING = _listed("""
sunset|wedding|birthday cake|coffee cup|laptop|guitar|piano|old map|company logo|receipt|
passport|bar chart|floor plan|screenshot of an error|handwritten note|recipe|whiteboard|mountains|
waterfall|city skyline|fireworks|tulips|rose|apple|strawberries|pizza|sushi|salad|soup|bread|
Christmas tree|pumpkin|candle|clock|camera|keyboard|lamp|chair|sofa|bookshelf|backpack|shoes|dress|
necklace|umbrella|bottle|knife|hammer|rocket|moon|galaxy|rainbow|lightning|cloud|desert|volcano|
island|castle|tower|statue|fountain|tiger|penguin|owl|frog|spider|goldfish|rabbit|fox|bear|whale|
monkey|turtle|bee|tractor|helicopter|submarine|fire truck|traffic light|stop sign|skull|heart|star|
flag|trophy|crown|sword|dragon|clown|angel|pirate|astronaut
""")
_HOW = _listed("""
red|blue|green|yellow|black and white|big|tiny|old|broken|shiny|wooden|golden|funny|cute|
blurry|colourful|dark|bright|vintage|modern|empty|wet|frozen|two|many|drawing of a|photo of a|
cartoon|close-up of a|painting of a
""")
_SOUND = _listed("""
a dog barking|rain on a roof|thunder far away|an engine starting|a door slamming|footsteps
on gravel|glass breaking|a crowd cheering|a baby crying|someone laughing|birds singing|waves on the
shore|a clock ticking|a siren passing by|a cat purring|wind in the trees|a train horn|church bells|
applause|a helicopter|a chainsaw|typing on a keyboard|a phone ringing|water dripping|fire crackling|
a whistle|a drum roll|a piano chord|a gun shot|a laser|an explosion|a coin falling|a rooster|
sneezing|a sea monster roaring|an electric hum|a camera shutter|a bicycle bell
""")
_TOPIC = _listed("""
the house rent|a new printer|the database|train tickets to the coast|vegetable soup|
the tax office|a broken window|network settings|the school trip|a garden shed|the car insurance|
an old bicycle|the annual meeting|the user account|a job application|the city council|piano lessons|
sorting large files|the wedding guests|memory errors|the French revolution|the solar system|
climate change|a healthy breakfast|back pain|learning to swim|the stock market|modern painting|
electric cars|the history of printing|regular expressions|a lost parcel
""")
_ASKED = _listed("""
how do I fix {}|invoice for {}|notes about {}|what is the best time for {}|letter about {}|
the manual chapter on {}|a definition of {}|why {} matters|problems with {}|a short text on {}|
steps to set up {}|who decides about {}|the cost of {}|minutes of the discussion of {}|
an introduction to {}|{}
""")
_WHO_ZH = _listed("""
一个男人|一个女孩|两只狗|一群人|一只黑猫|一个孩子|一匹马|一辆红色的汽车|一艘船|几个朋友|一位老人|一只鸟
""")
_DOES_ZH = _listed("""
在跑步|在玩球|坐着|在笑|在跳舞|看着镜头|在等车|在喝水|在雨中行走|跳起来|在睡觉|在拍照
""")
_WHERE_ZH = _listed("""
海滩上|雪地里|街道上|公园里|草地上|河边|山顶上|厨房里|夜晚的城市里|树下|舞台上|窗前
""")


def sample_queries(n: int, seed: int = 1) -> list[str]:
    """n different queries, the same for the same n and seed.

    Some half are sentences about scenes; the rest are things, sounds, topics and
    Chinese scenes. There are a hundred thousand to draw from; n is at most 20,000.
    """
    rng = random.Random(seed)
    kinds = [_scene] * 10 + [_thing] * 4 + [_sound] * 1 + [_topic] * 3 + [_scene_zh] * 2
    found: dict[str, None] = {}
    while len(found) < n:
        found[rng.choice(kinds)(rng)] = None
    return list(found)


def _scene(rng: random.Random) -> str:
    return f"{rng.choice(_WHO)} {rng.choice(_DOES)} {rng.choice(_WHERE)}".strip()


def _thing(rng: random.Random) -> str:
    thing = rng.choice(_THING)
    return thing if rng.random() < 0.1 else f"{rng.choice(_HOW)} {thing}"


def _sound(rng: random.Random) -> str:
    sound = rng.choice(_SOUND)
    return sound if rng.random() < 0.3 else f"{sound} {rng.choice(_WHERE)}"


def _topic(rng: random.Random) -> str:
    return rng.choice(_ASKED).format(rng.choice(_TOPIC))


def _scene_zh(rng: random.Random) -> str:
    where = rng.choice(["", "在"]) + rng.choice(_WHERE_ZH)
    return rng.choice(_WHO_ZH) + where + rng.choice(_DOES_ZH)
