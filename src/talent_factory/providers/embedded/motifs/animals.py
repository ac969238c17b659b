"""Nine motifs of animals."""

from __future__ import annotations

from talent_factory.providers.embedded.motifs.parts import cloud, fir, ground, waves
from talent_factory.providers.embedded.sketch import Sketch


def fox(s: Sketch) -> None:
    """A fox that sits in the snow."""
    s.sky("sky", "white")
    fir(s, 12, 70, 44)
    fir(s, 90, 68, 36)
    ground(s, 70, "white")
    s.limb([(62, 84), (82, 82), (88, 64), (80, 52)], 12, "orange", tip=5)
    s.shape([(36, 88), (34, 62), (44, 46), (56, 46), (66, 62), (66, 88)], "orange", smooth=True)
    s.shape([(44, 52), (56, 52), (54, 76), (46, 76)], "white", smooth=True)
    for x in (43, 56):
        s.limb([(x, 66), (x, 88)], 6, "orange", tip=5)
        s.disc((x, 89), (4, 2.6), "ink")
    for side in (-1, 1):
        s.shape([(50 + side * 5, 22), (50 + side * 16, 8), (50 + side * 18, 28)], "orange")
    s.shape([(30, 30), (40, 20), (60, 20), (70, 30), (58, 44), (50, 51), (42, 44)], "orange", smooth=False)
    s.shape([(32, 33), (44, 38), (50, 50), (42, 45)], "white", line=0.5)
    s.shape([(68, 33), (56, 38), (50, 50), (58, 45)], "white", line=0.5)
    for x in (42, 58):
        s.disc((x, 32), (2.4, 2.2), "ink", volume=0)
    s.disc((50, 49), (3, 2.4), "ink")


def owl(s: Sketch) -> None:
    """An owl on a branch by moonlight."""
    s.sky("navy", "blue")
    s.disc((74, 24), (15, 15), "cream", volume=0.2)
    s.limb([(-5, 84), (50, 80), (105, 86)], 6, "brown")
    s.shape(
        [(28, 76), (26, 44), (34, 22), (50, 18), (66, 22), (74, 44), (72, 76), (50, 88)], "umber", smooth=True
    )
    s.shape([(36, 78), (36, 54), (50, 48), (64, 54), (64, 78), (50, 84)], "sand", smooth=True)
    for y in (58, 65, 72):
        for x in (42, 50, 58):
            s.stroke([(x - 3, y), (x, y + 3), (x + 3, y)], width=0.9)
    for side in (-1, 1):
        s.shape([(50 + side * 8, 24), (50 + side * 20, 10), (50 + side * 20, 30)], "umber")
        s.disc((50 + side * 10, 36), (9.5, 9.5), "cream", volume=0.1)
        s.disc((50 + side * 10, 36), (5.5, 5.5), "gold", volume=0.1)
        s.disc((50 + side * 10, 36), (3, 3), "ink", volume=0)
    s.shape([(46, 42), (54, 42), (50, 51)], "orange")


def whale(s: Sketch) -> None:
    """A whale under the water."""
    s.sky("teal", "navy")
    s.shape(
        [(4, 44), (12, 30), (36, 24), (60, 34), (80, 46), (92, 40), (86, 54), (70, 60), (40, 68), (14, 62)],
        "blue",
        smooth=True,
    )
    s.shape([(82, 50), (86, 32), (98, 24), (97, 38), (104, 50), (92, 52)], "blue", smooth=True)
    s.shape([(6, 50), (24, 54), (50, 58), (60, 61), (40, 68), (14, 62)], "white", smooth=True)
    for k in range(5):
        s.stroke([(10 + 7 * k, 53 + k), (18 + 7 * k, 59 + k * 0.6)], width=0.7)
    s.shape([(36, 58), (50, 62), (52, 82), (40, 72)], "navy", smooth=True)
    s.disc((22, 46), (2, 2), "ink", volume=0)
    for x, y, r in ((30, 14, 2.4), (36, 8, 1.6), (70, 80, 2), (16, 84, 2.6), (84, 14, 1.8)):
        s.disc((x, y), (r, r), "sky", line=0.7)


def cat_sill(s: Sketch) -> None:
    """A cat on a window sill."""
    s.sky("rose", "dusk")
    s.box(14, 4, 86, 78, "sky")
    s.box(47, 4, 53, 78, "white")
    s.box(4, 76, 96, 84, "white")
    s.limb([(62, 74), (80, 78), (84, 94), (76, 100)], 6, "ink", tip=4)
    s.shape([(34, 77), (32, 60), (40, 44), (56, 44), (66, 60), (66, 77)], "slate", smooth=True)
    for side in (-1, 1):
        s.shape([(48 + side * 4, 24), (48 + side * 13, 12), (48 + side * 14, 30)], "slate")
    s.disc((48, 34), (16, 13), "slate")
    for x in (42, 54):
        s.disc((x, 33), (3.2, 2.6), "lime", volume=0)
        s.disc((x, 33), (1, 2.4), "ink", volume=0, line=0)
    s.shape([(46.5, 38), (49.5, 38), (48, 40)], "rose")
    for side in (-1, 1):
        s.stroke([(48 + side * 4, 40), (48 + side * 20, 38)], width=0.6)
        s.stroke([(48 + side * 4, 41), (48 + side * 20, 43)], width=0.6)
    s.limb([(44, 60), (43, 76)], 5, "slate")
    s.limb([(55, 60), (55, 76)], 5, "slate")


def horse(s: Sketch) -> None:
    """A horse that runs over grass."""
    s.sky("sky", "cream")
    cloud(s, 78, 16, 28)
    ground(s, 72, "lime", sway=3)
    s.limb([(22, 50), (8, 52), (4, 66)], 6, "ink", tip=2)
    for points in (
        ((30, 58), (20, 70), (10, 80)),
        ((36, 60), (40, 76), (30, 88)),
        ((62, 58), (76, 66), (74, 80)),
        ((66, 56), (84, 58), (92, 68)),
    ):
        s.limb(points, 8, "umber", tip=3.4)
    s.shape([(22, 44), (44, 40), (66, 40), (74, 50), (68, 62), (46, 62), (28, 62)], "umber", smooth=True)
    s.shape([(60, 46), (70, 24), (80, 16), (84, 24), (76, 50), (70, 58)], "umber", smooth=True)
    s.shape([(76, 16), (84, 14), (98, 30), (96, 36), (90, 36), (78, 28)], "umber", smooth=True)
    s.shape([(76, 18), (78, 8), (83, 16)], "umber")
    s.shape([(58, 44), (62, 26), (76, 12), (74, 26), (66, 44)], "ink", smooth=True)
    s.disc((85, 22), (1.3, 1.3), "ink", volume=0)


def heron(s: Sketch) -> None:
    """A heron among reeds."""
    s.sky("dusk", "cream")
    ground(s, 66, "teal", sway=0.5)
    waves(s, 70, 5)
    for x in (47, 55):
        s.limb([(x, 60), (x + 1, 88)], 1.7, "brown")
    s.shape([(30, 68), (38, 50), (56, 42), (64, 50), (58, 62), (44, 66)], "slate", smooth=True)
    s.limb([(58, 50), (68, 40), (58, 28), (62, 16)], 6, "stone", tip=4)
    s.disc((64, 14), (6, 4.4), "stone")
    s.shape([(68, 12), (92, 17), (68, 17)], "orange")
    s.disc((66, 13), (1.1, 1.1), "ink", volume=0)
    s.stroke([(58, 12), (50, 14), (44, 19)], width=1.6)
    for x in (8, 14, 20, 84, 90, 95):
        s.limb([(x, 98), (x + 2, 42 + x % 9)], 1.6, "pine", tip=0.8)
        s.limb([(x + 2, 50 + x % 9), (x + 2, 40 + x % 9)], 3, "brown")


def tortoise(s: Sketch) -> None:
    """A tortoise on a path."""
    s.sky("cream", "sand")
    ground(s, 62, "tan")
    for x in (28, 64):
        s.limb([(x, 66), (x - 3, 82)], 10, "lime", tip=8)
    s.limb([(74, 62), (84, 54), (90, 50)], 10, "lime", tip=11)
    s.disc((92, 49), (1.2, 1.2), "ink", volume=0)
    s.shape([(12, 70), (16, 48), (34, 30), (56, 30), (74, 48), (80, 70), (46, 76)], "green", smooth=True)
    for x, y in ((46, 44), (30, 56), (62, 56), (46, 62)):
        s.shape(
            [(x - 8, y), (x - 4, y - 7), (x + 4, y - 7), (x + 8, y), (x + 4, y + 7), (x - 4, y + 7)], "umber"
        )
    s.stroke([(12, 70), (46, 76), (80, 70)], width=2)


def goldfish(s: Sketch) -> None:
    """Goldfish in a round glass."""
    s.sky("violet", "rose")
    ground(s, 82, "umber", sway=0)
    s.disc((50, 52), (40, 36), "white", volume=0.2)
    s.shape(
        [(12, 42), (50, 46), (88, 42), (86, 64), (70, 84), (50, 88), (30, 84), (14, 64)], "sky", smooth=True
    )
    for x, y, k, d in ((42, 58, 1.0, 1), (62, 70, 0.7, -1)):
        tail = [
            (x - d * 10 * k, y),
            (x - d * 22 * k, y - 9 * k),
            (x - d * 18 * k, y),
            (x - d * 23 * k, y + 9 * k),
        ]
        s.shape(tail, "red")
        s.disc((x, y), (13 * k, 7.5 * k), "orange")
        s.disc((x + d * 8 * k, y - 2 * k), (1.6 * k, 1.6 * k), "ink", volume=0)
        s.stroke([(x + d * 3 * k, y - 6 * k), (x + d * 1 * k, y), (x + d * 3 * k, y + 6 * k)])
    for x in (26, 30, 74):
        s.limb([(x, 80), (x + 3, 66), (x - 1, 54)], 2.4, "green", tip=1)


def elephant(s: Sketch) -> None:
    """An elephant on dry grass."""
    s.sky("gold", "dusk")
    s.disc((20, 24), (9, 9), "cream", volume=0)
    ground(s, 76, "sand")
    for x in (30, 42, 62, 72):
        s.limb([(x, 60), (x, 86)], 10, "slate", tip=9)
    s.shape(
        [(20, 60), (24, 38), (46, 28), (70, 34), (80, 52), (76, 68), (48, 70), (26, 70)], "slate", smooth=True
    )
    s.limb([(84, 44), (94, 58), (90, 78), (96, 84)], 10, "slate", tip=4)
    s.disc((78, 42), (14, 14), "slate")
    s.shape([(66, 30), (58, 36), (58, 52), (66, 60), (74, 52), (74, 36)], "stone", smooth=True)
    s.limb([(86, 54), (93, 60), (98, 58)], 3, "white", tip=1.4)
    s.disc((84, 40), (1.4, 1.4), "ink", volume=0)
    s.stroke([(22, 46), (16, 56), (17, 64)], width=1.6)


MOTIFS = {
    "fox": fox,
    "owl": owl,
    "whale": whale,
    "cat_sill": cat_sill,
    "horse": horse,
    "heron": heron,
    "tortoise": tortoise,
    "goldfish": goldfish,
    "elephant": elephant,
}
