"""Where are faces? Asked of scikit-image's own cascade where that library is installed; advice only.

The cascade knows frontal photographs: it finds no drawn faces and now and then takes fur for one. Hence the
answer counts only when it also finds the face in the portrait itself.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
from PIL import Image

from talent_factory.datagen.quality.measure import pixels_of

_SIDE = 480


Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a face as shares of the picture's width and height, 0..1."""


def count_faces(image: Image.Image) -> int | None:
    """How many frontal faces the cascade sees in `image`; None where scikit-image is not installed."""
    found = find_faces(image)
    return None if found is None else len(found)


def find_faces(image: Image.Image) -> tuple[Box, ...] | None:
    """The frontal faces that the cascade sees in `image`; None where scikit-image is not installed."""
    finder = face_cascade()
    if finder is None:
        return None
    grey = cv2.cvtColor(pixels_of(image, long_side=_SIDE), cv2.COLOR_RGB2GRAY)
    short = min(grey.shape)
    if short < 48:
        return ()
    least, most = max(24, short // 8), short
    found = finder.detect_multi_scale(
        img=grey, scale_factor=1.2, step_ratio=1.3, min_size=(least, least), max_size=(most, most)
    )
    height, width = grey.shape
    return tuple(
        sorted(
            (
                box["c"] / width,
                box["r"] / height,
                (box["c"] + box["width"]) / width,
                (box["r"] + box["height"]) / height,
            )
            for box in found
        )
    )


@cache
def face_cascade() -> Any | None:
    """scikit-image's cascade of frontal faces, loaded once; None where that library is not installed."""
    try:
        from skimage.data import lbp_frontal_face_cascade_filename
        from skimage.feature import Cascade
    except ImportError:
        return None
    return Cascade(lbp_frontal_face_cascade_filename())
