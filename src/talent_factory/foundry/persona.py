"""A persona: a saved mix with its sliders, prompts and manner, as one JSON file that draws the same again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from talent_factory.core.config import parse
from talent_factory.core.errors import ConfigError, FileError, UsageError
from talent_factory.core.files import write_json
from talent_factory.core.records import Record
from talent_factory.core.workspace import check_token
from talent_factory.foundry.asked import PictureSize
from talent_factory.foundry.discover import Ingredient, Kit
from talent_factory.kits.manifest import Digest, Line, TalentId
from talent_factory.kits.strict import MAX_TEXT_BYTES, StrictJsonError, parse_object, read_regular

FORMAT: Final = "talent-persona/1"
# What the picture depends on: a change of these is a new minor version, one of words a patch.
_LOOK = (
    "base",
    "kits",
    "projection",
    "switch",
    "sliders",
    "finish",
    "palette",
    "prompts",
    "negatives",
    "draw",
)
_VERSION = re.compile(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})")


def check_persona_id(text: str) -> str:
    """Return `text` when it can name a persona and its file: [a-z0-9_]+, at most 40 characters.

    Raises UsageError for anything else.
    """
    try:
        return check_token(text)
    except UsageError:
        raise UsageError(
            f"{text[:60]!r} is no persona id",
            remedy="use lower-case letters, digits and _, at most 40 characters, for example kairo",
        ) from None


def _persona_id(text: str) -> str:
    try:
        return check_persona_id(text)
    except UsageError as error:
        raise ValueError(f"{error.message}: {error.remedy}") from None


PersonaId = Annotated[str, AfterValidator(_persona_id)]
Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
Colour = Annotated[str, StringConstraints(pattern=r"^#[0-9A-Fa-f]{6}$")]
Value = str | float
Words = Annotated[dict[Word, Line], Field(max_length=100)]
Manner = Annotated[dict[Word, Annotated[Value, Field(union_mode="left_to_right")]], Field(max_length=100)]
Weight = Annotated[float, Field(ge=-2, le=2)]
Share = Annotated[float, Field(ge=0, le=1)]


class BaseUse(Record):
    """The base that a persona draws with: its name as `--base` takes it, and the sha256 of its parts."""

    name: str = Field(min_length=1, max_length=1000)
    revision: Digest


class PersonaKit(Record):
    """One kit of a persona: whose bytes, how strongly at most, in which blocks and share of the steps."""

    id: TalentId
    sha256: Digest
    weight: Weight
    blocks: tuple[tuple[str, Weight], ...] = Field(default=(), max_length=64)
    begin: Share = 0.0
    end: Share = 1.0

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> PersonaKit:
        if self.begin >= self.end:
            raise ValueError("begin must be less than end")
        return self

    @classmethod
    def of(cls, use: Ingredient) -> PersonaKit:
        """The kit of an ingredient as it lies on the disk now."""
        return cls(
            id=use.kit.id,
            sha256=use.kit.sha256,
            weight=use.weight,
            blocks=use.blocks,
            begin=use.begin,
            end=use.end,
        )

    def ingredient(self, kit: Kit, *, factor: float) -> Ingredient:
        """The use of `kit` in a mix with `factor` of this weight."""
        return Ingredient(
            kit=kit, weight=self.weight * factor, blocks=self.blocks, begin=self.begin, end=self.end
        )


class Slider(Record):
    """A dial between two kits: 0 is `low` at its whole weight, 1 is `high`, 0.5 is neither."""

    low: TalentId
    high: TalentId
    value: Share = 0.5

    def factors(self) -> tuple[float, float]:
        """The share of the weights of `low` and `high`: 1 to 0 on the first half, 0 to 1 on the second."""
        # rounded, so that 0.6 gives the 0.2 that people expect in a recipe
        return max(0.0, round(1.0 - 2.0 * self.value, 9)), max(0.0, round(2.0 * self.value - 1.0, 9))


class Drawing(Record):
    """How a persona is drawn when nobody says otherwise; `size` is (width, height), the base's own if None.

    `batch` and `threads` stand here because the images drawn at a time and the processor's threads that share
    the sums may move a channel by a level.
    """

    steps: int = Field(default=20, ge=1, le=500)
    guidance: float | None = Field(default=None, ge=0, le=50)
    size: PictureSize | None = None
    seed: int = Field(default=0, ge=0, lt=2**63)
    batch: int = Field(default=4, ge=1, le=64)
    threads: int | None = Field(default=None, ge=1, le=1024)


class Phrases(Record):
    """What a persona likes to say and never says."""

    say: tuple[Line, ...] = Field(default=(), max_length=1000)
    avoid: tuple[Line, ...] = Field(default=(), max_length=1000)


class Persona(Record):
    """One persona; equal personas draw equal bytes on one machine.

    Prompts may hold `{subject}` (the first identity's trigger and class), `{style}` (the trigger of the
    strongest style that acts, else `finish`) and the names of palette colours, such as `{primary}`. `choice`
    is what led to this way of mixing. `voice`, `tone`, `phrasebook` and `boundaries` are for whoever lets
    it speak.
    """

    format: Literal["talent-persona/1"] = FORMAT
    id: PersonaId
    version: str = Field(default="1.0.0", pattern=r"^\d{1,6}\.\d{1,6}\.\d{1,6}$")
    base: BaseUse
    kits: tuple[PersonaKit, ...] = Field(min_length=1, max_length=16)
    projection: float = Field(default=0.0, ge=0, le=1000)
    switch: bool = False
    sliders: dict[Word, Slider] = Field(default={}, max_length=8)
    finish: str = Field(default="", max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")
    palette: dict[Word, Colour] = Field(default={}, max_length=32)
    prompts: tuple[Line, ...] = Field(default=(), max_length=200)
    negatives: str = Field(default="", max_length=20_000)
    draw: Drawing = Drawing()
    voice: Manner = Field(default={})
    tone: Manner = Field(default={})
    phrasebook: Phrases = Phrases()
    boundaries: Words = Field(default={})
    choice: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Persona:
        ids = [kit.id for kit in self.kits]
        twice = sorted({name for name in ids if ids.count(name) > 1})
        if twice:
            raise ValueError(f"the kit {twice[0]} stands twice")
        dialled: set[str] = set()
        for name, slider in self.sliders.items():
            if name in ("subject", "style"):
                raise ValueError(f"a slider cannot be called {name}")
            for end in (slider.low, slider.high):
                if end not in ids:
                    raise ValueError(f"the slider {name} moves {end}, which is not among the kits")
                if end in dialled:
                    raise ValueError(f"two ends of sliders move {end}")
                dialled.add(end)
        if self.switch and self.projection:
            raise ValueError("projection is for kits that act together, switch for kits that take turns")
        return self

    def kit(self, talent_id: str) -> PersonaKit:
        """The kit called `talent_id`. Raises UsageError, naming the nearest, when there is none."""
        for kit in self.kits:
            if kit.id == talent_id:
                return kit
        raise UsageError(
            f"{self.id} has no kit {talent_id[:100]!r}",
            remedy=f"choose one of {', '.join(kit.id for kit in self.kits)}",
        )

    def dialled(self, values: Mapping[str, float]) -> Persona:
        """This persona with some sliders elsewhere, for one drawing: its version stays.

        Raises UsageError for a slider it does not have, or a value outside 0 to 1.
        """
        sliders = dict(self.sliders)
        for name, value in values.items():
            if name not in sliders:
                known = ", ".join(sliders) or "none"
                raise UsageError(
                    f"{self.id} has no slider {name[:40]!r} (sliders: {known})",
                    remedy=f"talent persona show {self.id}",
                )
            if not 0.0 <= value <= 1.0:
                raise UsageError(
                    f"slider {name} goes from 0 to 1, not to {value:g}", remedy=f"write {name}=0.5"
                )
            sliders[name] = sliders[name].model_copy(update={"value": value})
        return self.model_copy(update={"sliders": sliders})

    def factors(self) -> dict[str, float]:
        """The share of its weight that every kit has as the sliders stand, by id; 1 where none moves it."""
        factors = {kit.id: 1.0 for kit in self.kits}
        for slider in self.sliders.values():
            factors[slider.low], factors[slider.high] = slider.factors()
        return factors


def parse_persona(data: Mapping[str, Any], *, source: str) -> Persona:
    """The persona in plain data; `source` names it in errors.

    Raises ConfigError: every unknown key with the nearest valid one, everything that is missing or wrong.
    """
    if data.get("format", FORMAT) != FORMAT:
        raise ConfigError(
            f"{source} has the format {str(data['format'])[:60]!r}, this version reads {FORMAT}",
            remedy="use the version of talent-factory that wrote it",
        )
    return parse(Persona, data, source=source)


def read_persona_data(path: Path) -> dict[str, Any]:
    """The JSON object in a file of at most 1 MiB. Raises FileError when there is none."""
    try:
        return parse_object(read_regular(path, limit=MAX_TEXT_BYTES))
    except FileNotFoundError:
        raise FileError(f"{path} does not exist", remedy="talent persona list") from None
    except (OSError, StrictJsonError) as error:
        raise FileError(
            f"{path} cannot be read: {error}", remedy="give a persona file, or restore it"
        ) from None


def read_persona(path: Path) -> Persona:
    """The persona in a file of ours. Raises FileError or ConfigError; nothing of it is trusted unchecked."""
    return parse_persona(read_persona_data(path), source=str(path))


def write_persona(path: Path, persona: Persona) -> None:
    """Write a persona atomically; equal personas become equal bytes."""
    write_json(path, persona.model_dump(mode="json", exclude_defaults=False, exclude_none=True))


def revised(persona: Persona, changes: Mapping[str, Any], *, remedy: str = "") -> Persona:
    """`persona` with other fields and the next version: minor when the picture may change, else patch.

    Without any real change it comes back as it is. Raises ConfigError when they do not fit.
    """
    plain = {key: value for key, value in persona.model_dump(mode="json").items() if value is not None}
    fresh = parse(Persona, {**plain, **changes}, source=f"persona {persona.id}", remedy=remedy)
    different = [name for name in Persona.model_fields if getattr(fresh, name) != getattr(persona, name)]
    if not different:
        return persona
    major, minor, patch = (int(part) for part in persona.version.split("."))
    look = any(name in _LOOK for name in different)
    version = f"{major}.{minor + 1}.0" if look else f"{major}.{minor}.{patch + 1}"
    return fresh.model_copy(update={"version": version})
