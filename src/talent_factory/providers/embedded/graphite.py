"""Graphite: pencil strokes along the contours, and tones laid with a shaded pencil on toothed paper."""

from __future__ import annotations

import math

import cv2
import numpy as np

from talent_factory.providers.embedded.framing import Canvas
from talent_factory.providers.embedded.raster import (
    F32,
    U8,
    as_rgb,
    blur,
    clip01,
    f32,
    levels,
    luminance,
    shrink,
    stretch,
    to_uint8,
)
from talent_factory.providers.embedded.texture import paper, strokes

METHOD = "pencil-lu2012-1"
_DIRECTIONS = 8


def draw(canvas: Canvas, rng: np.random.Generator) -> U8:
    """Sketch times tone, after Lu, Xu, Jia: Combining Sketch and Tone for Pencil Drawing Production (NPAR
    2012).
    """
    u = canvas.unit
    gray = luminance(canvas.image_HWC)
    faded = blur(canvas.alpha_HW, 3 * u)
    on_paper = f32(
        gray * canvas.alpha_HW + (1 - canvas.alpha_HW) * (0.93 - 0.12 * blur(canvas.alpha_HW, 60 * u))
    )
    sketch = pencil_lines(on_paper, reach=0.03 * 768 * u, width=1.5 * u)
    tone = matched_tone(blur(on_paper, 1.2 * u))
    texture = shading(rng, canvas.shape, u)
    # H^beta = J solved pixel by pixel in the log domain: the darker the tone, the more passes of the pencil.
    passes = np.log(np.clip(tone, 0.04, 1)) / np.log(0.5)
    shaded = np.exp(passes * np.log(texture))
    shaded = shaded * (0.45 + 0.55 * faded) + (1 - faded) * 0.55 * (0.5 + 0.5 * shaded)
    drawing = np.clip(shaded, 0, 1) * (1 - 0.9 * sketch)
    grain = paper(rng, canvas.shape, max(0.7, 1.1 * u)) * np.float32(0.035)
    return to_uint8(as_rgb(f32(np.clip(0.97 * drawing + grain * (0.3 + drawing), 0.05, 0.985))))


def pencil_lines(gray_HW: F32, *, reach: float, width: float) -> F32:
    """Line darkness 0..1: each edge pixel joins the one of eight directions that supports it most (section
    3.1).

    `reach` is the stroke's length in pixels; strokes overshoot at corners as a hand does.
    """
    factor = max(1.0, width)
    small = shrink(gray_HW, factor)
    gx = f32(cv2.Sobel(small, cv2.CV_32F, 1, 0)) / 4
    gy = f32(cv2.Sobel(small, cv2.CV_32F, 0, 1)) / 4
    edges = np.hypot(gx, gy)
    half = max(2, round(reach / factor / 2))
    kernels = [_line(half, math.pi * k / _DIRECTIONS) for k in range(_DIRECTIONS)]
    support = np.stack([f32(cv2.filter2D(edges, cv2.CV_32F, kernel)) for kernel in kernels])
    best = support.argmax(axis=0)
    total = np.zeros_like(edges)
    for k, kernel in enumerate(kernels):
        total += f32(cv2.filter2D(f32(edges * (best == k)), cv2.CV_32F, kernel))
    # What is faint everywhere is the surface's own texture, not a line.
    strength = max(0.06, float(np.percentile(total[::3, ::3], 99)))
    return clip01(stretch(f32(clip01(total / strength * 1.15 - 0.15) ** 0.85), gray_HW) * 1.15)


def _line(half: int, angle: float) -> F32:
    size = 2 * half + 1
    kernel = np.zeros((size, size), np.float32)
    dx, dy = math.cos(angle) * half, math.sin(angle) * half
    first = (round((half - dx) * 16), round((half - dy) * 16))
    last = (round((half + dx) * 16), round((half + dy) * 16))
    cv2.line(kernel, first, last, 1.0, 1, cv2.LINE_8, 4)
    return f32(kernel / kernel.sum())


def matched_tone(gray_HW: F32) -> F32:
    """The picture's own tones, drawn towards those of real drawings: Laplace lights, uniform mids, Gauss
    darks.
    """
    levels_256 = np.arange(256)
    bright = np.exp(-(255 - levels_256) / 9.0) / 9.0
    middle = ((levels_256 > 105) & (levels_256 < 225)) / 120.0
    dark = np.exp(-0.5 * ((levels_256 - 90) / 11.0) ** 2) / (11.0 * math.sqrt(2 * math.pi))
    wanted = np.cumsum(0.5 * bright + 0.36 * middle + 0.14 * dark)
    wanted = wanted / wanted[-1]
    stretched = levels(gray_HW, 1, 99)
    own = np.cumsum(np.bincount(to_uint8(stretched).ravel(), minlength=256)) / stretched.size
    table = f32(np.interp(own, wanted, levels_256) / 255.0)
    return f32(0.3 * table[to_uint8(stretched)] + 0.7 * (0.03 + 0.97 * stretched**0.88))


def shading(rng: np.random.Generator, shape: tuple[int, int], unit: float) -> F32:
    """Reflectance 0..1 of a sheet evenly shaded with slanting pencil strokes."""
    first = strokes(rng, shape, angle=-0.9, length=60 * unit, width=max(1.2, 2.6 * unit))
    second = strokes(rng, shape, angle=-0.75, length=34 * unit, width=max(1.0, 1.5 * unit))
    tooth = paper(rng, shape, max(0.7, 1.2 * unit))
    return f32(np.clip(0.66 + 0.085 * first + 0.05 * second + 0.16 * tooth, 0.3, 0.95))
