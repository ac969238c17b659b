"""Comic: inked lines over clean colour in soft steps, printed dots in the shadows, a bright backdrop."""

from __future__ import annotations

import numpy as np

from talent_factory.providers.embedded.flow import tangent_flow
from talent_factory.providers.embedded.framing import Canvas
from talent_factory.providers.embedded.manga import dot_screen
from talent_factory.providers.embedded.raster import (
    F32,
    U8,
    bilateral,
    blur,
    f32,
    fill,
    from_lab,
    grid,
    luminance,
    mix,
    saturate,
    smoothstep,
    to_lab,
    to_uint8,
)
from talent_factory.providers.embedded.xdog import edge_lines

METHOD = "abstraction-benday-1"
_PAPER = np.array([1.0, 0.86, 0.3], np.float32)
_PRINT = np.array([0.96, 0.6, 0.12], np.float32)
_INK = np.array([0.07, 0.06, 0.1], np.float32)


def draw(canvas: Canvas, rng: np.random.Generator) -> U8:
    """Real-time video abstraction (Winnemöller, Olsen, Gooch 2006) with Ben Day dots in the dark."""
    u = canvas.unit
    smooth = bilateral(canvas.image_HWC, sigma_colour=0.11, sigma_space=3.5 * u, passes=3)
    flow = tangent_flow(smooth, 4.0 * u)
    colour = saturate(quantised(smooth, steps=7), 1.45)
    gray = luminance(smooth)
    screen = dot_screen(canvas.shape, max(4.0, 8.0 * u))
    shade = smoothstep(0.62, 0.2, blur(gray, 2 * u))
    dots = smoothstep(0.04, -0.04, f32(screen - 0.42 * shade))
    colour = mix(colour, f32(colour * 0.72), dots)
    picture = mix(_backdrop(canvas, rng), colour, smoothstep(0.35, 0.65, canvas.alpha_HW))
    lines = edge_lines(gray, sigma=2.1 * u, weight=0.05, flow=flow) * smoothstep(0.2, 0.6, canvas.alpha_HW)
    border = edge_lines(f32(1 - blur(canvas.alpha_HW, 1.5 * u)), sigma=3.0 * u, weight=0.1)
    ink = smoothstep(0.3, 0.62, blur(np.maximum(lines, border), 0.7 * u))
    return to_uint8(mix(picture, fill(canvas.shape, _INK), ink))


def quantised(image_HWC: F32, *, steps: int) -> F32:
    """Luminance in `steps` soft stairs (2006, section 3.3); hue and chroma stay."""
    lab = to_lab(image_HWC)
    width = 100.0 / steps
    nearest = (np.floor(lab[..., 0] / width) + 0.5) * width
    lab[..., 0] = nearest + width / 2 * np.tanh(0.35 * (lab[..., 0] - nearest))
    return from_lab(lab)


def _backdrop(canvas: Canvas, rng: np.random.Generator) -> F32:
    """Yellow paper whose printed dots grow towards one corner."""
    height, width = canvas.shape
    x, y = grid(height, width)
    side = 1.0 if rng.uniform() < 0.5 else -1.0
    slope = 0.5 + 0.5 * (y / height * 0.9 + side * (x / width - 0.5))
    screen = dot_screen(canvas.shape, max(5.0, 17.0 * canvas.unit))
    dots = smoothstep(0.05, -0.05, f32(screen - np.clip(slope - 0.35, 0, 0.62)))
    return mix(fill(canvas.shape, _PAPER), fill(canvas.shape, _PRINT), dots)
