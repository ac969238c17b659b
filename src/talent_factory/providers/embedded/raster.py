"""Typed raster operations that all media share, and the only place that tames OpenCV's arguments."""

from __future__ import annotations

import math
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]

_REC709 = np.array([0.2126, 0.7152, 0.0722], np.float32)


def f32(value: object) -> F32:
    """Any array as float32, copied only when it must be."""
    return np.asarray(value, dtype=np.float32)


def clip01(image: object) -> F32:
    """Anything array-like as float32, held within 0..1."""
    return f32(np.clip(f32(image), 0.0, 1.0))


def fill(shape: tuple[int, int], colour: object) -> F32:
    """A raster (height, width, 3) of one colour."""
    return np.ascontiguousarray(np.broadcast_to(np.asarray(colour, np.float32), (*shape, 3)))


def to_uint8(image: F32) -> U8:
    """Floats in 0..1 to bytes, rounded and clipped."""
    return np.asarray(np.clip(image * 255.0 + 0.5, 0, 255), np.uint8)


def as_rgb(gray_HW: F32) -> F32:
    """A gray plane as three equal channels (H, W, 3)."""
    return np.repeat(gray_HW[..., None], 3, axis=2)


def luminance(image_HWC: F32) -> F32:
    """Rec. 709 weights on display values, (H, W) in 0..1."""
    return cast(F32, image_HWC @ _REC709)


def resize(image: F32, width: int, height: int) -> F32:
    """Area averaging down, cubic up: neither aliases nor rings much."""
    down = width * height < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if down else cv2.INTER_CUBIC
    return f32(cv2.resize(image, (max(1, width), max(1, height)), interpolation=method))


def stretch(image: F32, like: F32) -> F32:
    """Bilinear to the height and width of another raster, for smooth fields."""
    size = (like.shape[1], like.shape[0])
    return f32(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR))


def shrink(image: F32, factor: float) -> F32:
    """A copy smaller by `factor` (>= 1), never below 8 px."""
    height, width = image.shape[:2]
    return resize(image, max(8, round(width / factor)), max(8, round(height / factor)))


def blur(image: F32, sigma: float) -> F32:
    """Gaussian blur; wide ones run on a smaller copy, where the eye and the arithmetic agree that nothing is
    lost.
    """
    if sigma < 0.3:
        return image
    if sigma <= 6.0:
        return f32(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE))
    factor = 2.0 ** math.floor(math.log2(sigma / 2.5))
    small = shrink(image, factor)
    real = image.shape[1] / small.shape[1]
    small = f32(cv2.GaussianBlur(small, (0, 0), max(0.3, sigma / real), borderType=cv2.BORDER_REPLICATE))
    return stretch(small, image)


def box(image: F32, radius: int) -> F32:
    """Mean over a (2 radius + 1)^2 window."""
    size = 2 * max(1, radius) + 1
    return f32(cv2.blur(image, (size, size), borderType=cv2.BORDER_REPLICATE))


def smoothstep(low: float, high: float, x: F32) -> F32:
    """0 below `low`, 1 above `high`, a smooth ramp between (reversed when high < low)."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return f32(t * t * (3.0 - 2.0 * t))


def mix(first: F32, second: F32, amount_HW: F32 | float) -> F32:
    """Linear blend; a plane of amounts also serves colour images."""
    if isinstance(amount_HW, np.ndarray) and first.ndim == 3:
        amount_HW = amount_HW[..., None]
    # Broadcast operands would pass their odd memory order on, which OpenCV refuses to draw on.
    return np.ascontiguousarray(first + (second - first) * amount_HW, dtype=np.float32)


def guided(guide_HW: F32, target_HW: F32, radius: int, eps: float) -> F32:
    """Guided filter (He, Sun, Tang 2010): `target` smoothed, with the edges of `guide`."""
    mean_g, mean_t = box(guide_HW, radius), box(target_HW, radius)
    variance = box(guide_HW * guide_HW, radius) - mean_g * mean_g
    covariance = box(guide_HW * target_HW, radius) - mean_g * mean_t
    slope = f32(covariance / (variance + eps))
    return f32(box(slope, radius) * guide_HW + box(f32(mean_t - slope * mean_g), radius))


def bilateral(image_HWC: F32, *, sigma_colour: float, sigma_space: float, passes: int = 1) -> F32:
    """Edge-keeping smoothing in bytes (OpenCV's fast path), repeated as Winnemöller et al. (2006) do."""
    work: U8 = to_uint8(image_HWC)
    diameter = max(3, 2 * round(sigma_space * 1.3) + 1)
    for _ in range(passes):
        work = np.asarray(cv2.bilateralFilter(work, diameter, sigma_colour * 255, sigma_space), np.uint8)
    return f32(work) / 255.0


def median(image: F32, radius: int) -> F32:
    """Median over a square window, in bytes."""
    if radius < 1:
        return image
    return f32(cv2.medianBlur(to_uint8(image), 2 * radius + 1)) / 255.0


def sample(image: F32, x_HW: F32, y_HW: F32, *, wrap: bool = False) -> F32:
    """Bilinear look-up at fractional pixels; outside, the image is mirrored (or repeated with `wrap`)."""
    border = cv2.BORDER_WRAP if wrap else cv2.BORDER_REFLECT_101
    return f32(cv2.remap(image, x_HW, y_HW, cv2.INTER_LINEAR, borderMode=border))


def to_lab(image_HWC: F32) -> F32:
    """sRGB in 0..1 to CIE Lab (L in 0..100)."""
    return f32(cv2.cvtColor(np.clip(image_HWC, 0, 1), cv2.COLOR_RGB2Lab))


def from_lab(lab_HWC: F32) -> F32:
    """CIE Lab back to sRGB, clipped to 0..1."""
    return np.clip(f32(cv2.cvtColor(lab_HWC, cv2.COLOR_Lab2RGB)), 0, 1)


def saturate(image_HWC: F32, amount: float) -> F32:
    """Chroma times `amount`, about each pixel's luminance."""
    gray = luminance(image_HWC)[..., None]
    return np.clip(gray + (image_HWC - gray) * amount, 0, 1)


def screen(first: F32, second: F32) -> F32:
    """Light added to light without burning out."""
    return f32(1.0 - (1.0 - np.clip(first, 0, 1)) * (1.0 - np.clip(second, 0, 1)))


def levels(gray_HW: F32, low: float = 1.0, high: float = 99.0) -> F32:
    """Stretch the given percentiles to 0..1; a nearly flat plane is only centred, never amplified noise."""
    step = max(1, round(math.sqrt(gray_HW.size / 20000)))
    bottom, top = np.percentile(gray_HW[::step, ::step], [low, high])
    if top - bottom < 0.08:
        return np.clip(gray_HW, 0, 1)
    return clip01((gray_HW - bottom) / (top - bottom))


def grid(height: int, width: int) -> tuple[F32, F32]:
    """Pixel coordinates (x_HW, y_HW)."""
    y, x = np.mgrid[0:height, 0:width]
    return f32(x), f32(y)
