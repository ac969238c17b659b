"""Where does the camera jump? Told from colours and from pixels, against what was usual just before."""

from __future__ import annotations

from collections import deque
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_SMALL = (64, 36)
_BINS = 6
_RECENT = 12
# A cut changes a quarter of the colours, or of the pixels' light a tenth, and far more than frames before it.
_COLOURS, _LIGHT = 0.25, 0.1
_TIMES = 4.0


class CutFinder:
    """Looks at frames in order and says which begin a new scene."""

    def __init__(self) -> None:
        self._before: tuple[NDArray[Any], NDArray[Any]] | None = None
        self._recent: deque[tuple[float, float]] = deque(maxlen=_RECENT)

    def begins(self, image: NDArray[Any]) -> bool:
        """Whether an (H, W, 3) uint8 picture begins another scene than the one before it; the first does."""
        small = cv2.resize(image, _SMALL, interpolation=cv2.INTER_AREA)
        seen = _colours(small), small.astype(np.float32).mean(axis=2) / 255
        before, self._before = self._before, seen
        if before is None:
            return True
        change = float(np.abs(seen[0] - before[0]).sum() / 2), float(np.abs(seen[1] - before[1]).mean())
        usual = np.median(np.array(self._recent), axis=0) if self._recent else (0.0, 0.0)
        cut = any(
            now > least and now > _TIMES * calm
            for now, least, calm in zip(change, (_COLOURS, _LIGHT), usual, strict=True)
        )
        if cut:
            self._recent.clear()
        else:
            self._recent.append(change)
        return cut


def _colours(small: NDArray[Any]) -> NDArray[Any]:
    """Shares of colours in each quarter of the picture, softened so that a tint at a bin's edge is calm."""
    high, wide = small.shape[0] // 2, small.shape[1] // 2
    parts = [small[y : y + high, x : x + wide] for y in (0, high) for x in (0, wide)]
    histograms = [
        cv2.calcHist([np.ascontiguousarray(part)], [0, 1, 2], None, [_BINS] * 3, [0, 256] * 3)
        for part in parts
    ]
    joint = np.stack(histograms)
    for axis in (1, 2, 3):
        joint = _softened(joint, axis)
    return np.asarray(joint / joint.sum())


def _softened(values: NDArray[Any], axis: int) -> NDArray[Any]:
    moved = np.moveaxis(values, axis, -1)
    padded = np.pad(moved, [(0, 0)] * (moved.ndim - 1) + [(1, 1)], mode="edge")
    mixed = 0.25 * padded[..., :-2] + 0.5 * padded[..., 1:-1] + 0.25 * padded[..., 2:]
    return np.moveaxis(mixed, -1, axis)
