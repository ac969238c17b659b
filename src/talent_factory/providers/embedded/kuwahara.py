"""Kuwahara filtering: each pixel takes the mean of its calmest surroundings, as a brush stroke would."""

from __future__ import annotations

import cv2
import numpy as np

from talent_factory.providers.embedded.flow import Flow
from talent_factory.providers.embedded.raster import F32, f32, grid, luminance, sample


def kuwahara(image_HWC: F32, *, radius: int) -> F32:
    """Four quadrants weighted by their calm (generalised Kuwahara, Papari et al. 2007), box windows."""
    size = radius + 1
    gray = luminance(image_HWC)
    packed = np.dstack([image_HWC, gray * gray])
    total = np.zeros_like(image_HWC)
    weights = np.zeros(gray.shape, np.float32)
    for ay in (0, radius):
        for ax in (0, radius):
            mean = f32(cv2.blur(packed, (size, size), anchor=(ax, ay), borderType=cv2.BORDER_REPLICATE))
            variance = np.maximum(mean[..., 3] - luminance(f32(mean[..., :3])) ** 2, 0)
            weight = 1.0 / (1e-5 + variance) ** 2
            total += mean[..., :3] * weight[..., None]
            weights += weight
    return f32(total / weights[..., None])


def kuwahara_along(image_HWC: F32, flow: Flow, *, radius: float) -> F32:
    """Anisotropic Kuwahara (Kyprianidis, Kang, Döllner 2009): eight sectors of an ellipse that follows the
    flow.

    Each sector is sampled at five points; `radius` is the ellipse's half width in pixels, its length grows
    with how sure the direction is.
    """
    height, width = flow.x.shape
    x0, y0 = grid(height, width)
    longer = f32(radius * (1.0 + flow.strength))
    shorter = f32(radius / (1.0 + flow.strength))
    total, weights = np.zeros_like(image_HWC), np.zeros((height, width), np.float32)
    points = ((0.45, 0.0), (0.75, -0.25), (0.75, 0.25), (1.0, 0.0))
    for sector in range(8):
        # The pixel itself belongs to every sector.
        mean, spread = image_HWC.copy(), (image_HWC * image_HWC).sum(axis=2)
        for reach, aside in points:
            turn = (sector + aside * 2) * np.pi / 4
            a, b = longer * np.float32(reach * np.cos(turn)), shorter * np.float32(reach * np.sin(turn))
            read = sample(image_HWC, f32(x0 + a * flow.x - b * flow.y), f32(y0 + a * flow.y + b * flow.x))
            mean += read
            spread += (read * read).sum(axis=2)
        mean /= len(points) + 1
        variance = np.maximum(spread / (len(points) + 1) - (mean * mean).sum(axis=2), 0)
        weight = 1.0 / (2e-5 + variance) ** 3
        weight = weight / 1e9
        total += mean * weight[..., None]
        weights += weight
    return f32(total / weights[..., None])
