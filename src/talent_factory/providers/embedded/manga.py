"""Manga: clean lines, white light, black hair, dot screens between; speed lines behind."""

from __future__ import annotations

import math

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

METHOD = "xdog-screentone-1"
DOT_PERIOD = 7.0


def draw(canvas: Canvas, rng: np.random.Generator) -> U8:
    """Lines over three tones, the middle ones screened at 45 degrees (after Qu et al., Richness-Preserving
    Manga, 2008).
    """
    u = canvas.unit
    smooth = bilateral(canvas.image_HWC, sigma_colour=0.14, sigma_space=4 * u, passes=2)
    gray = levels(luminance(smooth), 1, 98)
    flow = tangent_flow(smooth, 4.0 * u)
    tones = median(gray, round(3 * u))
    dark, middle, light = tone_cuts(tones, canvas.alpha_HW, 4)
    screen = dot_screen(canvas.shape, max(4.0, DOT_PERIOD * u))
    ink = np.maximum(
        (screen < 0.2) * smoothstep(light + 0.02, light - 0.02, tones),
        (screen < 0.45) * smoothstep(middle + 0.02, middle - 0.02, tones),
    )
    ink = np.maximum(ink, smoothstep(0.4, 0.6, blur(f32(tones < min(dark, 0.32)), 1.5 * u)))
    lines = edge_lines(gray, sigma=2.0 * u, weight=0.045, flow=flow)
    ink = np.maximum(ink, smoothstep(0.3, 0.6, blur(lines, 0.8 * u))) * smoothstep(0.3, 0.7, canvas.alpha_HW)
    border = edge_lines(f32(1 - blur(canvas.alpha_HW, 1.5 * u)), sigma=2.8 * u, weight=0.1)
    halo = smoothstep(0.25, 0.05, blur(canvas.alpha_HW, 7 * u))
    ink = np.maximum(np.maximum(ink, border), speed_lines(canvas, rng) * halo)
    return to_uint8(as_rgb(f32(0.99 - 0.95 * blur(f32(ink), 0.45 * u))))


def dot_screen(shape: tuple[int, int], period: float, angle: float = math.pi / 4) -> F32:
    """Threshold of a round-dot screen, uniform in 0..1: `screen < share` inks that share of the paper."""
    x, y = grid(*shape)
    turn = 2 * math.pi / period
    a = np.cos((x * math.cos(angle) + y * math.sin(angle)) * turn)
    b = np.cos((y * math.cos(angle) - x * math.sin(angle)) * turn)
    spot = (a + b) / 2
    # The sum of two cosines is denser near zero; this curve is its distribution function, closely.
    rank = 0.5 - 0.5 * np.sign(spot) * (1 - (1 - np.abs(spot)) ** 1.35 * (1 - 0.12 * np.abs(spot)))
    return f32(rank)


def speed_lines(canvas: Canvas, rng: np.random.Generator) -> F32:
    """Ink 0..1 of wedges that run from the picture's rim towards the head and end in points."""
    height, width = canvas.shape
    x, y = grid(height, width)
    x0, y0, x1, y1 = canvas.head
    dx, dy = x - (x0 + x1) / 2, (y - (y0 + y1) / 2) * 1.25
    distance = np.hypot(dx, dy) / (0.5 * math.hypot(height, width))
    turn = (np.arctan2(dy, dx) / (2 * math.pi) + 0.5) * 150
    index = np.floor(turn).astype(np.int64) % 150
    reach = f32(rng.uniform(0.5, 1.05, 150))[index]
    weight = f32(rng.uniform(0.1, 0.62, 150))[index]
    wedge = weight * np.clip((distance - reach) / 0.5, 0, 1)
    blade = np.abs(turn - np.floor(turn) - 0.5)
    pixels = np.maximum(1.0, distance * math.hypot(height, width) * math.pi / 150)
    return f32(np.clip((wedge - blade) * pixels + 0.5, 0, 1) * (distance > reach))
