"""Nine motifs of things on a table or a floor."""

from __future__ import annotations

import math

from talent_factory.providers.embedded.motifs.parts import ground
from talent_factory.providers.embedded.sketch import Sketch


def _table(s: Sketch, wall: str, low: str, table: str, y: float = 72) -> None:
    s.sky(wall, low)
    ground(s, y, table, sway=0)


def teapot(s: Sketch) -> None:
    """A teapot and a cup."""
    _table(s, "cream", "sand", "umber")
    s.limb([(60, 60), (74, 54), (82, 40)], 9, "teal", tip=5)
    s.limb([(26, 44), (12, 48), (16, 64), (28, 66)], 4, "teal")
    s.disc((44, 58), (24, 21), "teal")
    s.disc((44, 38), (13, 4.5), "teal")
    s.disc((44, 33), (3.5, 3.5), "gold")
    s.stroke([(24, 60), (44, 66), (65, 60)])
    s.shape([(64, 70), (90, 70), (87, 84), (80, 89), (73, 89), (67, 84)], "white")
    s.disc((77, 70), (13, 3), "orange")


def lamp_books(s: Sketch) -> None:
    """A lamp beside a stack of books."""
    _table(s, "navy", "violet", "brown")
    s.shape([(24, 12), (44, 12), (56, 40), (12, 40)], "gold")
    s.limb([(34, 40), (34, 76)], 4, "slate")
    s.disc((34, 80), (14, 4.5), "slate")
    for k, (colour, left) in enumerate((("red", 56), ("green", 60), ("blue", 54), ("orange", 59))):
        y = 78 - 9 * k
        s.box(left, y, left + 34, y + 9, colour)
        s.box(left + 30, y + 1.6, left + 34, y + 7.4, "cream", line=0.6)


def fruit_bowl(s: Sketch) -> None:
    """Fruit in a bowl."""
    _table(s, "teal", "sky", "sand", 66)
    for x, y, r, colour in (
        (34, 46, 12, "red"),
        (66, 46, 12, "orange"),
        (50, 38, 13, "lime"),
        (50, 52, 12, "gold"),
    ):
        s.disc((x, y), (r, r), colour)
        s.stroke([(x, y - r), (x + 2, y - r - 5)], width=1.6)
    s.shape([(14, 54), (86, 54), (76, 76), (60, 84), (40, 84), (24, 76)], "blue", smooth=False)
    s.stroke([(20, 64), (50, 70), (80, 64)])
    s.shape([(38, 84), (62, 84), (66, 89), (34, 89)], "blue")


def camera(s: Sketch) -> None:
    """An old camera."""
    _table(s, "stone", "cream", "brown")
    s.box(14, 36, 86, 80, "slate")
    s.box(14, 50, 86, 72, "ink")
    s.box(38, 26, 62, 36, "slate")
    s.box(20, 30, 32, 36, "stone")
    for r, colour in ((20, "stone"), (16, "ink"), (11, "navy"), (5, "sky")):
        s.disc((50, 60), (r, r), colour, volume=0.6)
    s.disc((75, 43), (4, 3), "cream")


def potted_plant(s: Sketch) -> None:
    """A plant with broad leaves in a pot."""
    _table(s, "cream", "white", "tan", 78)
    leaves = (
        ((50, 62), (26, 50), (14, 30)),
        ((50, 62), (74, 48), (88, 30)),
        ((50, 60), (38, 32), (34, 8)),
        ((50, 60), (62, 32), (68, 8)),
        ((50, 62), (50, 40), (50, 16)),
    )
    for root, bend, tip in leaves:
        dx = 8 if abs(tip[0] - 50) < 20 else 3
        s.shape([root, (bend[0] - dx, bend[1] - 4), tip, (bend[0] + dx, bend[1] + 7)], "green", smooth=True)
        s.stroke([root, bend, tip], width=0.8)
    s.shape([(32, 60), (68, 60), (63, 92), (37, 92)], "orange")
    s.box(29, 58, 71, 66, "orange")


def boots(s: Sketch) -> None:
    """A pair of worn boots."""
    _table(s, "sand", "cream", "slate", 74)
    for x, y in ((22, -3), (50, 3)):
        boot = [
            (x, 22 + y),
            (x + 20, 22 + y),
            (x + 21, 56 + y),
            (x + 38, 66 + y),
            (x + 40, 80 + y),
            (x - 2, 80 + y),
            (x, 56 + y),
        ]
        s.shape(boot, "umber")
        s.shape([(x - 3, 80 + y), (x + 41, 80 + y), (x + 41, 85 + y), (x - 3, 85 + y)], "ink")
        for k in range(4):
            s.stroke([(x + 10, 34 + 8 * k + y), (x + 21, 36 + 8 * k + y)], width=1.4)


def lantern(s: Sketch) -> None:
    """A lantern with a candle at night."""
    _table(s, "ink", "navy", "brown")
    s.disc((50, 50), (36, 36), "umber", volume=0.9, line=0)
    s.stroke([(36, 26), (38, 10), (50, 5), (62, 10), (64, 26)], width=1.8)
    s.box(32, 34, 68, 78, "gold")
    s.box(45, 56, 55, 78, "white")
    s.shape([(50, 40), (54, 50), (50, 56), (46, 50)], "orange", smooth=True)
    for x in (32, 68):
        s.limb([(x, 34), (x, 78)], 2.4, "ink")
    s.shape([(28, 34), (40, 22), (60, 22), (72, 34)], "ink")
    s.box(28, 78, 72, 85, "ink")


def clock(s: Sketch) -> None:
    """An alarm clock with two bells."""
    _table(s, "rose", "dusk", "teal")
    for side in (-1, 1):
        s.limb([(50 + side * 16, 72), (50 + side * 23, 86)], 5, "slate")
        s.disc((50 + side * 17, 22), (11, 9), "gold")
    s.disc((50, 52), (30, 30), "red")
    s.disc((50, 52), (24, 24), "cream", volume=0.2)
    for k in range(12):
        a = math.pi * k / 6
        s.stroke(
            [(50 + 19 * math.cos(a), 52 + 19 * math.sin(a)), (50 + 22 * math.cos(a), 52 + 22 * math.sin(a))],
            width=1.4,
        )
    s.stroke([(50, 52), (50, 36)], width=2.4)
    s.stroke([(50, 52), (62, 58)], width=2.4)


def guitar(s: Sketch) -> None:
    """A guitar that leans on a wall."""
    _table(s, "lime", "cream", "brown", 82)
    s.limb([(56, 50), (70, 4)], 6, "brown")
    body = [
        (40, 46),
        (54, 42),
        (64, 50),
        (62, 62),
        (70, 74),
        (62, 90),
        (44, 93),
        (29, 85),
        (29, 70),
        (39, 60),
    ]
    s.shape(body, "orange", smooth=True)
    s.disc((50, 64), (7.5, 7.5), "ink", volume=0)
    s.limb([(39, 82), (52, 85)], 3, "brown")
    for d in (-1.2, 0.3, 1.8):
        s.stroke([(45 + d, 83), (68 + d, 6)], width=0.6)


MOTIFS = {
    "teapot": teapot,
    "lamp_books": lamp_books,
    "fruit_bowl": fruit_bowl,
    "camera": camera,
    "potted_plant": potted_plant,
    "boots": boots,
    "lantern": lantern,
    "clock": clock,
    "guitar": guitar,
}
