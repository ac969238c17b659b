"""The mouth: lips, teeth and tongue for an opening and a width."""

from __future__ import annotations

import numpy as np

from talent_factory.lipsync.synth.curves import oval, shifted
from talent_factory.lipsync.synth.easel import Easel, Points
from talent_factory.lipsync.synth.person import Person, mixed, shaded

REACH = 0.28
"""Inner height of a wide open mouth, in half picture sides."""
_ABOVE = 0.18  # share of the opening that the upper lip gives
_COUNT = 25


def inner_shape(person: Person, opening: float, width: float) -> tuple[float, float, float, float]:
    """(y of the corners, half width, upper edge above the corners, lower edge below them)."""
    half = person.mouth_size * (0.155 + 0.12 * width - 0.02 * opening)
    height = REACH * opening
    corners = person.mouth_height + 0.25 * height
    return corners, half, height * (_ABOVE + 0.25), height * (1 - _ABOVE - 0.25)


def paint_mouth(easel: Easel, person: Person, opening: float, width: float, shift: float) -> None:
    """Paint the mouth, moved aside by `shift` for a turned head."""
    y, half, up, down = inner_shape(person, opening, width)
    share = np.linspace(-1, 1, _COUNT)
    bow = 1 - share**2
    x = shift + half * share
    top = y - up * bow**0.8
    bottom = y + down * bow**0.65
    inside = np.concatenate([_curve(x, top), _curve(x, bottom)[::-1]])
    # rounded lips come forward and look thicker
    thick = person.lip_weight * (1.2 - 0.35 * width)
    wide = shift + (half + 0.025) * share
    peaks = 1 + 0.35 * np.exp(-(((np.abs(share) - 0.28) / 0.2) ** 2)) - 0.25 * np.exp(-((share / 0.12) ** 2))
    upper = y - up * bow**0.8 - 0.036 * thick * bow**0.7 * peaks
    lower = y + down * bow**0.65 + 0.058 * thick * bow**0.55
    lips = np.concatenate([_curve(wide, upper), _curve(wide, lower)[::-1]])
    fold = shaded(person.skin, 0.72)
    easel.paint(oval(shift, y + down + 0.115, half * 0.6, 0.022), fold, strength=0.55, soft=0.02)
    easel.paint(lips, person.lip, soft=0.006)
    shine = _curve(shift + half * 0.55 * share, y + down + 0.026 * thick + 0.012 * thick * bow)
    easel.line(shine, mixed(person.lip, (255, 235, 230), 0.55), 0.022 * thick, strength=0.6, soft=0.008)
    rim = np.concatenate([_curve(wide, upper), _curve(x, top)[::-1]])
    easel.paint(rim, shaded(person.lip, 0.84), strength=0.7, soft=0.005)
    if opening > 0.02:
        _paint_inside(easel, inside, (shift, y, half, up, down), opening)
    # the line between the lips stays when they are closed
    seam = _curve(shift + (half + 0.012) * share, 0.5 * (top + bottom) if opening <= 0.02 else top)
    easel.line(seam, shaded(person.lip, 0.42), 0.014, strength=0.9, soft=0.003)


def _paint_inside(
    easel: Easel, inside: Points, shape: tuple[float, float, float, float, float], opening: float
) -> None:
    shift, y, half, up, down = shape
    easel.paint(inside, (48, 14, 18))
    tongue = oval(shift, y + down * 1.05, half * 0.62, 0.03 + 0.07 * opening)
    easel.paint(tongue, (176, 78, 84), clip=inside, soft=0.012, strength=min(1.0, 3 * opening))
    teeth = y - up + min(0.055, 0.02 + 0.2 * opening)
    row = np.array(
        [
            [shift - half * 0.8, -1.0],
            [shift + half * 0.8, -1.0],
            [shift + half * 0.66, teeth],
            [shift - half * 0.66, teeth],
        ]
    )
    easel.paint(row, (236, 230, 218), clip=inside, soft=0.006)
    for gap in (-0.36, -0.12, 0.12, 0.36):
        tooth = np.array([[shift + gap * half, y - up], [shift + gap * half, teeth]])
        easel.line(tooth, (188, 178, 168), 0.008, strength=0.5)
    easel.paint(_band(inside), (30, 8, 10), clip=inside, soft=0.02, strength=0.35)


def _band(inside: Points) -> Points:
    """The shadow that the upper lip throws on the teeth."""
    half = len(inside) // 2
    top = inside[:half]
    return np.concatenate([shifted(top, y=-0.02), shifted(top, y=0.012)[::-1]])


def _curve(x: Points, y: Points) -> Points:
    return np.stack([x, y], axis=1)
