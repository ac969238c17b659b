"""Where faces are painted: soft-edged polygons on a picture that is drawn at twice its size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talent_factory.lipsync.synth.person import Colour

Points = NDArray[np.float64]
"""(N, 2) x and y in half picture sides, -1 to 1."""
_OVERSIZE = 2
_COARSE = 2.5
_SHIFT = 4  # bits below the pixel in OpenCV's drawing


@dataclass(frozen=True)
class Pose:
    """How the head is held in one frame: shift in half sides, roll in radians, turn of the face aside."""

    x: float = 0.0
    y: float = 0.0
    roll: float = 0.0
    turn: float = 0.0
    zoom: float = 1.0


class Easel:
    """A picture in the making; shapes are given in the face's own coordinates and moved by the pose."""

    def __init__(self, size: int, pose: Pose) -> None:
        self._size = size
        self._side = size * _OVERSIZE
        self._pixels = np.zeros((self._side, self._side, 3), np.float32)
        self._pose = pose

    def wall(self, top: Colour, bottom: Colour) -> None:
        """The ground: one colour above that runs into another below."""
        share = np.linspace(0.0, 1.0, self._side, dtype=np.float32)[:, None]
        rows = (1 - share) * np.asarray(top, np.float32) + share * np.asarray(bottom, np.float32)
        self._pixels[:] = rows[:, None, :]

    def paint(
        self,
        points: Points,
        colour: Colour,
        *,
        strength: float = 1.0,
        soft: float = 0.0,
        clip: Points | None = None,
        still: bool = False,
    ) -> None:
        """Fill a polygon; `soft` blurs its edge by that deviation in half sides, `clip` keeps it inside of
        another polygon, `still` shapes do not follow the head.
        """
        spots = self._place(points, still)
        blur = soft * self._side / 2
        margin = int(np.ceil(3 * blur)) + 2
        low = np.clip(np.floor(spots.min(axis=0)).astype(int) - margin, 0, self._side)
        high = np.clip(np.ceil(spots.max(axis=0)).astype(int) + margin, 0, self._side)
        if (high - low <= 0).any():
            return
        mask = _soft(spots - low, high - low, blur)
        cover = mask.astype(np.float32) * (strength / 255.0)
        if clip is not None:
            cover *= _filled(self._place(clip, still) - low, high - low).astype(np.float32) / 255.0
        area = self._pixels[low[1] : high[1], low[0] : high[0]]
        area += cover[:, :, None] * (np.asarray(colour, np.float32) - area)

    def line(
        self,
        points: Points,
        colour: Colour,
        weight: float,
        *,
        strength: float = 1.0,
        soft: float = 0.0,
        clip: Points | None = None,
    ) -> None:
        """A stroke of `weight` half sides along the points, thinner at its ends."""
        along = np.gradient(points, axis=0)
        normal = np.stack([-along[:, 1], along[:, 0]], axis=1)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
        share = np.linspace(-1, 1, len(points))[:, None]
        half = 0.5 * weight * (1.0 - 0.75 * share**2)
        edges = np.concatenate([points + normal * half, (points - normal * half)[::-1]])
        self.paint(edges, colour, strength=strength, soft=soft, clip=clip)

    def picture(self, gain: float = 1.0) -> NDArray[np.uint8]:
        """What was painted: (size, size, 3) uint8 RGB, in `gain` times the light."""
        import cv2

        small = cv2.resize(self._pixels, (self._size, self._size), interpolation=cv2.INTER_AREA)
        done: NDArray[np.uint8] = np.clip(small * gain + 0.5, 0, 255).astype(np.uint8)
        return done

    def _place(self, points: Points, still: bool) -> Points:
        if not still:
            points = self.to_picture(points)
        return (points * 0.5 + 0.5) * self._side - 0.5

    def to_picture(self, points: Points) -> Points:
        """Points of the face where they lie in the picture, both in half sides."""
        pose = self._pose
        cos, sin = np.cos(pose.roll) * pose.zoom, np.sin(pose.roll) * pose.zoom
        x, y = points[:, 0], points[:, 1]
        return np.stack([cos * x - sin * y + pose.x, sin * x + cos * y + pose.y], axis=1)


def _soft(points: Points, shape: NDArray[Any], blur: float) -> NDArray[np.uint8]:
    """The polygon with an edge as soft as `blur` pixels; the softest are drawn small, which is cheap."""
    import cv2

    if blur <= 0.3:
        return _filled(points, shape)
    if blur < _COARSE:
        return cv2.GaussianBlur(_filled(points, shape), (0, 0), blur).astype(np.uint8, copy=False)
    step = 2 ** int(np.log2(blur / _COARSE) + 1)
    small = _filled((points + 0.5) / step - 0.5, -(-shape // step))
    small = cv2.GaussianBlur(small, (0, 0), blur / step).astype(np.uint8, copy=False)
    large = cv2.resize(small, None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)
    return large[: shape[1], : shape[0]].astype(np.uint8, copy=False)


def _filled(points: Points, shape: NDArray[Any]) -> NDArray[np.uint8]:
    import cv2

    mask = np.zeros((int(shape[1]), int(shape[0])), np.uint8)
    whole = np.round(points * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(mask, [whole], 255, lineType=cv2.LINE_AA, shift=_SHIFT)
    return mask
