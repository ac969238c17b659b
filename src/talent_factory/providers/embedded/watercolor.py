"""Watercolour: washes that pool at their edges, granulate on the paper and run out before the margin."""

from __future__ import annotations

import numpy as np

from talent_factory.providers.embedded.framing import Canvas, face_weight
from talent_factory.providers.embedded.kuwahara import kuwahara
from talent_factory.providers.embedded.raster import (
    F32,
    U8,
    bilateral,
    blur,
    clip01,
    f32,
    fill,
    grid,
    luminance,
    mix,
    sample,
    saturate,
    smoothstep,
    to_uint8,
)
from talent_factory.providers.embedded.texture import paper, turbulence

METHOD = "pigment-density-1"
_WASH = np.array([0.66, 0.8, 0.9], np.float32)


def draw(canvas: Canvas, rng: np.random.Generator) -> U8:
    """Pigment density after Bousseau, Kaplan, Thollot, Sillion (NPAR 2006): C' = C - (C - C^2)(d - 1)."""
    u = canvas.unit
    smooth = bilateral(canvas.image_HWC, sigma_colour=0.12, sigma_space=4 * u, passes=1)
    washes = kuwahara(smooth, radius=max(2, round(5 * u)))
    washes = mix(washes, smooth, face_weight(canvas) * np.float32(0.55))
    colour = saturate(f32(0.1 + 0.9 * np.clip(washes, 0, 1) ** 0.82), 1.25)
    colour = mix(_wash(canvas, rng), colour, smoothstep(0.3, 0.7, canvas.alpha_HW))
    colour = _wobble(colour, rng, u)
    edges = _pooled_edges(colour, u)
    flow = turbulence(rng, canvas.shape, 150 * u, 4)
    tooth = paper(rng, canvas.shape, max(0.8, 1.6 * u))
    density = 1.0 + 0.55 * flow + 0.3 * tooth + 1.9 * edges
    painted = with_density(colour, f32(density))
    return to_uint8(mix(np.full_like(painted, 0.97), painted, _margin(canvas, rng)))


def with_density(colour_HWC: F32, density_HW: F32) -> F32:
    """More pigment darkens and saturates, less lets the paper through (2006, eq. 1)."""
    d = density_HW[..., None] - 1.0
    return clip01(colour_HWC - (colour_HWC - colour_HWC**2) * d)


def _pooled_edges(colour_HWC: F32, unit: float) -> F32:
    """Pigment gathered along the border of each wash, on its darker side."""
    gray = luminance(colour_HWC)
    step = blur(gray, 5.0 * unit) - blur(gray, 1.2 * unit)
    return f32(np.clip(step * 4.5, 0, 0.85))


def _wobble(colour_HWC: F32, rng: np.random.Generator, unit: float) -> F32:
    height, width = colour_HWC.shape[:2]
    x, y = grid(height, width)
    dx = turbulence(rng, (height, width), 34 * unit, 3) * np.float32(3.0 * unit)
    dy = turbulence(rng, (height, width), 34 * unit, 3) * np.float32(3.0 * unit)
    return sample(colour_HWC, f32(x + dx), f32(y + dy))


def _wash(canvas: Canvas, rng: np.random.Generator) -> F32:
    """A pale blue sky of two wet washes."""
    cloud = turbulence(rng, canvas.shape, 260 * canvas.unit, 3)
    shade = 0.22 + 0.4 * smoothstep(-0.5, 0.6, cloud)
    return mix(fill(canvas.shape, 0.97), fill(canvas.shape, _WASH), f32(shade * 1.5))


def _margin(canvas: Canvas, rng: np.random.Generator) -> F32:
    """1 where paint lies, 0 on the bare border, with a ragged wet rim."""
    height, width = canvas.shape
    x, y = grid(height, width)
    rim = np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y)) / canvas.unit
    ragged = rim + 16 * turbulence(rng, canvas.shape, 90 * canvas.unit, 4)
    return smoothstep(15.0, 19.0, f32(ragged))
