"""Woodcut: black ink from a carved block, light cut out as lines that run along the forms."""

from __future__ import annotations

import math

import numpy as np

from talent_factory.providers.embedded.flow import Flow, blend_flow, flow_lines, tangent_flow
from talent_factory.providers.embedded.framing import Canvas
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
    smoothstep,
    to_uint8,
)
from talent_factory.providers.embedded.texture import strokes, turbulence
from talent_factory.providers.embedded.xdog import edge_lines

METHOD = "xdog-carved-lines-1"


def draw(canvas: Canvas, rng: np.random.Generator) -> U8:
    """Carved lines whose width is the luminance and whose course is the tensor field, under bold XDoG
    contours.
    """
    u = canvas.unit
    smooth = bilateral(canvas.image_HWC, sigma_colour=0.14, sigma_space=4 * u, passes=2)
    gray = levels(luminance(smooth), 2, 97)
    flow = tangent_flow(smooth, 7.0 * u)
    lines = flow_lines(rng, _carving(canvas, flow), period=11 * u, length=26 * u)
    tone = f32(0.5 + 0.95 * (gray - 0.42))
    cut = smoothstep(-0.05, 0.05, f32(blur(tone, 1.5 * u) - lines))
    cut = np.maximum(cut, smoothstep(0.8, 0.86, gray)) * smoothstep(0.12, 0.17, gray)
    back = _block(canvas, rng, lines)
    contour = edge_lines(gray, sigma=2.6 * u, weight=0.05, flow=flow)
    light = f32(cut * (1 - contour) * canvas.alpha_HW + back * (1 - canvas.alpha_HW))
    rim = edge_lines(blur(canvas.alpha_HW, 1.5 * u), sigma=2.6 * u, weight=0.12)
    light = np.maximum(light, rim * (1 - canvas.alpha_HW))
    crisp = smoothstep(0.36, 0.64, blur(f32(light), 1.1 * u))
    return to_uint8(as_rgb(f32(0.07 + 0.89 * crisp)))


def _carving(canvas: Canvas, flow: Flow) -> Flow:
    """The picture's own directions where it has any, rings around the head where it has none."""
    height, width = canvas.shape
    x, y = grid(height, width)
    x0, y0, x1, y1 = canvas.head
    angle = np.arctan2(y - (y0 + y1) / 2, x - (x0 + x1) / 2) + math.pi / 2
    rings = Flow(f32(np.cos(angle)), f32(np.sin(angle)), np.ones((height, width), np.float32))
    unsure = smoothstep(0.7, 0.2, flow.strength)
    return blend_flow(flow, rings, f32(np.maximum(unsure, 1 - canvas.alpha_HW)))


def _block(canvas: Canvas, rng: np.random.Generator, lines_HW: F32) -> F32:
    """The background: sparse cuts that ring the subject and die away into the black of the block."""
    near = blur(canvas.alpha_HW, 80 * canvas.unit)
    gouge = strokes(rng, canvas.shape, angle=0.0, length=40 * canvas.unit, width=8 * canvas.unit)
    patch = turbulence(rng, canvas.shape, 90 * canvas.unit, 2)
    tone = 0.1 + 0.42 * near + 0.08 * patch + 0.02 * gouge
    return smoothstep(-0.04, 0.04, f32(tone - lines_HW))
