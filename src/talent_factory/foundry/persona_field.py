"""The persona file of Persona Foundry, read and written: the same words, without what a drawing needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from talent_factory.core.config import parse
from talent_factory.core.records import Record
from talent_factory.foundry.persona import Colour, Manner, Persona, Phrases, Share, Word, Words

# The two dials of Persona Foundry, by the name in its files: the kits at 0 and at 1. The dotted ids stand in
# its guide, the others in the manifests that were shipped with it.
DIALS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "mecha": (
        ("avatar.style.anime.mecha", "avatar.style.anime_mecha"),
        ("avatar.style.anime.creature", "avatar.style.anime_creature"),
    ),
    "animal": (("avatar.style.abstract",), ("avatar.style.animal_traits",)),
}


class FieldPersona(Record):
    """A file of Persona Foundry. A dial goes from 0 (mecha, abstract) to 1 (creature, animal)."""

    dot_id: str = Field(min_length=1, max_length=100)
    version: str = Field(default="1.0.0", max_length=40)
    sliders: dict[Word, Share] = Field(default={}, max_length=32)
    finish: str = Field(default="", max_length=100)
    palette: dict[Word, Colour] = Field(default={}, max_length=32)
    voice: Manner = Field(default={})
    tone: Manner = Field(default={})
    phrasebook: Phrases = Phrases()
    boundaries: Words = Field(default={})


def is_field_form(data: Mapping[str, Any]) -> bool:
    """Whether a JSON object is a file of Persona Foundry and not one of ours."""
    return "dot_id" in data and "format" not in data


def parse_field(data: Mapping[str, Any], *, source: str) -> FieldPersona:
    """Read such an object. Raises ConfigError: unknown keys with the nearest valid one, and all misfits."""
    return parse(FieldPersona, data, source=source)


def manner_of(field: FieldPersona) -> dict[str, Any]:
    """The fields that a persona of ours takes over as they are."""
    shared = ("finish", "palette", "voice", "tone", "phrasebook", "boundaries")
    return field.model_dump(mode="json", include=set(shared))


def to_field(persona: Persona) -> FieldPersona:
    """The persona in the form of Persona Foundry; kits, weights, prompts and the base have no place there."""
    return FieldPersona(
        dot_id=persona.id,
        version=persona.version,
        sliders={name: slider.value for name, slider in persona.sliders.items()},
        finish=persona.finish,
        palette=persona.palette,
        voice=persona.voice,
        tone=persona.tone,
        phrasebook=persona.phrasebook,
        boundaries=persona.boundaries,
    )


def identity_candidates(dot_id: str) -> tuple[str, ...]:
    """The ids that the identity kit of a `dot_id` goes by."""
    name = dot_id.lower().replace("-", "_")
    return (f"avatar.identity.dot_{name}", f"avatar.identity.{name}")


def without_paths(persona: Persona) -> Persona:
    """The persona for another machine: a base that is a path here goes by its last name there."""
    base = persona.base.model_copy(update={"name": shared_name(persona.base.name)})
    return persona.model_copy(update={"base": base})


def shared_name(base: str) -> str:
    """What a base is called elsewhere: an id of the hub as it is, a local file or folder by its name."""
    path = Path(base).expanduser()
    return path.name if path.is_absolute() or path.exists() else base
