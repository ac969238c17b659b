"""Direction of the picture: structure tensor, smoothing along it and line integral convolution."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from talent_factory.providers.embedded.raster import F32, blur, f32, grid, sample, shrink, stretch


@dataclass(frozen=True)
class Flow:
    """Unit tangents (H, W) along which the picture changes least, and how sure that is (0..1)."""

    x: F32
    y: F32
    strength: F32

    def turned(self) -> Flow:
        """The same field across instead of along."""
        return Flow(f32(-self.y), self.x, self.strength)


def tangent_flow(image: F32, sigma: float) -> Flow:
    """Smoothed structure tensor's minor eigenvector (Brox et al. 2006; Kyprianidis and Döllner 2008).

    `image` is (H, W) or (H, W, 3); `sigma` is the smoothing of the tensor in pixels.
    """
    gx = f32(cv2.Scharr(image, cv2.CV_32F, 1, 0)) / 16.0
    gy = f32(cv2.Scharr(image, cv2.CV_32F, 0, 1)) / 16.0
    if image.ndim == 3:
        e, f, g = (gx * gx).sum(axis=2), (gx * gy).sum(axis=2), (gy * gy).sum(axis=2)
    else:
        e, f, g = gx * gx, gx * gy, gy * gy
    tensor = blur(np.dstack([e, f, g]), sigma)
    # A faint far-reaching tensor carries directions from the edges into areas that have none of their own.
    tensor = tensor + blur(tensor, sigma * 6) * np.float32(0.05)
    e, f, g = tensor[..., 0], tensor[..., 1], tensor[..., 2]
    angle = 0.5 * np.arctan2(2.0 * f, e - g) + np.pi / 2
    spread = np.sqrt((e - g) ** 2 + 4.0 * f * f)
    return Flow(f32(np.cos(angle)), f32(np.sin(angle)), f32(spread / (e + g + 1e-7)))


def constant_flow(shape: tuple[int, int], angle: float) -> Flow:
    """One direction everywhere."""
    ones = np.ones(shape, np.float32)
    return Flow(f32(ones * np.cos(angle)), f32(ones * np.sin(angle)), ones)


def blend_flow(first: Flow, second: Flow, amount_HW: F32) -> Flow:
    """Directions mixed as double angles, so that opposite tangents do not cancel."""
    cos2 = (first.x**2 - first.y**2) * (1 - amount_HW) + (second.x**2 - second.y**2) * amount_HW
    sin2 = 2 * (first.x * first.y * (1 - amount_HW) + second.x * second.y * amount_HW)
    angle = 0.5 * np.arctan2(sin2, cos2)
    return Flow(f32(np.cos(angle)), f32(np.sin(angle)), f32(np.hypot(cos2, sin2)))


def smooth_along(image_HW: F32, flow: Flow, *, length: float, steps: int) -> F32:
    """Line integral of `image` over `length` pixels each way along the flow (Cabral and Leedom 1993).

    Gaussian weights; the streamline is re-read at every step, so it bends with the field.
    """
    height, width = image_HW.shape
    x0, y0 = grid(height, width)
    packed = np.dstack([flow.x, flow.y, image_HW])
    step = np.float32(length / steps)
    total, weights = image_HW.copy(), 1.0
    gauss = np.exp(-0.5 * (np.arange(1, steps + 1) / (0.5 * steps)) ** 2)
    for sign in (1.0, -1.0):
        x, y = x0, y0
        dx, dy = flow.x * np.float32(sign), flow.y * np.float32(sign)
        for weight in gauss:
            x, y = x + dx * step, y + dy * step
            read = sample(packed, x, y)
            total += read[..., 2] * np.float32(weight)
            weights += float(weight)
            same = np.where(read[..., 0] * dx + read[..., 1] * dy < 0, np.float32(-1), np.float32(1))
            dx, dy = read[..., 0] * same, read[..., 1] * same
    return f32(total / weights)


def flow_lines(rng: np.random.Generator, flow: Flow, *, period: float, length: float) -> F32:
    """Evenly spaced lines that follow the flow, as a plane of ranks in 0..1 (uniformly distributed).

    Noise is drawn out along the field and sharpened to one spacing, again and again, until lines stand;
    ranking makes `lines < tone` cover exactly the share `tone` of any area. The idea is image-guided
    streamline placement (Turk and Banks 1996) done by filtering. `period` is the spacing in pixels.
    """
    factor = max(1.0, period / 4.0)
    small = Flow(shrink(flow.x, factor), shrink(flow.y, factor), flow.strength)
    pace = period / factor
    lines = rng.standard_normal(small.x.shape, dtype=np.float32)
    for _ in range(4):
        lines = smooth_along(lines, small, length=length / factor, steps=5)
        lines = blur(lines, pace * 0.2) - blur(lines, pace * 0.45)
        lines = f32(np.tanh(lines / max(1e-6, float(lines.std()) * 1.2)))
    return ranks(stretch(lines, flow.x))


def ranks(plane_HW: F32) -> F32:
    """Histogram equalisation: each value becomes the share of values below it."""
    flat = np.sort(plane_HW[::3, ::3].ravel())
    knots = flat[np.linspace(0, flat.size - 1, 257).astype(np.int64)]
    return f32(np.interp(plane_HW, knots, np.linspace(0.0, 1.0, 257)))
