"""How a drawing is rendered: the five media the embedded base knows and three that it never sees.

Patterns (hatching, dots) have periods that divide the 8-pixel grid of the autoencoder at 128 px, so that a
small decoder can draw them. Of the five, only watercolour carries random grain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from talent_factory.world.canvas import SIDE, Canvas
from talent_factory.world.palette import PAPER

Image = NDArray[np.float32]
_ROWS, _COLUMNS = np.mgrid[:SIDE, :SIDE].astype(np.float32)


def _tone(canvas: Canvas) -> Image:
    """Luminance of the colour layer, (SIDE, SIDE) of 0..1."""
    weights = np.array([0.299, 0.587, 0.114], np.float32) / 255.0
    return np.asarray(canvas.colour.astype(np.float32) @ weights, np.float32)


def _grey(value: NDArray[np.floating[Any]]) -> Image:
    return np.repeat(np.clip(value, 0, 255)[..., None], 3, axis=2).astype(np.float32)


def _flat(canvas: Canvas, rng: np.random.Generator) -> Image:
    return canvas.flat()


def _ink(canvas: Canvas, rng: np.random.Generator) -> Image:
    tone = cv2.GaussianBlur(_tone(canvas), (0, 0), 1.5)
    hatch = ((_ROWS + _COLUMNS) % 16 < 6) & (tone < 0.3)
    paper = np.where(hatch, 70.0, 246.0).astype(np.float32)
    cover = cv2.dilate(canvas.line, np.ones((2, 2), np.uint8)).astype(np.float32) / 255.0
    return _grey(paper * (1 - cover) + 34.0 * cover)


def _pencil(canvas: Canvas, rng: np.random.Generator) -> Image:
    shade = 122.0 + 118.0 * cv2.GaussianBlur(_tone(canvas), (0, 0), 2.0)
    cover = cv2.GaussianBlur(canvas.line, (0, 0), 1.0).astype(np.float32) / 255.0 * 0.75
    return _grey(shade * (1 - cover) + 74.0 * cover)


def _comic(canvas: Canvas, rng: np.random.Generator) -> Image:
    colour = canvas.colour.astype(np.float32)
    grey = colour.mean(axis=2, keepdims=True)
    vivid = np.clip(grey + (colour - grey) * 1.35, 0, 255)
    dots = ((_ROWS % 16 - 8) ** 2 + (_COLUMNS % 16 - 8) ** 2 < 20) & (_tone(canvas) < 0.72)
    vivid[dots] *= 0.72
    cover = cv2.dilate(canvas.line, np.ones((3, 3), np.uint8)).astype(np.float32)[..., None] / 255.0
    return np.asarray(vivid * (1 - cover) + 18.0 * cover, np.float32)


def _watercolor(canvas: Canvas, rng: np.random.Generator) -> Image:
    wash = cv2.GaussianBlur(canvas.flat(line=(92, 72, 80), strength=0.55), (0, 0), 1.8)
    grain = cv2.resize(
        rng.normal(0, 7, (8, 8)).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC
    )
    return np.asarray(wash * 0.72 + np.array(PAPER, np.float32) * 0.28 + grain[..., None], np.float32)


def _charcoal(canvas: Canvas, rng: np.random.Generator) -> Image:
    shade = 40.0 + 190.0 * cv2.GaussianBlur(_tone(canvas), (0, 0), 3.0) ** 1.3
    grain = cv2.resize(rng.normal(0, 10, (64, 64)).astype(np.float32), (SIDE, SIDE))
    line = cv2.GaussianBlur(cv2.dilate(canvas.line, np.ones((4, 4), np.uint8)), (0, 0), 2.0)
    cover = line.astype(np.float64) / 255.0
    return _grey((shade + grain) * (1 - cover) + 30.0 * cover)


def _woodcut(canvas: Canvas, rng: np.random.Generator) -> Image:
    wave = (np.sin((_ROWS + 6 * np.sin(_COLUMNS / 24)) * (2 * np.pi / 16)) + 1) / 2
    paper = np.where(wave < _tone(canvas) * 1.25 - 0.08, 240.0, 28.0).astype(np.float32)
    cover = cv2.dilate(canvas.line, np.ones((3, 3), np.uint8)).astype(np.float32) / 255.0
    return _grey(cv2.GaussianBlur(paper * (1 - cover) + 20.0 * cover, (0, 0), 0.8))


def _mecha(canvas: Canvas, rng: np.random.Generator) -> Image:
    """Cyan contour light on a dark panelled ground, the colour only a dim glow."""
    base = canvas.colour.astype(np.float32) * 0.28 + np.array([10.0, 16.0, 40.0], np.float32)
    panel = (_ROWS % 64 < 2) | (_COLUMNS % 64 < 2)
    base[panel] += 22.0
    core = canvas.line.astype(np.float32)[..., None] / 255.0
    glow = cv2.GaussianBlur(canvas.line, (0, 0), 5.0).astype(np.float32)[..., None] / 255.0
    light = base + glow * np.array([10.0, 120.0, 150.0], np.float32) * 1.6
    return np.asarray(light * (1 - core) + core * np.array([150.0, 246.0, 255.0], np.float32), np.float32)


RENDER: dict[str, Callable[[Canvas, np.random.Generator], Image]] = {
    "flat": _flat,
    "ink": _ink,
    "pencil": _pencil,
    "comic": _comic,
    "watercolor": _watercolor,
    "charcoal": _charcoal,
    "woodcut": _woodcut,
    "mecha": _mecha,
}
