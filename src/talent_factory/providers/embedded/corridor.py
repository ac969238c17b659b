"""Rooms in perspective: each pixel's ray meets floor, ceiling or wall, and a surface colours it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from talent_factory.providers.embedded.light import Colour
from talent_factory.providers.embedded.raster import F32, f32, grid, mix, smoothstep

FLOOR, CEILING, LEFT, RIGHT = 0, 1, 2, 3


@dataclass(frozen=True)
class Corridor:
    """A box seen from within, in metres: `across` is x on floor and ceiling, height above the floor on walls.

    `surface_HW` holds FLOOR, CEILING, LEFT or RIGHT; `depth_HW` is the distance along the view.
    """

    surface_HW: npt.NDArray[np.int8]
    across_HW: F32
    depth_HW: F32
    focal: float
    vanish: tuple[float, float]
    half_width: float
    eye: float
    top: float

    def on_screen(self, x: float, height: float, depth: float) -> tuple[float, float]:
        """Pixel of a point: x metres right of the middle, `height` above the floor, `depth` away."""
        return (
            self.vanish[0] + x / depth * self.focal,
            self.vanish[1] + (self.eye - height) / depth * self.focal,
        )

    def quad(self, image_HWC: F32, corners: list[tuple[float, float, float]], colour: Colour) -> None:
        """Fill a polygon given in metres (x, height, depth), in place."""
        points = np.array([self.on_screen(*corner) for corner in corners])
        fixed = np.clip(points * 16, -(2**20), 2**20).round().astype(np.int32)
        cv2.fillConvexPoly(image_HWC, fixed, colour, cv2.LINE_AA, 4)

    def stroke(
        self, image_HWC: F32, path: list[tuple[float, float, float]], colour: Colour, width: float
    ) -> None:
        """Draw a line through points in metres; `width` in metres at the depth of the first point."""
        points = np.array([self.on_screen(*corner) for corner in path])
        fixed = np.clip(points * 16, -(2**20), 2**20).round().astype(np.int32)
        pixels = int(np.clip(round(width * self.focal / path[0][2]), 1, 60))
        cv2.polylines(image_HWC, [fixed], False, colour, pixels, cv2.LINE_AA, 4)


def corridor(
    shape: tuple[int, int],
    *,
    half_width: float,
    eye: float,
    top: float,
    vanish: tuple[float, float],
    field: float,
) -> Corridor:
    """Cast one ray a pixel. `eye` is the camera's height, `top` the ceiling's; `vanish` is a share of the
    picture.

    `field` is the focal length as a multiple of the picture's longer side.
    """
    height, width = shape
    focal = field * max(height, width)
    cx, cy = vanish[0] * width, vanish[1] * height
    px, py = grid(height, width)
    x, y = (px - cx) / focal, (py - cy) / focal
    wall = half_width / np.maximum(np.abs(x), 1e-4)
    slab = np.where(y > 0, eye, top - eye) / np.maximum(np.abs(y), 1e-4)
    depth = f32(np.minimum(np.minimum(wall, slab), 200.0))
    is_wall = wall < slab
    surface = np.where(is_wall, np.where(x < 0, LEFT, RIGHT), np.where(y > 0, FLOOR, CEILING)).astype(np.int8)
    across = f32(np.where(is_wall, eye - y * depth, x * depth))
    return Corridor(surface, across, depth, focal, (cx, cy), half_width, eye, top)


def joints(across: F32, along: F32, *, height: float, length: float, gap: float, staggered: bool) -> F32:
    """1 in the joints between bricks or tiles of the given size in metres, 0 on their faces."""
    row = np.floor(across / height)
    shift = 0.5 * np.mod(row, 2) if staggered else 0.0
    u, v = across / height, along / length + shift
    near_u = np.abs(u - np.round(u)) * height
    near_v = np.abs(v - np.round(v)) * length
    return smoothstep(gap, gap * 0.5, f32(np.minimum(near_u, near_v)))


def each_brick(across: F32, along: F32, *, height: float, length: float) -> F32:
    """A number in 0..1 for every brick, scattered by hashing its row and column."""
    row = np.floor(across / height)
    column = np.floor(along / length + 0.5 * np.mod(row, 2))
    mixed = np.sin(row * 12.9898 + column * 78.233) * 43758.5453
    return f32(mixed - np.floor(mixed))


def painted(picture: F32, mask: npt.NDArray[np.bool_] | F32, colour: Colour | F32) -> F32:
    """The picture with a colour laid over where `mask` is."""
    layer = np.broadcast_to(np.asarray(colour, np.float32), picture.shape)
    return mix(picture, f32(layer), f32(mask))


def haze(picture: F32, depth_HW: F32, *, reach: float, colour: Colour) -> F32:
    """Distance fades into `colour`; `reach` is where two thirds are gone, in metres."""
    return painted(picture, f32(1 - np.exp(-depth_HW / reach)), colour)
