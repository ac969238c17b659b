"""Photographic augmentations: the portrait itself, cut out and lit anew, in seven places it has never been.

They are honest re-stagings (same pose, same face), not new photographs, and are labelled so wherever they go.
"""

from __future__ import annotations

import math

import numpy as np

from talent_factory.providers.embedded import scenes
from talent_factory.providers.embedded.framing import Canvas, face_weight
from talent_factory.providers.embedded.light import Lamp, Lighting, bloom, compose, finish, relight
from talent_factory.providers.embedded.raster import (
    F32,
    U8,
    blur,
    clip01,
    f32,
    grid,
    luminance,
    mix,
    screen,
    smoothstep,
    stretch,
)
from talent_factory.providers.embedded.texture import strokes, turbulence


def rain_night(canvas: Canvas, rng: np.random.Generator) -> U8:
    """A city at night behind rain: bokeh, wet ground, cool key and warm rim, streaks before and behind."""
    light = Lighting(
        ambient=(0.22, 0.26, 0.36),
        lamps=(Lamp((0.5, -0.6, 0.7), (0.68, 0.66, 0.68)),),
        rims=(Lamp((-1.0, -0.3, 0.0), (0.8, 0.45, 0.15)), Lamp((1.0, -0.2, 0.0), (0.15, 0.4, 0.75))),
    )
    scene = _far(canvas, scenes.night_city, rng, soften=5.0)
    scene = screen(scene, _rain(canvas, rng, length=60, width=2.0, share=0.06, strength=0.38))
    picture = compose(canvas, relight(canvas, light), scene)
    picture = screen(picture, _rain(canvas, rng, length=130, width=3.4, share=0.022, strength=0.5))
    return finish(bloom(picture, canvas.unit, 0.5), rng, unit=canvas.unit, tint=(0.95, 1.0, 1.1))


def _rain(
    canvas: Canvas, rng: np.random.Generator, *, length: float, width: float, share: float, strength: float
) -> F32:
    """Streaks of one depth (in the manner of Garg and Nayar 2006): motion-drawn drops that brighten what is
    behind.
    """
    u = canvas.unit
    angle = math.pi / 2 + 0.12
    noise = strokes(rng, canvas.shape, angle=angle, length=length * u, width=max(1.0, width * u))
    limit = float(np.quantile(noise[::4, ::4], 1 - share))
    drops = blur(clip01((noise - limit) * 0.9), 0.5 * u)
    return f32(drops[..., None] * np.array([0.8, 0.88, 1.0], np.float32) * strength)


def close_up(canvas: Canvas, rng: np.random.Generator) -> U8:
    """The head fills the picture before a gray studio wall; big soft light, and focus on the face only."""
    light = Lighting(
        ambient=(0.42, 0.41, 0.42),
        lamps=(Lamp((-0.6, -0.5, 0.75), (0.74, 0.7, 0.66)),),
        rims=(Lamp((1.0, -0.4, 0.0), (0.3, 0.32, 0.36)),),
    )
    height, width = canvas.shape
    x, y = grid(height, width)
    spot = np.exp(-(((x / width - 0.55) / 0.45) ** 2) - ((y / height - 0.4) / 0.6) ** 2)
    mottled = 0.02 * turbulence(rng, canvas.shape, 150 * canvas.unit, 3)
    wall = (0.24 + 0.34 * spot + mottled)[..., None] * np.array([1.0, 1.0, 1.03], np.float32)
    subject = _clear(relight(canvas, light), canvas.unit)
    picture = compose(canvas, subject, f32(wall), wrap=0.2)
    away = smoothstep(0.5, 0.0, blur(face_weight(canvas), 20 * canvas.unit))
    picture = mix(picture, blur(picture, 4.0 * canvas.unit), away)
    return finish(picture, rng, unit=canvas.unit, tint=(1.02, 1.0, 0.97), grain=0.014)


def _clear(image_HWC: F32, unit: float) -> F32:
    """Local contrast: what stands out from its wide surroundings stands out a little more."""
    gray = luminance(image_HWC)
    detail = 0.35 * (gray - blur(gray, 1.6 * unit)) + 0.15 * (gray - blur(gray, 40 * unit))
    return clip01(image_HWC + detail[..., None])


def window_light(canvas: Canvas, rng: np.random.Generator) -> U8:
    """A dim room: low sun through a window crosses the face and leaves the panes' pattern on the wall."""
    height, width = canvas.shape
    side = -1.0 if rng.uniform() < 0.5 else 1.0
    light = Lighting(
        ambient=(0.2, 0.18, 0.17),
        lamps=(Lamp((side, -0.35, 0.55), (1.15, 0.92, 0.62)),),
        rims=(Lamp((side, -0.3, 0.0), (0.7, 0.5, 0.25)),),
    )
    panes = _panes(canvas, side)
    cloth = 1 + 0.06 * turbulence(rng, canvas.shape, 60 * canvas.unit, 3)
    base = np.array([0.3, 0.21, 0.15], np.float32) * cloth[..., None]
    sunny = np.array([0.98, 0.74, 0.44], np.float32)
    x, _ = grid(height, width)
    fall = smoothstep(1.1, -0.1, f32(0.5 + side * (0.5 - x / width) * -1.0))
    wall = base * (0.5 + 0.6 * fall[..., None]) + sunny * blur(panes, 5 * canvas.unit)[..., None] * 0.62
    subject = relight(canvas, light)
    bars = 0.66 + 0.34 * blur(_panes(canvas, side, offset=0.16), 9 * canvas.unit)
    subject = subject * mix(f32(bars), np.ones_like(bars), 0.35)[..., None]
    picture = compose(canvas, f32(subject), clip01(wall))
    return finish(bloom(picture, canvas.unit, 0.35), rng, unit=canvas.unit, tint=(1.05, 1.0, 0.92))


def _panes(canvas: Canvas, side: float, offset: float = 0.0) -> F32:
    """Sunlight through a window of several panes, slanting: 1 in light, 0 in the bars' shadow."""
    height, width = canvas.shape
    x, y = grid(height, width)
    x0, y0, x1, y1 = canvas.head
    size = 0.9 * min(height, width)
    u = ((x - (x0 + x1) / 2) / size) * side * -1.0 + 0.12 + offset
    v = (y - (y0 + y1) / 2) / size + 0.62 + u * 0.35
    inside = smoothstep(0.0, 0.02, f32(u + 0.55)) * smoothstep(1.1, 1.08, f32(u + 0.55))
    inside = inside * smoothstep(0.0, 0.02, f32(v)) * smoothstep(1.3, 1.28, f32(v))
    bar_u = np.abs(np.mod((u + 0.55) / 0.55 + 0.5, 1.0) - 0.5) * 0.55
    bar_v = np.abs(np.mod(v / 0.43 + 0.5, 1.0) - 0.5) * 0.43
    return f32(inside * smoothstep(0.018, 0.03, f32(np.minimum(bar_u, bar_v))))


def subway(canvas: Canvas, rng: np.random.Generator) -> U8:
    """On a platform under greenish tubes, a lit train at one side."""
    light = Lighting(
        ambient=(0.36, 0.4, 0.37),
        lamps=(Lamp((0.1, -1.0, 0.5), (0.62, 0.68, 0.6)), Lamp((1.0, 0.0, 0.3), (0.22, 0.2, 0.14))),
        rims=(Lamp((1.0, -0.2, 0.0), (0.5, 0.46, 0.32)),),
    )
    scene = _far(canvas, scenes.subway_station, rng, soften=3.0)
    picture = compose(canvas, relight(canvas, light), scene)
    return finish(bloom(picture, canvas.unit, 0.45), rng, unit=canvas.unit, tint=(0.96, 1.03, 0.95))


def garage(canvas: Canvas, rng: np.random.Generator) -> U8:
    """In a parking garage: cold light from above, long concrete depth."""
    light = Lighting(
        ambient=(0.26, 0.3, 0.32),
        lamps=(Lamp((-0.3, -1.0, 0.45), (0.68, 0.78, 0.82)),),
        rims=(Lamp((-1.0, -0.6, 0.0), (0.4, 0.5, 0.55)),),
    )
    scene = _far(canvas, scenes.parking_garage, rng, soften=3.0)
    picture = compose(canvas, relight(canvas, light), scene)
    return finish(bloom(picture, canvas.unit, 0.45), rng, unit=canvas.unit, tint=(0.93, 1.0, 1.05))


def silhouette(canvas: Canvas, rng: np.random.Generator) -> U8:
    """Almost black against the evening sun, which edges the outline with gold."""
    x0, y0, x1, y1 = canvas.head
    radius = float(np.clip(0.62 * (y1 - y0), 0.2 * canvas.shape[0], 0.42 * canvas.shape[0]))
    sun = ((x0 + x1) / 2 + 0.25 * (x1 - x0), (y0 + y1) / 2 - 0.05 * (y1 - y0), radius)
    scene = scenes.sunset(canvas.shape, rng, sun)
    light = Lighting(
        ambient=(0.035, 0.026, 0.04),
        rims=(Lamp((1.0, -0.5, 0.0), (0.55, 0.32, 0.12)), Lamp((-1.0, -0.5, 0.0), (0.4, 0.2, 0.1))),
    )
    picture = compose(canvas, relight(canvas, light), scene, wrap=0.22)
    return finish(
        bloom(picture, canvas.unit, 0.2), rng, unit=canvas.unit, tint=(1.0, 1.0, 1.0), vignette=0.25
    )


def alley(canvas: Canvas, rng: np.random.Generator) -> U8:
    """In an alley between neon signs: magenta from one side, cyan from the other."""
    light = Lighting(
        ambient=(0.28, 0.25, 0.31),
        lamps=(Lamp((-0.9, -0.3, 0.5), (0.72, 0.28, 0.52)), Lamp((0.9, -0.3, 0.5), (0.2, 0.52, 0.66))),
        rims=(Lamp((-1.0, -0.3, 0.0), (0.9, 0.2, 0.55)), Lamp((1.0, -0.3, 0.0), (0.1, 0.7, 0.85))),
    )
    scene = _far(canvas, scenes.neon_alley, rng, soften=2.5)
    picture = compose(canvas, relight(canvas, light), scene)
    return finish(bloom(picture, canvas.unit, 0.55), rng, unit=canvas.unit, tint=(1.0, 0.98, 1.06))


def _far(canvas: Canvas, scene: scenes.Scene, rng: np.random.Generator, *, soften: float) -> F32:
    """A scene drawn at half size, for it is out of focus anyway; `soften` is the blur in reference pixels."""
    height, width = canvas.shape
    factor = 2 if min(height, width) >= 256 else 1
    drawn = scene((math.ceil(height / factor), math.ceil(width / factor)), rng)
    full = stretch(clip01(drawn), canvas.alpha_HW)
    return blur(full, soften * canvas.unit)
