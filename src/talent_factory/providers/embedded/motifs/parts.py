"""Things that many motifs share: trees, clouds, hills, wheels, heads and figures."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from talent_factory.providers.embedded.sketch import Sketch

Spot = tuple[float, float]


def cloud(s: Sketch, x: float, y: float, size: float, colour: str = "white") -> None:
    """A heap of round puffs about (x, y), `size` wide."""
    for dx, dy, r in ((-0.32, 0.06, 0.2), (0.3, 0.07, 0.19), (-0.08, -0.08, 0.26), (0.14, -0.02, 0.22)):
        s.disc((x + dx * size, y + dy * size), (r * size, r * size * 0.8), colour, volume=0.2, line=0)


def ground(s: Sketch, y: float, colour: str, *, sway: float = 2.0, line: float = 0.6) -> None:
    """Land or water from the height `y` down."""
    top = [(x, y + float(s.rng.uniform(-sway, sway))) for x in range(-20, 121, 20)]
    s.shape([(-20, 130), *top, (120, 130)], colour, volume=0.2, line=line)


def waves(s: Sketch, top: float, count: int, *, width: float = 0.8) -> None:
    """Short curved lines on water below `top`."""
    for k in range(count):
        y = top + (k + 0.7) * (97 - top) / count
        x = float(s.rng.uniform(2, 70))
        s.stroke([(x, y), (x + 6, y - 1.4), (x + 13, y), (x + 20, y - 1.2)], width=width)


def fir(s: Sketch, x: float, base: float, height: float, colour: str = "pine") -> None:
    """A conifer of three tiers."""
    s.box(x - height * 0.03, base - height * 0.15, x + height * 0.03, base, "brown")
    for k in range(3):
        top, low = base - height * (1 - 0.2 * k), base - height * (0.52 - 0.2 * k)
        half = height * (0.15 + 0.06 * k)
        s.shape([(x, top), (x + half, low), (x + half * 0.3, low + 1), (x - half, low)], colour)


def tree(s: Sketch, x: float, base: float, height: float, colour: str = "green") -> None:
    """A broad crown on a trunk."""
    s.limb([(x, base), (x + height * 0.02, base - height * 0.5)], height * 0.11, "brown", tip=height * 0.07)
    for dx, dy, r in ((-0.18, 0.56, 0.19), (0.18, 0.58, 0.18), (0.0, 0.74, 0.24)):
        s.disc((x + dx * height, base - dy * height), (r * height, r * height * 0.9), colour, line=0.8)


def peak(s: Sketch, x: float, base: float, height: float, colour: str = "slate") -> None:
    """A mountain with a lit flank and snow."""
    top = base - height
    s.shape([(x - height * 0.8, base), (x, top), (x + height * 0.85, base)], colour, volume=0.3)
    cap = [(x, top), (x + height * 0.24, top + height * 0.28), (x + height * 0.08, top + height * 0.22)]
    s.shape(
        [*cap, (x - height * 0.04, top + height * 0.32), (x - height * 0.2, top + height * 0.25)], "white"
    )


def wheel(s: Sketch, x: float, y: float, r: float, *, spokes: int = 0, colour: str = "ink") -> None:
    """A tyre; with `spokes` the inside is open."""
    s.disc((x, y), (r, r), colour, volume=0.2)
    s.disc((x, y), (r * 0.8 if spokes else r * 0.5,) * 2, "cream" if spokes else "stone", volume=0.2)
    for k in range(spokes):
        angle = np.pi * k / spokes
        dx, dy = r * 0.8 * float(np.cos(angle)), r * 0.8 * float(np.sin(angle))
        s.stroke([(x - dx, y - dy), (x + dx, y + dy)], width=0.7)


def windows(
    s: Sketch, box: tuple[float, float, float, float], columns: int, rows: int, colour: str = "gold"
) -> None:
    """A grid of panes inside `box` (left, top, right, bottom)."""
    left, top, right, bottom = box
    w, h = (right - left) / columns, (bottom - top) / rows
    for i in range(columns):
        for j in range(rows):
            x, y = left + (i + 0.22) * w, top + (j + 0.2) * h
            s.box(x, y, x + w * 0.56, y + h * 0.62, colour, line=0.7)


def face(s: Sketch, x: float, y: float, r: float, *, skin: str = "skin", hair: str = "brown") -> None:
    """A head seen from the front: ears, hair, brows, eyes, nose and mouth; `r` is half its width."""
    s.disc((x, y - r * 0.25), (r * 1.12, r * 1.2), hair)
    for side in (-1, 1):
        s.disc((x + side * r * 0.98, y + r * 0.1), (r * 0.16, r * 0.26), skin)
    jaw = [(-0.95, -0.4), (-0.9, 0.4), (-0.45, 1.1), (0, 1.28), (0.45, 1.1), (0.9, 0.4), (0.95, -0.4)]
    s.shape(
        [(x + a * r, y + b * r) for a, b in (*jaw, (0.5, -0.78), (-0.5, -0.78))],
        skin,
        smooth=True,
        volume=0.4,
    )
    if r < 9:  # small faces: two dots and a mouth, or the lines would run together
        for side in (-1, 1):
            s.disc((x + side * r * 0.38, y + r * 0.1), (r * 0.13, r * 0.16), "ink", volume=0, line=0)
        s.stroke([(x - r * 0.25, y + r * 0.72), (x + r * 0.25, y + r * 0.7)], width=0.6)
        return
    for side in (-1, 1):
        eye = (x + side * r * 0.4, y + r * 0.06)
        s.disc(eye, (r * 0.17, r * 0.1), "white", volume=0, line=0.7)
        s.disc(eye, (r * 0.085, r * 0.095), "ink", volume=0, line=0)
        s.stroke([(eye[0] - r * 0.22, eye[1] - r * 0.26), (eye[0] + r * 0.2, eye[1] - r * 0.28)], width=1.4)
    s.stroke([(x, y + r * 0.1), (x - r * 0.13, y + r * 0.46), (x + r * 0.06, y + r * 0.5)], width=0.9)
    s.stroke([(x - r * 0.3, y + r * 0.8), (x, y + r * 0.87), (x + r * 0.3, y + r * 0.79)], width=1.3)


def bust(
    s: Sketch, *, coat: str, skin: str = "skin", hair: str = "brown", x: float = 50.0, y: float = 42.0
) -> None:
    """Head and shoulders that fill the square."""
    body = [(x - 42, 112), (x - 37, 84), (x - 16, 73), (x + 16, 73), (x + 37, 84), (x + 42, 112)]
    s.limb([(x, y + 12), (x, 80)], 17, skin)
    s.shape(body, coat, smooth=True)
    s.shape([(x - 9, 73), (x, 84), (x + 9, 73), (x, 70)], skin, volume=0.2)
    s.stroke([(x, 84), (x + 1, 104)])
    face(s, x, y, 18, skin=skin, hair=hair)


POSES: dict[str, Mapping[str, tuple[Spot, ...]]] = {
    "stand": {
        "legs": (((-4, 0)), (-6, 18), (-6, 37), (4, 0), (6, 18), (7, 37)),
        "arms": ((-8, -26), (-13, -13), (-11, 0), (8, -26), (13, -13), (11, 0)),
    },
    "leap": {
        "legs": ((-3, 0), (-18, 6), (-34, 1), (3, 0), (18, 2), (34, 9)),
        "arms": ((-7, -26), (-19, -34), (-29, -43), (7, -26), (20, -30), (33, -35)),
    },
    "work": {
        "legs": ((-4, 0), (-8, 18), (-9, 37), (4, 0), (9, 17), (12, 37)),
        "arms": ((-8, -26), (-15, -14), (-4, -7), (8, -26), (18, -20), (26, -12)),
    },
    "raise": {
        "legs": ((-4, 0), (-8, 18), (-13, 36), (4, 0), (9, 16), (6, 37)),
        "arms": ((-8, -26), (-15, -15), (-10, -4), (8, -26), (17, -36), (23, -49)),
    },
    "sit": {
        "legs": ((-4, 0), (12, 3), (13, 24), (4, 1), (19, 4), (21, 24)),
        "arms": ((-7, -25), (-6, -11), (9, -7), (7, -25), (13, -13), (19, -11)),
    },
}


def figure(
    s: Sketch,
    hip: Spot,
    *,
    pose: str,
    coat: str,
    trousers: str = "navy",
    skin: str = "skin",
    hair: str = "brown",
    size: float = 1.0,
) -> None:
    """A whole person with the hip at that spot, about 85 percent tall at `size` 1."""
    joints = POSES[pose]
    x, y = hip

    def at(points: tuple[Spot, ...]) -> list[Spot]:
        return [(x + a * size, y + b * size) for a, b in points]

    for leg in (joints["legs"][:3], joints["legs"][3:]):
        s.limb(at(leg), 9.5 * size, trousers, tip=6 * size)
        foot = at(leg)[-1]
        s.disc((foot[0] + 1.5 * size, foot[1] + 1.5 * size), (4.6 * size, 2.6 * size), "ink")
    arms = joints["arms"]
    s.limb(at(arms[:3]), 7 * size, coat, tip=5 * size)
    torso = ((-9, -29), (9, -29), (8.5, -14), (8, 3), (-8, 3), (-8.5, -14))
    s.limb(at(((0, -28), (0, -35))), 6 * size, skin)
    s.shape(at(torso), coat, smooth=True)
    s.limb(at(arms[3:]), 7 * size, coat, tip=5 * size)
    for hand in (arms[2], arms[5]):
        s.disc(at((hand,))[0], (3.2 * size, 3.2 * size), skin)
    face(s, x, y - 43 * size, 6.6 * size, skin=skin, hair=hair)
