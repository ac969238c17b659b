"""Nine motifs of vehicles."""

from __future__ import annotations

from talent_factory.providers.embedded.motifs.parts import cloud, figure, ground, tree, waves, wheel, windows
from talent_factory.providers.embedded.sketch import Sketch


def sailing_boat(s: Sketch) -> None:
    """A sailing boat on open water."""
    s.sky("sky", "white")
    cloud(s, 24, 20, 32)
    ground(s, 66, "blue", sway=0.8)
    s.limb([(50, 74), (50, 6)], 2, "brown")
    s.shape([(52, 8), (84, 62), (52, 64)], "white", volume=0.2)
    s.shape([(48, 14), (48, 64), (22, 62)], "red", volume=0.2)
    s.shape([(16, 68), (88, 68), (78, 84), (28, 84)], "umber")
    s.stroke([(19, 73), (85, 73)])
    waves(s, 84, 4)


def locomotive(s: Sketch) -> None:
    """A steam locomotive."""
    s.sky("cream", "stone")
    for x, y, w in ((30, 14, 28), (52, 8, 36), (80, 12, 40)):
        cloud(s, x, y, w)
    ground(s, 84, "umber", sway=0)
    s.box(-5, 83, 105, 86, "ink")
    s.box(60, 30, 90, 72, "red")
    s.box(56, 26, 94, 31, "ink")
    s.box(67, 37, 83, 52, "sky")
    s.box(18, 44, 62, 68, "ink")
    s.disc((18, 56), (5, 12), "slate")
    s.shape([(24, 44), (22, 24), (34, 24), (32, 44)], "ink")
    s.disc((46, 43), (6, 5), "gold")
    s.shape([(10, 72), (20, 66), (20, 83), (4, 83)], "red")
    for x, r in ((26, 8), (44, 8), (64, 12), (86, 8)):
        wheel(s, x, 84 - r, r, spokes=4, colour="red")
    s.limb([(44, 76), (64, 74)], 2.4, "stone")


def bicycle(s: Sketch) -> None:
    """A bicycle that leans on a wall."""
    s.sky("dusk", "cream")
    for y in (14, 30, 46, 62):
        s.stroke([(0, y), (100, y)], width=0.6)
    ground(s, 82, "stone", sway=0)
    for x in (24, 76):
        wheel(s, x, 66, 19, spokes=5)
    for a, b in (
        ((24, 66), (42, 38)),
        ((24, 66), (48, 66)),
        ((48, 66), (42, 38)),
        ((48, 66), (68, 38)),
        ((42, 40), (68, 38)),
        ((66, 30), (76, 66)),
    ):
        s.limb([a, b], 3, "teal")
    s.limb([(42, 38), (40, 30)], 2, "slate")
    s.disc((40, 29), (8, 2.6), "brown")
    s.stroke([(66, 30), (62, 26), (72, 25)], width=2.6)
    s.disc((48, 66), (5, 5), "slate")


def balloon(s: Sketch) -> None:
    """A hot-air balloon over hills."""
    s.sky("sky", "dusk")
    cloud(s, 16, 34, 24)
    cloud(s, 86, 20, 26)
    ground(s, 84, "green", sway=4)
    for x in (42, 58):
        s.stroke([(x + (x - 50) * 0.6, 52), (x - (x - 50) * 0.3, 68)], width=1)
    s.shape(
        [(50, 4), (76, 14), (80, 36), (64, 54), (50, 60), (36, 54), (20, 36), (24, 14)], "red", smooth=True
    )
    s.shape(
        [(50, 4), (64, 16), (65, 38), (55, 58), (50, 60), (45, 58), (35, 38), (36, 16)], "gold", smooth=True
    )
    s.shape([(50, 4), (56, 18), (56, 38), (50, 60), (44, 38), (44, 18)], "red", smooth=True)
    s.box(43, 67, 57, 77, "umber")


def tractor(s: Sketch) -> None:
    """A tractor in a field."""
    s.sky("sky", "white")
    tree(s, 14, 66, 30)
    ground(s, 66, "umber")
    for k in range(5):
        s.stroke([(20 * k, 100), (30 + 10 * k, 70)], width=0.9)
    s.box(44, 44, 86, 64, "green")
    s.box(20, 22, 48, 62, "green")
    s.box(25, 27, 43, 44, "sky")
    s.box(16, 18, 52, 23, "green")
    s.limb([(70, 44), (70, 26)], 3, "ink")
    for y in (49, 54, 59):
        s.stroke([(76, y), (84, y)])
    wheel(s, 32, 66, 20)
    wheel(s, 76, 74, 12)


def tram(s: Sketch) -> None:
    """A tram that comes down a street."""
    s.sky("stone", "cream")
    s.box(-5, 10, 22, 84, "tan")
    s.box(78, 4, 105, 84, "rose")
    windows(s, (0, 16, 20, 60), 2, 4, "navy")
    windows(s, (80, 10, 100, 60), 2, 4, "navy")
    ground(s, 82, "slate", sway=0)
    s.stroke([(36, 86), (24, 104)], width=1.4)
    s.stroke([(64, 86), (76, 104)], width=1.4)
    s.stroke([(50, 18), (42, 8), (58, -2)], width=1.2, curve=False)
    s.shape([(26, 86), (26, 24), (32, 18), (68, 18), (74, 24), (74, 86)], "cream")
    s.box(26, 58, 74, 80, "red")
    s.box(30, 28, 48, 54, "sky")
    s.box(52, 28, 70, 54, "sky")
    s.disc((50, 68), (6, 6), "gold", volume=0.2)
    s.box(24, 80, 76, 87, "ink")


def rowing_boat(s: Sketch) -> None:
    """A rower on a still lake."""
    s.sky("dusk", "rose")
    s.shape([(-10, 48), (20, 32), (50, 44), (80, 28), (110, 48)], "violet", smooth=True)
    ground(s, 48, "teal", sway=0.4)
    figure(s, (46, 66), pose="sit", coat="red", trousers="slate", hair="ink", size=0.66)
    s.limb([(58, 60), (86, 84)], 2, "brown")
    s.shape([(82, 80), (92, 86), (90, 92), (80, 86)], "brown")
    s.shape([(10, 62), (24, 70), (76, 70), (92, 62), (80, 82), (24, 82)], "umber")
    s.stroke([(16, 68), (50, 75), (86, 68)])
    waves(s, 84, 4)


def biplane(s: Sketch) -> None:
    """A biplane above the clouds."""
    s.sky("blue", "sky")
    for x, y, w in ((20, 84, 44), (66, 90, 60), (88, 70, 30), (14, 20, 20)):
        cloud(s, x, y, w)
    s.shape([(12, 26), (82, 20), (84, 26), (14, 33)], "red")
    s.shape([(18, 50), (30, 42), (72, 40), (86, 46), (72, 58), (34, 58)], "cream", smooth=True)
    s.shape([(16, 52), (8, 34), (18, 34), (28, 46)], "red")
    s.shape([(24, 58), (84, 52), (86, 58), (26, 65)], "red")
    for x in (34, 46, 66, 76):
        s.stroke([(x, 30), (x + 2, 56)], width=1.3)
    s.disc((52, 40), (4, 4.4), "umber")
    s.disc((88, 47), (3, 4), "ink")
    s.stroke([(89, 32), (89, 62)], width=2)
    wheel(s, 66, 71, 5)
    s.stroke([(64, 58), (66, 70)], width=1.6)


def delivery_van(s: Sketch) -> None:
    """A small delivery van in front of a shop."""
    s.sky("cream", "sand")
    s.box(10, 8, 90, 60, "rose")
    for k in range(5):
        s.box(14 + 14.4 * k, 20, 21.2 + 14.4 * k, 28, "red" if k % 2 else "white")
    s.box(16, 30, 54, 58, "sky")
    ground(s, 76, "slate", sway=0)
    s.shape([(10, 78), (10, 42), (58, 42), (60, 46), (76, 48), (88, 62), (92, 64), (92, 78)], "gold")
    s.shape([(62, 50), (74, 51), (84, 62), (62, 62)], "sky")
    s.stroke([(58, 44), (58, 77)])
    s.disc((34, 60), (8, 8), "red", volume=0.1)
    s.disc((90, 68), (2, 3), "white")
    wheel(s, 28, 79, 9)
    wheel(s, 74, 79, 9)


MOTIFS = {
    "sailing_boat": sailing_boat,
    "locomotive": locomotive,
    "bicycle": bicycle,
    "balloon": balloon,
    "tractor": tractor,
    "tram": tram,
    "rowing_boat": rowing_boat,
    "biplane": biplane,
    "delivery_van": delivery_van,
}
