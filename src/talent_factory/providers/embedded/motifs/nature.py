"""Nine motifs of landscape and weather."""

from __future__ import annotations

from talent_factory.providers.embedded.motifs.parts import cloud, fir, ground, peak, tree, waves
from talent_factory.providers.embedded.sketch import Sketch


def mountain_lake(s: Sketch) -> None:
    """Peaks over a lake with firs."""
    s.sky("sky", "dusk")
    peak(s, 30, 60, 42)
    peak(s, 70, 60, 52)
    ground(s, 60, "blue", sway=0.5)
    waves(s, 64, 5)
    for x, h in ((8, 34), (20, 26), (88, 40)):
        fir(s, x, 72, h)
    ground(s, 92, "green")


def waterfall(s: Sketch) -> None:
    """A waterfall between cliffs."""
    s.sky("sky", "white")
    s.shape([(-10, 20), (30, 16), (40, 22), (38, 60), (34, 84), (-10, 90)], "slate")
    s.shape([(110, 12), (72, 14), (61, 22), (63, 58), (68, 84), (110, 90)], "stone")
    s.shape([(40, 20), (61, 20), (63, 55), (67, 86), (34, 86), (38, 55)], "white", volume=0.2)
    for x in (44, 49, 54, 58):
        s.stroke([(x, 24), (x + (x - 50) * 0.2, 52), (x + (x - 50) * 0.4, 80)], width=0.9)
    ground(s, 84, "teal")
    for x in (38, 46, 54, 62):
        s.disc((x, 85), (7, 4), "white", line=0.5)
    fir(s, 14, 24, 24)
    fir(s, 86, 18, 20)


def dunes(s: Sketch) -> None:
    """Sand dunes under a low sun."""
    s.sky("orange", "gold")
    s.disc((72, 28), (11, 11), "cream")
    s.shape([(-10, 62), (30, 42), (60, 56), (110, 44), (110, 110), (-10, 110)], "sand", smooth=True)
    s.shape([(30, 42), (44, 60), (36, 84), (90, 110), (-10, 110), (-10, 62)], "umber", line=0.6)
    s.shape([(-10, 86), (40, 70), (110, 88), (110, 115), (-10, 115)], "tan", smooth=True)
    for k in range(4):
        s.stroke([(50 + 6 * k, 80 + 4 * k), (66 + 6 * k, 83 + 4 * k), (84 + 5 * k, 82 + 4 * k)], width=0.7)


def storm_sea(s: Sketch) -> None:
    """Large waves under dark clouds."""
    s.sky("slate", "stone")
    for x, y in ((18, 16), (52, 10), (84, 20)):
        cloud(s, x, y, 50, "slate")
    ground(s, 52, "navy")
    for y, x, colour in ((66, 64, "teal"), (84, 26, "blue")):
        crest = [(x - 34, y + 16), (x - 16, y - 4), (x + 6, y - 18), (x + 20, y - 10), (x + 12, y - 4)]
        s.shape(
            [(-10, y + 22), *crest, (x + 24, y + 12), (110, y + 20), (110, 115), (-10, 115)],
            colour,
            smooth=True,
        )
        s.shape([(x - 2, y - 13), (x + 8, y - 20), (x + 21, y - 10), (x + 12, y - 6)], "white", smooth=True)
        s.stroke([(x - 20, y + 12), (x - 4, y - 2), (x + 8, y - 4)])


def birch_grove(s: Sketch) -> None:
    """White trunks in autumn leaves."""
    s.sky("gold", "cream")
    ground(s, 78, "orange", sway=3)
    for x, colour in ((12, "orange"), (40, "gold"), (66, "red"), (92, "orange")):
        s.disc((x, 14), (22, 20), colour, line=0.6)
    for x, base, w in ((24, 84, 5), (50, 80, 4), (76, 86, 6), (90, 79, 4), (8, 79, 4)):
        s.limb([(x, base), (x + 1, -6)], w, "white", tip=w * 0.7)
        for k in range(5):
            y = 8 + k * 15 + (x % 7)
            s.stroke([(x - w * 0.3, y), (x + w * 0.25, y + 0.6)], width=1.6)


def cactus_desert(s: Sketch) -> None:
    """Cacti before table mountains."""
    s.sky("sky", "dusk")
    s.shape([(4, 62), (10, 40), (34, 39), (42, 62)], "red")
    s.shape([(60, 62), (66, 46), (92, 45), (98, 62)], "orange")
    ground(s, 62, "sand")
    for x, base, k in ((36, 92, 1.0), (78, 82, 0.6)):
        s.limb([(x, base), (x, base - 56 * k)], 11 * k, "green")
        for side, y in ((-1, 30), (1, 38)):
            s.limb(
                [
                    (x, base - y * k),
                    (x + side * 15 * k, base - y * k),
                    (x + side * 15 * k, base - (y + 16) * k),
                ],
                7 * k,
                "green",
            )
        s.stroke([(x - 2 * k, base - 4), (x - 2 * k, base - 52 * k)], width=0.7)
        s.stroke([(x + 2 * k, base - 4), (x + 2 * k, base - 52 * k)], width=0.7)
    s.disc((60, 92), (7, 4), "stone")


def winter_tree(s: Sketch) -> None:
    """A bare tree in the snow."""
    s.sky("slate", "white")
    ground(s, 74, "white", sway=2)
    s.limb([(48, 88), (50, 60), (48, 40)], 8, "ink", tip=4)
    for a, b, c in (
        ((49, 60), (34, 46), (20, 40)),
        ((49, 56), (64, 42), (80, 34)),
        ((48, 44), (38, 28), (30, 14)),
        ((48, 42), (58, 26), (64, 10)),
    ):
        s.limb([a, b, c], 3.6, "ink", tip=1.0)
        s.limb([b, (b[0] - 3, b[1] - 10), (b[0] - 7, b[1] - 18)], 2.0, "ink", tip=0.6)
        s.limb([b, (b[0] + 5, b[1] - 8), (b[0] + 12, b[1] - 13)], 1.8, "ink", tip=0.6)
    s.shape([(50, 87), (84, 93), (96, 92), (52, 90)], "slate", line=0)


def volcano(s: Sketch) -> None:
    """A volcano that smokes and glows."""
    s.sky("navy", "orange")
    for x, y, w in ((50, 22, 34), (60, 10, 46), (76, 2, 50)):
        cloud(s, x, y, w, "slate")
    s.shape([(2, 92), (30, 54), (42, 34), (58, 34), (70, 54), (100, 92)], "umber")
    s.shape([(42, 34), (50, 37), (58, 34), (56, 46), (60, 62), (52, 54), (50, 76), (46, 50)], "red")
    s.shape([(46, 35), (54, 35), (52, 48), (49, 48)], "gold", line=0)
    ground(s, 88, "pine")
    tree(s, 12, 94, 20, "pine")


def poppy_field(s: Sketch) -> None:
    """A meadow of poppies with a far wood."""
    s.sky("sky", "white")
    cloud(s, 70, 18, 36)
    ground(s, 48, "pine", sway=3)
    ground(s, 54, "lime")
    for k in range(26):
        depth = (k / 26) ** 1.3
        x, y = (k * 38.2 + 11 * (k % 3)) % 104, 58 + 36 * depth
        r = 1.4 + 5.2 * depth
        s.limb([(x, y), (x + 1, y + r * 2.6)], 0.5 + depth, "pine", line=0)
        s.disc((x, y), (r, r * 0.8), "red", line=0.7)
        s.disc((x, y), (r * 0.3, r * 0.25), "ink", line=0)


MOTIFS = {
    "mountain_lake": mountain_lake,
    "waterfall": waterfall,
    "dunes": dunes,
    "storm_sea": storm_sea,
    "birch_grove": birch_grove,
    "cactus_desert": cactus_desert,
    "winter_tree": winter_tree,
    "volcano": volcano,
    "poppy_field": poppy_field,
}
