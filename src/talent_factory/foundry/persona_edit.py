"""Turn what someone types about a persona, such as `mecha=0.3`, into its fields."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from talent_factory.core.errors import UsageError
from talent_factory.core.records import Record
from talent_factory.foundry.asked import read_size
from talent_factory.foundry.persona import Persona


class Edit(Record):
    """What is to change; what is None or empty stays. Pairs are `NAME=VALUE`, and `NAME=` takes one away.

    Prompts, and what is said and avoided, replace those there were.
    """

    sliders: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    palette: tuple[str, ...] = ()
    voice: tuple[str, ...] = ()
    tone: tuple[str, ...] = ()
    boundaries: tuple[str, ...] = ()
    say: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    finish: str | None = None
    negatives: str | None = None
    projection: float | None = None
    switch: bool | None = None
    size: str | None = None
    draw: dict[str, Any] = Field(default={})


def edited(persona: Persona, edit: Edit) -> dict[str, Any]:
    """The fields of `persona` that `edit` changes, as plain data.

    Raises UsageError for a slider or kit it does not have and for what is no pair.
    """
    changes = manner(edit, before=persona)
    if edit.sliders:
        moved = persona.dialled(numbers(edit.sliders, option="--slider"))
        changes["sliders"] = {name: dial.model_dump() for name, dial in moved.sliders.items()}
    if edit.weights:
        weights = numbers(edit.weights, option="--weight")
        for talent_id in weights:
            persona.kit(talent_id)
        changes["kits"] = [
            {**kit.model_dump(mode="json"), "weight": weights.get(kit.id, kit.weight)} for kit in persona.kits
        ]
    if edit.projection is not None:
        changes["projection"] = edit.projection
    if edit.switch is not None:
        changes["switch"] = edit.switch
    return changes


def manner(edit: Edit, *, before: Persona | None = None) -> dict[str, Any]:
    """The fields that need no kit: words, colours and numbers of the drawing, on top of those of `before`."""
    old = before.model_dump(mode="json") if before else {}
    changes: dict[str, Any] = {}
    for name in ("palette", "voice", "tone", "boundaries"):
        asked = pairs(getattr(edit, name), option="--boundary" if name == "boundaries" else f"--{name}")
        if asked:
            mixed = name in ("voice", "tone")
            fresh = {key: _number_or_text(text) if mixed else text for key, text in asked.items()}
            values = {**old.get(name, {}), **fresh}
            changes[name] = {key: value for key, value in values.items() if value != ""}
    phrases = {name: list(getattr(edit, name)) for name in ("say", "avoid") if getattr(edit, name)}
    if phrases:
        changes["phrasebook"] = {**old.get("phrasebook", {}), **phrases}
    if edit.prompts:
        changes["prompts"] = list(edit.prompts)
    for name in ("finish", "negatives"):
        if getattr(edit, name) is not None:
            changes[name] = getattr(edit, name)
    drawing = {name: value for name, value in edit.draw.items() if value is not None}
    if edit.size is not None:
        drawing["size"] = read_size(edit.size)
    if drawing:
        changes["draw"] = {**old.get("draw", {}), **drawing}
    return changes


def pairs(texts: Sequence[str], *, option: str) -> dict[str, str]:
    """`NAME=VALUE` texts as a mapping. Raises UsageError for a text that is none, or a name given twice."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name or name in found:
            what = "is given twice" if name in found else "is no NAME=VALUE"
            raise UsageError(
                f"{option} {text[:80]!r} {what}", remedy=f"write {option} {name or 'NAME'}=VALUE"
            )
        found[name] = value.strip()
    return found


def numbers(texts: Sequence[str], *, option: str) -> dict[str, float]:
    """`NAME=NUMBER` texts as a mapping. Raises UsageError as `pairs`, and for a value that is no number."""
    found = {}
    for name, value in pairs(texts, option=option).items():
        number = _number_or_text(value)
        if not isinstance(number, float):
            raise UsageError(
                f"{option} {name}={value[:40]} needs a number", remedy=f"write {option} {name}=0.5"
            )
        found[name] = number
    return found


def split_dials(texts: Sequence[str]) -> tuple[Mapping[str, tuple[str, str]], Mapping[str, float]]:
    """`NAME=LOW,HIGH` gives ends and `NAME=VALUE` a place; both may be given for one slider.

    Raises UsageError for a text that is neither, or one of them twice.
    """
    ends = [text for text in texts if "," in text]
    places = numbers([text for text in texts if "," not in text], option="--slider")
    named: dict[str, tuple[str, str]] = {}
    for name, value in pairs(ends, option="--slider").items():
        low, _, high = (part.strip() for part in value.partition(","))
        if not low or not high or "," in high:
            raise UsageError(
                f"--slider {name}={value[:80]} needs two kits", remedy=f"write --slider {name}=LOW_ID,HIGH_ID"
            )
        named[name] = (low, high)
    return named, places


def _number_or_text(text: str) -> float | str:
    """A finite decimal number as a number, anything else as it is."""
    return float(text) if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?", text) else text
