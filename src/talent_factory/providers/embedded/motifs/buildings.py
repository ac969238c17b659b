"""Nine motifs of buildings."""

from __future__ import annotations

from talent_factory.providers.embedded.motifs.parts import cloud, ground, tree, waves, windows
from talent_factory.providers.embedded.sketch import Sketch


def lighthouse(s: Sketch) -> None:
    """A lighthouse on a rock."""
    s.sky("sky", "dusk")
    cloud(s, 22, 22, 30)
    ground(s, 70, "blue", sway=1)
    waves(s, 76, 4)
    s.shape([(30, 92), (36, 74), (50, 68), (68, 72), (84, 90)], "slate")
    s.shape([(46, 74), (50, 28), (62, 28), (66, 74)], "white")
    for y in (38, 56):
        s.shape(
            [
                (49.3 - (y - 38) * 0.08, y),
                (62.8 + (y - 38) * 0.08, y),
                (63.6 + (y - 38) * 0.08, y + 9),
                (48.6 - (y - 38) * 0.08, y + 9),
            ],
            "red",
        )
    s.box(50, 17, 62, 28, "gold")
    s.shape([(48, 17), (56, 8), (64, 17)], "red")
    s.box(47, 27, 65, 30, "ink")


def stone_bridge(s: Sketch) -> None:
    """An arched bridge over a river."""
    s.sky("sky", "white")
    tree(s, 14, 52, 36)
    tree(s, 88, 50, 32)
    ground(s, 58, "teal", sway=0.5)
    s.shape([(-10, 52), (30, 40), (70, 40), (110, 52), (110, 72), (-10, 72)], "stone", smooth=False)
    for x, r in ((24, 13), (50, 15), (76, 13)):
        s.shape(
            [
                (x - r, 80),
                (x - r, 66),
                (x - r * 0.6, 55),
                (x, 51),
                (x + r * 0.6, 55),
                (x + r, 66),
                (x + r, 80),
            ],
            "pine",
            smooth=False,
        )
    ground(s, 74, "teal", sway=0.5)
    waves(s, 76, 5)


def castle(s: Sketch) -> None:
    """A castle with pointed towers on a hill."""
    s.sky("violet", "dusk")
    ground(s, 74, "pine", sway=4)
    s.box(26, 44, 74, 80, "stone")
    for x in (30, 38, 46, 54, 62, 70):
        s.box(x - 2.5, 40, x + 2.5, 46, "stone")
    for x, top, r in ((22, 34, 8), (78, 34, 8), (50, 24, 9)):
        s.box(x - r, top, x + r, 80, "stone")
        s.shape([(x - r - 3, top), (x, top - 22), (x + r + 3, top)], "blue")
        s.box(x - 2, top + 8, x + 2, top + 16, "ink")
    s.shape([(43, 80), (43, 66), (50, 60), (57, 66), (57, 80)], "brown")


def windmill(s: Sketch) -> None:
    """A windmill in a field."""
    s.sky("sky", "cream")
    cloud(s, 20, 18, 28)
    ground(s, 76, "gold")
    s.shape([(36, 82), (42, 40), (62, 40), (68, 82)], "white")
    s.shape([(39, 40), (52, 26), (65, 40)], "umber")
    s.box(48, 68, 56, 82, "brown")
    for a, b in ((0.75, 0.66), (-0.66, 0.75)):
        for sign in (-1, 1):
            dx, dy = sign * a, -sign * b
            tip = (52 + 34 * dx, 38 + 34 * dy)
            s.stroke([(52, 38), tip], width=1.8)
            sail = [
                (52 + 8 * dx, 38 + 8 * dy),
                tip,
                (tip[0] - 7 * dy, tip[1] + 7 * dx),
                (52 + 8 * dx - 7 * dy, 38 + 8 * dy + 7 * dx),
            ]
            s.shape(sail, "cream", volume=0.1)
    s.disc((52, 38), (3, 3), "ink")


def town_row(s: Sketch) -> None:
    """A row of narrow gabled houses by a canal."""
    s.sky("sky", "white")
    for k, colour in enumerate(("red", "gold", "teal", "rose", "orange")):
        x, top = k * 20 + 0.5, 30 + (k * 7) % 11
        s.box(x, top, x + 19, 80, colour)
        s.shape([(x - 1, top), (x + 9.5, top - 15), (x + 20, top)], "umber")
        windows(s, (x + 2, top + 4, x + 17, 64), 2, 2, "navy")
        s.box(x + 7, 66, x + 13, 80, "brown")
    ground(s, 80, "blue", sway=0)
    waves(s, 83, 4)


def pagoda(s: Sketch) -> None:
    """A pagoda with five roofs."""
    s.sky("dusk", "cream")
    s.disc((76, 24), (11, 11), "red", volume=0.1)
    ground(s, 82, "pine")
    for k in range(5):
        y, half = 78 - 14 * k, 20 - 2.6 * k
        s.box(50 - half * 0.7, y - 8, 50 + half * 0.7, y + 6, "cream")
        s.stroke([(50, y - 7), (50, y + 5)])
        roof = [(50 - half - 8, y - 5), (50 - half * 0.6, y - 10), (50 - half * 0.5, y - 14)]
        s.shape([*roof, *[(100 - x, h) for x, h in reversed(roof)]], "red")
    s.limb([(50, 8), (50, -2)], 2, "ink")
    tree(s, 12, 88, 30, "rose")


def greenhouse(s: Sketch) -> None:
    """A glass house full of plants."""
    s.sky("sky", "white")
    ground(s, 78, "lime")
    s.shape([(10, 84), (10, 46), (28, 22), (72, 22), (90, 46), (90, 84)], "sky", volume=0.2)
    for x, h in ((20, 26), (34, 34), (64, 36), (80, 24)):
        s.shape([(x, 84), (x - 8, 84 - h * 0.6), (x, 84 - h), (x + 8, 84 - h * 0.6)], "green", smooth=True)
    for x in (10, 26, 42, 58, 74, 90):
        s.stroke([(x, 84), (x, 46), (28 + (x - 10) * 0.55, 22)], width=1.6, curve=False)
    s.stroke([(10, 46), (90, 46)], width=1.8)
    s.box(43, 58, 57, 84, "white")


def water_tower(s: Sketch) -> None:
    """A water tower on a roof."""
    s.sky("orange", "dusk")
    s.box(-5, 76, 105, 110, "umber")
    windows(s, (4, 82, 96, 104), 6, 1)
    for x in (30, 43, 57, 70):
        s.limb([(x, 78), (x + (50 - x) * 0.12, 50)], 2.6, "ink")
    s.stroke([(32, 64), (68, 64)], width=1.8)
    s.stroke([(31, 76), (68, 54)])
    s.box(27, 22, 73, 52, "brown")
    for x in (35, 43, 50, 57, 65):
        s.stroke([(x, 23), (x, 51)], width=0.7)
    s.shape([(23, 23), (50, 5), (77, 23)], "slate")


def tower_street(s: Sketch) -> None:
    """A street between high towers."""
    s.sky("navy", "rose")
    for left, right, top, colour in (
        (38, 50, 34, "slate"),
        (50, 62, 26, "violet"),
        (22, 40, 14, "navy"),
        (60, 78, 20, "slate"),
        (-8, 24, -4, "ink"),
        (76, 108, 2, "navy"),
    ):
        s.box(left, top, right, 88, colour)
        windows(s, (left + 1, top + 3, right - 1, 80), 3, 8 if right - left < 20 else 6)
    s.shape([(46, 78), (54, 78), (90, 112), (10, 112)], "slate")
    for y in (82, 89, 97):
        s.stroke([(50, y), (50, y + 4)], width=2)


MOTIFS = {
    "lighthouse": lighthouse,
    "stone_bridge": stone_bridge,
    "castle": castle,
    "windmill": windmill,
    "town_row": town_row,
    "pagoda": pagoda,
    "greenhouse": greenhouse,
    "water_tower": water_tower,
    "tower_street": tower_street,
}
