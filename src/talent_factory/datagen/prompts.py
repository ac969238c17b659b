"""The words of an actor set for programs: what an actor is called in prompts, and all prompts of a recipe."""

from __future__ import annotations

from pathlib import Path

from talent_factory.core.errors import UsageError
from talent_factory.datagen.recipes import ActorSex, descriptor, load_recipe, slot_prompt

_SEXES: dict[str, ActorSex] = {
    "man": "man",
    "male": "man",
    "woman": "woman",
    "female": "woman",
    "person": "person",
    "other": "person",
}


def get_actor_descriptor(actor_type: str = "human", actor_sex: str | None = None) -> str:
    """The noun that prompts use: man, woman or person for humans, else creature, robotic character, …

    `actor_sex` matters for humans only and may be missing. Raises UsageError for words that are not known.
    """
    return descriptor(actor_type.strip().lower(), actor_sex_of(actor_sex))


def get_actor_training_prompts(descriptor: str, *, recipe: str | Path = "actor-17") -> list[str]:
    """The prompts of a recipe for an actor called `descriptor` ("woman", "robotic character"), in slot order.

    Raises UsageError for a descriptor that is no single line of text, ConfigError for an unknown recipe.
    """
    words = descriptor.strip()
    if not words or len(words) > 200 or not words.isprintable():
        raise UsageError(
            "a descriptor is one line of up to 200 characters", remedy="use get_actor_descriptor(…)"
        )
    chosen = load_recipe(recipe)
    return [slot_prompt(chosen, slot, words) for slot in chosen.slots]


def actor_sex_of(text: str | None) -> ActorSex | None:
    """man, woman or person for what callers write ("female", "Man"); None for nothing. Raises UsageError."""
    word = (text or "").strip().lower()
    if not word:
        return None
    if word not in _SEXES:
        raise UsageError(
            f"actor_sex {word[:40]!r} is not known", remedy="use man, woman or person, or leave it out"
        )
    return _SEXES[word]
