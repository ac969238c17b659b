"""The subjects of style sets: sixty-three in seven categories, dealt so that every grid holds all seven."""

from __future__ import annotations

import random
import tomllib
from functools import cache
from importlib import resources
from typing import Annotated

from pydantic import Field

from talent_factory.core.config import parse
from talent_factory.core.records import Record
from talent_factory.core.seeds import derive_seed
from talent_factory.providers.port import Name

PER_GRID = 9

Words = Annotated[str, Field(min_length=8, max_length=200, pattern=r"^[^\n\r]+$")]


class Subject(Record):
    """One subject: `text` for prompts, `caption` for training; neither says how it is made."""

    name: Name
    text: Words
    caption: Words


class Category(Record):
    """Subjects of one kind."""

    name: Name
    title: str
    subject: tuple[Subject, ...] = Field(min_length=1)


class SubjectList(Record):
    """The whole list, as the file holds it."""

    version: int = Field(ge=1)
    category: tuple[Category, ...] = Field(min_length=1)

    def category_of(self, name: str) -> str:
        """The category that holds the subject `name`; KeyError for a name that is in none."""
        return {s.name: c.name for c in self.category for s in c.subject}[name]


@cache
def load_subjects() -> SubjectList:
    """The list that comes with the package."""
    data = (resources.files("talent_factory.datagen") / "style_subjects.toml").read_bytes()
    return parse(SubjectList, tomllib.loads(data.decode("utf-8")), source="style_subjects.toml")


def deal(count: int, *, seed: int) -> tuple[tuple[Subject, ...], ...]:
    """`count` grids of nine subjects each; the same seed deals the same grids, however many are asked for.

    Every category has a shuffled deck. A grid takes one card from each and a second one from two decks, which
    rotate over the grids, so that seven grids use all sixty-three once; then the decks begin anew.
    """
    categories = load_subjects().category
    rounds = len(categories)
    grids: list[tuple[Subject, ...]] = []
    for index in range(count):
        lap, turn = divmod(index, rounds)
        rng = random.Random(derive_seed("style-subjects", seed, lap))
        order = list(range(rounds))
        rng.shuffle(order)
        decks = [rng.sample(category.subject, len(category.subject)) for category in categories]
        chosen = [_hand(deck, turn, order.index(number)) for number, deck in enumerate(decks)]
        grid = [subject for hand in chosen for subject in hand]
        random.Random(derive_seed("style-order", seed, index)).shuffle(grid)
        grids.append(tuple(grid))
    return tuple(grids)


def _hand(deck: list[Subject], turn: int, place: int) -> list[Subject]:
    """The cards that one category gives in grid `turn`: two where it is its turn, else one."""

    def cards(at: int) -> int:
        # grid `at` doubles the categories at places 2 at and 2 at + 1, around the circle of seven
        return 1 + (place in {(2 * at) % 7, (2 * at + 1) % 7})

    start = sum(cards(earlier) for earlier in range(turn))
    return deck[start : start + cards(turn)]
