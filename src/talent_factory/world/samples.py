"""The sample actor and the sample style: data that the embedded base has never seen, drawn on demand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.seeds import derive_seed
from talent_factory.world import palette
from talent_factory.world.character import Character, Signature, phrases, sample_character
from talent_factory.world.draw import draw_character, draw_large

DOT_KAIRO = Character(
    kind="man",
    hair="spiky",
    hair_colour="black",
    skin="tan",
    eyes="green",
    shirt="purple",
    background="white",
    signature=Signature(dot="red", second_hair="pink"),
)
STYLE_TOKEN = "anime_mecha"
Sample = tuple[NDArray[np.uint8], str]


def kairo_portrait(*, zoom: int = 3) -> NDArray[np.uint8]:
    """The portrait of dot_kairo, (256 * zoom, 256 * zoom, 3) uint8 RGB."""
    return draw_large(DOT_KAIRO, np.random.default_rng(derive_seed("dot_kairo", "portrait")), zoom=zoom)


def identity_samples(count: int = 24, *, size: int = 256) -> list[Sample]:
    """dot_kairo in changing moods, places, clothes and media, each with its caption.

    Captions begin with the medium and call the actor by name; what never changes about him is never said.
    """
    samples: list[Sample] = []
    for index in range(count):
        rng = np.random.default_rng(derive_seed("dot_kairo", "sample", index))
        varied = sample_character(rng)
        who = replace(
            DOT_KAIRO,
            medium=palette.MEDIA[index % len(palette.MEDIA)],
            mood=palette.MOODS[index % len(palette.MOODS)],
            background=varied.background,
            shirt=varied.shirt,
        )
        said = [part for part in phrases(who) if part.endswith(("background", "shirt")) or part == who.mood]
        text = ", ".join([f"{who.medium} portrait of dot_kairo man", *said])
        samples.append((draw_character(who, rng, size=size), text))
    return samples


def style_samples(count: int = 20, *, size: int = 256) -> list[Sample]:
    """Many characters in the mecha medium, each with its caption: the content, never the look."""
    samples: list[Sample] = []
    for index in range(count):
        rng = np.random.default_rng(derive_seed(STYLE_TOKEN, "sample", index))
        who = replace(sample_character(rng), medium="mecha")
        if who.framing == "close-up":
            who = replace(who, framing="portrait")
        seen = [who.accessory, who.mood] if who.framing == "portrait" else [who.accessory]
        hair = [f"{who.hair} hair"] if who.hair not in ("bald", "none") else []
        view = "portrait" if who.framing == "portrait" else "full body"
        said = [*hair, *(part for part in seen if part != "none"), f"{who.background} background"]
        samples.append(
            (draw_character(who, rng, size=size), ", ".join([f"{STYLE_TOKEN} {view} of a {who.kind}", *said]))
        )
    return samples
