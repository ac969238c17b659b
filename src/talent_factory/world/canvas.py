"""A canvas with two layers, colour and line, so that each medium can treat them differently."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from talent_factory.world.palette import LINE, RGB

SIDE = 256  # drawings are made at this size and scaled down: cheap anti-aliasing
_SHIFT = 4  # sub-pixel bits of OpenCV's fixed-point coordinates

Points = NDArray[np.float64] | Sequence[tuple[float, float]]


class Canvas:
    """A colour layer (uint8 RGB) and a line layer (uint8 coverage) under one affine frame.

    Coordinates are those of a `SIDE` x `SIDE` canvas; `zoom` only makes the layers larger.
    """

    def __init__(self, background: NDArray[np.uint8], *, zoom: int = 1) -> None:
        self.colour = background.repeat(zoom, axis=0).repeat(zoom, axis=1)
        self.line = np.zeros(self.colour.shape[:2], np.uint8)
        self._zoom = zoom
        self._frame = np.eye(2, 3)

    def place(self, centre: tuple[float, float], *, scale: float = 1.0, degrees: float = 0.0) -> None:
        """Move the origin of later shapes to `centre` (pixels), scaled and turned around it."""
        turn = np.deg2rad(degrees)
        cos, sin = scale * np.cos(turn), scale * np.sin(turn)
        self._frame = np.array([[cos, -sin, centre[0]], [sin, cos, centre[1]]])

    @property
    def scale(self) -> float:
        """How much larger than drawn shapes come out under the current frame, before `zoom`."""
        return float(np.hypot(self._frame[0, 0], self._frame[1, 0]))

    def _map(self, points: Points) -> NDArray[np.int32]:
        flat = np.asarray(points, np.float64).reshape(-1, 2)
        mapped = flat @ self._frame[:, :2].T + self._frame[:, 2]
        return np.round(mapped * (self._zoom << _SHIFT)).astype(np.int32)

    def _pen(self, width: float) -> int:
        thickness: float = width * self.scale**0.6 * self._zoom
        return max(1, round(thickness))

    def shape(
        self, points: Points, fill: RGB, *, outline: float = 3.0, right_half: RGB | None = None
    ) -> None:
        """Fill a polygon (hiding what lies below it) and outline it.

        With `right_half` the part of the polygon at x > 0 of the current frame takes that colour.
        """
        outer = self._map(points)
        cv2.fillPoly(self.colour, [outer], fill, cv2.LINE_AA, _SHIFT)
        cv2.fillPoly(self.line, [outer], 0, cv2.LINE_AA, _SHIFT)
        if right_half is not None:
            cover = np.zeros_like(self.line)
            cv2.fillPoly(cover, [outer], 255, cv2.LINE_AA, _SHIFT)
            half = np.zeros_like(self.line)
            cv2.fillPoly(
                half, [self._map([(0, -400), (400, -400), (400, 400), (0, 400)])], 255, cv2.LINE_AA, _SHIFT
            )
            blend = (cover.astype(np.float32) * half / (255.0 * 255.0))[..., None]
            self.colour = np.round(self.colour * (1 - blend) + np.array(right_half) * blend).astype(np.uint8)
        if outline:
            cv2.polylines(self.line, [outer], True, 255, self._pen(outline), cv2.LINE_AA, _SHIFT)

    def ellipse(
        self,
        centre: tuple[float, float],
        radii: tuple[float, float],
        fill: RGB,
        *,
        outline: float = 3.0,
        right_half: RGB | None = None,
    ) -> None:
        """Fill and outline an ellipse, like `shape`."""
        angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        ring = np.c_[centre[0] + radii[0] * np.cos(angle), centre[1] + radii[1] * np.sin(angle)]
        self.shape(ring, fill, outline=outline, right_half=right_half)

    def solid(self, centre: tuple[float, float], radii: tuple[float, float]) -> None:
        """A small ellipse of pure line colour (pupils, nostrils): solid in every medium."""
        angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
        ring = np.c_[centre[0] + radii[0] * np.cos(angle), centre[1] + radii[1] * np.sin(angle)]
        cv2.fillPoly(self.line, [self._map(ring)], 255, cv2.LINE_AA, _SHIFT)

    def stroke(self, points: Points, *, width: float = 3.0) -> None:
        """An open line on the line layer."""
        cv2.polylines(self.line, [self._map(points)], False, 255, self._pen(width), cv2.LINE_AA, _SHIFT)

    def band(self, points: Points, fill: RGB, *, width: float) -> None:
        """An open stroke of colour that hides the lines below it."""
        path = [self._map(points)]
        cv2.polylines(self.colour, path, False, fill, self._pen(width), cv2.LINE_AA, _SHIFT)
        cv2.polylines(self.line, path, False, 0, self._pen(width), cv2.LINE_AA, _SHIFT)

    def flat(self, line: RGB = LINE, strength: float = 1.0) -> NDArray[np.float32]:
        """Both layers as one float image (SIDE, SIDE, 3) of 0..255, the lines in `line`."""
        cover = self.line.astype(np.float32)[..., None] / 255.0 * strength
        return np.asarray(self.colour * (1 - cover) + np.array(line, np.float32) * cover, np.float32)
