"""Gouache: opaque matt strokes that follow the forms, a limited palette and the relief of the brush."""

from __future__ import annotations

import numpy as np

from talent_factory.providers.embedded.comic import quantised
from talent_factory.providers.embedded.flow import Flow, smooth_along, tangent_flow
from talent_factory.providers.embedded.framing import Canvas, face_weight
from talent_factory.providers.embedded.kuwahara import kuwahara, kuwahara_along
from talent_factory.providers.embedded.raster import (
    F32,
    U8,
    clip01,
    f32,
    mix,
    saturate,
    shrink,
    smoothstep,
    stretch,
    to_uint8,
)
from talent_factory.providers.embedded.texture import speckle, turbulence

METHOD = "anisotropic-kuwahara-1"
_GROUND = np.array([0.42, 0.52, 0.36], np.float32)


def draw(canvas: Canvas, rng: np.random.Generator) -> U8:
    """Anisotropic Kuwahara (2009) at half size, sharpened by its square-window kin, under bristle relief."""
    u = canvas.unit
    scene = canvas.over(_ground(canvas, rng))
    factor = max(1.4, 2.0 * u)
    small = shrink(scene, factor)
    flow = tangent_flow(small, 3.0 * max(0.6, u))
    broad = kuwahara_along(small, flow, radius=7.0 * u / factor + 0.5)
    broad = kuwahara_along(broad, flow, radius=4.0 * u / factor + 0.5)
    painted = kuwahara(np.clip(stretch(broad, scene), 0, 1), radius=max(2, round(3 * u)))
    fine = kuwahara(scene, radius=max(1, round(2 * u)))
    painted = mix(painted, fine, face_weight(canvas) * np.float32(0.7))
    painted = saturate(quantised(painted, steps=10), 1.18)
    matt = f32(0.07 + 0.86 * np.clip(painted, 0, 1))
    relief = bristles(rng, flow, scene, u)
    return to_uint8(clip01(matt * (1.0 + 0.1 * relief[..., None])))


def bristles(rng: np.random.Generator, flow: Flow, like: F32, unit: float) -> F32:
    """Light and shade of the furrows that bristles leave, about -1..1: drawn-out noise seen from the upper
    left.
    """
    shape = (flow.x.shape[0], flow.x.shape[1])
    height = smooth_along(speckle(rng, shape, 0.8), flow, length=max(4.0, 9.0 * unit), steps=5)
    height = stretch(f32(height / max(1e-6, float(height.std()))), like)
    relief = np.zeros_like(height)
    relief[1:, 1:] = height[1:, 1:] - height[:-1, :-1]
    return f32(np.clip(relief * 0.8, -1.5, 1.5))


def _ground(canvas: Canvas, rng: np.random.Generator) -> F32:
    """A green ground laid in with broad patches."""
    patches = turbulence(rng, canvas.shape, 110 * canvas.unit, 2)
    tone = 0.85 + 0.3 * smoothstep(-0.6, 0.6, patches)
    warm = turbulence(rng, canvas.shape, 200 * canvas.unit, 2)[..., None] * np.array(
        [0.06, 0.02, -0.03], np.float32
    )
    return clip01(_GROUND * tone[..., None] + warm)
