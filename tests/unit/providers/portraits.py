"""Small pictures that the painter's tests paint from."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]


@cache
def character(size: int = 256) -> U8:
    """A drawn head with red spiky hair, green skin, a purple shirt and a dot under each eye, on gray."""
    image = np.full((512, 512, 3), 150, np.uint8)
    line = (30, 26, 30)

    def shape(points: list[tuple[int, int]], colour: tuple[int, int, int]) -> None:
        corners = np.array(points, np.int32)
        cv2.fillPoly(image, [corners], colour, cv2.LINE_AA)
        cv2.polylines(image, [corners], True, line, 7, cv2.LINE_AA)

    def disc(x: int, y: int, radius: int, colour: tuple[int, int, int], outline: bool = True) -> None:
        cv2.circle(image, (x, y), radius, colour, cv2.FILLED, cv2.LINE_AA)
        if outline:
            cv2.circle(image, (x, y), radius, line, 6, cv2.LINE_AA)

    shape([(90, 540), (120, 430), (210, 400), (302, 400), (392, 430), (422, 540)], (125, 75, 165))
    shape([(220, 340), (292, 340), (296, 420), (216, 420)], (130, 180, 110))
    cv2.ellipse(image, (256, 250), (112, 132), 0, 0, 360, (130, 180, 110), cv2.FILLED, cv2.LINE_AA)
    cv2.ellipse(image, (256, 250), (112, 132), 0, 0, 360, line, 7, cv2.LINE_AA)
    spikes = [(136, 220), (130, 90), (190, 140), (256, 60), (322, 140), (382, 90), (376, 220), (256, 170)]
    shape(spikes, (200, 50, 45))
    for side in (-1, 1):
        disc(256 + side * 46, 250, 22, (250, 250, 250))
        disc(256 + side * 46, 250, 9, (60, 30, 20), outline=False)
        disc(256 + side * 46, 292, 7, (20, 40, 200), outline=False)
    cv2.line(image, (215, 335), (297, 335), (150, 50, 55), 9, cv2.LINE_AA)
    return np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


@cache
def photograph(size: int = 256) -> U8:
    """scikit-image's astronaut (a NASA portrait in the public domain)."""
    from skimage.data import astronaut

    return np.asarray(cv2.resize(astronaut(), (size, size), interpolation=cv2.INTER_AREA), np.uint8)
