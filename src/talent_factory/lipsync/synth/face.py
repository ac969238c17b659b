"""One frame: a made-up person with a mouth as open and as wide as told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from talent_factory.lipsync.synth.curves import dropped, head, oval, shifted
from talent_factory.lipsync.synth.easel import Easel, Points, Pose
from talent_factory.lipsync.synth.eyes import paint_eyes, paint_glasses
from talent_factory.lipsync.synth.hair import paint_beard, paint_hair, paint_hair_behind, paint_moustache
from talent_factory.lipsync.synth.mouth import paint_mouth
from talent_factory.lipsync.synth.person import Person, mixed, shaded


@dataclass(frozen=True)
class Look:
    """What changes from frame to frame: the mouth's `opening` and `width` in [0, 1], `lids` open, `brows`
    lifted in half sides, the pose and the light's gain. Only opening and width have to do with the sound.
    """

    opening: float = 0.0
    width: float = 0.45
    lids: float = 1.0
    brows: float = 0.0
    gain: float = 1.0
    pose: Pose = Pose()  # noqa: RUF009  (frozen)


def draw_face(person: Person, look: Look, size: int) -> NDArray[np.uint8]:
    """The picture: (size, size, 3) uint8 RGB.

    The nose bridge lies at half height and the chin above the lower edge, as aligned frames have them. The
    rows above the middle are the same for any opening and width.
    """
    easel = Easel(size, look.pose)
    turn = look.pose.turn
    easel.wall(person.wall, shaded(person.wall, 0.72))
    easel.paint(
        oval(0.8 * person.light, -0.7, 0.7, 0.6),
        shaded(person.wall, 1.25),
        strength=0.5,
        soft=0.2,
        still=True,
    )
    paint_hair_behind(easel, person)
    _paint_body(easel, person)
    for side in (-1.0, 1.0):
        ear = oval(side * (person.cheek + 0.01) - 0.5 * turn, -0.08, 0.07, 0.15)
        easel.paint(ear, shaded(person.skin, 0.88), soft=0.006)
        easel.paint(
            oval(side * (person.cheek + 0.02) - 0.5 * turn, -0.07, 0.035, 0.09),
            shaded(person.skin, 0.68),
            strength=0.6,
            soft=0.015,
        )
    outline = dropped(head(person.cheek, person.chin, person.square), look.opening, person.chin)
    _paint_skin(easel, person, outline)
    paint_beard(easel, person, look.opening, turn)
    paint_mouth(easel, person, look.opening, look.width, turn)
    paint_moustache(easel, person, look.width, turn)
    _paint_nose(easel, person, 1.25 * turn)
    paint_eyes(easel, person, look.lids, look.brows, turn)
    paint_hair(easel, person, turn)
    paint_glasses(easel, person, turn)
    return easel.picture(look.gain)


def _paint_body(easel: Easel, person: Person) -> None:
    neck = np.array([[-0.34, 0.3], [0.34, 0.3], [0.36, 0.86], [0.62, 1.3], [-0.62, 1.3], [-0.36, 0.86]])
    easel.paint(neck, shaded(person.skin, 0.74))
    shirt = np.array(
        [
            [-1.4, 1.3],
            [-1.05, 0.98],
            [-0.42, 0.84],
            [-0.26, 0.92],
            [0, 1.02],
            [0.26, 0.92],
            [0.42, 0.84],
            [1.05, 0.98],
            [1.4, 1.3],
        ]
    )
    easel.paint(shirt, person.shirt, soft=0.006)
    collar = shirt[2:7]
    easel.line(collar, shaded(person.shirt, 0.7), 0.03, soft=0.006)


def _paint_skin(easel: Easel, person: Person, outline: Points) -> None:
    skin, light = person.skin, person.light
    shadow = shaded(skin, 0.45)
    easel.paint(shifted(outline, y=0.05), shadow, strength=0.55, soft=0.04)
    easel.paint(outline, skin, soft=0.004)
    # a narrower face of light, moved to the lit side, leaves the rim in shade
    easel.paint(_rim(outline, light), shaded(skin, 0.74), strength=0.75, soft=0.07, clip=outline)
    glow = mixed(skin, (255, 246, 232), 0.35)
    easel.paint(oval(0.1 * light, -0.45, 0.32, 0.16), glow, strength=0.55, soft=0.09, clip=outline)
    blush = mixed(shaded(skin, 0.97), (214, 92, 84), 0.4)
    for side in (-1.0, 1.0):
        easel.paint(oval(side * 0.34, 0.2, 0.13, 0.08), blush, strength=0.45, soft=0.06)
        lit = 0.5 if side * light > 0 else 0.2
        easel.paint(oval(side * 0.33, 0.06, 0.1, 0.05), glow, strength=lit, soft=0.05)


def _rim(outline: Points, light: float) -> Points:
    """The ring between the outline and a smaller copy of it nearer to the light."""
    inner = outline * [0.84, 0.9] + [0.09 * light, -0.02]
    return np.concatenate([outline, outline[:1], inner[:1], inner[::-1]])


def _paint_nose(easel: Easel, person: Person, shift: float) -> None:
    skin, width, tip = person.skin, person.nose_width, person.nose_length
    dark = shaded(skin, 0.66)
    away = -np.sign(person.light)
    side = np.array(
        [
            [0.02 * away, -0.2],
            [0.055 * away, -0.02],
            [width * 0.9 * away, tip - 0.02],
            [width * 0.4 * away, tip + 0.03],
            [0, tip - 0.03],
        ]
    )
    side[:, 0] += shift * np.clip((side[:, 1] + 0.2) / (tip + 0.2), 0, 1)
    easel.paint(side, dark, strength=0.45, soft=0.022)
    easel.paint(oval(shift, tip + 0.012, width * 1.05, 0.028), dark, strength=0.5, soft=0.016)
    for wing in (-1.0, 1.0):
        easel.paint(
            oval(shift + wing * width * 0.52, tip + 0.008, width * 0.24, 0.017),
            shaded(skin, 0.34),
            strength=0.8,
            soft=0.006,
        )
    glow = mixed(skin, (255, 250, 240), 0.55)
    easel.paint(oval(shift * 0.6 - 0.015 * away, 0.0, 0.018, 0.12), glow, strength=0.45, soft=0.02)
    easel.paint(oval(shift - 0.02 * away, tip - 0.035, 0.028, 0.022), glow, strength=0.65, soft=0.014)
