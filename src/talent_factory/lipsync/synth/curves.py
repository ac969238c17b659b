"""The outlines that faces are made of, as points in half picture sides."""

from __future__ import annotations

import numpy as np

from talent_factory.lipsync.synth.easel import Points

JAW_DROP = 0.11
"""How far the chin sinks with a wide open mouth."""
JAW_TOP = 0.15
"""Above this height nothing moves with the mouth: the upper half of the picture says nothing about it."""


def oval(x: float, y: float, across: float, down: float, count: int = 40) -> Points:
    """An ellipse around (x, y)."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([x + across * np.cos(angle), y + down * np.sin(angle)], axis=1)


def box(left: float, top: float, right: float, bottom: float, corner: float, count: int = 10) -> Points:
    """A rectangle with round corners."""
    turn = np.linspace(0, np.pi / 2, count)
    centres = (
        (right - corner, bottom - corner),
        (left + corner, bottom - corner),
        (left + corner, top + corner),
        (right - corner, top + corner),
    )
    parts = [
        np.stack(
            [x + corner * np.cos(turn + k * np.pi / 2), y + corner * np.sin(turn + k * np.pi / 2)], axis=1
        )
        for k, (x, y) in enumerate(centres)
    ]
    return np.concatenate(parts)


def arch(left: float, right: float, ends: float, middle: float, count: int = 15) -> Points:
    """A parabola from (left, ends) over (centre, middle) to (right, ends)."""
    share = np.linspace(-1, 1, count)
    x = 0.5 * (left + right) + 0.5 * (right - left) * share
    return np.stack([x, middle + (ends - middle) * share**2], axis=1)


def mirrored(points: Points) -> Points:
    """The same shape on the other side of the face."""
    other: Points = points * np.array([-1.0, 1.0])
    return other


def dropped(points: Points, opening: float, chin: float) -> Points:
    """Points of the face's skin with the jaw open: nothing above JAW_TOP moves."""
    share = np.clip((points[:, 1] - JAW_TOP) / (chin - JAW_TOP), 0.0, 1.0)
    moved = points.copy()
    moved[:, 1] += JAW_DROP * opening * share * share * (3 - 2 * share)
    return moved


def head(cheek: float, chin: float, square: float, skull: float = 0.86) -> Points:
    """The outline of a face: half an ellipse above, a squarer curve from the cheeks to the chin."""
    angle = np.linspace(0, np.pi, 64)
    cos, sin = np.cos(angle), np.sin(angle)
    jaw = np.stack([np.sign(cos) * cheek * np.abs(cos) ** (2 / square), chin * sin ** (2 / 2.15)], axis=1)
    top = np.stack([-cheek * 1.0 * cos, -skull * sin**0.92], axis=1)
    return np.concatenate([jaw, top[1:-1]])


def shifted(points: Points, x: float = 0.0, y: float = 0.0) -> Points:
    """The points moved."""
    moved: Points = points + np.array([x, y])
    return moved
