"""Is a trigger word free? A word that the base knows already brings its old meaning into every picture."""

from __future__ import annotations

import re

from talent_factory.core.doctor import Finding
from talent_factory.dataset.captions import COLOURS

_SHORT = 2
_LONGEST_GUESS = 3

# Words that captions are full of. A list of ours, small on purpose: what stands in it is surely not free.
_PEOPLE = """
man woman boy girl person people child kid baby lady guy male female human couple family friend mother father
mom dad sister brother son daughter husband wife king queen prince princess knight soldier warrior wizard
witch doctor nurse teacher student chef pilot dancer singer actor actress model artist hero heroine villain
angel demon devil god goddess elf dwarf orc fairy vampire zombie ghost monster alien robot cyborg android
"""
_NAMES = """
adam alex alice amy andrew angela anna anne anthony arthur barbara ben bob brad brian carl carol charles chris
claire dan daniel david diana donald donna ed edward elena elizabeth ella elon emily emma eric eva frank fred
gary george grace hannah harry helen henry ian isabella jack jackson jacob james jane jason jennifer jessica
jim joan joe john jordan joseph julia karen kate kevin kim laura leo lily linda lisa louis lucas lucy luke
maria marie mark martin mary matt max maya mia michael mike nancy natalie nick nicole nina oliver olivia oscar
paul peter philip rachel ray richard rob robert ron rose ruth ryan sam samantha sara sarah scott sean simon
sofia sophia sophie stella stephen steve susan taylor thomas tim tom tony victor victoria william zoe
"""
_CREATURES = """
animal bear bee bird bug bunny butterfly cat chicken cow crow deer dinosaur dog dolphin dragon duck eagle
elephant fish fox frog giraffe goat hamster hawk horse insect kitten lion lizard monkey mouse octopus owl
panda parrot penguin phoenix pig pony puppy rabbit rat raven shark sheep snake spider squirrel swan tiger
turtle unicorn whale wolf zebra
"""
_BODY = """
face head hair eye eyes ear ears nose mouth lips teeth tooth smile beard skin neck hand hands arm arms finger
leg legs foot feet body chest back shoulder bone skull heart blood tail wing wings horn horns claw fur feather
"""
_WORN = """
hat cap helmet crown mask glasses goggles scarf shirt tshirt blouse sweater hoodie jacket coat dress skirt
pants jeans shorts suit tie uniform armor armour cape cloak robe kimono bikini boots shoes sneakers socks
gloves belt bag backpack ring necklace earring earrings bracelet watch jewel jewelry bow ribbon button pocket
"""
_THINGS = """
apple arrow axe ball balloon banana basket bed bell bike boat book bottle bowl box bread brush bus cake camera
candle car card chair clock coffee coin computer cup cupcake desk diamond door drink drum egg fire flag flame
flower food fork fruit gem gift glass guitar gun hammer house ice key knife ladder lamp laptop leaf letter
light lock map metal milk mirror moon motorcycle mug music painting paper pen pencil phone piano pizza plane
plant plate robe rocket rope sand ship sign silk smoke spear spoon star statue steel stone sugar sun sword
table tea toy train tree truck umbrella vase wall water wheel window wine wood wool
"""
_PLACES = """
alley beach bridge building cafe castle cave church city cloud clouds coast country desert farm field forest
garden hall harbor highway hill home hotel island jungle kitchen lake library market meadow mountain museum
ocean office park path planet pool port river road roof room ruins school sea shop sky space square stadium
station store street studio subway temple theater tower town tunnel valley village volcano waterfall woods
world yard
"""
_LOOKS = """
abstract aesthetic amazing anime art beautiful big black bloom blur bold bright broken calm cartoon chrome
cinematic clean cold color colorful comic concept cool crystal cute cyber cyberpunk dark deep detailed digital
dirty drawing dream dry elegant empty epic evil famous fantasy fast flat fluffy focus fresh full future
futuristic giant glitch glow gold golden gothic grain grunge happy hard high holy hot huge illustration ink
large little long lovely low lucky magic magical manga massive mecha metallic mini minimal modern natural neon
new nice noir old oil old pale pastel perfect photo photograph photography picture pixel pop portrait pretty
pure quick quiet rainy random rare real realistic red render retro rich rough round royal rustic sad sepia
sharp shiny short silver simple sketch sleek slim slow small smooth snow snowy soft solid strange strong style
sunny super surreal sweet tall thin tiny tribal ugly vibrant vintage warm watercolor weird wet white wide wild
young
"""
_DEEDS = """
attack bite break build burn call catch charge chase climb cook cross cry cut dance draw dream drive eat fall
fight float fly follow glow grow hide hit hold hunt jump kick kiss laugh lean lie lift listen look love march
melt move open paint play point pose pray pull punch push race rain reach read rest ride rise roar roll run
scream search shine shoot shout sing sit sleep smoke spin stand stare stretch strike swim swing talk throw
touch turn wait wake walk wash watch wave wear whisper win work write
"""
_REST = """
a about above after again air all alone an and any at autumn bad band base battle before best between birth
black blue bottom but by centre center chaos christmas class close club cosmic day death drama earth east
easter edge effect end energy evening ever every eye family fate fear fog for force form freedom from front
fun game ghost girl good ground group half halloween he heaven hell her here his history hope hour image in
it job joy justice lady land left legend life line list luck mate me memory middle mist moment morning my
mystery name nature near night no noon north not nothing now number of off on one only or other out over part
past peace place plus power pride queen question rage right scene season secret set shadow she shot side soul
sound south speed spirit spring storm story summer sunset team test text that the their thing this time to
today token top trigger two type under up us view war way we west wind winter with word you zero
"""
COMMON = frozenset(
    " ".join(
        (_PEOPLE, _NAMES, _CREATURES, _BODY, _WORN, _THINGS, _PLACES, _LOOKS, _DEEDS, _REST, *COLOURS)
    ).split()
)


def token_findings(token: str, *, class_noun: str = "") -> list[Finding]:
    """Warnings about a trigger that means something already; empty for one that is free.

    Asked are: a common word, one in the plural, the class noun itself, two common words that are joined by
    _, and one or two letters. A name that is a common first name counts as a common word.
    """
    why = _why(token.lower(), class_noun.lower())
    if not why:
        return []
    return [
        Finding(
            severity="warn",
            subject=f"token {token}",
            message=f"{why}: the base brings its own idea of it into every picture",
            remedy=f"take a word that means nothing, such as {free_token(token)}",
        )
    ]


def free_token(token: str) -> str:
    """A trigger like `token` that is no word: without its inner vowels, and with a letter more."""
    letters = re.sub(r"[^a-z0-9]", "", token.lower()) or "actor"
    bare = letters[0] + re.sub(r"[aeiou]", "", letters[1:])
    made = (bare if len(bare) > _LONGEST_GUESS else bare + "qz") + "x"
    return made[:40]


def _why(token: str, class_noun: str) -> str:
    if token in class_noun.split():
        return "it is the class noun"
    if len(token) <= _SHORT:
        return "so short a word stands for many things"
    if _is_common(token):
        return "a common word"
    parts = [part for part in token.split("_") if part]
    if len(parts) > 1 and all(_is_common(part) or part.isdecimal() for part in parts):
        return "made of common words only"
    return ""


def _is_common(word: str) -> bool:
    singular = word[:-1] if word.endswith("s") else word
    return word in COMMON or singular in COMMON
