"""Backdrops for the photographic augmentations: places without people or writing, drawn from a generator."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from talent_factory.providers.embedded.corridor import (
    CEILING,
    FLOOR,
    LEFT,
    RIGHT,
    Corridor,
    corridor,
    each_brick,
    haze,
    joints,
    painted,
)
from talent_factory.providers.embedded.light import Colour
from talent_factory.providers.embedded.raster import F32, blur, f32, fill, grid, mix, screen, smoothstep
from talent_factory.providers.embedded.texture import turbulence

Shape = tuple[int, int]
Scene = Callable[[tuple[int, int], np.random.Generator], F32]
NEON: tuple[Colour, ...] = ((1.0, 0.15, 0.55), (0.1, 0.85, 1.0), (1.0, 0.6, 0.1), (0.55, 0.3, 1.0))


def gradient(shape: Shape, stops: tuple[tuple[float, Colour], ...]) -> F32:
    """Vertical colour ramp; stops are (share of the height, colour)."""
    rows = np.linspace(0, 1, shape[0])
    places = [place for place, _ in stops]
    columns = [np.interp(rows, places, [colour[c] for _, colour in stops]) for c in range(3)]
    return np.repeat(f32(np.stack(columns, axis=1))[:, None, :], shape[1], axis=1)


def skyline(
    picture: F32,
    rng: np.random.Generator,
    *,
    base: float,
    tallest: float,
    colour: Colour,
    lit: Colour | None = None,
) -> F32:
    """One row of buildings standing on `base` (share of the height), windows lit when `lit` is given."""
    height, width = picture.shape[:2]
    result, x = picture.copy(), -0.02 * width
    pane = max(2.0, 0.008 * height)
    while x < width:
        broad = float(rng.uniform(0.05, 0.13)) * max(width, height)
        tall = float(rng.uniform(0.35, 1.0)) ** 1.5 * tallest * height
        top, left, right = round(base * height - tall), round(x), round(x + broad)
        cv2.rectangle(result, (left, top), (right, height), colour, cv2.FILLED)
        if rng.uniform() < 0.35:
            mast = round((left + right) / 2)
            cv2.line(result, (mast, top), (mast, top - round(0.25 * tall)), colour, max(1, round(pane / 3)))
        if lit is not None:
            _windows(result, rng, (left, top, right), pane, lit)
        x += broad * float(rng.uniform(0.8, 1.05))
    return result


def _windows(
    picture: F32, rng: np.random.Generator, block: tuple[int, int, int], pane: float, lit: Colour
) -> None:
    left, top, right = block
    for y in np.arange(top + pane, picture.shape[0], pane * 2.4):
        for x in np.arange(left + pane, right - pane, pane * 1.9):
            if rng.uniform() < 0.3:
                strength = float(rng.uniform(0.35, 1.0))
                shade = (
                    lit[0] * strength,
                    lit[1] * strength,
                    lit[2] * strength * float(rng.uniform(0.7, 1.3)),
                )
                first = (round(x), round(y))
                last = (round(x + pane * 0.8), round(y + pane * 1.2))
                cv2.rectangle(picture, first, last, shade, cv2.FILLED)


def bokeh(
    picture: F32, rng: np.random.Generator, *, count: int, radius: float, palette: tuple[Colour, ...]
) -> F32:
    """City lights out of focus: discs with a brighter rim, more of them near the horizon."""
    height, width = picture.shape[:2]
    light = np.zeros_like(picture)
    for _ in range(count):
        r = radius * float(rng.uniform(0.45, 1.2))
        x, y = float(rng.uniform(0, width)), float(np.clip(rng.normal(0.5, 0.2), 0, 1)) * height
        pick = palette[int(rng.integers(len(palette)))]
        strength = float(rng.uniform(0.12, 0.6))
        reach = math.ceil(r) + 2
        x0, y0 = max(0, round(x) - reach), max(0, round(y) - reach)
        x1, y1 = min(width, round(x) + reach), min(height, round(y) + reach)
        if x1 <= x0 or y1 <= y0:
            continue
        px, py = grid(y1 - y0, x1 - x0)
        distance = np.hypot(px + x0 - x, py + y0 - y)
        disc = smoothstep(r + 0.8, r - 0.8, f32(distance)) * (
            0.75 + 0.35 * smoothstep(r * 0.7, r, f32(distance))
        )
        light[y0:y1, x0:x1] += disc[..., None] * np.array(pick, np.float32) * np.float32(strength)
    return screen(picture, light)


def night_city(shape: Shape, rng: np.random.Generator) -> F32:
    """A skyline at night, soft with distance, its street lights as bokeh over wet ground."""
    height = shape[0]
    picture = gradient(
        shape, ((0.0, (0.04, 0.06, 0.14)), (0.6, (0.16, 0.17, 0.29)), (1.0, (0.07, 0.07, 0.12)))
    )
    picture = skyline(picture, rng, base=0.75, tallest=0.6, colour=(0.09, 0.1, 0.18), lit=(0.85, 0.72, 0.5))
    picture = skyline(picture, rng, base=0.82, tallest=0.5, colour=(0.045, 0.05, 0.1), lit=(1.0, 0.82, 0.5))
    picture = blur(picture, 0.006 * height)
    lamps: tuple[Colour, ...] = ((1.0, 0.72, 0.35), (1.0, 0.85, 0.6), (1.0, 0.25, 0.2), (0.4, 0.75, 1.0))
    picture = bokeh(picture, rng, count=80, radius=0.042 * height, palette=lamps)
    return wet_ground(picture, rng, horizon=0.78)


def wet_ground(picture: F32, rng: np.random.Generator, *, horizon: float) -> F32:
    """Below the horizon the upper picture returns upside down, drawn out and broken by ripples."""
    height, width = picture.shape[:2]
    line = max(1, round(horizon * height))
    rows = np.arange(height)
    ripple = turbulence(rng, (height, width), max(6.0, height / 18), 2)
    source = np.clip(2 * line - rows[:, None] * 1.0 + ripple * height * 0.015, 0, line - 1).astype(np.int64)
    mirrored = picture[source, np.arange(width)[None, :]]
    mirrored = f32(cv2.blur(mirrored, (3, max(3, round(height * 0.03) | 1))))
    ground = mirrored * np.float32(0.62) + np.float32(0.015)
    return mix(picture, f32(ground), f32((rows >= line)[:, None] * np.ones((1, width))))


def sunset(shape: Shape, rng: np.random.Generator, sun: tuple[float, float, float]) -> F32:
    """Evening sky with the `sun` (x, y, radius in pixels) and two rows of buildings fading into the haze."""
    height, width = shape
    sky: tuple[tuple[float, Colour], ...] = (
        (0.0, (0.36, 0.25, 0.5)),
        (0.35, (0.86, 0.42, 0.36)),
        (0.65, (1.0, 0.66, 0.3)),
        (1.0, (1.0, 0.86, 0.55)),
    )
    picture = gradient(shape, sky)
    x, y = grid(height, width)
    distance = np.hypot(x - sun[0], y - sun[1]) / sun[2]
    glow = np.exp(-((distance / 2.1) ** 2)) * 0.5 + smoothstep(1.0, 0.97, f32(distance)) * 0.55
    picture = screen(picture, f32(glow[..., None] * np.array([1.0, 0.85, 0.5], np.float32)))
    cloud = smoothstep(0.1, 0.7, turbulence(rng, (height, width), height / 3, 4)) * np.float32(0.25)
    picture = mix(
        picture, fill(shape, (0.75, 0.35, 0.42)), f32(cloud * smoothstep(0.75, 0.2, f32(y / height)))
    )
    picture = skyline(picture, rng, base=0.9, tallest=0.3, colour=(0.72, 0.4, 0.34))
    picture = skyline(blur(picture, 0.003 * height), rng, base=0.97, tallest=0.28, colour=(0.36, 0.19, 0.24))
    return blur(picture, 0.002 * height)


def subway_station(shape: Shape, rng: np.random.Generator) -> F32:
    """A platform under strip lights: tiled wall, a row of pillars, and a train standing at the right."""
    room = corridor(shape, half_width=3.4, eye=1.5, top=3.3, vanish=(0.5, 0.42), field=0.55)
    z, across, where = room.depth_HW, room.across_HW, room.surface_HW
    pulse = 0.72 + 0.28 * np.cos(z * (2 * math.pi / 3.0))
    picture = painted(fill(shape, (0.42, 0.45, 0.43)), where == CEILING, (0.3, 0.33, 0.32))
    wall = f32(0.78 - 0.14 * joints(across, z, height=0.2, length=0.3, gap=0.012, staggered=False))
    picture = painted(picture, where == LEFT, np.dstack([wall * 0.93, wall, wall * 0.95]))
    picture = painted(picture, (where == LEFT) & (np.abs(across - 1.75) < 0.16), (0.1, 0.42, 0.36))
    picture = painted(picture, where == FLOOR, (0.34, 0.35, 0.34))
    picture = painted(picture, (where == FLOOR) & (np.abs(across - 1.9) < 0.16), (0.86, 0.7, 0.16))
    picture = painted(picture, (where == FLOOR) & (across > 2.3), (0.06, 0.06, 0.06))
    picture = _train(picture, room)
    strips = (where == CEILING) & (np.abs(np.abs(across) - 1.1) < 0.13) & (np.mod(z, 3.0) < 2.1)
    picture = picture * f32(pulse[..., None])
    picture = haze(f32(picture), z, reach=42.0, colour=(0.5, 0.58, 0.54))
    picture = painted(picture, strips, (1.0, 1.0, 0.95))
    for depth in np.arange(24.0, 2.0, -3.2):
        _pillar(picture, room, x=-2.05, depth=float(depth + rng.uniform(-0.05, 0.05)), face=(0.2, 0.4, 0.42))
    return picture


def _train(picture: F32, room: Corridor) -> F32:
    """The right wall as a train: steel body, lit windows in a row, doors, a coloured stripe."""
    z, h = room.depth_HW, room.across_HW
    side = room.surface_HW == RIGHT
    picture = painted(picture, side, (0.55, 0.58, 0.6))
    picture = painted(picture, side & (h > 2.55), (0.1, 0.1, 0.11))
    picture = painted(picture, side & (h < 0.45), (0.07, 0.07, 0.08))
    picture = painted(picture, side & (np.abs(h - 0.95) < 0.1), (0.8, 0.16, 0.14))
    step = np.mod(z, 2.6)
    picture = painted(picture, side & (step < 0.05) & (h < 2.5), (0.15, 0.15, 0.16))
    window = side & (step > 0.4) & (step < 2.2) & (h > 1.35) & (h < 2.15)
    return painted(picture, window, (0.98, 0.95, 0.8))


def _pillar(
    picture: F32, room: Corridor, *, x: float, depth: float, face: Colour, half: float = 0.24
) -> None:
    """A square pillar from floor to ceiling, its inner side turned to the light."""
    fade = math.exp(-depth / 26.0)
    front: Colour = (
        0.5 + (face[0] - 0.5) * fade,
        0.55 + (face[1] - 0.55) * fade,
        0.53 + (face[2] - 0.53) * fade,
    )
    bright: Colour = (min(1.0, front[0] * 1.35), min(1.0, front[1] * 1.35), min(1.0, front[2] * 1.35))
    inner = x + half if x < 0 else x - half
    far = depth + 2 * half
    room.quad(
        picture,
        [(inner, 0, depth), (inner, room.top, depth), (inner, room.top, far), (inner, 0, far)],
        bright,
    )
    corners = [
        (x - half, 0.0, depth),
        (x - half, room.top, depth),
        (x + half, room.top, depth),
        (x + half, 0.0, depth),
    ]
    room.quad(picture, corners, front)


def parking_garage(shape: Shape, rng: np.random.Generator) -> F32:
    """Low concrete, striped pillars, cold tubes on the ceiling and bays marked on the floor."""
    room = corridor(shape, half_width=6.5, eye=1.5, top=2.7, vanish=(0.5, 0.42), field=0.55)
    z, across, where = room.depth_HW, room.across_HW, room.surface_HW
    stain = turbulence(rng, shape, shape[0] / 5, 4) * np.float32(0.05)
    picture = painted(fill(shape, (0.36, 0.37, 0.37)), where == CEILING, (0.26, 0.27, 0.28))
    picture = painted(picture, where == FLOOR, (0.3, 0.31, 0.31))
    picture = painted(picture, ((where == LEFT) | (where == RIGHT)) & (across < 0.9), (0.2, 0.33, 0.42))
    beams = (where == CEILING) & (np.mod(z, 4.0) < 0.5)
    picture = painted(picture, beams, (0.2, 0.21, 0.22))
    bays = (where == FLOOR) & (np.abs(across) > 3.0) & (np.mod(z + 1.0, 2.5) < 0.13)
    picture = painted(picture, bays, (0.82, 0.82, 0.78))
    picture = painted(picture, (where == FLOOR) & (np.abs(np.abs(across) - 3.0) < 0.06), (0.82, 0.82, 0.78))
    shine = (
        (where == FLOOR)
        * np.exp(-((np.abs(across) - 1.4) ** 2) / 0.5)
        * (0.6 + 0.4 * np.cos(z * math.pi / 2))
    )
    picture = screen(
        picture + stain[..., None], f32(shine[..., None] * np.array([0.2, 0.24, 0.25], np.float32))
    )
    picture = haze(picture, z, reach=38.0, colour=(0.24, 0.29, 0.31))
    tubes = (where == CEILING) & (np.abs(np.abs(across) - 1.4) < 0.08) & (np.mod(z - 1.0, 4.0) < 1.6)
    picture = painted(picture, tubes, (0.93, 1.0, 1.0))
    for depth in np.arange(26.0, 3.0, -5.0):
        for x in (-3.2, 3.2):
            _striped_pillar(picture, room, x, float(depth))
    return picture


def _striped_pillar(picture: F32, room: Corridor, x: float, depth: float) -> None:
    _pillar(picture, room, x=x, depth=depth, face=(0.42, 0.43, 0.43), half=0.3)
    for k in range(5):
        colour: Colour = (0.9, 0.72, 0.1) if k % 2 == 0 else (0.1, 0.1, 0.1)
        low, high = 0.25 + 0.22 * k, 0.25 + 0.22 * (k + 1)
        left, right = x - 0.3, x + 0.3
        room.quad(
            picture,
            [(left, low, depth), (left, high, depth), (right, high, depth), (right, low, depth)],
            colour,
        )


def neon_alley(shape: Shape, rng: np.random.Generator) -> F32:
    """Brick walls at night, glowing signs of plain shapes, and their colours on the wet ground."""
    room = corridor(shape, half_width=2.3, eye=1.5, top=9.0, vanish=(0.5, 0.5), field=0.5)
    z, across, where = room.depth_HW, room.across_HW, room.surface_HW
    wall = (where == LEFT) | (where == RIGHT)
    tone = 0.6 + 0.5 * each_brick(across, z, height=0.16, length=0.42)
    seam = joints(across, z, height=0.16, length=0.42, gap=0.02, staggered=True)
    brick = f32(tone * (1 - 0.45 * seam))[..., None] * np.array([0.36, 0.21, 0.2], np.float32)
    picture = painted(fill(shape, (0.06, 0.06, 0.13)), wall, brick)
    picture = haze(picture, z, reach=20.0, colour=(0.26, 0.2, 0.4))
    signs = np.zeros_like(picture)
    shapes = rng.permutation(12) % len(_SIGNS)
    for place, depth in enumerate((13.0, 9.5, 7.0, 5.2, 4.0, 3.1)):
        for side in (-1.0, 1.0):
            kind = int(shapes[2 * place + int(side > 0)])
            _sign(signs, room, rng, side, depth * float(rng.uniform(0.9, 1.1)), kind)
    glow = blur(signs, 0.03 * shape[0]) * np.float32(0.8) + blur(signs, 0.1 * shape[0]) * np.float32(1.1)
    picture = screen(f32(picture * (1 + 2.2 * np.clip(glow, 0, 1))), f32(glow * 0.7))
    picture = np.maximum(picture, np.clip(signs * 1.2, 0, 1))
    return wet_ground(f32(picture), rng, horizon=0.72)


def _sign(signs: F32, room: Corridor, rng: np.random.Generator, side: float, depth: float, kind: int) -> None:
    """A tube of light on a wall: an arrow, a double ring, a star, a heart or a wave; nothing that could be
    read.
    """
    colour = NEON[int(rng.integers(len(NEON)))]
    x = side * (room.half_width - 0.02)
    low, tall, broad = (
        float(rng.uniform(1.4, 2.5)),
        float(rng.uniform(0.6, 1.1)),
        float(rng.uniform(0.9, 1.5)),
    )
    outline, inset = _SIGNS[kind]
    room.stroke(signs, [(x, low + v * tall, depth + u * broad) for u, v in outline], colour, 0.09)
    if inset:
        inner = [(x, low + (0.22 + 0.56 * v) * tall, depth + (0.22 + 0.56 * u) * broad) for u, v in outline]
        room.stroke(signs, inner, NEON[int(rng.integers(len(NEON)))], 0.06)


def _around(radius: Callable[[float], float]) -> list[tuple[float, float]]:
    turns = np.linspace(0, 2 * math.pi, 41)
    return [(0.5 + 0.5 * radius(t) * math.sin(t), 0.5 + 0.5 * radius(t) * math.cos(t)) for t in turns]


def _star(turn: float) -> float:
    return 0.72 + 0.28 * (4 * abs(turn / (0.4 * math.pi) % 1.0 - 0.5) - 1)


_ARROW = [
    (0.0, 0.35),
    (0.55, 0.35),
    (0.55, 0.1),
    (1.0, 0.5),
    (0.55, 0.9),
    (0.55, 0.65),
    (0.0, 0.65),
    (0.0, 0.35),
]
_DIAMOND = [(0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5), (0.5, 0.0)]
_WAVE = [(k / 24, 0.5 + 0.25 * math.sin(k * 0.8)) for k in range(25)]
_HEART = [
    (
        0.5 + 0.5 * math.sin(t) ** 3,
        0.53 + 0.03 * (13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t)),
    )
    for t in np.linspace(0, 2 * math.pi, 41)
]
_SIGNS = (
    (_ARROW, False),
    (_DIAMOND, True),
    (_WAVE, False),
    (_HEART, True),
    (_around(_star), True),
    (_around(lambda turn: 1.0), True),
)
