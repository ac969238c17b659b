"""The backgrounds of the drawn world: plain colours and four simple places."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from talent_factory.world.canvas import SIDE
from talent_factory.world.palette import PLAIN_BACKGROUNDS, RGB

Image = NDArray[np.uint8]


def _gradient(top: RGB, bottom: RGB) -> Image:
    mix = np.linspace(0, 1, SIDE, dtype=np.float32)[:, None, None]
    column = np.array(top, np.float32) * (1 - mix) + np.array(bottom, np.float32) * mix
    return np.repeat(column, SIDE, axis=1).round().astype(np.uint8)


def _city(rng: np.random.Generator) -> Image:
    image = _gradient((250, 196, 150), (236, 150, 140))
    left = -8
    while left < SIDE:
        width, top = int(rng.integers(36, 52)), int(rng.integers(60, 150))
        cv2.rectangle(image, (left, top), (left + width - 4, SIDE), (96, 92, 128), -1)
        for row in range(top + 14, SIDE, 32):
            for column in range(left + 8, left + width - 16, 16):
                cv2.rectangle(image, (column, row), (column + 7, row + 13), (250, 226, 140), -1)
        left += width
    return image


def _forest(rng: np.random.Generator) -> Image:
    image = _gradient((196, 226, 190), (120, 176, 116))
    for centre in range(0, SIDE + 40, 44):
        x = centre + int(rng.integers(-8, 9))
        cv2.rectangle(image, (x - 6, 150), (x + 6, SIDE), (112, 78, 56), -1)
        for level, half in ((40, 26), (80, 36), (120, 46)):
            tip = level - 30 + int(rng.integers(-6, 7))
            triangle = np.array([(x, tip), (x - half, level + 50), (x + half, level + 50)], np.int32)
            cv2.fillPoly(image, [triangle], (46, 112, 72), cv2.LINE_AA)
    return image


def _beach(rng: np.random.Generator) -> Image:
    image = _gradient((150, 212, 244), (196, 232, 246))
    horizon = 130 + int(rng.integers(-8, 9))
    image[horizon:] = (44, 140, 190)
    image[horizon + 58 :] = (240, 214, 156)
    sun = (46 + int(rng.integers(-10, 11)), 46)
    cv2.circle(image, sun, 24, (252, 226, 96), -1, cv2.LINE_AA)
    return image


def _night(rng: np.random.Generator) -> Image:
    image = _gradient((16, 18, 52), (52, 46, 104))
    for _ in range(12):
        star = (int(rng.integers(6, SIDE - 6)), int(rng.integers(6, 170)))
        cv2.circle(image, star, 3, (250, 246, 210), -1, cv2.LINE_AA)
    moon = (212 + int(rng.integers(-8, 9)), 44)
    cv2.circle(image, moon, 24, (246, 240, 206), -1, cv2.LINE_AA)
    cv2.circle(image, (moon[0] - 11, moon[1] - 5), 20, (19, 20, 56), -1, cv2.LINE_AA)
    return image


_SCENES = {"city": _city, "forest": _forest, "beach": _beach, "night": _night}


def background(name: str, rng: np.random.Generator) -> Image:
    """The backdrop `name` (a plain colour or a scene), (SIDE, SIDE, 3) uint8 RGB."""
    if name in _SCENES:
        return _SCENES[name](rng)
    return np.full((SIDE, SIDE, 3), PLAIN_BACKGROUNDS[name], np.uint8)
