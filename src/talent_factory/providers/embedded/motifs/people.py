"""Nine motifs of people."""

from __future__ import annotations

from talent_factory.providers.embedded.motifs.parts import bust, cloud, face, figure, ground, waves, windows
from talent_factory.providers.embedded.sketch import Sketch


def fisher(s: Sketch) -> None:
    """A fisher in a rain hat before the sea."""
    s.sky("sky", "white")
    ground(s, 58, "teal")
    waves(s, 62, 5)
    bust(s, coat="gold", hair="stone", y=45)
    s.shape(
        [(24, 33), (33, 31), (36, 12), (50, 6), (64, 12), (67, 31), (77, 35), (50, 38)], "gold", smooth=True
    )
    s.stroke([(33, 31), (50, 34), (67, 31)])
    s.shape([(37, 56), (40, 66), (50, 73), (60, 66), (63, 56), (50, 60)], "white", smooth=True)


def dancer(s: Sketch) -> None:
    """A dancer in the air over a stage."""
    s.sky("violet", "rose")
    ground(s, 86, "umber", sway=0)
    s.shape([(30, -5), (70, -5), (98, 88), (2, 88)], "cream", volume=0.1, line=0)
    s.disc((50, 91), (22, 3), "brown", volume=0, line=0)
    figure(s, (50, 58), pose="leap", coat="red", trousers="cream", hair="ink", size=0.95)
    s.shape([(40, 50), (60, 50), (76, 66), (62, 66), (50, 70), (38, 66), (24, 66)], "red", smooth=True)


def gardener(s: Sketch) -> None:
    """A gardener with a watering can among flowers."""
    s.sky("sky", "cream")
    ground(s, 66, "green")
    figure(s, (42, 56), pose="work", coat="blue", trousers="umber", hair="white", size=0.9)
    s.disc((42, 11), (15, 3.4), "sand")
    s.disc((42, 8), (8, 5), "sand")
    s.box(63, 44, 75, 57, "slate")
    s.limb([(75, 54), (84, 47), (89, 49)], 3, "slate")
    s.stroke([(64, 44), (69, 38), (75, 45)], width=1.5)
    for k, colour in enumerate(("red", "gold", "rose", "orange", "red", "violet")):
        x = 62 + 7 * k
        s.limb([(x, 96), (x + 1, 80 + 3 * (k % 2))], 1.6, "pine")
        s.disc((x + 1, 78 + 3 * (k % 2)), (3.6, 3.6), colour)


def cellist(s: Sketch) -> None:
    """A cellist seated with the instrument."""
    s.sky("brown", "umber")
    ground(s, 80, "brown", sway=0)
    s.box(24, 58, 62, 64, "slate")
    s.limb([(28, 64), (26, 92)], 3, "slate")
    s.limb([(58, 64), (60, 92)], 3, "slate")
    figure(s, (42, 56), pose="sit", coat="ink", trousers="slate", hair="stone", size=1.05)
    cello = [
        (66, 42),
        (74, 45),
        (72, 55),
        (79, 64),
        (76, 80),
        (63, 83),
        (51, 78),
        (51, 64),
        (59, 56),
        (58, 45),
    ]
    s.shape(cello, "orange", smooth=True)
    s.limb([(65, 46), (61, 16)], 3.4, "brown")
    s.limb([(66, 60), (65, 76)], 2.4, "ink")
    s.stroke([(36, 62), (90, 54)], width=1.6)


def child_kite(s: Sketch) -> None:
    """A child with a kite on a hill."""
    s.sky("sky", "white")
    cloud(s, 22, 20, 28)
    ground(s, 78, "lime", sway=4)
    figure(s, (34, 72), pose="raise", coat="red", trousers="blue", hair="gold", size=0.56)
    s.stroke([(47, 45), (62, 44), (75, 27)], width=0.8)
    s.shape([(76, 8), (88, 20), (76, 36), (67, 20)], "orange")
    s.stroke([(76, 8), (76, 36)])
    s.stroke([(67, 20), (88, 20)])
    s.stroke([(76, 36), (72, 43), (78, 49), (73, 56)], width=1.2)


def baker(s: Sketch) -> None:
    """A baker holding a loaf."""
    s.sky("cream", "sand")
    windows(s, (4, 6, 26, 40), 2, 2, "orange")
    bust(s, coat="white", skin="tan", hair="ink", y=45)
    s.shape([(34, 32), (30, 16), (38, 8), (50, 5), (62, 8), (70, 16), (66, 32)], "white", smooth=True)
    s.stroke([(35, 28), (50, 31), (65, 28)])
    s.shape([(20, 88), (30, 78), (70, 78), (80, 88), (72, 98), (28, 98)], "orange", smooth=True)
    for x in (35, 47, 59):
        s.stroke([(x, 81), (x + 6, 92)], width=1.4)


def mechanic(s: Sketch) -> None:
    """A mechanic with a wrench on the shoulder."""
    s.sky("slate", "stone")
    s.disc((18, 26), (13, 13), "umber")
    s.disc((18, 26), (5, 5), "slate")
    bust(s, coat="blue", skin="umber", hair="ink")
    s.shape([(31, 32), (34, 20), (50, 14), (66, 20), (69, 32), (50, 27)], "red", smooth=True)
    s.limb([(70, 98), (84, 34)], 6, "stone")
    s.disc((86, 26), (9, 9), "stone")
    s.disc((88, 21), (4, 5), "slate")
    s.disc((71, 92), (8, 7), "umber")


def umbrella_pair(s: Sketch) -> None:
    """Two friends under one umbrella in the rain."""
    s.sky("slate", "stone")
    ground(s, 84, "slate", sway=0)
    for k in range(16):
        x, y = (k * 37) % 100, (k * 23) % 78
        s.stroke([(x, y), (x - 2, y + 7)], width=0.6)
    figure(s, (36, 62), pose="stand", coat="gold", trousers="navy", hair="ink", size=0.72)
    figure(s, (62, 62), pose="stand", coat="teal", trousers="umber", skin="umber", hair="brown", size=0.74)
    s.limb([(49, 60), (49, 14)], 1.8, "ink")
    s.shape(
        [(14, 28), (22, 12), (49, 3), (76, 12), (85, 28), (68, 24), (49, 27), (31, 24)], "red", smooth=True
    )
    s.stroke([(49, 3), (36, 14), (31, 24)])
    s.stroke([(49, 3), (62, 14), (68, 24)])


def reader(s: Sketch) -> None:
    """A woman who reads by a window."""
    s.sky("teal", "pine")
    s.box(56, 6, 94, 56, "cream")
    s.stroke([(75, 6), (75, 56)], width=1.4)
    s.stroke([(56, 30), (94, 30)], width=1.4)
    s.shape([(14, 112), (18, 78), (34, 66), (52, 66), (66, 78), (72, 112)], "rose", smooth=True)
    s.shape([(22, 70), (22, 32), (42, 16), (62, 32), (62, 68)], "umber", smooth=True)
    s.limb([(42, 58), (42, 68)], 12, "skin")
    face(s, 42, 42, 15, hair="umber")
    s.shape([(22, 82), (48, 87), (48, 104), (22, 99)], "white")
    s.shape([(48, 87), (76, 80), (76, 98), (48, 104)], "cream")
    for y in (87, 91, 95):
        s.stroke([(53, y + 1), (72, y - 4)], width=0.6)


MOTIFS = {
    "fisher": fisher,
    "dancer": dancer,
    "gardener": gardener,
    "cellist": cellist,
    "child_kite": child_kite,
    "baker": baker,
    "mechanic": mechanic,
    "umbrella_pair": umbrella_pair,
    "reader": reader,
}
