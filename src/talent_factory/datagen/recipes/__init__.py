"""Recipes: the data (TOML) that says which images a set holds, and the words built from it."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from talent_factory.core.config import parse
from talent_factory.core.errors import ConfigError, UsageError
from talent_factory.core.records import Record
from talent_factory.providers.port import Aspect, Name

ActorType = Literal["human", "creature", "robotic", "anthropomorphic", "mythical", "other"]
ActorSex = Literal["man", "woman", "person"]
Group = Literal["photo", "monochrome", "colour"]

Text = Annotated[str, Field(min_length=1, max_length=400, pattern=r"^[^\n\r]+$")]

_MAX_BYTES = 1 << 20
_DESCRIPTORS = {
    "creature": "creature",
    "robotic": "robotic character",
    "anthropomorphic": "anthropomorphic character",
    "mythical": "mythical character",
    "other": "character",
}
_CLASS_NOUNS = {
    "robotic": "robot",
    "creature": "creature",
    "anthropomorphic": "creature",
    "mythical": "creature",
}


class CaptionWords(Record):
    """Short words for a training caption. An empty `place` is read from the finished picture instead."""

    medium: str = ""
    shot: str = "portrait"
    place: str = ""
    light: str = ""
    mood: str = ""


class Slot(Record):
    """One planned image: what it shows and how it is made, and the few words that caption it."""

    name: Name
    title: Text
    group: Group
    medium: Name
    look: Text
    action: Text
    setting: Text
    light: Text
    shot: Text
    angle: Text
    gaze: Name
    texture: Text
    caption: CaptionWords


class Recipe(Record):
    """A versioned set of slots in order; `preserve` (by group) and `gaze` hold phrases that slots share."""

    version: int = Field(ge=1)
    name: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,60}$")]
    title: Text
    aspect: Aspect
    preserve: dict[Group, Text]
    gaze: dict[Name, Text]
    slot: tuple[Slot, ...] = Field(min_length=1, max_length=500)

    @model_validator(mode="after")
    def _hangs_together(self) -> Recipe:
        names = [slot.name for slot in self.slot]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"slot names stand twice: {', '.join(twice)}")
        for slot in self.slot:
            if slot.gaze not in self.gaze:
                raise ValueError(f"slot {slot.name}: gaze '{slot.gaze}' is not among {sorted(self.gaze)}")
            if slot.group not in self.preserve:
                raise ValueError(f"slot {slot.name}: no preserve text for the group '{slot.group}'")
        return self

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The slots in order."""
        return self.slot


def recipe_names() -> list[str]:
    """Names of the actor recipes that come with the package."""
    folder = resources.files(__name__)
    return sorted(
        item.name.removesuffix(".toml").replace("_", "-")
        for item in folder.iterdir()
        if item.name.startswith("actor_") and item.name.endswith(".toml")
    )


def load_recipe(name: str | Path = "actor-17") -> Recipe:
    """A shipped recipe by its name, or a user's own recipe by the path of its `.toml` file.

    Raises ConfigError for an unknown name, a file that cannot be read, and every mistake in it at once.
    """
    text = str(name)
    if text in recipe_names():
        data = (resources.files(__name__) / f"{text.replace('-', '_')}.toml").read_bytes()
    elif text.endswith(".toml"):
        data = _read_own(Path(name))
    else:
        raise ConfigError(
            f"no recipe is called {text!r}",
            remedy=f"use {', '.join(recipe_names())}, or the path of a .toml file",
        )
    try:
        fields = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{text}: not valid TOML ({error})", remedy="correct that line") from None
    return parse(Recipe, fields, source=text)


def descriptor(actor_type: str, sex: str | None = None) -> str:
    """The noun that a prompt uses for the actor: "woman", "robotic character", ... Raises UsageError.

    The sex matters for humans only, where it may be missing: then it is "person".
    """
    _check(actor_type, sex)
    if actor_type == "human":
        return sex or "person"
    return _DESCRIPTORS[actor_type]


def class_noun(actor_type: str, sex: str | None = None) -> str:
    """The noun that follows the token in captions: man, woman, person, creature, robot or character.

    These are words that bases know, the embedded one included. Raises UsageError.
    """
    _check(actor_type, sex)
    if actor_type == "human":
        return sex or "person"
    return _CLASS_NOUNS.get(actor_type, "character")


def slot_prompt(recipe: Recipe, slot: Slot, subject: str) -> str:
    """The full instruction for a provider that reads words: medium, action, place, light, frame, texture,
    identity.
    """
    subject_action = f"{slot.look} of the {subject} {slot.action}, {slot.setting}"
    frame = f"{slot.shot}, {slot.angle}, {recipe.gaze[slot.gaze]}"
    parts = (subject_action, slot.light, frame, slot.texture, recipe.preserve[slot.group])
    return ". ".join(_sentence(part.replace("{descriptor}", subject)) for part in parts) + "."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(". ")


def _read_own(path: Path) -> bytes:
    try:
        with open(path, "rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"recipe {path} cannot be read: {error.strerror}", remedy="check the path"
        ) from None
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"recipe {path} is larger than 1 MiB", remedy="give a recipe, not data")
    return data


def _check(actor_type: str, sex: str | None) -> None:
    known = ("human", *_DESCRIPTORS)
    if actor_type not in known:
        raise UsageError(f"actor type {actor_type!r} is not known", remedy=f"use one of {', '.join(known)}")
    if sex is not None and sex not in ("man", "woman", "person"):
        raise UsageError(f"sex {sex!r} is not known", remedy="use man, woman or person, or leave it out")
