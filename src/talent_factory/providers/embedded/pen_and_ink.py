"""Pen and ink: flowing contour lines and hatching whose layers follow tone, black on white paper."""

from __future__ import annotations

import math

import numpy as np

from talent_factory.providers.embedded.flow import tangent_flow
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

METHOD = "xdog-hatch-1"


def draw(canvas: Canvas, rng: np.random.Generator) -> U8:
    """XDoG contours (Winnemöller et al. 2012) over cross-hatching by tone (Winkenbach and Salesin 1994)."""
    u = canvas.unit
    smooth = bilateral(canvas.image_HWC, sigma_colour=0.12, sigma_space=3 * u, passes=2)
    gray = levels(luminance(smooth), 1, 98)
    flow = tangent_flow(smooth, 3.0 * u)
    ink = edge_lines(gray, sigma=1.9 * u, weight=0.045, flow=flow)
    outline = edge_lines(f32(1 - blur(canvas.alpha_HW, 1.5 * u)), sigma=2.4 * u, weight=0.12)
    tone = tone_on_paper(gray, canvas.alpha_HW, u)
    hatch = hatching(rng, tone, blur(gray, 14 * u), u)
    ink = np.maximum(np.maximum(ink * smoothstep(0.0, 0.6, canvas.alpha_HW), outline), hatch)
    crisp = smoothstep(0.3, 0.62, blur(f32(ink), 0.6 * u))
    return to_uint8(as_rgb(f32(0.985 - 0.93 * crisp)))


def tone_on_paper(gray_HW: F32, alpha_HW: F32, unit: float) -> F32:
    """The subject's tones, lifted a little, on paper that stays white but for a soft shadow around the
    shoulders.
    """
    lifted = 0.06 + 0.94 * gray_HW**0.85
    paper = 1.0 - 0.42 * blur(alpha_HW, 46 * unit) * smoothstep(0.9, 0.0, alpha_HW)
    return f32(lifted * alpha_HW + paper * (1 - alpha_HW))


def hatching(rng: np.random.Generator, tone_HW: F32, relief_HW: F32, unit: float) -> F32:
    """Ink 0..1 of four layers of strokes; each layer begins below its own tone and thickens as tone falls.

    `relief_HW` bends the strokes, so that they run around forms as an engraver's do.
    """
    height, width = tone_HW.shape
    x, y = grid(height, width)
    wobble = turbulence(rng, (height, width), 120 * unit, 2) * np.float32(3.0 * unit)
    period = np.float32(9.0 * unit)
    ink = np.zeros((height, width), np.float32)
    for angle, start in ((0.78, 0.74), (-0.70, 0.5), (0.05, 0.33), (1.45, 0.2)):
        across = y * math.cos(angle) - x * math.sin(angle) + wobble + relief_HW * np.float32(34 * unit)
        phase = across / period
        distance = np.abs(phase - np.round(phase)) * 2.0
        breaks = strokes(rng, (height, width), angle=angle, length=70 * unit, width=9.0 * unit)
        depth = start - tone_HW + breaks * np.float32(0.045)
        thickness = np.clip(0.16 + 1.15 * depth, 0.16, 0.62)
        edge = np.float32(1.2 / max(2.0, float(period)))
        line = smoothstep(0.0, 1.0, f32((thickness - distance) / edge + 0.5))
        ink = np.maximum(ink, line * smoothstep(0.0, 0.03, f32(depth)))
    return f32(np.maximum(ink, smoothstep(0.13, 0.08, tone_HW)))
