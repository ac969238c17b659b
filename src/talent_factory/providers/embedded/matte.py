"""Who is in front: a soft mask of the portrait's subject and the box of its head, with no learned model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from talent_factory.providers.embedded.raster import (
    F32,
    U8,
    blur,
    clip01,
    f32,
    grid,
    guided,
    luminance,
    smoothstep,
    stretch,
    to_lab,
    to_uint8,
)

_WORK_SIDE = 192
# Lab units; over a quarter of an outline this weak was a wrong cut in every portrait tried, and right ones
# stayed below a tenth.
_WEAK_CONTRAST, _WEAK_SHARE = 15.0, 0.25
# Lab units: how much a plain backdrop may vary, and how far its colour reaches into the picture.
_PLAIN_SPREAD, _PLAIN_REACH = 3.0, 6.0
_WHOLE_HEAD = (0.16, 0.06, 0.84, 0.86)
_SURE_BACKGROUND, _SURE_SUBJECT, _MAYBE_BACKGROUND, _MAYBE_SUBJECT = 0, 1, 2, 3


@dataclass(frozen=True)
class Subject:
    """Soft mask `alpha_HW` (0..1) and head box (left, top, right, bottom) as fractions of the portrait."""

    alpha_HW: F32
    head: tuple[float, float, float, float]


def find_subject(image_HWC: F32, *, seed: int) -> Subject:
    """GrabCut (Rother, Kolmogorov, Blake 2004) seeded by where portraits keep their subject, then refined.

    A cut that cannot be right (almost nothing, almost everything, or through the middle of a surface) gives
    way to the whole portrait with feathered edges: nobody loses half a face to a wrong guess.
    """
    height, width = image_HWC.shape[:2]
    scale = min(1.0, _WORK_SIDE / max(height, width))
    small_w, small_h = max(8, round(width * scale)), max(8, round(height * scale))
    small = f32(cv2.resize(image_HWC, (small_w, small_h), interpolation=cv2.INTER_AREA))
    mask = _plain_cut(small)
    if mask is None:
        mask = _grabcut(small, _prior(small_h, small_w), seed)
        mask = mask if mask is not None and _is_clear_cut(small, mask) else None
    if mask is None:
        return Subject(feathered(height, width), _WHOLE_HEAD)
    coarse = f32(cv2.GaussianBlur(mask, (0, 0), 0.8))
    gray = luminance(image_HWC)
    alpha = guided(gray, clip01(stretch(coarse, gray)), max(1, round(1.6 / scale)), 1e-3)
    return Subject(smoothstep(0.25, 0.75, alpha), _head_box(coarse))


def _plain_cut(small_HWC: F32) -> F32 | None:
    """The exact cut in front of a plain backdrop: all that is not the backdrop's colour up to the border.

    GrabCut would lose light hair before a white wall; a drawing or a passport picture needs no guess. None
    when the upper border has more than one colour or nothing plausible remains.
    """
    lab = to_lab(small_HWC)
    upper = round(lab.shape[0] * 0.5)
    border = np.concatenate(
        [lab[:2].reshape(-1, 3), lab[:upper, :2].reshape(-1, 3), lab[:upper, -2:].reshape(-1, 3)]
    )
    backdrop = np.median(border, axis=0)
    if (np.linalg.norm(border - backdrop, axis=1) > _PLAIN_SPREAD).mean() > 0.02:
        return None
    near = (np.linalg.norm(lab - backdrop, axis=2) < _PLAIN_REACH).astype(np.uint8)
    _, labels = cv2.connectedComponents(near, connectivity=4)
    rim = np.concatenate([labels[0], labels[:, 0], labels[:, -1]])
    behind = np.isin(labels, np.unique(rim[rim > 0]))
    mask = _main_part(~behind)
    return mask if 0.06 < float(mask.mean()) < 0.88 else None


def feathered(height: int, width: int) -> F32:
    """A mask that keeps the whole portrait and lets its sides and top fade like an old vignette."""
    x, y = grid(height, width)
    across = np.abs((x + 0.5) / width - 0.5) * 2
    up = np.clip(1.0 - (y + 0.5) / height / 0.6, 0, 1)
    return smoothstep(1.0, 0.8, f32((across**3 + up**3) ** (1 / 3)))


def _is_clear_cut(small_HWC: F32, mask_HW: F32) -> bool:
    """Whether the colours on both sides of the outline differ along most of it (in Lab, averaged near it)."""
    kernel = np.ones((3, 3), np.uint8)
    mask = mask_HW.astype(np.uint8)
    inner, outer = np.asarray(cv2.erode(mask, kernel)), np.asarray(cv2.dilate(mask, kernel))
    outline = outer > inner
    lab = to_lab(small_HWC)
    sides = []
    for side in (f32(inner), f32(1 - outer)):
        sides.append(blur(lab * side[..., None], 3.0) / (blur(side, 3.0) + 1e-4)[..., None])
    distance = np.sqrt(((sides[0] - sides[1]) ** 2).sum(axis=2))[outline]
    return bool((distance < _WEAK_CONTRAST).mean() < _WEAK_SHARE)


def _prior(height: int, width: int) -> U8:
    """GrabCut's starting labels; the middle column is subject, the upper border is not."""
    x, y = grid(height, width)
    across, down = f32((x + 0.5) / width - 0.5), f32((y + 0.5) / height)
    labels = np.full((height, width), _MAYBE_BACKGROUND, np.uint8)
    body = (np.abs(across) < 0.12 + 0.26 * np.clip((down - 0.45) / 0.3, 0, 1)) & (down > 0.45)
    head = np.hypot(across / 0.3, (down - 0.42) / 0.36) < 1
    labels[body | head] = _MAYBE_SUBJECT
    core = (np.hypot(across / 0.09, (down - 0.5) / 0.1) < 1) | ((np.abs(across) < 0.07) & (down > 0.55))
    labels[core] = _SURE_SUBJECT
    border = ((np.abs(across) > 0.46) & (down < 0.5)) | (down < 0.025)
    labels[border] = _SURE_BACKGROUND
    return labels


def _grabcut(small_HWC: F32, labels: U8, seed: int) -> F32 | None:
    image = np.ascontiguousarray(to_uint8(small_HWC))
    if float(image.std(axis=(0, 1)).max()) < 2.0 or min(image.shape[:2]) < 16:
        return None
    background, subject = np.zeros((1, 65)), np.zeros((1, 65))
    # GrabCut draws from OpenCV's own generator, which belongs to the thread: it is set anew at every use.
    cv2.setRNGSeed(seed & 0x7FFFFFFF)
    try:
        cv2.grabCut(image, labels, (0, 0, 0, 0), background, subject, 4, cv2.GC_INIT_WITH_MASK)
    except cv2.error:
        return None  # too few pixels of one kind for its colour models
    mask = _main_part((labels == _SURE_SUBJECT) | (labels == _MAYBE_SUBJECT))
    share = float(mask.mean())
    return mask if 0.06 < share < 0.88 else None


def _main_part(mask: npt.NDArray[np.bool_]) -> F32:
    """The largest connected piece with its holes filled."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    if len(stats) < 2:
        return np.zeros(mask.shape, np.float32)
    piece = (labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))).astype(np.uint8)
    side = max(3, round(min(mask.shape) * 0.02) | 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    piece = np.asarray(cv2.morphologyEx(piece, cv2.MORPH_CLOSE, kernel), np.uint8)
    piece = np.asarray(cv2.morphologyEx(piece, cv2.MORPH_OPEN, kernel), np.uint8)
    contours, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(piece)
    if contours:
        cv2.drawContours(filled, [max(contours, key=cv2.contourArea)], -1, 1, cv2.FILLED)
    return f32(filled)


def _head_box(coarse_HW: F32) -> tuple[float, float, float, float]:
    """From the crown down to the neck: the first clear narrowing of the outline below its first bulge."""
    height, width = coarse_HW.shape
    inside = coarse_HW > 0.5
    widths = f32(inside.sum(axis=1) / width)
    rows = np.flatnonzero(widths > 0.04)
    if rows.size == 0:
        return 0.3, 0.14, 0.7, 0.7
    top = int(rows[0])
    window = max(1, round(height * 0.03))
    smooth = f32(
        np.convolve(np.pad(widths, window, mode="edge"), np.ones(2 * window + 1) / (2 * window + 1), "valid")
    )
    bottom = _neck(smooth, top, limit=min(height, top + round(0.72 * height)))
    columns = np.flatnonzero(inside[top:bottom].mean(axis=0) > 0.18)
    left, right = (int(columns[0]), int(columns[-1]) + 1) if columns.size else (0.3 * width, 0.7 * width)
    # A wide collar can hide the neck; a head is never wider than it is tall.
    bottom = min(height, max(bottom, top + round(1.15 * (right - left))))
    return left / width, top / height, right / width, bottom / height


def _neck(widths: F32, top: int, limit: int) -> int:
    peak, lowest = 0.0, math.inf
    place = top
    for row in range(top, limit):
        value = float(widths[row])
        if value > peak and lowest > 0.85 * peak:
            peak, lowest = value, math.inf
        elif value < lowest:
            lowest, place = value, row
        elif lowest < 0.8 * peak and value > 1.2 * lowest:
            return max(place, top + 2)
    return max(top + 2, min(limit, top + round(0.6 * (len(widths) - top))))
