"""A sheet for drawing motifs: filled shapes with simple volume, and a line layer a style may ink or drop.

Coordinates are percent of a square, y downwards; a motif is the same drawing at every size.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from talent_factory.providers.embedded.raster import F32, U8, f32

Points = Sequence[tuple[float, float]]

COLOURS: dict[str, tuple[int, int, int]] = {
    "ink": (36, 34, 42),
    "white": (246, 244, 238),
    "cream": (240, 224, 190),
    "sand": (222, 192, 140),
    "tan": (206, 152, 108),
    "skin": (232, 186, 152),
    "umber": (132, 86, 58),
    "brown": (112, 72, 48),
    "red": (200, 56, 48),
    "rose": (226, 132, 140),
    "orange": (232, 134, 52),
    "gold": (242, 200, 88),
    "lime": (160, 194, 90),
    "green": (84, 142, 80),
    "pine": (44, 90, 72),
    "teal": (64, 150, 152),
    "sky": (150, 202, 232),
    "blue": (62, 108, 186),
    "navy": (40, 52, 98),
    "violet": (126, 92, 164),
    "stone": (170, 164, 158),
    "slate": (104, 110, 122),
    "dusk": (240, 176, 140),
}


class Sketch:
    """A drawing of `size` x `size` pixels: `colour` (H, W, 3) and `line` (H, W), both 0..1.

    `rng` sways the hand a little and sets where the light comes from, so that one motif gives many drawings.
    `pen` is the width of outlines in percent; `volume` 0 leaves every area flat, 1 lights it fully.
    """

    def __init__(self, size: int, rng: np.random.Generator, *, pen: float = 0.7, volume: float = 1.0) -> None:
        self.size = size
        self.rng = rng
        self._volume = volume
        self.colour: F32 = np.full((size, size, 3), 0.9, np.float32)
        self.line: F32 = np.zeros((size, size), np.float32)
        self._pen = pen * size / 100
        self._flip = bool(rng.random() < 0.5)
        angle = np.deg2rad(rng.uniform(200, 250))
        self._light = (float(np.cos(angle)), float(np.sin(angle)))
        turn = np.deg2rad(rng.uniform(-2, 2))
        zoom = rng.uniform(0.97, 1.07) * size / 100
        self._matrix = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        middle = np.array([50.0 + rng.uniform(-2, 2), 50.0 + rng.uniform(-1.5, 1.5)])
        self._shift = np.full(2, size / 2.0) - self._matrix @ middle

    def sky(self, top: str, bottom: str) -> None:
        """Fill everything with a vertical blend of two colours."""
        t = np.linspace(0, 1, self.size, dtype=np.float32)[:, None, None]
        t = 0.5 + (t - 0.5) * np.float32(self._volume)
        self.colour[:] = _rgb(top) * (1 - t) + _rgb(bottom) * t
        self.line[:] = 0

    def shape(
        self, points: Points, colour: str, *, smooth: bool = False, volume: float = 0.35, line: float = 1.0
    ) -> None:
        """A closed polygon, through a curve with `smooth`; `volume` lights one side, `line` weighs its
        outline (0 for none).
        """
        outline = _curve(points, closed=True) if smooth else np.asarray(points, np.float64)
        self._fill(self._place(outline), _rgb(colour), volume, line)

    def disc(
        self,
        centre: tuple[float, float],
        radii: tuple[float, float],
        colour: str,
        *,
        volume: float = 0.5,
        line: float = 1.0,
    ) -> None:
        """A filled ellipse."""
        angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        ring = np.c_[centre[0] + radii[0] * np.cos(angle), centre[1] + radii[1] * np.sin(angle)]
        self._fill(self._place(ring), _rgb(colour), volume, line)

    def box(
        self, left: float, top: float, right: float, bottom: float, colour: str, *, line: float = 1.0
    ) -> None:
        """An upright rectangle."""
        corners = ((left, top), (right, top), (right, bottom), (left, bottom))
        self.shape(corners, colour, volume=0.22, line=line)

    def limb(
        self, points: Points, width: float, colour: str, *, tip: float | None = None, line: float = 1.0
    ) -> None:
        """A rounded band along a curve, from `width` to `tip` (default: the same) percent wide."""
        path = _curve(points, closed=False) if len(points) > 2 else np.linspace(points[0], points[1], 12)
        along = np.gradient(path, axis=0)
        along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
        normal = np.c_[-along[:, 1], along[:, 0]]
        half = np.linspace(width, width if tip is None else tip, len(path))[:, None] / 2
        angle = np.arctan2(along[[-1, 0], 1], along[[-1, 0], 0])
        arcs = []
        for index, start in ((-1, angle[0] + np.pi / 2), (0, angle[1] - np.pi / 2)):
            turn = start - np.linspace(0, np.pi, 8)
            arcs.append(path[index] + half[index] * np.c_[np.cos(turn), np.sin(turn)])
        ring = np.r_[path + normal * half, arcs[0], (path - normal * half)[::-1], arcs[1]]
        self._fill(self._place(ring), _rgb(colour), 0.35, line)

    def stroke(self, points: Points, *, width: float = 1.0, curve: bool = True) -> None:
        """An inner line, such as a fold or a mouth: on the line layer and faintly in the colour."""
        path = _curve(points, closed=False) if curve and len(points) > 2 else np.asarray(points, np.float64)
        cover = np.zeros((self.size, self.size), np.uint8)
        pixels = max(1, round(self._pen * width))
        cv2.polylines(cover, [self._place(path)], False, 255, pixels, cv2.LINE_AA, 4)
        amount = f32(cover) / 255.0
        self.line = np.maximum(self.line, amount)
        self.colour -= self.colour * (0.45 * amount)[..., None]

    def _place(self, points: np.ndarray) -> np.ndarray:
        """Percent to fixed-point pixels with four fractional bits."""
        flat = np.array(points, np.float64).reshape(-1, 2)
        flat += self.rng.normal(0, 0.16, flat.shape) if len(flat) < 14 else 0.0
        if self._flip:
            flat[:, 0] = 100 - flat[:, 0]
        return np.asarray(np.round((flat @ self._matrix.T + self._shift) * 16), np.int32)

    def _fill(self, ring: np.ndarray, colour: F32, volume: float, line: float) -> None:
        cover8: U8 = np.zeros((self.size, self.size), np.uint8)
        cv2.fillPoly(cover8, [ring], 255, cv2.LINE_AA, 4)
        x, y, w, h = cv2.boundingRect(ring >> 4)
        x0, y0, x1, y1 = max(0, x - 1), max(0, y - 1), min(self.size, x + w + 2), min(self.size, y + h + 2)
        if x1 <= x0 or y1 <= y0:
            return
        window = (slice(y0, y1), slice(x0, x1))
        cover = f32(cover8[window]) / 255.0
        rows, columns = np.mgrid[y0:y1, x0:x1].astype(np.float32)
        u = (columns - (x + w / 2)) / max(1.0, w / 2)
        v = (rows - (y + h / 2)) / max(1.0, h / 2)
        lit = 1.0 + self._volume * volume * (
            0.62 * (u * self._light[0] + v * self._light[1]) - 0.12 * (u * u + v * v)
        )
        paint = np.clip(colour * lit[..., None], 0, 1)
        self.colour[window] += (paint - self.colour[window]) * cover[..., None]
        self.line[window] *= 1 - cover
        if line > 0:
            edge: U8 = np.zeros((self.size, self.size), np.uint8)
            cv2.polylines(edge, [ring], True, 255, max(1, round(self._pen * line)), cv2.LINE_AA, 4)
            self.line = np.maximum(self.line, f32(edge) / 255.0)


def _rgb(name: str) -> F32:
    return np.array(COLOURS[name], np.float32) / 255.0


def _curve(points: Points, *, closed: bool) -> np.ndarray:
    """Catmull-Rom through the points, eight steps each (Catmull and Rom 1974)."""
    knots = np.asarray(points, np.float64)
    around = np.r_[knots[-1:], knots, knots[:2]] if closed else np.r_[knots[:1], knots, knots[-1:]]
    t = np.linspace(0, 1, 8, endpoint=False)[:, None]
    pieces = []
    for a, b, c, d in zip(around, around[1:], around[2:], around[3:], strict=False):
        pieces.append(
            0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        )
    return np.concatenate([*pieces, np.empty((0, 2)) if closed else knots[-1:]])
