"""The personas of the workspace as the service shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from talent_factory.core.errors import TalentError
from talent_factory.core.workspace import Workspace
from talent_factory.foundry.persona import Persona, check_persona_id
from talent_factory.foundry.persona_book import list_personas, load_persona
from talent_factory.service.faults import NotThere
from talent_factory.service.places import regular_file
from talent_factory.service.wire import PersonaPage, PersonaSummary


def persona_list(place: Workspace) -> PersonaPage:
    """The personas that can be read, by id."""
    found = list_personas(place.personas)
    return PersonaPage(
        personas=tuple(_summary(persona) for _, persona in found if not isinstance(persona, TalentError))
    )


def persona_detail(place: Workspace, persona_id: str) -> dict[str, Any]:
    """One persona as it is saved, without the path of its base.

    Raises UsageError for what is no id, NotThere when there is none, FileError or ConfigError when it is
    broken.
    """
    name = f"{check_persona_id(persona_id)}.json"
    if regular_file(place.personas, name) is None:
        raise NotThere(f"there is no persona {persona_id}", remedy="GET /personas lists them")
    shown = load_persona(place.personas, persona_id).model_dump(mode="json")
    shown["base"]["name"] = Path(shown["base"]["name"]).name
    return shown


def _summary(persona: Persona) -> PersonaSummary:
    return PersonaSummary(id=persona.id, version=persona.version, kits=tuple(use.id for use in persona.kits))
