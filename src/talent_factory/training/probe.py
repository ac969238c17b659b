"""A small network that reads the attributes of a drawn character back from a picture.

It is the ruler of the embedded base: trained on drawings, then asked what renders show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from talent_factory.world import Character, palette

UNSEEN = -100  # the label of an attribute that the drawing does not show

ANSWERS: Mapping[str, tuple[str, ...]] = {
    "medium": (*palette.MEDIA, *palette.UNSEEN_MEDIA),
    "framing": palette.FRAMINGS,
    "kind": palette.KINDS,
    "hair": (*palette.HAIRCUTS, "none"),
    "hair_colour": tuple(palette.HAIR),
    "skin": tuple(palette.SKIN),
    "eyes": tuple(palette.EYES),
    "accessory": palette.ACCESSORIES,
    "shirt": tuple(palette.CLOTH),
    "mood": palette.MOODS,
    "background": palette.BACKGROUNDS,
    "dots": ("no", "yes"),
    "dot_colour": tuple(palette.MARK_COLOURS),
    "second_hair": ("same", *palette.HAIR),
}
_COLOURED = ("skin", "shirt", "eyes", "hair_colour", "dot_colour", "second_hair")
_UNCOLOURED_MEDIA = (*palette.MONOCHROME, "mecha")


def truth(who: Character) -> dict[str, str]:
    """What a drawing of `who` shows, attribute by attribute; attributes that cannot be seen are left out."""
    marks = who.signature
    shown = {
        "medium": who.medium,
        "framing": who.framing,
        "kind": who.kind,
        "hair": who.hair,
        "hair_colour": who.hair_colour,
        "skin": who.skin,
        "eyes": who.eyes,
        "accessory": who.accessory,
        "shirt": who.shirt,
        "mood": who.mood,
        "background": who.background,
        "dots": "yes" if marks.dot else "no",
        "dot_colour": marks.dot,
        "second_hair": marks.second_hair or "same",
    }
    hidden: set[str] = set()
    if who.hair in ("bald", "none"):
        hidden |= {"hair_colour", "second_hair"}
    if who.accessory == "hat":
        hidden |= {"hair", "hair_colour", "second_hair"}
    if who.medium in _UNCOLOURED_MEDIA:
        hidden |= set(_COLOURED)
        if who.background not in palette.SCENES:
            hidden.add("background")
    if not marks.dot:
        hidden.add("dot_colour")
    if not _dots_show(who):
        hidden |= {"dots", "dot_colour"}
    if who.medium == "woodcut":
        hidden.add("background")  # the carved lines swallow it
    if who.framing == "full body":
        hidden |= {"eyes", "mood", "dots", "dot_colour", "second_hair"}
    if who.framing == "close-up":
        hidden.add("shirt")
    return {name: value for name, value in shown.items() if name not in hidden}


def _dots_show(who: Character) -> bool:
    """Whether a dot below the eye stands out: no ink is as light, and marks need contrast."""
    if who.medium in ("ink", "woodcut", "mecha"):
        return False
    if not who.signature.dot:
        return True
    mark, skin = palette.MARK_COLOURS[who.signature.dot], palette.SKIN[who.skin]
    if who.medium in palette.MONOCHROME:
        weights = (0.299, 0.587, 0.114)
        return abs(sum(w * (a - b) for w, a, b in zip(weights, mark, skin, strict=True))) > 60
    return sum((a - b) ** 2 for a, b in zip(mark, skin, strict=True)) > 70**2


def labels(characters: Sequence[Character]) -> dict[str, Tensor]:
    """The answers as class numbers, {attribute: (N,) int64}, `UNSEEN` where nothing can be seen."""
    shown = [truth(who) for who in characters]
    return {
        name: torch.tensor([answers.index(row[name]) if name in row else UNSEEN for row in shown])
        for name, answers in ANSWERS.items()
    }


class _Stage(nn.Module):
    """Two convolutions with a shortcut, halving the side first."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride=2, padding=1)
        self.second = nn.Conv2d(outside, outside, 3, padding=1)
        self.norms = nn.ModuleList(nn.GroupNorm(8, outside) for _ in range(2))

    def forward(self, image: Tensor) -> Tensor:
        halved = nn.functional.silu(self.norms[0](self.first(image)))
        return halved + nn.functional.silu(self.norms[1](self.second(halved)))


class Probe(nn.Module):
    """Reads pictures (B, 3, 128, 128) in -1..1; answers {attribute: (B, answers) logits}."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        sizes = [3, *channels]
        self.stages = nn.ModuleList(_Stage(a, b) for a, b in pairwise(sizes))
        wide = channels[-1]
        self.squeeze = nn.Conv2d(wide, 48, 1)
        self.body = nn.Sequential(nn.Linear(48 * 64, 256), nn.SiLU())
        self.heads = nn.ModuleDict({name: nn.Linear(256, len(answers)) for name, answers in ANSWERS.items()})

    def forward(self, image_BCHW: Tensor) -> dict[str, Tensor]:
        """The logits of every attribute, {attribute: (B, answers)}."""
        for stage in self.stages:
            image_BCHW = stage(image_BCHW)
        # Places matter (a hat is above, a scarf below), so the 8 x 8 map is kept rather than averaged away.
        hidden = self.body(nn.functional.silu(self.squeeze(image_BCHW)).flatten(1))
        return {name: head(hidden) for name, head in self.heads.items()}


@dataclass(frozen=True)
class Reading:
    """What the probe sees in one picture: {attribute: (answer, probability)}."""

    answers: dict[str, tuple[str, float]]

    def __getitem__(self, attribute: str) -> str:
        return self.answers[attribute][0]


@torch.no_grad()
def read(probe: Probe, image_BCHW: Tensor) -> list[Reading]:
    """Read pictures (B, 3, 128, 128) in -1..1, one `Reading` each."""
    chances = {name: logits.float().softmax(dim=1) for name, logits in probe(image_BCHW).items()}
    readings = []
    for row in range(image_BCHW.shape[0]):
        best = {name: int(chance[row].argmax()) for name, chance in chances.items()}
        readings.append(Reading({n: (ANSWERS[n][i], float(chances[n][row, i])) for n, i in best.items()}))
    return readings
