"""Charcoal: broad dark strokes, smudges drawn along the forms, and the paper's grain showing through."""

from __future__ import annotations

import numpy as np

from talent_factory.providers.embedded.flow import Flow, blend_flow, constant_flow, smooth_along, tangent_flow
from talent_factory.providers.embedded.framing import Canvas
from talent_factory.providers.embedded.raster import (
    F32,
    U8,
    as_rgb,
    bilateral,
    blur,
    f32,
    levels,
    luminance,
    mix,
    shrink,
    smoothstep,
    stretch,
    to_uint8,
)
from talent_factory.providers.embedded.texture import paper, speckle, turbulence
from talent_factory.providers.embedded.xdog import edge_lines, xdog

METHOD = "xdog-lic-charcoal-1"


def draw(canvas: Canvas, rng: np.random.Generator) -> U8:
    """Wide soft XDoG (2012, charcoal preset) rubbed along the tangents by LIC (Cabral and Leedom 1993)."""
    u = canvas.unit
    smooth = bilateral(canvas.image_HWC, sigma_colour=0.1, sigma_space=3 * u, passes=1)
    gray = levels(luminance(smooth), 1, 99)
    halo = blur(canvas.alpha_HW, 70 * u) * smoothstep(0.9, 0.0, canvas.alpha_HW)
    smudge = turbulence(rng, canvas.shape, 160 * u, 3)
    back = np.clip(0.8 - 0.5 * halo + 0.12 * smudge, 0, 1)
    gray = mix(f32(back), gray, canvas.alpha_HW)
    flow = tangent_flow(smooth, 5.0 * u)
    soft = xdog(gray, sigma=3.4 * u, sharpness=5.0, threshold=0.7, softness=2.2)
    lines = edge_lines(gray, sigma=2.4 * u, weight=0.05, flow=flow)
    rubbed = _rubbed_noise(rng, flow, u)
    tone = 0.55 * gray**1.15 + 0.45 * soft
    tone = tone + rubbed * 0.11 * (1.1 - tone)
    tone = tone * (1 - 0.85 * blur(f32(lines), 0.7 * u))
    tooth = paper(rng, canvas.shape, max(0.8, 1.5 * u))
    # Charcoal catches on the heights of the paper: grain is strongest in half tones.
    tone = tone + tooth * (0.10 + 0.85 * np.clip(tone, 0, 1) * np.clip(1 - tone, 0, 1))
    return to_uint8(as_rgb(f32(np.clip(0.06 + 0.89 * tone, 0.05, 0.95))))


def _rubbed_noise(rng: np.random.Generator, flow: Flow, unit: float) -> F32:
    factor = max(1.0, 2.0 * unit)
    x, y, sure = shrink(flow.x, factor), shrink(flow.y, factor), shrink(flow.strength, factor)
    slant = constant_flow((x.shape[0], x.shape[1]), -0.9)
    field = blend_flow(Flow(x, y, sure), slant, smoothstep(0.75, 0.25, sure))
    noise = speckle(rng, (x.shape[0], x.shape[1]), 1.0)
    drawn = smooth_along(noise, field, length=16 * unit / factor, steps=6)
    return f32(stretch(f32(drawn / max(1e-6, float(drawn.std()))), flow.x))
