"""Is it him, and does he do as he is told: marks and prompt, read from renders by the probe."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.records import Record
from talent_factory.core.seeds import derive_seed
from talent_factory.training.mini.autoencoder import to_tensor
from talent_factory.training.probe import Probe, Reading, read
from talent_factory.world import Character, palette
from talent_factory.world.samples import DOT_KAIRO

PLACES = ("blue", "yellow", "teal", "pink", "city", "forest", "beach", "night")


class Ask(Record):
    """One prompt with what it asks for: attribute to answer, as the probe names them."""

    medium: str
    mood: str
    background: str

    def prompt(self, subject: str) -> str:
        """The prompt in the form of the captions."""
        return f"{self.medium} portrait of {subject}, {self.mood}, {self.background} background"


class Likeness(Record):
    """Shares between 0 and 1 over `renders` pictures.

    `marks` is the mean over the signature's answers (dots, hair and its colours), `obeyed` the mean over the
    mood, background and medium that the prompts asked for.
    """

    renders: int
    marks: float
    obeyed: float
    per_mark: dict[str, float]
    per_ask: dict[str, float]


def asks(count: int, *, seed: int) -> list[Ask]:
    """`count` different requests in the three media that carry colour, every mood and many places."""
    rng = np.random.default_rng(derive_seed("likeness", seed))
    media = ("flat", "comic", "watercolor")
    return [
        Ask(
            medium=media[index % len(media)],
            mood=palette.MOODS[index % len(palette.MOODS)],
            background=str(rng.choice(PLACES)),
        )
        for index in range(count)
    ]


def marks_of(who: Character = DOT_KAIRO) -> dict[str, str]:
    """The signature of a drawn actor as the probe would answer it."""
    marks = {
        "hair": who.hair,
        "hair_colour": who.hair_colour,
        "second_hair": who.signature.second_hair or "same",
    }
    if who.signature.dot:
        marks |= {"dots": "yes", "dot_colour": who.signature.dot}
    return marks


def likeness(
    probe: Probe, pictures: NDArray[np.uint8], asked: Sequence[Ask], *, marks: dict[str, str] | None = None
) -> Likeness:
    """Read `pictures` (N, 128, 128, 3) uint8 and compare with the marks and with what was asked."""
    wanted = marks or marks_of()
    readings = read(probe, to_tensor(pictures))
    per_mark = {name: _share(readings, [(name, value)] * len(readings)) for name, value in wanted.items()}
    per_ask = {
        name: _share(readings, [(name, getattr(ask, name)) for ask in asked])
        for name in ("mood", "background", "medium")
    }
    return Likeness(
        renders=len(readings),
        marks=float(np.mean(list(per_mark.values()))),
        obeyed=float(np.mean(list(per_ask.values()))),
        per_mark=per_mark,
        per_ask=per_ask,
    )


def _share(readings: Sequence[Reading], wanted: Sequence[tuple[str, str]]) -> float:
    hits = [_holds(reading, name, value) for reading, (name, value) in zip(readings, wanted, strict=True)]
    return sum(hits) / len(hits)


def _holds(reading: Reading, name: str, value: str) -> bool:
    if name == "dot_colour" and reading["dots"] == "no":
        return False
    return reading[name] == value
