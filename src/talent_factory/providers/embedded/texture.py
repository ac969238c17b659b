"""Noise from which paper, pigment and light are made; every plane comes from the caller's generator."""

from __future__ import annotations

import math

import cv2
import numpy as np

from talent_factory.providers.embedded.raster import F32, blur, clip01, f32, grid, sample


def value_noise(rng: np.random.Generator, shape: tuple[int, int], period: float) -> F32:
    """Smooth random field in about -1..1 with features of `period` pixels."""
    height, width = shape
    rows, columns = math.ceil(height / period) + 3, math.ceil(width / period) + 3
    lattice = f32(rng.uniform(-1.0, 1.0, (rows, columns)))
    scale = np.array([[1 / period, 0, 1.0], [0, 1 / period, 1.0]], np.float32)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return f32(
        cv2.warpAffine(lattice, scale, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    )


def turbulence(rng: np.random.Generator, shape: tuple[int, int], period: float, octaves: int = 3) -> F32:
    """Value noise summed over octaves, each half as large and half as strong; about -1..1."""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        if period / 2**octave < 1.5:
            break
        total += value_noise(rng, shape, period / 2**octave) * np.float32(0.5**octave)
    return f32(total / (2.0 - 0.5 ** (octaves - 1)))


def speckle(rng: np.random.Generator, shape: tuple[int, int], sigma: float = 0.0) -> F32:
    """Gaussian noise of unit deviation, optionally softened to grains of `sigma` pixels."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    if sigma < 0.3:
        return noise
    soft = blur(noise, sigma)
    return f32(soft / max(1e-6, float(soft.std())))


def paper(rng: np.random.Generator, shape: tuple[int, int], tooth: float) -> F32:
    """Height of a paper surface in about -1..1: fine tooth of `tooth` pixels over faint unevenness."""
    fine = speckle(rng, shape, tooth)
    coarse = value_noise(rng, shape, tooth * 9)
    return f32(np.clip(fine * 0.4 + coarse * 0.25, -1, 1))


def strokes(
    rng: np.random.Generator, shape: tuple[int, int], *, angle: float, length: float, width: float
) -> F32:
    """Noise drawn out along one direction, unit deviation: the raw stuff of pencil and rain.

    `angle` is in radians from the x axis; `length` and `width` are in pixels.
    """
    height, width_px = shape
    lattice_h = max(4, math.ceil((height + width_px) / max(1.0, width)))
    lattice_w = max(4, math.ceil((height + width_px) / max(1.0, length)))
    lattice = f32(rng.standard_normal((lattice_h, lattice_w), dtype=np.float32))
    x, y = grid(height, width_px)
    along = (x * math.cos(angle) + y * math.sin(angle)) / length
    across = (y * math.cos(angle) - x * math.sin(angle)) / width
    # Each row of strokes starts elsewhere, or the ends would line up in columns.
    offset = f32(rng.uniform(0, lattice_w, lattice_h))
    along = along + offset[np.floor(across).astype(np.int64) % lattice_h]
    return sample(lattice, f32(along % lattice_w), f32(across % lattice_h), wrap=True)


def film_grain(rng: np.random.Generator, image_HWC: F32, *, strength: float, size: float) -> F32:
    """Grain strongest in the mid tones, as in film (after the model of Newson, Delon and Galerne 2017)."""
    plane = speckle(rng, (image_HWC.shape[0], image_HWC.shape[1]), size)
    tone = image_HWC.mean(axis=2)
    weight = strength * (0.35 + 2.6 * tone * (1.0 - tone))
    return clip01(image_HWC + (plane * weight)[..., None])
