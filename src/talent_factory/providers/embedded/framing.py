"""From a portrait of any shape to a canvas of the asked shape: the subject whole, nothing stretched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from talent_factory.core.errors import ProviderError
from talent_factory.providers.embedded.matte import Subject, find_subject
from talent_factory.providers.embedded.raster import (
    F32,
    U8,
    blur,
    f32,
    grid,
    mix,
    resize,
    shrink,
    smoothstep,
    stretch,
)

_REFERENCE_SIDE = 768.0


@dataclass(frozen=True)
class Canvas:
    """A framed portrait: `image_HWC` and the clean `plate_HWC` behind it, RGB in 0..1, and the subject's
    `alpha_HW`.

    `head` is (left, top, right, bottom) in pixels. `unit` is 1 for a short side of 768 px: every stroke width
    and radius is multiplied by it, so that a picture looks the same at any size.
    """

    image_HWC: F32
    plate_HWC: F32
    alpha_HW: F32
    head: tuple[float, float, float, float]
    unit: float

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.image_HWC.shape[0], self.image_HWC.shape[1]

    def over(self, backdrop_HWC: F32) -> F32:
        """The subject before another backdrop."""
        return mix(backdrop_HWC, self.image_HWC, self.alpha_HW)


def canvas_size(aspect: str, long_side: int) -> tuple[int, int]:
    """(width, height) in pixels for an aspect like "16:9" with the given long side.

    Raises ProviderError for an aspect that is not two whole numbers, or is beyond 4:1.
    """
    parts = aspect.split(":")
    if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ProviderError(
            f"aspect {aspect!r} is not width:height", remedy='use an aspect such as "16:9" or "1:1"'
        )
    across, down = int(parts[0]), int(parts[1])
    if max(across, down) > 4 * min(across, down):
        raise ProviderError(
            f"aspect {aspect!r} is too narrow to hold a portrait", remedy="stay within 4:1 and 1:4"
        )
    short = max(1, round(long_side * min(across, down) / max(across, down)))
    return (long_side, short) if across >= down else (short, long_side)


def frame(
    image_HWC: U8, *, width: int, height: int, seed: int, zoom: float = 0.0, shift: float = 0.0
) -> Canvas:
    """Place the portrait on a canvas of `width` x `height` pixels.

    `zoom` 0 keeps the portrait's own framing, 1 fills the canvas with the head; `shift` moves the subject
    sideways by a share of the canvas. Beyond the portrait's edges, shoulders are continued and fall off, and
    the backdrop goes on, ever softer.
    """
    portrait = f32(image_HWC) / np.float32(255)
    subject = find_subject(shrink_to(portrait, 1024), seed=seed)
    scale, left, top = _placement(portrait.shape[:2], subject, (height, width), zoom, shift)
    inner_h, inner_w = max(1, round(portrait.shape[0] * scale)), max(1, round(portrait.shape[1] * scale))
    scaled = np.clip(resize(portrait, inner_w, inner_h), 0, 1)
    alpha = np.clip(stretch(subject.alpha_HW, scaled), 0, 1)
    rows, columns = np.arange(height) - top, np.arange(width) - left
    row_index, column_index = _mirror(rows, inner_h), _mirror(columns, inner_w)
    image = scaled[row_index[:, None], column_index[None, :]]
    mirrored = alpha[row_index[:, None], column_index[None, :]]
    whole = f32(mirrored * _shoulders(alpha, rows, columns))
    plate = _plate(image, mirrored)
    backdrop = _soften(
        mix(image, plate, f32(np.clip(mirrored * 3, 0, 1))), plate, rows, columns, (inner_h, inner_w)
    )
    image = mix(backdrop, image, np.maximum(_inside(rows, columns, (inner_h, inner_w)), whole))
    x0, y0, x1, y1 = subject.head
    head = (left + x0 * inner_w, top + y0 * inner_h, left + x1 * inner_w, top + y1 * inner_h)
    return Canvas(image, plate, whole, head, min(width, height) / _REFERENCE_SIDE)


def shrink_to(image: F32, side: int) -> F32:
    """The image itself, or a copy whose long side is `side` pixels."""
    longest = max(image.shape[:2])
    return image if longest <= side else shrink(image, longest / side)


def _placement(
    portrait: tuple[int, ...], subject: Subject, canvas: tuple[int, int], zoom: float, shift: float
) -> tuple[float, int, int]:
    """Scale and the canvas position of the portrait's corner; the head always stays inside with some air."""
    (p_h, p_w), (c_h, c_w) = portrait, canvas
    x0, y0, x1, y1 = subject.head
    head_w, head_h = max(0.1, x1 - x0) * p_w, max(0.1, y1 - y0) * p_h
    fit, cover = min(c_h / p_h, c_w / p_w), max(c_h / p_h, c_w / p_w)
    if c_w * p_h >= c_h * p_w:
        # A subject cut off at the sides comes nearer, so that less of it has to be made up.
        lower = subject.alpha_HW[subject.alpha_HW.shape[0] // 2 :]
        cut_off = float(np.maximum(lower[:, 0], lower[:, -1]).mean() > 0.15)
        near = min(cover, 0.56 * c_h / head_h)
        wanted = max(fit, fit + (near - fit) * 0.8 * cut_off)
    else:
        wanted = min(cover, max(fit, 0.8 * c_w / head_w))
    close = min(0.86 * c_h / head_h, 0.86 * c_w / head_w)
    scale = wanted + max(0.0, close - wanted) * zoom
    middle = (x0 + x1) / 2 * p_w * scale
    own_middle = p_w * scale / 2
    centre = own_middle + (middle - own_middle) * max(0.5, zoom)
    left = round(c_w / 2 + shift * c_w - centre)
    bottom_aligned = c_h - p_h * scale
    air = c_h * 0.07 - y0 * p_h * scale
    top = round(bottom_aligned if bottom_aligned >= 0 else min(0.0, max(bottom_aligned, air)))
    return scale, left, top


def _mirror(index: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    if size == 1:
        return np.zeros_like(index)
    folded = np.mod(index, 2 * (size - 1))
    return np.asarray(np.minimum(folded, 2 * (size - 1) - folded), np.int64)


def _inside(rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], inner: tuple[int, int]) -> F32:
    ok_rows = (rows >= 0) & (rows < inner[0])
    ok_columns = (columns >= 0) & (columns < inner[1])
    return f32(ok_rows[:, None] & ok_columns[None, :])


def _shoulders(alpha_HW: F32, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]) -> F32:
    """How much of the mirrored subject stays beside the portrait: shoulders that slope away."""
    height, width = alpha_HW.shape
    keep = np.zeros((rows.size, columns.size), np.float32)
    keep[:, (columns >= 0) & (columns < width)] = 1.0
    keep[rows < 0] = 0.0
    y = f32(rows)[:, None]
    sides = (alpha_HW[:, 0], columns < 0, -columns), (alpha_HW[:, -1], columns >= width, columns - width + 1)
    for edge, outside, gap in sides:
        clear = np.flatnonzero(edge < 0.5)
        start = int(clear[-1]) + 1 if clear.size else 0
        reach = 0.3 * (height - start)
        if reach < 2 or not outside.any():
            continue
        t = np.clip(f32(gap[outside]) / reach, 0, 1)[None, :]
        # A quarter of a superellipse: level at the cut, steep where it leaves the picture.
        slope = start + (height - start) * (1.0 - np.sqrt(np.maximum(0.0, 1.0 - t**2.2)))
        keep[:, outside] = smoothstep(-1.5, 1.5, f32(y - slope)) * (t < 1)
    return keep


def _plate(image_HWC: F32, alpha_HW: F32) -> F32:
    """The backdrop without its subject: background colours spread inwards (normalised convolution, coarse to
    fine).
    """
    small = shrink(image_HWC, 6.0)
    alpha = stretch(blur(alpha_HW, 4.0), small)
    weight = f32(np.clip(1.0 - alpha * 1.6, 0.0, 1.0) ** 2 + 1e-5)
    side = max(small.shape[:2])
    total = np.full_like(small, 0.0)
    certainty = np.zeros(weight.shape, np.float32)
    for share in (0.02, 0.05, 0.12, 0.3):
        w = blur(weight, side * share)
        value = blur(small * weight[..., None], side * share) / np.maximum(w, 1e-6)[..., None]
        take = (1.0 - certainty) * smoothstep(0.05, 0.3, w)
        total = total + value * take[..., None]
        certainty = f32(certainty + take)
    total = total + value * (1.0 - certainty)[..., None]
    return np.clip(stretch(f32(total), image_HWC), 0, 1)


def _soften(
    image_HWC: F32,
    plate_HWC: F32,
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    inner: tuple[int, int],
) -> F32:
    """Outside the portrait the mirrored backdrop melts into the plate with the distance."""
    beyond_y = np.maximum(np.maximum(-rows, rows - inner[0] + 1), 0)
    beyond_x = np.maximum(np.maximum(-columns, columns - inner[1] + 1), 0)
    distance = f32(np.maximum(beyond_y[:, None], beyond_x[None, :]) / max(rows.size, columns.size))
    melted = mix(image_HWC, plate_HWC, smoothstep(0.0, 0.02, distance))
    return mix(melted, blur(plate_HWC, 0.03 * columns.size), smoothstep(0.05, 0.25, distance))


def face_weight(canvas: Canvas) -> F32:
    """1 on the head, falling to 0 around it: where detail must be kept."""
    height, width = canvas.shape
    x, y = grid(height, width)
    x0, y0, x1, y1 = canvas.head
    dx = (x - (x0 + x1) / 2) / max(1.0, 0.62 * (x1 - x0))
    dy = (y - (y0 + y1) / 2) / max(1.0, 0.62 * (y1 - y0))
    return smoothstep(1.25, 0.85, f32(np.hypot(dx, dy)))
