"""Flat vector: a few plain colours with clean rounded borders and no lines."""

from __future__ import annotations

import cv2
import numpy as np

from talent_factory.providers.embedded.framing import Canvas, face_weight
from talent_factory.providers.embedded.palette import (
    dominant_colours,
    merge_specks,
    nearest_colour,
    smooth_areas,
)
from talent_factory.providers.embedded.raster import (
    F32,
    U8,
    blur,
    f32,
    fill,
    from_lab,
    grid,
    mix,
    saturate,
    shrink,
    smoothstep,
    to_lab,
    to_uint8,
)

METHOD = "meanshift-kmeans-flat-1"
COLOURS = 14
_SHEET = np.array([0.36, 0.68, 0.66], np.float32)


def draw(canvas: Canvas, rng: np.random.Generator) -> U8:
    """Mean shift (Comaniciu and Meer 2002), k-means in Lab, specks merged, borders smoothed."""
    u = canvas.unit
    factor = max(1.0, 1.9 * u)
    small = shrink(canvas.image_HWC, factor)
    shifted = np.asarray(cv2.pyrMeanShiftFiltering(to_uint8(small), 4, 14, maxLevel=1), np.uint8)
    lab = to_lab(f32(shifted) / np.float32(255))
    alpha, face = shrink(canvas.alpha_HW, factor), shrink(face_weight(canvas), factor)
    colours = _subject_colours(rng, lab, alpha, face)
    labels = merge_specks(nearest_colour(lab, colours), max(4, round(lab[..., 0].size * 0.00006)))
    flat = saturate(smooth_areas(labels, from_lab(colours[None])[0], canvas.shape, 1.25 * u), 1.15)
    shape = smoothstep(0.35, 0.65, blur(canvas.alpha_HW, 2.0 * u))
    return to_uint8(mix(_backdrop(canvas, rng), flat, shape))


def _subject_colours(rng: np.random.Generator, lab_HWC: F32, alpha_HW: F32, face_HW: F32) -> F32:
    """Colours of the subject alone; the face counts several times, for it is small and matters most."""
    body = lab_HWC[alpha_HW > 0.6]
    face = lab_HWC[(alpha_HW > 0.6) & (face_HW > 0.5)]
    if len(body) < 16:
        body = lab_HWC.reshape(-1, 3)
    repeats = int(np.clip(len(body) / max(1, len(face)), 1, 6)) if len(face) else 0
    return dominant_colours(rng, f32(np.concatenate([body, *([face] * repeats)])), COLOURS)


def _backdrop(canvas: Canvas, rng: np.random.Generator) -> F32:
    """A teal sheet with one lighter disc behind the head and two rolling hills."""
    height, width = canvas.shape
    x, y = grid(height, width)
    x0, y0, x1, y1 = canvas.head
    picture = fill(canvas.shape, _SHEET)
    radius = 0.46 * min(height, width)
    distance = np.hypot(x - (x0 + x1) / 2, y - (y0 + y1) / 2)
    picture = mix(picture, f32(picture * 0.6 + 0.4), smoothstep(radius + 1, radius - 1, f32(distance)))
    for level, shade in ((0.8, 0.8), (0.9, 0.62)):
        phase = float(rng.uniform(0, 6.28))
        hill = (level + 0.05 * np.sin(x / width * 5 + phase)) * height
        picture = mix(
            picture, fill(canvas.shape, _SHEET * np.float32(shade)), smoothstep(-1, 1, f32(y - hill))
        )
    return picture
