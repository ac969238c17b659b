"""The ways in which an identity and a style may be mixed, and what is asked of each to choose one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product
from typing import Literal

from pydantic import Field

from talent_factory.core.records import Record
from talent_factory.core.seeds import derive_seed
from talent_factory.foundry.blend import Mix
from talent_factory.foundry.blocks import PRESETS, is_sdxl
from talent_factory.foundry.discover import Ingredient, Kit
from talent_factory.foundry.recipe import KitUse
from talent_factory.kits.lora_file import has_lengths
from talent_factory.training.likeness.plan import MOODS, PLACES
from talent_factory.training.likeness.records import Ask, Shot
from talent_factory.world import palette

PLAIN_SUM = "sum"


class Marks(Record):
    """Shares of 1: of the identity alone, of the style alone, and of the prompt as either alone obeys it."""

    identity: float
    style: float
    prompt: float
    harmonic: float


class Tried(Record):
    """One way: what it does with the kits, what was read from its pictures, and how it stands to the sum.

    `low` and `high` hold the harmonic mean in nine of ten resamples of the prompts; `better` is the share of
    them in which this way beats the plain sum.
    """

    name: str
    kits: tuple[KitUse, ...]
    projection: float = 0.0
    switch: bool = False
    marks: Marks
    low: float
    high: float
    better: float


class MixChoice(Record):
    """Which way of mixing two kits measured best, and by how much: the result of `talent mix choose`."""

    version: Literal[1] = 1
    identity: str
    style: str
    base_revision: str
    chosen: str
    reason: str
    confidence: float
    judges: dict[str, str] = Field(description="Who looked, with sha256 of the weights.")
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int
    guidance: float
    tried: tuple[Tried, ...]

    @property
    def best(self) -> Tried:
        """The way that was chosen."""
        return next(one for one in self.tried if one.name == self.chosen)


def ways(identity: Ingredient, style: Ingredient) -> dict[str, Mix]:
    """The mixes to compare, by name; the plain sum at the weights given is the first.

    Steps follow K-LoRA and CRAFT-LoRA (the subject is found early, the look late), projections NP-LoRA
    (not for kits trained with DoRA), blocks B-LoRA where the base is an SDXL.
    """

    def using(
        *, one: dict[str, object] | None = None, two: dict[str, object] | None = None, projection: float = 0.0
    ) -> Mix:
        uses = (identity.model_copy(update=one or {}), style.model_copy(update=two or {}))
        return Mix(ingredients=uses, projection=projection)

    lengths = any(has_lengths(use.kit.weights) for use in (identity, style))
    more: dict[str, object] = {"weight": min(2.0, 1.25 * identity.weight)}
    bold: dict[str, object] = {"weight": min(2.0, 1.25 * style.weight)}
    found = {
        PLAIN_SUM: using(),
        "more identity": using(one=more),
        "more style": using(two=bold),
        "more of both": using(one=more, two=bold),
        **({} if lengths else {"projection": using(projection=0.5)}),
        "style from 20 %": using(two={"begin": 0.2}),
        "more identity, style from 20 %": using(one=more, two={"begin": 0.2}),
    }
    if is_sdxl(identity.kit.base):
        found["blocks"] = using(one={"blocks": PRESETS["content"]}, two={"blocks": PRESETS["style"]})
    return found


def uses_of(mix: Mix) -> tuple[KitUse, ...]:
    """The kits of a mix as plain fields that can be written down."""
    return tuple(
        KitUse(id=use.kit.id, sha256=use.kit.sha256, **use.model_dump(exclude={"kit"}))
        for use in mix.ingredients
    )


def written(use: KitUse) -> str:
    """A kit's part in a mix as one would type it: `ID:WEIGHT@BEGIN-END/BLOCK=FACTOR,...`."""
    span = "" if (use.begin, use.end) == (0.0, 1.0) else f"@{use.begin:g}-{use.end:g}"
    blocks = ",".join(f"{name}={factor:g}" for name, factor in use.blocks)
    return f"{use.id}:{use.weight:g}{span}" + (f"/{blocks}" if blocks else "")


class Question(Record):
    """One prompt in three wordings: of both kits, of the identity alone, of the style alone."""

    both: Shot
    identity: Shot
    style: Shot


def questions(
    identity: Kit, style: Kit, *, noun: str, drawn: bool, prompts: int = 8, seeds: int = 1, seed: int = 0
) -> tuple[Question, ...]:
    """Prompts that change mood and place, in the words of the base; `drawn` for those of the drawn world.

    Another `seed` gives other pairs of mood and place and other seeds to draw from.
    """
    pairs = list(product(palette.MOODS if drawn else MOODS, palette.SCENES if drawn else PLACES))
    # a fixed stride through all pairs: moods and places change together, and none comes twice
    stride = next(step for step in (5, 7, 11, 13) if len(pairs) % step)
    asked = [pairs[(seed + index * stride) % len(pairs)] for index in range(prompts)]
    who, medium = f"a {identity.manifest.token} {noun}", style.manifest.token or ""
    found = []
    for group, (mood, place) in enumerate(asked):
        for copy in range(seeds):
            number = derive_seed("mix", seed, group, copy) % 2**31
            shots = [
                _shot(words, noun, (mood, place), drawn=drawn, seed=number, group=group)
                for words in ((medium, who), ("flat" if drawn else "", who), (medium, f"a {noun}"))
            ]
            found.append(Question(both=shots[0], identity=shots[1], style=shots[2]))
    return tuple(found)


def _shot(
    words: tuple[str, str], noun: str, asked: tuple[str, str], *, drawn: bool, seed: int, group: int
) -> Shot:
    (medium, who), (mood, place) = words, asked
    end = f", {mood}, {place} background" if drawn else f" {mood} {place}"
    return Shot(
        prompt=f"{medium} portrait of {who}{end}".strip(),
        plain=f"portrait of a {noun}{end}",
        seed=seed,
        group=group,
        # no medium: whether the look is right is asked of another judge
        ask=Ask(medium="", mood=mood, background=place),
    )


def noun_of(kit: Kit) -> str:
    """The word behind the trigger in the kit's own prompts, such as `woman`; "person" when there is none."""
    token = re.escape(kit.manifest.token or "\0")
    texts: Sequence[str] = kit.prompts.positive_prompts
    found = (re.search(rf"\b{token}\s+([a-z]+)", text) for text in texts)
    return next((match[1] for match in found if match), "person")
