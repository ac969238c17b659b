"""Find the kits that may be used: what the validator lets through, with what a mix needs to know of each."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from talent_factory.core.errors import KitError, UsageError
from talent_factory.core.files import sha256_file
from talent_factory.core.records import Record
from talent_factory.core.workspace import check_id
from talent_factory.foundry.blocks import Blocks, check_blocks, read_blocks
from talent_factory.kits.index import kit_folders
from talent_factory.kits.keys import base_of
from talent_factory.kits.manifest import WEIGHTS_FILE, PromptSet, TalentManifest, read_prompts
from talent_factory.kits.validate import inspect_kit

# Two LoRAs at full strength already leave the range that either was trained in.
STRONG_SUM = 1.5


class Kit(Record):
    """One usable kit. `sha256` names its weights; `base` is "mini", "sd15", "sdxl" or a folder."""

    id: str
    path: Path
    sha256: str
    base: str
    manifest: TalentManifest
    prompts: PromptSet

    @property
    def weights(self) -> Path:
        """The kohya safetensors file."""
        return self.path / WEIGHTS_FILE

    @property
    def base_revision(self) -> str | None:
        """sha256 of the very base it was trained on, when the kit states it."""
        return self.manifest.metadata.base_revision if self.manifest.metadata else None


class Ingredient(Record):
    """One kit of a mix and its weight; 0 leaves the base as it is, negative weights push away.

    `blocks` are factors for parts of the model such as ("down", 0.5), ("up.1", 0.0), ("te", 1.0) or
    ("all", 0.0): the most exact name decides, and what none names counts fully. The kit acts in the sampling
    steps whose middle lies between the shares `begin` and `end`.
    """

    kit: Kit
    weight: float
    blocks: Blocks = ()
    begin: float = Field(default=0.0, ge=0, lt=1)
    end: float = Field(default=1.0, gt=0, le=1)

    @field_validator("blocks")
    @classmethod
    def _known_blocks(cls, blocks: Blocks) -> Blocks:
        try:
            return check_blocks(blocks)
        except UsageError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> Ingredient:
        if self.begin >= self.end:
            raise ValueError("begin must be less than end")
        return self


def find_kits(root: Path, *, base_folder: Path | None = None) -> tuple[Kit, ...]:
    """All valid kits below `root`, by id; broken ones are left out (`talent kit validate` tells why).

    Raises KitError when `root` is no folder.
    """
    found = (_open(folder, base_folder)[0] for folder in kit_folders(root))
    return tuple(kit for kit in found if kit is not None)


def load_kit(root: Path, talent_id: str, *, base_folder: Path | None = None) -> Kit:
    """The kit `root/<talent_id>`, validated.

    Raises UsageError for a text that is no id, KitError when there is no such kit (naming the nearest) or it
    is invalid (naming the first fault).
    """
    folder = root / check_id(talent_id)
    if not folder.is_dir():
        names = [path.name for path in kit_folders(root)] if root.is_dir() else []
        near = difflib.get_close_matches(talent_id, names, n=1, cutoff=0.5)
        remedy = f"did you mean {near[0]}?" if near else "talent kit list shows what there is"
        raise KitError(f"there is no kit {talent_id} in {root}", remedy=remedy)
    kit, fault = _open(folder, base_folder)
    if kit is None:
        raise KitError(f"kit {talent_id} cannot be used: {fault}", remedy=f"talent kit validate {talent_id}")
    return kit


def read_ingredient(text: str, root: Path, *, base_folder: Path | None = None) -> Ingredient:
    """`ID`, `ID:WEIGHT`, `ID:WEIGHT@BEGIN-END` as typed; without a weight the kit's own default counts.

    Factors of blocks may follow a slash: `ID:0.8/down=0.5,up.1=0`. Raises UsageError when the weight is no
    number from -2 to 2, the shares of the steps are none or a block is, else what `load_kit` raises.
    """
    front, slash, factors = text.partition("/")
    named, at, span = front.partition("@")
    talent_id, colon, number = named.partition(":")
    kit = load_kit(root, talent_id, base_folder=base_folder)
    weight = _weight(number, talent_id) if colon else kit.manifest.default_weight
    begin, end = _span(span, named) if at else (0.0, 1.0)
    blocks = read_blocks(factors, base=kit.base) if slash else ()
    return Ingredient(kit=kit, weight=weight, blocks=blocks, begin=begin, end=end)


def _weight(number: str, talent_id: str) -> float:
    weight = _number(number)
    if not -2.0 <= weight <= 2.0:
        raise UsageError(f"{number!r} is no weight from -2 to 2", remedy=f"write {talent_id}:0.8")
    return weight


def _span(text: str, named: str) -> tuple[float, float]:
    begin, end = (_number(part) for part in text.partition("-")[::2])
    if not 0.0 <= begin < end <= 1.0:
        raise UsageError(f"{text!r} is no part of the steps", remedy=f"write {named}@0.3-1")
    return begin, end


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def check_same_base(ingredients: Sequence[Ingredient]) -> None:
    """Raise KitError unless all kits were made for one base, down to its revision where they state it."""
    if not ingredients:
        return
    first = ingredients[0].kit
    for other in (ingredient.kit for ingredient in ingredients[1:]):
        if other.base != first.base:
            raise KitError(
                f"{first.id} is for {first.base}, {other.id} is for {other.base}: they cannot be mixed",
                remedy="choose kits of one base, or train one of them again",
            )
        if first.base_revision and other.base_revision and first.base_revision != other.base_revision:
            raise KitError(
                f"{first.id} and {other.id} were trained on different versions of {first.base}",
                remedy="train the older one again",
            )


def strength_warning(ingredients: Sequence[Ingredient]) -> str:
    """A sentence when weights that act together add up to more than a base usually bears, else no text."""
    total = max(
        (
            sum(abs(other.weight) for other in ingredients if other.begin <= use.begin < other.end)
            for use in ingredients
        ),
        default=0.0,
    )
    if len(ingredients) < 2 or total <= STRONG_SUM:
        return ""
    return f"the weights add up to {total:g}; above {STRONG_SUM:g} colours and shapes tend to burn"


def _open(folder: Path, base_folder: Path | None) -> tuple[Kit | None, str]:
    inspection = inspect_kit(folder, base_folder=base_folder)
    manifest = inspection.manifest
    if manifest is None or not inspection.report.valid:
        errors = inspection.report.errors
        return None, f"{errors[0].file}: {errors[0].message}" if errors else "talent.json cannot be read"
    try:
        digest, prompts = sha256_file(folder / WEIGHTS_FILE), read_prompts(folder)
    except (OSError, ValueError, KitError) as error:
        return None, f"it went away while it was read ({error})"
    stated = ((manifest.metadata and manifest.metadata.digests) or {}).get(WEIGHTS_FILE, digest)
    if digest != stated:
        return None, f"{WEIGHTS_FILE}: changed while it was read"
    kit = Kit(
        id=manifest.id,
        path=folder,
        sha256=digest,
        base=base_of(manifest.base_model, manifest.sdx_version) if base_folder is None else str(base_folder),
        manifest=manifest,
        prompts=prompts,
    )
    return kit, ""
