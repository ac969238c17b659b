"""Hair and beards."""

from __future__ import annotations

import numpy as np

from talent_factory.lipsync.synth.curves import dropped, head, oval
from talent_factory.lipsync.synth.easel import Easel, Points
from talent_factory.lipsync.synth.person import Person, mixed, shaded


def paint_hair_behind(easel: Easel, person: Person) -> None:
    """What hangs behind the head."""
    dark = shaded(person.hair, 0.72)
    cheek = person.cheek
    if person.haircut in ("bob", "long"):
        end = 0.62 if person.haircut == "bob" else 1.3
        side = np.array(
            [[-cheek * 1.02, -0.7], [-cheek * 1.26, -0.2], [-cheek * 1.28, 0.3], [-cheek * 1.12, end]]
        )
        shape = np.concatenate([side, side[::-1] * [-1, 1]])
        easel.paint(shape, dark, soft=0.02)
        easel.paint(oval(0, -0.5, cheek * 1.16, 0.52), dark, soft=0.01)
    elif person.haircut == "curls":
        for angle in np.linspace(np.pi * 0.93, np.pi * 2.07, 13):
            easel.paint(
                oval(cheek * 1.08 * np.cos(angle), -0.22 + 0.72 * np.sin(angle), 0.2, 0.2), dark, soft=0.015
            )
    elif person.haircut == "bun":
        easel.paint(oval(0, -0.98, 0.22, 0.2), dark, soft=0.008)


def paint_hair(easel: Easel, person: Person, shift: float) -> None:
    """What lies on the head: a cap above the hairline, with strands of light."""
    if person.haircut == "bald":
        shine = oval(0.12 * person.light + shift, -0.72, 0.2, 0.07)
        easel.paint(shine, mixed(person.skin, (255, 255, 255), 0.6), strength=0.5, soft=0.05)
        return
    cap = _cap(person, shift)
    easel.paint(cap, person.hair, soft=0.008)
    bright = mixed(person.hair, (255, 240, 215), 0.28)
    for place in (-0.55, -0.3, -0.08, 0.16, 0.4):
        x = np.linspace(place, place * 1.35 + 0.02, 9) * person.cheek * 1.4
        y = np.linspace(-0.94, -0.62, 9) + 0.1 * np.abs(place)
        easel.line(np.stack([x, y], axis=1), bright, 0.05, strength=0.35, soft=0.02, clip=cap)


def _cap(person: Person, shift: float) -> Points:
    angle = np.linspace(np.pi, 2 * np.pi, 40)
    outer = np.stack(
        [person.cheek * 1.07 * np.cos(angle), 0.97 * np.sin(angle) * np.abs(np.sin(angle)) ** -0.05], axis=1
    )
    outer[:, 1] = np.maximum(outer[:, 1], -0.97)
    side = -0.16 if person.haircut in ("crop", "parted") else -0.02
    outer[:, 1] = np.minimum(outer[:, 1], side)
    share = np.linspace(1, -1, 30)
    line = -0.58 + 0.10 * share**2
    if person.haircut == "parted":
        line = -0.52 - 0.16 * np.exp(-(((share - 0.35) / 0.3) ** 2)) + 0.12 * share**2
    elif person.haircut == "bob":  # a fringe
        line = -0.44 + 0.03 * share**2 + 0.012 * np.cos(share * 26)
    elif person.haircut == "curls":
        line = -0.56 + 0.12 * share**2 + 0.025 * np.cos(share * 17)
    fall = np.clip((np.abs(share) - 0.82) / 0.18, 0, 1) ** 1.5
    line = line + (side - line) * fall
    inner = np.stack([person.cheek * 0.985 * share + shift * 0.5 * (1 - share**2), line], axis=1)
    return np.concatenate([outer, inner])


def paint_beard(easel: Easel, person: Person, opening: float, shift: float) -> None:
    """A beard on the jaw; it moves with it."""
    if person.beard in ("none", "moustache"):
        return
    # the outline runs down one cheek, around the chin and up the other, and back along the inner edge
    outline = head(person.cheek * 0.99, person.chin * 1.01, person.square)
    jaw = outline[outline[:, 1] > 0.2]
    inner = np.stack([jaw[:, 0] * 0.72, 0.33 + (jaw[:, 1] - 0.33) * 0.42], axis=1)
    shape = dropped(np.concatenate([jaw, inner[::-1]]), opening, person.chin)
    shape[:, 0] += shift * 0.6
    colour, strength = (
        (shaded(person.hair, 0.9), 0.92) if person.beard == "full" else (shaded(person.skin, 0.5), 0.42)
    )
    face = dropped(outline, opening, person.chin)
    easel.paint(shape, colour, strength=strength, soft=0.03, clip=face)


def paint_moustache(easel: Easel, person: Person, width: float, shift: float) -> None:
    """Above the upper lip; it stays where it is when the mouth opens."""
    if person.beard in ("none", "stubble"):
        return
    half = person.mouth_size * (0.15 + 0.07 * width)
    share = np.linspace(-1, 1, 21)
    top = person.mouth_height - 0.105 + 0.05 * share**2
    bottom = person.mouth_height - 0.042 + 0.055 * share**2 - 0.012 * np.exp(-((share / 0.1) ** 2))
    x = shift + half * share
    shape = np.concatenate([np.stack([x, top], 1), np.stack([x, bottom], 1)[::-1]])
    easel.paint(shape, shaded(person.hair, 0.88), strength=0.92, soft=0.012)
