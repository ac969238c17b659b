"""Monochrome vector: four flat grays with smooth outlines, as a stencil artist would cut them."""

from __future__ import annotations

import numpy as np

from talent_factory.providers.embedded.flow import tangent_flow
from talent_factory.providers.embedded.framing import Canvas
from talent_factory.providers.embedded.palette import tone_cuts
from talent_factory.providers.embedded.raster import (
    F32,
    U8,
    as_rgb,
    bilateral,
    blur,
    f32,
    grid,
    levels,
    luminance,
    median,
    smoothstep,
    to_uint8,
)
from talent_factory.providers.embedded.xdog import edge_lines

METHOD = "posterise-contour-1"
_GRAYS = (0.08, 0.38, 0.7, 0.96)


def draw(canvas: Canvas, rng: np.random.Generator) -> U8:
    """Tones reduced to four flat areas with smooth borders (after Rosin and Lai 2013, reduced palettes)."""
    u = canvas.unit
    smooth = bilateral(canvas.image_HWC, sigma_colour=0.16, sigma_space=4 * u, passes=3)
    gray = levels(luminance(smooth), 1, 98)
    gray = median(gray, round(3 * u))
    flat = stack_of_flats(gray, tone_cuts(gray, canvas.alpha_HW, len(_GRAYS)), _GRAYS, u)
    lines = edge_lines(luminance(smooth), sigma=2.2 * u, weight=0.06, flow=tangent_flow(smooth, 4.0 * u))
    lines = smoothstep(0.35, 0.65, blur(lines, 1.2 * u))
    flat = flat * (1 - lines) + _GRAYS[0] * lines
    shape = smoothstep(0.35, 0.65, blur(canvas.alpha_HW, 2.2 * u))
    back = _disc(canvas, rng)
    border = smoothstep(0.2, 0.5, f32(blur(canvas.alpha_HW, 4.5 * u)))
    picture = back * (1 - border) + _GRAYS[0] * border
    picture = picture * (1 - shape) + flat * shape
    return to_uint8(as_rgb(f32(picture)))


def stack_of_flats(gray_HW: F32, cuts: tuple[float, ...], values: tuple[float, ...], unit: float) -> F32:
    """Paint the lighter areas over the darker; each area's border is smoothed by blurring its mask and
    cutting again.
    """
    flat = np.full(gray_HW.shape, values[0], np.float32)
    for cut, value in zip(cuts, values[1:], strict=True):
        area = blur(f32(gray_HW > cut), 2.6 * unit)
        area = smoothstep(0.5 - 0.2 / max(0.4, unit), 0.5 + 0.2 / max(0.4, unit), area)
        flat = flat * (1 - area) + np.float32(value) * area
    return flat


def _disc(canvas: Canvas, rng: np.random.Generator) -> F32:
    """A plain sheet with one pale disc behind the head."""
    height, width = canvas.shape
    x, y = grid(height, width)
    x0, y0, x1, y1 = canvas.head
    radius = 0.44 * min(height, width) * float(rng.uniform(0.94, 1.06))
    distance = np.hypot(x - (x0 + x1) / 2, y - (y0 + y1) / 2)
    inside = smoothstep(radius + 1, radius - 1, f32(distance))
    return f32(_GRAYS[3] + (0.82 - _GRAYS[3]) * inside)
