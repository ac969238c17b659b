"""Nine abstract motifs."""

from __future__ import annotations

from math import cos, pi, sin

from talent_factory.providers.embedded.sketch import Sketch

_WARM = ("red", "orange", "gold", "cream", "rose", "umber")
_COOL = ("navy", "blue", "teal", "sky", "violet", "white")


def rings(s: Sketch) -> None:
    """Rings within rings, off centre."""
    s.sky("cream", "sand")
    for k in range(7):
        s.disc((44 + 1.6 * k, 52 - k), (42 - 6 * k,) * 2, (_COOL + _WARM)[k], volume=0.25)


def triangles(s: Sketch) -> None:
    """Overlapping triangles."""
    s.sky("white", "sky")
    for k in range(9):
        x, y, r = 20 + 30 * (k % 3) + 5 * (k // 3 % 2), 22 + 28 * (k // 3), 19 + (k * 5) % 9
        a = k * 0.9
        s.shape(
            [(x + r * cos(a + t), y + r * sin(a + t)) for t in (0, 2.1, 4.2)], (_WARM + _COOL)[k], volume=0.5
        )


def ribbons(s: Sketch) -> None:
    """Ribbons that cross in waves."""
    s.sky("navy", "violet")
    for k, colour in enumerate(("red", "gold", "teal", "cream", "orange", "sky")):
        y = 10 + 15 * k
        s.limb([(-8, y), (20, y + 18 * (-1) ** k), (50, y), (80, y - 18 * (-1) ** k), (108, y)], 8, colour)


def spheres(s: Sketch) -> None:
    """Spheres of many sizes in the air."""
    s.sky("dusk", "cream")
    for k, (x, y, r) in enumerate(
        ((26, 28, 18), (70, 22, 11), (56, 58, 22), (18, 72, 12), (86, 74, 13), (88, 44, 6), (40, 88, 8))
    ):
        s.disc((x + 3, y + r + 3), (r * 0.8, r * 0.18), "tan", volume=0, line=0)
        s.disc((x, y), (r, r), (_COOL + _WARM)[(k * 2) % 12], volume=0.95)


def spiral(s: Sketch) -> None:
    """A spiral of stones that grow outwards."""
    s.sky("teal", "pine")
    for k in range(30):
        a, r = k * 0.55, 3 + k * 1.35
        s.disc(
            (50 + r * cos(a), 50 + r * sin(a)),
            (1.4 + 0.17 * k,) * 2,
            ("cream", "sand", "white", "gold")[k % 4],
        )


def squares(s: Sketch) -> None:
    """A field of squares that tilt one by one."""
    s.sky("cream", "white")
    for i in range(5):
        for j in range(5):
            x, y, a = 12 + 19 * i, 12 + 19 * j, 0.12 * (i * j)
            ring = [
                (x + 9.5 * cos(a + pi / 4 + q * pi / 2), y + 9.5 * sin(a + pi / 4 + q * pi / 2))
                for q in range(4)
            ]
            s.shape(ring, (_WARM + _COOL)[(i + 2 * j) % 12], volume=0.3)


def branches(s: Sketch) -> None:
    """Lines that branch again and again."""
    s.sky("sand", "cream")

    def grow(x: float, y: float, angle: float, length: float) -> None:
        tip = (x + length * cos(angle), y - length * sin(angle))
        s.limb([(x, y), tip], length * 0.2, "navy" if length > 9 else "red", tip=length * 0.13)
        if length > 5.5:
            for turn in (-0.5, 0.42):
                grow(*tip, angle + turn, length * 0.74)

    grow(50, 98, pi / 2, 24)


def crescents(s: Sketch) -> None:
    """Crescents that lean on each other."""
    s.sky("violet", "navy")
    for k in range(8):
        x, y, r = 18 + 32 * (k % 3) + 8 * (k // 3 % 2), 22 + 28 * (k // 3), 15 + (k * 3) % 5
        s.disc((x, y), (r, r), (_WARM + _COOL)[k], volume=0.5)
        s.disc((x + r * 0.42, y - r * 0.2), (r * 0.76,) * 2, "violet" if y < 45 else "navy", volume=0.1)


def petals(s: Sketch) -> None:
    """Petals around a centre, as in a compass rose."""
    s.sky("sky", "white")
    for layer, (reach, colour) in enumerate(((46, "rose"), (34, "red"), (22, "gold"))):
        for k in range(10):
            a = 2 * pi * k / 10 + layer * pi / 10
            tip = (50 + reach * cos(a), 50 + reach * sin(a))
            w = reach * 0.16
            mid = (50 + reach * 0.6 * cos(a), 50 + reach * 0.6 * sin(a))
            ring = [
                (50, 50),
                (mid[0] - w * sin(a), mid[1] + w * cos(a)),
                tip,
                (mid[0] + w * sin(a), mid[1] - w * cos(a)),
            ]
            s.shape(ring, colour, smooth=True)
    s.disc((50, 50), (8, 8), "umber")


MOTIFS = {
    "rings": rings,
    "triangles": triangles,
    "ribbons": ribbons,
    "spheres": spheres,
    "spiral": spiral,
    "squares": squares,
    "branches": branches,
    "crescents": crescents,
    "petals": petals,
}
