"""Eyes, brows and glasses: what lives in the upper half, apart from the sound."""

from __future__ import annotations

import numpy as np

from talent_factory.lipsync.synth.curves import arch, box, mirrored, oval, shifted
from talent_factory.lipsync.synth.easel import Easel
from talent_factory.lipsync.synth.person import Person, mixed, shaded

EYE_HEIGHT = -0.17


def paint_eyes(easel: Easel, person: Person, lids: float, brows: float, shift: float) -> None:
    """Both eyes with `lids` open (0 shut, 1 open) and brows lifted by `brows`."""
    for side in (-1.0, 1.0):
        _eye(easel, person, side, lids, shift)
        x = side * person.eye_gap + shift
        low, high = EYE_HEIGHT - 0.15 - brows, EYE_HEIGHT - 0.17 - person.brow_arch - brows
        brow = arch(x - 0.115, x + 0.115, low, high)
        colour = mixed(shaded(person.hair, 0.85), person.skin, 0.12)
        easel.line(brow, colour, person.brow_weight * 1.5, strength=0.9, soft=0.007)


def _eye(easel: Easel, person: Person, side: float, lids: float, shift: float) -> None:
    size = person.eye_size
    x, y = side * person.eye_gap + shift, EYE_HEIGHT
    socket = shaded(person.skin, 0.72)
    easel.paint(oval(x, y - 0.015, size * 1.5, size * 0.95), socket, strength=0.5, soft=0.035)
    upper = arch(x - size, x + size, y + 0.008, y - size * 0.62 * lids + 0.012 * (1 - lids))
    lower = arch(x - size, x + size, y + 0.008, y + size * 0.36 * max(lids, 0.12))
    almond = np.concatenate([upper, lower[::-1]])
    if lids > 0.15:
        easel.paint(almond, (240, 236, 230))
        iris = oval(x, y - 0.006, size * 0.47, size * 0.5)
        easel.paint(iris, shaded(person.eye, 0.7), clip=almond)
        easel.paint(oval(x, y, size * 0.38, size * 0.4), person.eye, clip=almond, soft=0.01)
        easel.paint(oval(x, y - 0.006, size * 0.2, size * 0.21), (16, 12, 12), clip=almond)
        spark = oval(x + 0.18 * size * np.sign(person.light), y - 0.2 * size, size * 0.11, size * 0.11)
        easel.paint(spark, (255, 255, 255), clip=almond)
        easel.line(shifted(upper, y=0.012), (60, 40, 36), 0.03, clip=almond, soft=0.012, strength=0.5)
    lash = shaded(mixed(person.hair, (20, 14, 14), 0.6), 0.8)
    easel.line(upper, lash, 0.024, strength=0.95)
    easel.line(lower, shaded(person.skin, 0.6), 0.01, strength=0.6)
    fold = shifted(arch(x - size * 0.95, x + size * 0.95, y - 0.02, y - size * 0.95), y=0.004)
    easel.line(fold, shaded(person.skin, 0.66), 0.012, strength=0.6, soft=0.004)


def paint_glasses(easel: Easel, person: Person, shift: float) -> None:
    """The frame and a breath of glass; nothing for those who wear none."""
    if person.glasses == "none":
        return
    frame = (38, 34, 36)
    gap, size = person.eye_gap, person.eye_size
    for side in (-1.0, 1.0):
        if person.glasses == "round":
            outer, inner = (oval(0, 0, size * r, size * r) for r in (1.62, 1.46))
        else:
            outer = box(-size * 1.6, -size * 1.15, size * 1.6, size * 1.15, 0.05)
            inner = box(-size * 1.46, -size * 1.0, size * 1.46, size * 1.0, 0.045)
        x = side * gap * 1.04 + shift
        # out along the outer edge and back along the inner one: a ring
        ring = shifted(np.concatenate([outer, outer[:1], inner[:1], inner[::-1]]), x, EYE_HEIGHT)
        easel.paint(shifted(inner, x, EYE_HEIGHT), (225, 235, 245), strength=0.10)
        easel.paint(ring, frame)
        arm = np.array([[gap * 1.04 + size * 1.55, EYE_HEIGHT - 0.02], [person.cheek, EYE_HEIGHT - 0.05]])
        arm = arm if side > 0 else mirrored(arm)
        easel.line(shifted(arm, shift * 0.6), frame, 0.026)
    bridge = arch(shift - gap + size * 1.5, shift + gap - size * 1.5, EYE_HEIGHT, EYE_HEIGHT - 0.03)
    easel.line(bridge, frame, 0.03)
