"""Plan a cast: every slot with its seed and key, and which of its images are there already."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from pydantic import Field

from talent_factory.core.errors import DatasetError, ProviderError
from talent_factory.core.files import sha256_bytes, sha256_file
from talent_factory.core.records import Record
from talent_factory.core.seeds import derive_seed
from talent_factory.datagen.cast import IMAGES, CastManifest, CastSlot, PortraitFacts, load_cast
from talent_factory.datagen.portrait import Portrait
from talent_factory.datagen.recipes import (
    ActorSex,
    ActorType,
    Recipe,
    Slot,
    class_noun,
    descriptor,
    slot_prompt,
)
from talent_factory.datagen.stamp import measure, read_stamp
from talent_factory.providers.port import Aspect, ImageEditor

MAX_IN_FLIGHT = 5


class CastOptions(Record):
    """What may be chosen for a cast. `long_side` is in pixels; `aspect` None means the recipe's own.

    `portrait_medium` and `portrait_words` say what is true of the portrait and hence of every image made from
    it ("flat"; "neutral", "teal shirt"): captions name it, so that it stays changeable in the trained actor.
    """

    actor_type: ActorType = "human"
    sex: ActorSex | None = None
    recipe: str = "actor-17"
    aspect: Aspect | None = None
    long_side: int = Field(default=1360, ge=64, le=4096)
    seed: int = Field(default=0, ge=0, lt=2**63)
    in_flight: int = Field(default=MAX_IN_FLIGHT, ge=1, le=64)
    portrait_medium: str = ""
    portrait_words: tuple[str, ...] = ()


def plan_slots(
    source: Portrait, *, name: str, token: str, options: CastOptions, recipe: Recipe, editor: ImageEditor
) -> CastManifest:
    """The cast of `source` (a file called `name`) with every slot planned; pure."""
    facts = PortraitFacts(
        source=name,
        sha256=source.sha256,
        width=source.image.width,
        height=source.image.height,
        notes=source.notes,
        medium=options.portrait_medium,
        words=options.portrait_words,
    )
    slots = tuple(
        _planned(slot, number, source=source, options=options, recipe=recipe, editor=editor)
        for number, slot in enumerate(recipe.slots, start=1)
    )
    return CastManifest(
        recipe=recipe.name,
        recipe_version=recipe.version,
        token=token,
        actor_type=options.actor_type,
        sex=options.sex,
        descriptor=descriptor(options.actor_type, options.sex),
        class_noun=class_noun(options.actor_type, options.sex),
        provider=editor.name,
        aspect=options.aspect or recipe.aspect,
        long_side=options.long_side,
        seed=options.seed,
        portrait=facts,
        slots=slots,
    )


def take_over(planned: CastManifest, out: Path) -> CastManifest:
    """`planned` with every slot marked done whose image lies in `out`, whole and of the same inputs."""
    before: dict[str, CastSlot] = {}
    with suppress(DatasetError):  # no cast yet, or a damaged one: the images then speak for themselves
        before = {slot.key: slot for slot in load_cast(out).done}
    slots = tuple(_found(slot, out, before.get(slot.key)) or slot for slot in planned.slots)
    return planned.model_copy(update={"slots": slots})


def file_of(slot: CastSlot) -> str:
    """Where the image of `slot` lies, relative to the cast."""
    return f"{IMAGES}/{slot.number:02d}_{slot.name}.png"


def _planned(
    slot: Slot, number: int, *, source: Portrait, options: CastOptions, recipe: Recipe, editor: ImageEditor
) -> CastSlot:
    can = editor.capabilities()
    prompt = slot_prompt(recipe, slot, descriptor(options.actor_type, options.sex))
    method = can.methods.get(slot.medium, editor.name)
    seed = derive_seed("cast", options.seed, recipe.name, slot.name)
    # what reaches the provider: captions and titles may be reworded without making images again
    inputs = {
        "portrait": source.sha256,
        "slot": slot.name,
        "medium": slot.medium,
        "prompt": prompt,
        "provider": editor.name,
        "method": method,
        "seed": seed,
        "long_side": options.long_side,
        "aspect": options.aspect or recipe.aspect,
    }
    return CastSlot(
        number=number,
        name=slot.name,
        title=slot.title,
        group=slot.group,
        medium=slot.medium,
        key=sha256_bytes(json.dumps(inputs, sort_keys=True).encode()),
        seed=seed,
        prompt=prompt,
        action=slot.action,
        setting=slot.setting,
        light=slot.light,
        caption=slot.caption,
        method=method,
        augmentation=slot.medium in can.augmentations,
    )


def _found(slot: CastSlot, out: Path, before: CastSlot | None) -> CastSlot | None:
    file = file_of(slot)
    path = out / file
    if not path.is_file():
        return None
    digest = sha256_file(path)
    if before is not None and before.file == file:
        if digest != before.sha256:
            return None
    elif read_stamp(path).get("key") != slot.key:
        # killed between the image and the manifest: the image itself tells what made it
        return None
    try:
        width, height = (before.width, before.height) if before else measure(path.read_bytes())
    except ProviderError:
        return None
    return slot.model_copy(
        update={"state": "done", "file": file, "sha256": digest, "width": width, "height": height}
    )
