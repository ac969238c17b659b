"""Which slots a set of N images fills, and which of more images than needed are the best to keep."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from talent_factory.datagen.cast import CastManifest, CastSlot
from talent_factory.datagen.recipes import Recipe, Slot
from talent_factory.datagen.review.book import ReviewBook, load_review

_NAME = 60  # the longest name a slot may have


def spread(recipe: Recipe, count: int | None) -> list[tuple[Slot, int]]:
    """`count` slots (None: every slot once) with the number of their variation, 0 for the first.

    Fewer than the recipe holds are taken evenly over it, so that its groups keep their shares; more than it
    holds are further variations, evenly spread as well.
    """
    slots = recipe.slots
    rounds, rest = divmod(count or len(slots), len(slots))
    picked = [(slot, number) for number in range(rounds) for slot in slots]
    return picked + [(slots[(2 * n + 1) * len(slots) // (2 * rest)], rounds) for n in range(rest)]


def varied_name(name: str, variation: int) -> str:
    """The name of a further variation of a slot; the first keeps the slot's own."""
    if not variation:
        return name
    tail = f"_v{variation + 1}"
    return name[: _NAME - len(tail)] + tail


def keep_best(cast: CastManifest, folder: Path) -> CastManifest:
    """`cast` with its best `cast.keep` images kept and the others set aside; all of them without a target.

    The best image of every slot comes before any second variation; among those a person's word decides first,
    then failed checks, then warnings. Images that were set aside stay where they are.
    """
    made = [slot for slot in cast.slots if slot.state == "done"]
    kept = {slot.number for slot in made}
    if cast.keep and len(made) > cast.keep:
        book = load_review(folder)
        families: dict[str, list[CastSlot]] = defaultdict(list)
        for slot in made:
            families[slot.variation_of or slot.name].append(slot)
        ranked = [sorted(family, key=lambda slot: _rank(slot, book)) for family in families.values()]
        firsts = sorted((family[0] for family in ranked), key=lambda slot: _rank(slot, book))
        rest = sorted((slot for family in ranked for slot in family[1:]), key=lambda slot: _rank(slot, book))
        # a slot whose only images a person has rejected makes room for a good variation of another
        order = sorted([*firsts, *rest], key=lambda slot: book.rejects(slot.sha256))
        kept = {slot.number for slot in order[: cast.keep]}
    slots = tuple(
        slot.model_copy(update={"kept": slot.number in kept or slot not in made}) for slot in cast.slots
    )
    return cast.model_copy(update={"slots": slots})


def _rank(slot: CastSlot, book: ReviewBook) -> tuple[int, int, int, int]:
    word = {"keep": 0, "reject": 2}.get(book.choice(slot.sha256) or "", 1)
    verdicts = [check.verdict for check in slot.checks]
    return word, verdicts.count("fail"), verdicts.count("warn"), slot.number
