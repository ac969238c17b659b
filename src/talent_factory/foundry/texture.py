"""How a picture is drawn, in numbers that need no trained weights: colour, contrast, lines and their grain.

A style has no scale of its own: pictures are placed between those without it and those of it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pictures = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]
Floats = NDArray[np.float64]

SIDE = 128
_BANDS = 8
_MOST = 0.05
_LAGS = (2, 4, 8)


def texture(pictures: Pictures) -> Floats:
    """(N, F) features of pictures (H, W, 3) uint8, each looked at as a square of 128 pixels."""
    return np.stack([_features(_square(picture)) for picture in pictures])


def style_shares(pictures: Pictures, *, plain: Pictures, styled: Pictures) -> Floats:
    """How far each picture has gone from those without a style (0) to those of the style alone (1): (N,).

    Every feature that differs between both groups says how far, and counts by how much more it differs
    between them than within; none counts for more than twenty, and none goes beyond half a way off the ends.
    """
    from_plain, from_styled = texture(plain), texture(styled)
    start, apart = from_plain.mean(axis=0), from_styled.mean(axis=0) - from_plain.mean(axis=0)
    spread = (from_plain.var(axis=0) + from_styled.var(axis=0)) / 2.0
    weights = apart**2 / (spread + _MOST * apart**2 + 1e-6)
    if float(weights.sum()) <= 1e-9:
        return np.ones(len(pictures))
    gone = np.divide(
        texture(pictures) - start, apart, out=np.zeros((len(pictures), len(apart))), where=apart != 0
    )
    shares: Floats = np.clip(gone, -0.5, 1.5) @ weights / weights.sum()
    return shares


def _square(picture: NDArray[np.uint8]) -> Floats:
    height, width = picture.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    image = Image.fromarray(np.ascontiguousarray(picture[top : top + edge, left : left + edge]))
    if edge != SIDE:
        image = image.resize((SIDE, SIDE), Image.Resampling.BOX if edge > SIDE else Image.Resampling.BICUBIC)
    return np.asarray(image, np.float64) / 255.0


def _features(image_HWC: Floats) -> Floats:
    grey = image_HWC @ np.array([0.299, 0.587, 0.114])
    chroma = image_HWC.max(axis=2) - image_HWC.min(axis=2)
    parts: list[Any] = [
        image_HWC.mean(axis=(0, 1)),
        image_HWC.std(axis=(0, 1)),
        [chroma.mean(), chroma.std()],
        np.histogram(grey, bins=8, range=(0.0, 1.0))[0] / grey.size,
    ]
    for scale in (1, 2, 4):
        small = grey.reshape(SIDE // scale, scale, SIDE // scale, scale).mean(axis=(1, 3))
        down, across = np.diff(small, axis=0)[:, :-1], np.diff(small, axis=1)[:-1]
        slope = np.hypot(down, across)
        parts.append([slope.mean(), slope.std(), np.quantile(slope, 0.5), np.quantile(slope, 0.95)])
        angle = np.floor(np.mod(np.arctan2(down, across), np.pi) / np.pi * 8 - 1e-9).clip(0, 7).astype(int)
        lines = np.bincount(angle.ravel(), weights=slope.ravel(), minlength=8)
        parts.append(lines / max(float(lines.sum()), 1e-9))
    parts += [_bands(grey), _repeats(grey)]
    return np.concatenate([np.asarray(part, np.float64) for part in parts])


def _bands(grey: Floats) -> Floats:
    """The logarithm of the energy in rings of the spectrum."""
    power = np.abs(np.fft.rfft2(grey - grey.mean())) ** 2
    rows, columns = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None, :]
    ring = np.minimum((np.hypot(rows, columns) / 0.5 * _BANDS).astype(int), _BANDS - 1)
    energy = np.bincount(ring.ravel(), weights=power.ravel(), minlength=_BANDS)
    return np.asarray(np.log10(energy / power.size + 1e-6) / 4.0, np.float64)


def _repeats(grey: Floats) -> Floats:
    """How like itself the fine structure is some pixels on: hatching, dots and stitches show here."""
    blurred = np.stack([np.roll(grey, shift, axis) for axis in (0, 1) for shift in (-2, 2)]).mean(axis=0)
    fine = grey - blurred
    energy = max(float((fine**2).mean()), 1e-9)
    return np.array(
        [float((fine * np.roll(fine, lag, axis)).mean()) / energy for axis in (0, 1) for lag in _LAGS]
    )
