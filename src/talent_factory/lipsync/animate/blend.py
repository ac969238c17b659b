"""How a made face goes back into its frame: colours brought near, edges faded, the lower face alone."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from talent_factory.lipsync.masks import FaceMask

# Fades, as shares of the side of the face.
_FEATHER = 0.05
_MARGIN = 0.02
# How far colours may be moved: more is no difference of light but another picture.
_GAIN = (0.8, 1.25)
_SHIFT = 24.0


@lru_cache(maxsize=8)
def face_alpha(mask: FaceMask, size: int) -> NDArray[np.float32]:
    """(size, size) float32, 1 where the made face shows, faded to 0 at the edges of the covered part.

    It never reaches the rim of the square, so that no seam is cut there.
    """
    covered = mask.covered(size, size).numpy()
    margin = max(1, round(_MARGIN * size))
    inside = np.zeros((size, size), np.uint8)
    inside[:, margin : size - margin] = covered[:, margin : size - margin]
    inside[size - margin :] = 0
    distance = cv2.distanceTransform(np.pad(inside, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    share = np.clip((distance - 0.5) / max(1.0, _FEATHER * size), 0.0, 1.0)
    # a smooth step has no crease that the eye would find
    found: NDArray[np.float32] = (share * share * (3 - 2 * share)).astype(np.float32)
    found.setflags(write=False)
    return found


def match_colours(made: NDArray[Any], true: NDArray[Any], mask: FaceMask) -> NDArray[np.uint8]:
    """`made` (S, S, 3) uint8 with its colours moved so that the part both show agrees with `true`.

    Mean and deviation of each channel are compared where nothing was covered; corrections are small by law.
    """
    size = made.shape[0]
    seen = ~mask.covered(size, size).numpy()
    ours = made[seen].astype(np.float32)
    theirs = true[seen].astype(np.float32)
    gain = np.clip((theirs.std(0) + 4.0) / (ours.std(0) + 4.0), *_GAIN)
    shift = np.clip(theirs.mean(0) - gain * ours.mean(0), -_SHIFT, _SHIFT)
    moved = np.clip(np.rint(gain * made.astype(np.float32) + shift), 0, 255)
    found: NDArray[np.uint8] = moved.astype(np.uint8)
    return found
