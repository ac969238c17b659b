"""Who is drawn: the shape and the colours of one made-up face."""

from __future__ import annotations

from dataclasses import dataclass

from talent_factory.lipsync.synth.dice import Dice

Colour = tuple[float, float, float]
"""Red, green, blue, 0 to 255."""

_SKINS: tuple[Colour, ...] = (
    (246, 214, 190), (234, 192, 160), (219, 172, 136), (196, 143, 106), (160, 110, 78), (122, 82, 58),
    (92, 61, 45),
)  # fmt: skip
_HAIRS: tuple[Colour, ...] = (
    (34, 27, 25), (62, 42, 32), (104, 68, 42), (150, 104, 58), (206, 168, 104), (150, 62, 34),
    (142, 138, 134), (212, 208, 202),
)  # fmt: skip
_EYES: tuple[Colour, ...] = ((84, 58, 40), (58, 40, 30), (92, 118, 78), (88, 128, 164), (118, 128, 138))
_SHIRTS: tuple[Colour, ...] = (
    (52, 74, 110), (134, 44, 52), (54, 96, 78), (226, 222, 212), (46, 46, 52), (196, 148, 62), (108, 82, 128),
)  # fmt: skip
_WALLS: tuple[Colour, ...] = (
    (178, 190, 198), (208, 200, 186), (116, 132, 146), (88, 96, 102), (190, 174, 164), (150, 168, 152),
)  # fmt: skip
HAIRCUTS = ("bald", "crop", "parted", "bob", "long", "curls", "bun")
BEARDS = ("none", "none", "none", "stubble", "moustache", "full")


@dataclass(frozen=True)
class Person:
    """One face. Lengths are in half picture sides: the picture spans -1 to 1, the nose bridge lies at 0."""

    skin: Colour
    hair: Colour
    eye: Colour
    lip: Colour
    shirt: Colour
    wall: Colour
    haircut: str
    beard: str
    glasses: str
    cheek: float
    """Half the width of the face at the cheeks."""
    chin: float
    """Height of the chin with the mouth closed."""
    square: float
    """How angular the jaw is: the exponent of its curve."""
    eye_gap: float
    eye_size: float
    brow_weight: float
    brow_arch: float
    nose_width: float
    nose_length: float
    mouth_height: float
    mouth_size: float
    lip_weight: float
    light: float
    """Side the light comes from: -1 left, 1 right."""


def make_person(dice: Dice) -> Person:
    """A face, drawn."""
    skin = dice.choice(_SKINS)
    bearded = dice.chance(0.5)
    redness = dice.number(0.1, 1.0)
    lip = (
        skin[0] * (0.80 + 0.06 * redness),
        skin[1] * (0.66 - 0.16 * redness),
        skin[2] * (0.70 - 0.12 * redness),
    )
    return Person(
        skin=_vary(dice, skin, 8),
        hair=_vary(dice, dice.choice(_HAIRS), 8),
        eye=_vary(dice, dice.choice(_EYES), 8),
        lip=lip,
        shirt=_vary(dice, dice.choice(_SHIRTS), 16),
        wall=_vary(dice, dice.choice(_WALLS), 16),
        haircut=dice.choice(HAIRCUTS[:3] if bearded else HAIRCUTS[1:]),
        beard=dice.choice(BEARDS) if bearded else "none",
        glasses=dice.choice(("none", "none", "none", "round", "square")),
        cheek=dice.number(0.56, 0.66),
        chin=dice.number(0.72, 0.80),
        square=dice.number(1.9, 2.7),
        eye_gap=dice.number(0.225, 0.27),
        eye_size=dice.number(0.088, 0.112),
        brow_weight=dice.number(0.018, 0.042) * (1.25 if bearded else 1.0),
        brow_arch=dice.number(0.01, 0.06),
        nose_width=dice.number(0.075, 0.115),
        nose_length=dice.number(0.15, 0.20),
        mouth_height=dice.number(0.38, 0.42),
        mouth_size=dice.number(0.92, 1.12),
        lip_weight=dice.number(0.75, 1.25),
        light=dice.choice((-1.0, 1.0)) * dice.number(0.4, 1.0),
    )


def _vary(dice: Dice, colour: Colour, reach: float) -> Colour:
    shift = dice.number(-reach, reach)
    return (
        min(max(colour[0] + shift + dice.number(-3, 3), 0), 255),
        min(max(colour[1] + shift + dice.number(-3, 3), 0), 255),
        min(max(colour[2] + shift + dice.number(-3, 3), 0), 255),
    )


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    """`one` with `share` of `other` in it."""
    return (
        one[0] + (other[0] - one[0]) * share,
        one[1] + (other[1] - one[1]) * share,
        one[2] + (other[2] - one[2]) * share,
    )


def shaded(colour: Colour, factor: float) -> Colour:
    """The colour in more or less light."""
    return (min(colour[0] * factor, 255), min(colour[1] * factor, 255), min(colour[2] * factor, 255))
