"""Who is drawn: the attributes of a character, how chance picks them, and how they are said in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from talent_factory.world import palette


@dataclass(frozen=True, slots=True)
class Signature:
    """Permanent marks that make one actor unlike any other; captions never name them.

    `dot` is the colour of a dot below each eye (a key of `palette.MARK_COLOURS`), or "" for none, and
    `second_hair` the colour of the right half of the hair (a key of `palette.HAIR`), or "" for one colour.
    """

    dot: str = ""
    second_hair: str = ""


@dataclass(frozen=True, slots=True)
class Character:
    """Everything that is drawn and everything that can be said of a drawing; values are palette names."""

    kind: str = "woman"
    framing: str = "portrait"
    medium: str = "flat"
    hair: str = "short"
    hair_colour: str = "brown"
    skin: str = "pale"
    eyes: str = "brown"
    accessory: str = "none"
    shirt: str = "blue"
    mood: str = "neutral"
    background: str = "white"
    signature: Signature = Signature()


def sample_character(rng: np.random.Generator, *, unseen: bool = False) -> Character:
    """Draw the attributes of one character from `rng`.

    With `unseen` the result may carry signature marks and media that the embedded base is never trained on
    (the autoencoder and the attribute probe have to know them all the same).
    """

    def pick(names: Sequence[str]) -> str:
        return str(names[int(rng.integers(len(names)))])

    kind = pick(palette.KINDS)
    skins = {"creature": palette.CREATURE_SKIN, "robot": palette.ROBOT_SKIN}.get(kind, palette.HUMAN_SKIN)
    framing = str(rng.choice(palette.FRAMINGS, p=[0.74, 0.12, 0.14]))
    accessory = pick(palette.ACCESSORIES[1:]) if rng.random() < 0.62 else "none"
    if framing == "close-up" and accessory in ("scarf", "flower", "balloon"):
        accessory = "glasses"
    background = pick(palette.SCENES) if rng.random() < 0.3 else pick(tuple(palette.PLAIN_BACKGROUNDS))
    who = Character(
        kind=kind,
        framing=framing,
        medium=pick(palette.MEDIA),
        hair="none" if kind == "robot" else pick(palette.HAIRCUTS),
        hair_colour=pick(tuple(palette.HAIR)),
        skin=pick(tuple(skins)),
        eyes=pick(tuple(palette.EYES)),
        accessory=accessory,
        shirt=pick(tuple(palette.CLOTH)),
        mood=pick(palette.MOODS),
        background=background,
    )
    if not unseen:
        return who
    marks = Signature(
        dot=pick(tuple(palette.MARK_COLOURS)) if rng.random() < 0.5 else "",
        second_hair=pick(tuple(palette.HAIR)) if rng.random() < 0.5 else "",
    )
    if marks.second_hair == who.hair_colour:
        marks = replace(marks, second_hair="")
    medium = pick(palette.UNSEEN_MEDIA) if rng.random() < 0.2 else who.medium
    return replace(who, signature=marks, medium=medium)


def phrases(who: Character) -> list[str]:
    """The parts of a caption that may be left out or reordered: one visible attribute each.

    Colours are not named in monochrome media, nor what the framing leaves out: a caption never says what
    the drawing does not show.
    """
    coloured = who.medium not in palette.MONOCHROME
    near = who.framing != "full body"
    parts: list[str] = []
    if who.hair == "bald":
        parts.append("bald")
    elif who.hair != "none":
        parts.append(f"{who.hair_colour} {who.hair} hair" if coloured else f"{who.hair} hair")
    if coloured:
        parts.append(f"{who.skin} skin")
        if who.framing != "close-up":
            parts.append(f"{who.shirt} shirt")
        if near:
            parts.append(f"{who.eyes} eyes")
    if who.accessory != "none":
        parts.append(who.accessory)
    if near:
        parts.append(who.mood)
    if who.background in palette.SCENES or coloured:
        parts.append(f"{who.background} background")
    return parts


def opening(who: Character, *, name: str = "") -> str:
    """The first words of a caption: medium, framing, an optional name, kind."""
    view = {"portrait": "portrait of a", "close-up": "close-up portrait of a", "full body": "full body of a"}
    return " ".join(part for part in (who.medium, view[who.framing], name, who.kind) if part)


def caption(who: Character, rng: np.random.Generator | None = None) -> str:
    """Say `who` in words; with `rng`, parts are shuffled and each is left out with probability 0.15."""
    parts = phrases(who)
    if rng is not None:
        parts = [part for part in parts if rng.random() > 0.15]
        rng.shuffle(parts)
    return ", ".join([opening(who), *parts])
