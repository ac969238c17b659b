"""The colours and the vocabulary of the drawn world, as data.

Every colour is an sRGB triple of 0..255. The names are the words that captions use, so they are also
the words that the embedded base understands.
"""

from __future__ import annotations

from typing import Final

RGB = tuple[int, int, int]

LINE: Final[RGB] = (38, 34, 42)
PAPER: Final[RGB] = (246, 243, 236)

CLOTH: Final[dict[str, RGB]] = {
    "red": (206, 52, 48),
    "orange": (236, 138, 42),
    "yellow": (244, 208, 72),
    "green": (70, 156, 84),
    "blue": (58, 104, 198),
    "purple": (132, 80, 172),
    "black": (48, 46, 54),
    "white": (238, 236, 230),
}
HAIR: Final[dict[str, RGB]] = {
    "red": (190, 66, 40),
    "blond": (238, 204, 104),
    "brown": (112, 70, 46),
    "black": (44, 40, 50),
    "white": (232, 230, 228),
    "blue": (64, 116, 214),
    "pink": (240, 138, 178),
    "green": (84, 176, 92),
}
HUMAN_SKIN: Final[dict[str, RGB]] = {"pale": (248, 220, 200), "tan": (222, 174, 130), "dark": (128, 84, 62)}
CREATURE_SKIN: Final[dict[str, RGB]] = {
    "green": (136, 190, 112),
    "blue": (124, 158, 218),
    "purple": (176, 136, 206),
}
ROBOT_SKIN: Final[dict[str, RGB]] = {
    "gray": (168, 172, 182),
    "yellow": (236, 200, 88),
    "teal": (84, 174, 172),
}
SKIN: Final[dict[str, RGB]] = {**HUMAN_SKIN, **CREATURE_SKIN, **ROBOT_SKIN}
EYES: Final[dict[str, RGB]] = {"blue": (44, 112, 222), "green": (40, 156, 74), "brown": (116, 66, 30)}
PLAIN_BACKGROUNDS: Final[dict[str, RGB]] = {
    "red": (214, 84, 76),
    "orange": (240, 164, 92),
    "yellow": (246, 220, 128),
    "green": (126, 190, 130),
    "teal": (84, 174, 176),
    "blue": (104, 154, 222),
    "purple": (160, 122, 196),
    "pink": (244, 176, 196),
    "white": (240, 238, 232),
    "gray": (150, 152, 160),
}
SCENES: Final[tuple[str, ...]] = ("city", "forest", "beach", "night")
BACKGROUNDS: Final[tuple[str, ...]] = (*PLAIN_BACKGROUNDS, *SCENES)

KINDS: Final[tuple[str, ...]] = ("man", "woman", "creature", "robot")
HAIRCUTS: Final[tuple[str, ...]] = ("short", "long", "curly", "spiky", "bald")
ACCESSORIES: Final[tuple[str, ...]] = (
    "none",
    "glasses",
    "hat",
    "scarf",
    "earrings",
    "headphones",
    "eyepatch",
    "flower",
    "balloon",
)
MOODS: Final[tuple[str, ...]] = ("smiling", "neutral", "surprised", "angry")
FRAMINGS: Final[tuple[str, ...]] = ("portrait", "close-up", "full body")
MEDIA: Final[tuple[str, ...]] = ("flat", "ink", "pencil", "comic", "watercolor")
MONOCHROME: Final[frozenset[str]] = frozenset({"ink", "pencil", "charcoal", "woodcut"})
# Media that the embedded base is never shown: what a style LoRA has left to learn.
UNSEEN_MEDIA: Final[tuple[str, ...]] = ("charcoal", "woodcut", "mecha")
MARK_COLOURS: Final[dict[str, RGB]] = {
    "red": (214, 40, 48),
    "teal": (24, 150, 156),
    "black": (40, 36, 44),
    "white": (250, 250, 248),
    "gold": (232, 170, 30),
}
