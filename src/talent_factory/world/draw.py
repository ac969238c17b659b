"""Draw a character: body, head, hair, face and what they wear, in head-centred coordinates.

The head is about 60 units wide to each side and 68 high; y grows downwards. Framing only changes where that
frame lies on the canvas, so every part is written once.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from talent_factory.world import palette
from talent_factory.world.canvas import SIDE, Canvas
from talent_factory.world.character import Character
from talent_factory.world.media import RENDER
from talent_factory.world.palette import RGB
from talent_factory.world.scenes import background

_WHITE: RGB = (250, 250, 248)
_FRAMING = {"portrait": (118.0, 1.0), "close-up": (132.0, 1.42), "full body": (62.0, 0.5)}


def draw_character(who: Character, rng: np.random.Generator, *, size: int = 128) -> NDArray[np.uint8]:
    """Draw `who` as a (size, size, 3) uint8 RGB image; `rng` gives pose jitter and grain only."""
    canvas = Canvas(background(who.background, rng))
    _compose(canvas, who, rng)
    image = np.clip(RENDER[who.medium](canvas, rng), 0, 255).round().astype(np.uint8)
    if size == SIDE:
        return image
    how = cv2.INTER_AREA if size < SIDE else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (size, size), interpolation=how), np.uint8)


def draw_large(who: Character, rng: np.random.Generator, *, zoom: int = 3) -> NDArray[np.uint8]:
    """Draw `who` in the flat medium as a (256 * zoom, 256 * zoom, 3) uint8 RGB image, sharp at that size."""
    canvas = Canvas(background(who.background, rng), zoom=zoom)
    _compose(canvas, who, rng)
    return np.clip(canvas.flat(), 0, 255).round().astype(np.uint8)


def _compose(canvas: Canvas, who: Character, rng: np.random.Generator) -> None:
    """Everything of a character, back to front."""
    height, scale = _FRAMING[who.framing]
    centre = (128 + rng.uniform(-7, 7), height + rng.uniform(-6, 6))
    canvas.place(centre, scale=scale * rng.uniform(0.95, 1.05), degrees=rng.uniform(-6, 6))
    if who.hair == "long":
        _hair_behind(canvas, who)
    if who.framing == "full body":
        _legs(canvas, who)
    _body(canvas, who)
    _head(canvas, who)
    _face(canvas, who)
    _hair_front(canvas, who)
    _marks(canvas, who)
    _accessory(canvas, who)


def _arc(rx: float, ry: float, start: float, stop: float, *, cy: float = 0.0) -> NDArray[np.float64]:
    """Points of an ellipse arc between two angles in half turns (1 = 180 degrees)."""
    angle = np.linspace(start * np.pi, stop * np.pi, 40)
    return np.stack([rx * np.cos(angle), cy + ry * np.sin(angle)], axis=1)


def _second_hair(who: Character) -> RGB | None:
    return palette.HAIR[who.signature.second_hair] if who.signature.second_hair else None


def _hair_behind(canvas: Canvas, who: Character) -> None:
    fall = np.r_[_arc(74, 80, 1.0, 2.0, cy=-6), [(78, 96), (40, 106), (-40, 106), (-78, 96)]]
    canvas.shape(fall, palette.HAIR[who.hair_colour], right_half=_second_hair(who))


def _legs(canvas: Canvas, who: Character) -> None:
    skin, shoe = palette.SKIN[who.skin], palette.LINE
    for side in (-1, 1):
        canvas.shape([(side * 8, 240), (side * 44, 240), (side * 40, 352), (side * 10, 352)], (84, 86, 104))
        canvas.shape([(side * 6, 350), (side * 48, 350), (side * 54, 372), (side * 6, 372)], shoe)
        arm = [(side * 58, 112), (side * 84, 122), (side * 98, 222), (side * 76, 226)]
        canvas.shape(arm, palette.CLOTH[who.shirt])
        canvas.ellipse((side * 87, 232), (14, 14), skin)


def _body(canvas: Canvas, who: Character) -> None:
    cloth, skin = palette.CLOTH[who.shirt], palette.SKIN[who.skin]
    if who.framing == "full body":
        torso = [(-66, 122), (-30, 98), (30, 98), (66, 122), (52, 250), (-52, 250)]
    else:
        torso = [(-96, 190), (-86, 122), (-34, 96), (34, 96), (86, 122), (96, 190)]
    if who.kind == "robot":
        canvas.shape([(-16, 58), (16, 58), (16, 100), (-16, 100)], (110, 112, 122))
        canvas.shape(torso, cloth)
        canvas.ellipse((0, 130), (12, 12), skin)
        return
    canvas.shape(torso, cloth)
    neck = 32 if who.kind == "man" else 20
    canvas.shape([(-neck, 50), (neck, 50), (neck + 5, 98), (0, 114), (-neck - 5, 98)], skin)


def _head(canvas: Canvas, who: Character) -> None:
    skin = palette.SKIN[who.skin]
    if who.kind == "robot":
        canvas.stroke([(0, -62), (0, -88)], width=5)
        canvas.ellipse((0, -92), (9, 9), (226, 70, 60))
        for side in (-1, 1):
            canvas.shape(
                [(side * 60, -18), (side * 74, -18), (side * 74, 22), (side * 60, 22)], (110, 112, 122)
            )
        canvas.shape([(-58, -62), (58, -62), (62, 64), (-62, 64)], skin)
        return
    if who.kind == "creature":
        for side in (-1, 1):
            canvas.shape([(side * 60, -28), (side * 78, -96), (side * 14, -62)], skin)
            canvas.shape([(side * 56, -44), (side * 68, -80), (side * 32, -60)], (236, 160, 170), outline=0)
    else:
        for side in (-1, 1):
            canvas.ellipse((side * 60, 4), (10, 15), skin)
    if who.kind == "man":
        crown = _arc(60, 64, 1.0, 2.0)
        canvas.shape(np.r_[crown, [(58, 34), (38, 66), (-38, 66), (-58, 34)]], skin)
        return
    width, chin = (57.0, 0.22) if who.kind == "woman" else (63.0, 0.02)
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    narrowing = 1 - chin * np.maximum(np.sin(angle), 0) ** 2
    canvas.shape(np.c_[width * np.cos(angle) * narrowing, 68 * np.sin(angle)], skin)
    if who.kind == "woman":
        for side in (-1, 1):
            canvas.ellipse((side * 37, 24), (11, 8), (240, 134, 130), outline=0)


def _face(canvas: Canvas, who: Character) -> None:
    wide = 17.0 if who.mood == "surprised" else 13.0
    for side in (-1, 1):
        eye = (side * 25.0, -2.0)
        if who.accessory == "eyepatch" and side == 1:
            continue
        if who.kind == "robot":
            canvas.shape(
                [
                    (eye[0] - 15, -2 - wide),
                    (eye[0] + 15, -2 - wide),
                    (eye[0] + 15, -2 + wide),
                    (eye[0] - 15, -2 + wide),
                ],
                _WHITE,
            )
        else:
            canvas.ellipse(eye, (15, wide), _WHITE)
        canvas.ellipse(eye, (9.5, 9.5), palette.EYES[who.eyes], outline=0)
        canvas.solid(eye, (3.6, 3.6))
        _lashes_and_brow(canvas, who, side)
    if who.kind == "creature":
        canvas.ellipse((0, 20), (11, 7), (90, 60, 76), outline=0)
    elif who.kind == "robot":
        canvas.shape([(-6, 16), (6, 16), (0, 26)], (110, 112, 122))
    else:
        canvas.stroke([(0, 4), (-5, 22), (4, 23)], width=3)
    _mouth(canvas, who)


def _lashes_and_brow(canvas: Canvas, who: Character, side: int) -> None:
    inner, outer = (side * 10.0, side * 42.0)
    lift = {"surprised": (-32.0, -30.0), "angry": (-14.0, -30.0)}.get(who.mood, (-24.0, -22.0))
    canvas.stroke([(inner, lift[0]), (outer, lift[1])], width=9 if who.kind == "man" else 4)
    if who.kind == "woman":
        canvas.stroke([(side * 36, -8), (side * 50, -17)], width=6)


def _mouth(canvas: Canvas, who: Character) -> None:
    lips: RGB = (214, 52, 76) if who.kind == "woman" else (150, 62, 60)
    if who.mood == "smiling":
        canvas.shape(np.r_[_arc(27, 20, 0.0, 1.0, cy=34)], _WHITE if who.kind == "robot" else lips)
    elif who.mood == "surprised":
        canvas.ellipse((0, 45), (11, 14), (110, 40, 50))
    elif who.mood == "angry":
        canvas.shape(np.r_[_arc(22, 11, 1.0, 2.0, cy=50)], lips)
    else:
        canvas.band([(-20, 42), (20, 42)], lips, width=7)


def _hair_front(canvas: Canvas, who: Character) -> None:
    colour, second = palette.HAIR[who.hair_colour], _second_hair(who)
    if who.hair in ("short", "long"):
        fringe = [(58, -26), (34, -40), (0, -46), (-34, -40), (-58, -26)]
        canvas.shape(np.r_[_arc(66, 66, 1.0, 2.0, cy=-14), fringe], colour, right_half=second)
    elif who.hair == "curly":
        for x, y in ((-62, -22), (-54, -50), (-32, -68), (0, -74), (32, -68), (54, -50), (62, -22)):
            side = second if second and x > 0 else colour
            canvas.ellipse((x, y), (22, 22), side, right_half=second if x == 0 else None)
        canvas.shape(_arc(50, 44, 1.05, 1.95, cy=-22), colour, outline=0, right_half=second)
    elif who.hair == "spiky":
        points = [
            (-64, -14),
            (-80, -60),
            (-50, -48),
            (-46, -100),
            (-18, -66),
            (0, -112),
            (18, -66),
            (46, -100),
            (50, -48),
            (80, -60),
            (64, -14),
            (36, -42),
            (0, -48),
            (-36, -42),
        ]
        canvas.shape(points, colour, right_half=second)


def _marks(canvas: Canvas, who: Character) -> None:
    """The signature of an actor: a dot below each eye (the hair carries its own second colour).

    A dot is as large as an iris: at 128 pixels anything smaller is lost in one cell of the autoencoder.
    """
    if not who.signature.dot:
        return
    for side in (-1, 1):
        canvas.ellipse((side * 34, 26), (10, 10), palette.MARK_COLOURS[who.signature.dot], outline=0)


def _accessory(canvas: Canvas, who: Character) -> None:
    draw = _ACCESSORIES.get(who.accessory)
    if draw is not None:
        draw(canvas, who)


def _glasses(canvas: Canvas, who: Character) -> None:
    for side in (-1, 1):
        canvas.stroke(np.array([(side * 25, -2)]) + _arc(22, 20, 0.0, 2.0), width=7)
        canvas.stroke([(side * 47, -4), (side * 62, -8)], width=6)
    canvas.stroke([(-4, -4), (4, -4)], width=6)


def _hat(canvas: Canvas, who: Character) -> None:
    cloth = palette.CLOTH[who.shirt]
    canvas.shape([(-48, -40), (-42, -104), (42, -104), (48, -40)], cloth)
    canvas.shape([(-88, -34), (-80, -50), (80, -50), (88, -34)], cloth)


def _scarf(canvas: Canvas, who: Character) -> None:
    canvas.shape([(-44, 70), (44, 70), (52, 104), (-52, 104)], (222, 70, 60))
    canvas.shape([(14, 98), (44, 98), (50, 160), (18, 160)], (222, 70, 60))


def _earrings(canvas: Canvas, who: Character) -> None:
    for side in (-1, 1):
        canvas.ellipse((side * 64, 36), (10, 16), (244, 204, 60))


def _headphones(canvas: Canvas, who: Character) -> None:
    canvas.band(_arc(72, 82, 1.05, 1.95), (60, 62, 74), width=13)
    for side in (-1, 1):
        canvas.ellipse((side * 70, 2), (17, 27), (226, 74, 62))


def _eyepatch(canvas: Canvas, who: Character) -> None:
    canvas.stroke([(-62, -34), (62, -18)], width=6)
    canvas.ellipse((25, -2), (24, 22), (44, 40, 50))


def _flower(canvas: Canvas, who: Character) -> None:
    canvas.band([(-78, 128), (-92, 76)], (64, 140, 72), width=8)
    for turn in np.linspace(0, 2 * np.pi, 6, endpoint=False):
        canvas.ellipse((-94 + 15 * np.cos(turn), 58 + 15 * np.sin(turn)), (12, 12), (244, 120, 168))
    canvas.ellipse((-94, 58), (10, 10), (248, 214, 80))


def _balloon(canvas: Canvas, who: Character) -> None:
    canvas.stroke([(88, 126), (98, -8)], width=3)
    canvas.ellipse((98, -42), (27, 34), (228, 62, 60))


_ACCESSORIES = {
    "glasses": _glasses,
    "hat": _hat,
    "scarf": _scarf,
    "earrings": _earrings,
    "headphones": _headphones,
    "eyepatch": _eyepatch,
    "flower": _flower,
    "balloon": _balloon,
}
