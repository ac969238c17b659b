"""Find a drawn face, which cascades for photographs do not: a round patch of even skin in the middle."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from talent_factory.lipsync.preprocess.align import Face
from talent_factory.lipsync.preprocess.detect import FaceDetector

_SIDE = 256
# How far skin may be from its colour at one place, in L, a and b: drawn skin is even, but shaded and blushed.
_TOLERANCES = ((22, 12, 12), (30, 14, 14), (40, 16, 16))
_AREA = (0.06, 0.4)  # of the picture
_SEEDS = 9
_SOLID = 0.86  # of its convex hull
_CLOSING, _OPENING = 17, 7
# A patch is a face from the brow or the crown to the chin; the bridge of the nose lies this many widths above
# the chin.
_BRIDGE = 0.4


class DrawnDetector:
    """Finds one face in a drawing: a patch of one colour, round, about as wide as high, near the middle.

    The chin is where the patch narrows to a neck, or ends. Meant for stills; knows no turned heads.
    """

    id = "drawn-1"
    every = 1

    def find(self, image: NDArray[Any], *, index: int = 0, near: Face | None = None) -> tuple[Face, ...]:
        """The best such face in an (H, W, 3) uint8 RGB picture, or none."""
        height, width = image.shape[:2]
        scale = _SIDE / max(height, width)
        size = (round(width * scale), round(height * scale))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        found = [face for patch in _patches(small) if (face := _face_of(patch)) is not None]
        if not found:
            return ()
        best = max(found, key=lambda entry: entry.score)
        values = {name: getattr(best, name) / scale for name in ("left", "top", "right", "bottom")}
        points = {name: tuple(value / scale for value in getattr(best, name)) for name in ("bridge", "chin")}
        return (Face(**values, **points, score=best.score),)


class FirstOf:
    """Asks detectors in turn until one finds a face that it does not doubt."""

    def __init__(self, *detectors: FaceDetector, every: int = 1) -> None:
        self._detectors = detectors
        self._successful: list[str] = []
        self.every = every

    @property
    def id(self) -> str:
        """Those that found a face; before that, all that are asked."""
        return " or ".join(self._successful or [detector.id for detector in self._detectors])

    def find(self, image: NDArray[Any], *, index: int = 0, near: Face | None = None) -> tuple[Face, ...]:
        """What the first detector finds that is sure of it, else what the first one finds at all."""
        doubted: tuple[str, tuple[Face, ...]] | None = None
        for detector in self._detectors:
            found = detector.find(image, index=index, near=near)
            if found and found[0].score > 0:
                return self._note(detector.id, found)
            if found and doubted is None:
                doubted = detector.id, found
        return self._note(*doubted) if doubted is not None else ()

    def _note(self, name: str, found: tuple[Face, ...]) -> tuple[Face, ...]:
        if name not in self._successful:
            self._successful.append(name)
        return found


def _patches(image: NDArray[Any]) -> list[NDArray[np.uint8]]:
    """Patches of even colour around places in the middle of the picture, filled, each (H, W) of 0 and 1."""
    height, width = image.shape[:2]
    lab = cv2.cvtColor(cv2.bilateralFilter(image, 7, 30, 5), cv2.COLOR_RGB2LAB)
    shut, open_ = (np.ones((side, side), np.uint8) for side in (_CLOSING, _OPENING))
    flags = 4 | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE | (1 << 8)
    patches = []
    for tolerance in _TOLERANCES:
        taken = np.zeros((height, width), np.uint8)
        for down in np.linspace(0.2, 0.8, _SEEDS):
            for across in np.linspace(0.3, 0.7, _SEEDS):
                x, y = int(across * (width - 1)), int(down * (height - 1))
                if taken[y, x]:
                    continue
                mask = np.zeros((height + 2, width + 2), np.uint8)
                cv2.floodFill(lab, mask, (x, y), 0, tolerance, tolerance, flags)
                patch = mask[1:-1, 1:-1]
                taken |= patch
                if _AREA[0] / 2 <= patch.mean() <= _AREA[1]:
                    closed = cv2.morphologyEx(patch, cv2.MORPH_CLOSE, shut)
                    patches.append(_largest_filled(cv2.morphologyEx(closed, cv2.MORPH_OPEN, open_)))
    return patches


def _largest_filled(patch: NDArray[Any]) -> NDArray[np.uint8]:
    contours, _ = cv2.findContours(patch, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(patch.shape, np.uint8)
    if contours:
        cv2.drawContours(filled, [max(contours, key=cv2.contourArea)], -1, 1, cv2.FILLED)
    return filled


def _face_of(patch: NDArray[np.uint8]) -> Face | None:
    width = patch.shape[1]
    if not _AREA[0] <= patch.mean() <= _AREA[1]:
        return None
    rows, columns = np.flatnonzero(patch.any(axis=1)), np.flatnonzero(patch.any(axis=0))
    if rows[0] == 0 or columns[0] == 0 or columns[-1] == width - 1:
        return None
    widths = patch.sum(axis=1)[rows].astype(np.float64)
    widest = float(np.percentile(widths, 90))
    middle = rows[int(np.argmax(widths))]
    # a neck begins where the patch is narrow for good
    wide = rows[(rows >= middle) & (widths >= 0.55 * widest)]
    chin = float(wide.max()) + (0.06 * widest if wide.max() == rows[-1] else 0.0)
    head = patch.copy()
    head[int(chin) + 1 :] = 0
    points = cv2.findNonZero(head)
    solid = float(head.sum()) / max(1.0, cv2.contourArea(cv2.convexHull(points)))
    x = float(np.flatnonzero(head.any(axis=0)).mean())
    aspect = (chin - rows[0]) / widest
    if solid < _SOLID or not 0.6 <= aspect <= 1.7 or not 0.2 < x / width < 0.8:
        return None
    off = abs(x / width - 0.5)
    return Face(
        left=x - widest / 2,
        top=chin - 1.2 * widest,
        right=x + widest / 2,
        bottom=chin,
        bridge=(x, chin - _BRIDGE * widest),
        chin=(x, chin),
        score=float(max(0.0, solid + 3 * np.sqrt(head.mean()) - off)),
    )
