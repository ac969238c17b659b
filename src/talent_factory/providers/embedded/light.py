"""Light after the fact: a subject lit anew through guessed relief, set into a scene, finished like film."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from talent_factory.providers.embedded.framing import Canvas
from talent_factory.providers.embedded.raster import (
    F32,
    U8,
    blur,
    f32,
    grid,
    luminance,
    mix,
    screen,
    shrink,
    smoothstep,
    stretch,
    to_uint8,
)
from talent_factory.providers.embedded.texture import film_grain

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Lamp:
    """A far light: where it comes from (x right, y down, z towards the viewer) and its colour, 1 = full
    daylight.
    """

    toward: tuple[float, float, float]
    colour: Colour


@dataclass(frozen=True)
class Lighting:
    """How a scene lights its subject: even `ambient`, shaped `lamps`, and coloured rims from the `rims`
    directions.
    """

    ambient: Colour
    lamps: tuple[Lamp, ...] = ()
    rims: tuple[Lamp, ...] = field(default=())


def normals(canvas: Canvas) -> tuple[F32, F32, F32]:
    """Guessed surface directions: the outline blown up like a cushion, with a little relief from the
    luminance.

    Enough to shade a face from one side; in no way a measurement.
    """
    factor = max(1.0, 4.0 * canvas.unit)
    alpha, gray = shrink(canvas.alpha_HW, factor), shrink(luminance(canvas.image_HWC), factor)
    unit = canvas.unit / factor
    x0, y0, x1, y1 = (value / factor for value in canvas.head)
    x, y = grid(alpha.shape[0], alpha.shape[1])
    rx, ry = max(2.0, 0.5 * (x1 - x0)), max(2.0, 0.55 * (y1 - y0))
    ball = np.sqrt(np.clip(1 - ((x - (x0 + x1) / 2) / rx) ** 2 - ((y - (y0 + y1) / 2) / ry) ** 2, 0, 1))
    cushion = np.sqrt(blur(alpha, 22 * unit) * blur(alpha, 60 * unit))
    height = 120 * unit * cushion + 0.45 * rx * blur(f32(ball), 6 * unit) + 22 * unit * blur(gray, 5 * unit)
    down, right = np.gradient(blur(f32(height), 3 * unit))
    length = np.sqrt(right**2 + down**2 + 1.0)
    like = canvas.alpha_HW
    return (
        stretch(f32(-right / length), like),
        stretch(f32(-down / length), like),
        stretch(f32(1 / length), like),
    )


def relight(canvas: Canvas, lighting: Lighting) -> F32:
    """The subject under new light, (H, W, 3) in 0..1; products are taken in (roughly) linear light."""
    nx, ny, nz = normals(canvas)
    shade = np.broadcast_to(np.array(lighting.ambient, np.float32), canvas.image_HWC.shape).copy()
    for lamp in lighting.lamps:
        dx, dy, dz = _unit(lamp.toward)
        # Wrapped Lambert: the terminator of skin is soft.
        facing = np.clip((nx * dx + ny * dy + nz * dz + 0.25) / 1.25, 0, 1)
        shade += facing[..., None] * np.array(lamp.colour, np.float32)
    lit = np.square(canvas.image_HWC) * shade
    for lamp in lighting.rims:
        lit = lit + _rim(canvas, lamp.toward)[..., None] * np.array(lamp.colour, np.float32)
    return f32(np.sqrt(shoulder(f32(lit))))


def shoulder(light: F32) -> F32:
    """Linear up to 0.7, then a soft roll-off to 1, as film does with highlights."""
    over = np.maximum(light - 0.7, 0)
    return f32(np.minimum(light, 0.7) + 0.3 * (1 - np.exp(-over / 0.3)))


def _rim(canvas: Canvas, toward: tuple[float, float, float]) -> F32:
    dx, dy, _ = _unit((toward[0], toward[1], 0.001))
    reach = 9 * canvas.unit
    outline = blur(canvas.alpha_HW, 3.0 * canvas.unit)
    x, y = round(dx * reach), round(dy * reach)
    moved = np.roll(outline, (-y, -x), axis=(0, 1))
    if x > 0:
        moved[:, -x:] = outline[:, -x:]
    elif x < 0:
        moved[:, :-x] = outline[:, :-x]
    if y < 0:
        moved[:-y] = outline[:-y]
    elif y > 0:
        moved[-y:] = outline[-y:]
    return blur(np.clip((outline - moved) * 1.3, 0, 1) * canvas.alpha_HW, 1.2 * canvas.unit)


def _unit(vector: tuple[float, float, float]) -> tuple[float, float, float]:
    length = math.sqrt(sum(part * part for part in vector)) or 1.0
    return vector[0] / length, vector[1] / length, vector[2] / length


def compose(canvas: Canvas, subject_HWC: F32, scene_HWC: F32, *, wrap: float = 0.35) -> F32:
    """The subject before the scene, whose light wraps a little around the outline."""
    alpha = canvas.alpha_HW
    picture = mix(scene_HWC, subject_HWC, alpha)
    glow = blur(scene_HWC, 14 * canvas.unit)
    near = alpha * (1 - blur(alpha, 9 * canvas.unit)) * wrap
    return screen(picture, f32(glow * near[..., None]))


def bloom(image_HWC: F32, unit: float, amount: float) -> F32:
    """Halos around what is brighter than 0.7."""
    bright = np.clip((image_HWC - 0.7) / 0.3, 0, 1) * image_HWC
    return screen(image_HWC, f32(amount * (0.6 * blur(bright, 10 * unit) + 0.8 * blur(bright, 45 * unit))))


def finish(
    image_HWC: F32,
    rng: np.random.Generator,
    *,
    unit: float,
    tint: Colour,
    grain: float = 0.018,
    vignette: float = 0.35,
) -> U8:
    """Colour cast, a gentle S-curve, darker corners and film grain."""
    height, width = image_HWC.shape[:2]
    x, y = grid(height, width)
    radius = np.hypot(x / width - 0.5, y / height - 0.5) / math.sqrt(0.5)
    graded = np.clip(image_HWC * np.array(tint, np.float32), 0, 1)
    graded = mix(graded, smoothstep(0.0, 1.0, graded), 0.3)
    graded = graded * (1 - vignette * smoothstep(0.45, 1.05, f32(radius)))[..., None]
    return to_uint8(film_grain(rng, f32(graded), strength=grain, size=max(0.5, 0.9 * unit)))
