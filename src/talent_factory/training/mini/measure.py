"""How well the embedded base obeys a prompt: named attributes, read back from renders by the probe."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.records import Record
from talent_factory.core.seeds import derive_seed
from talent_factory.training.families import Base
from talent_factory.training.mini.autoencoder import to_tensor
from talent_factory.training.mini.corpus import characters
from talent_factory.training.probe import Probe, read, truth
from talent_factory.training.sampler import sample
from talent_factory.world import Character, caption

STEPS, GUIDANCE = 24, 4.0


class Obedience(Record):
    """Share of the attributes named in `prompts` prompts that renders show: over all, and per attribute."""

    prompts: int
    steps: int
    guidance: float
    all: float
    per_attribute: dict[str, float]


def named(who: Character) -> dict[str, str]:
    """The attributes that the full caption of `who` names and a drawing shows."""
    shown = truth(who)
    for unnamed in ("dots", "dot_colour", "second_hair"):
        shown.pop(unnamed, None)
    return {name: value for name, value in shown.items() if value != "none"}


def held_out_renders(
    base: Base, *, seed: int, count: int = 200, steps: int = STEPS, guidance: float = GUIDANCE
) -> tuple[list[Character], NDArray[np.uint8]]:
    """Characters that no training saw and what the base draws from their captions, (count, H, W, 3) uint8."""
    who = characters(seed, "held-out-prompts", count)
    seeds = [derive_seed("held-out-render", seed, index) for index in range(count)]
    pictures = sample(
        base, prompts=[caption(one) for one in who], seeds=seeds, steps=steps, guidance=guidance, batch=25
    )
    return who, pictures


def obedience(
    probe: Probe,
    who: list[Character],
    pictures: NDArray[np.uint8],
    *,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
) -> Obedience:
    """Compare what was asked for with what the probe reads from the renders."""
    hits: dict[str, list[bool]] = {}
    for character, reading in zip(who, read(probe, to_tensor(pictures)), strict=True):
        for name, value in named(character).items():
            hits.setdefault(name, []).append(reading[name] == value)
    every = [hit for values in hits.values() for hit in values]
    return Obedience(
        prompts=len(who),
        steps=steps,
        guidance=guidance,
        all=sum(every) / len(every),
        per_attribute={name: sum(values) / len(values) for name, values in sorted(hits.items())},
    )
