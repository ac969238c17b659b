"""Plan a cast: every slot with its seed and key, and which of its images are there already."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from pydantic import Field, model_validator

from talent_factory.core.errors import DatasetError, ProviderError, UsageError
from talent_factory.core.files import fsync_folder, sha256_bytes, sha256_file
from talent_factory.core.records import Record
from talent_factory.core.seeds import derive_seed
from talent_factory.datagen.cast import (
    IMAGES,
    PORTRAIT_FILE,
    CastManifest,
    CastSlot,
    PortraitFacts,
    load_cast,
)
from talent_factory.datagen.choice import spread, varied_name
from talent_factory.datagen.order import Made, Order, Terms
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
from talent_factory.datagen.window import spare_file
from talent_factory.providers.models import SAFETY_REQUESTED
from talent_factory.providers.port import Aspect, Capabilities, EditRequest, ImageEditor

MAX_IN_FLIGHT = 5
# What only making an image can tell of it.
_MADE = {"width", "height", "seed", "job", "cost_usd", "url"}
# What was found out about it afterwards.
_JUDGED = {"checks", "kept", "error"}


class CastOptions(Record):
    """What may be chosen for a cast. `long_side` is in pixels; `aspect` None means the recipe's own.

    `portrait_medium` and `portrait_words` say what is true of the portrait and hence of every image made from
    it ("flat"; "neutral", "teal shirt"): captions name it, so that it stays changeable in the trained actor.

    `count` images are made (None: one for each slot of the recipe); more than it has slots are variations by
    seed. Of these the best `keep` are kept. `provider_options` are for the provider alone, such as
    safety_tolerance.
    """

    actor_type: ActorType = "human"
    sex: ActorSex | None = None
    recipe: str = "actor-17"
    aspect: Aspect | None = None
    long_side: int = Field(default=1360, ge=64, le=4096)
    seed: int = Field(default=0, ge=0, lt=2**63)
    in_flight: int = Field(default=MAX_IN_FLIGHT, ge=1, le=64)
    budget_usd: float | None = Field(default=None, ge=0)
    pay_again: bool = False
    time_scale: float = Field(default=1.0, gt=0)
    portrait_medium: str = ""
    portrait_words: tuple[str, ...] = ()
    count: int | None = Field(default=None, ge=1, le=500)
    keep: int | None = Field(default=None, ge=1, le=500)
    provider_options: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _keeps_what_it_makes(self) -> CastOptions:
        if self.keep is not None and self.count is not None and self.keep > self.count:
            raise ValueError(f"cannot keep {self.keep} of {self.count} images")
        return self

    def terms(self) -> Terms:
        """The part that is about the run and not about the pictures; see `Terms`."""
        return Terms(
            in_flight=self.in_flight,
            budget_usd=self.budget_usd,
            pay_again=self.pay_again,
            time_scale=self.time_scale,
        )


def plan_slots(
    source: Portrait, *, name: str, token: str, options: CastOptions, recipe: Recipe, editor: ImageEditor
) -> CastManifest:
    """The cast of `source` (a file called `name`) with every slot planned; pure.

    Raises UsageError when more images are to be kept than made.
    """
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
        _planned(slot, number, variation, source=source, options=options, recipe=recipe, editor=editor)
        for number, (slot, variation) in enumerate(spread(recipe, options.count), start=1)
    )
    if (options.keep or 0) > len(slots):
        raise UsageError(
            f"cannot keep {options.keep} of {len(slots)} images", remedy="make more with --count"
        )
    requested, sent = _safety(options, editor.capabilities())
    return CastManifest(
        recipe=recipe.name,
        recipe_version=recipe.version,
        token=token,
        actor_type=options.actor_type,
        sex=options.sex,
        descriptor=descriptor(options.actor_type, options.sex),
        class_noun=class_noun(options.actor_type, options.sex),
        provider=editor.name,
        model=editor.capabilities().model,
        aspect=options.aspect or recipe.aspect,
        long_side=options.long_side,
        provider_options=options.provider_options,
        seed=options.seed,
        portrait=facts,
        keep=options.keep or 0,
        safety_requested=requested,
        safety_sent=sent,
        slots=slots,
    )


def take_over(planned: CastManifest, out: Path) -> CastManifest:
    """`planned` with every slot marked done whose image lies in `out`, whole and of the same inputs."""
    before: dict[str, CastSlot] = {}
    with suppress(DatasetError):  # no cast yet, or a damaged one: the images then speak for themselves
        before = {slot.key: slot for slot in load_cast(out).made}
    slots = tuple(_found(slot, out, before.get(slot.key)) or slot for slot in planned.slots)
    return planned.model_copy(update={"slots": slots})


def put_in_place(cast: CastManifest, out: Path) -> CastManifest:
    """Move paid images that another recipe or seed made out of the way, into `spare/`, and those that this
    one wants back from there; nothing that was paid is ever overwritten.
    """
    slots = list(cast.slots)
    for index, slot in enumerate(slots):
        place = out / file_of(slot)
        if slot.state == "done" and slot.file == file_of(slot):
            continue
        stamp = read_stamp(place) if place.is_file() else {}
        if stamp.get("job") and stamp.get("key") != slot.key:
            _move(place, out / spare_file(str(stamp.get("slot")), str(stamp["key"])))
        if slot.state == "done":
            _move(out / slot.file, place)
            slots[index] = slot.model_copy(update={"file": file_of(slot)})
    return cast.model_copy(update={"slots": tuple(slots)})


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    os.replace(source, target)
    fsync_folder(target.parent)


def file_of(slot: CastSlot) -> str:
    """Where the image of `slot` lies, relative to the cast."""
    return f"{IMAGES}/{slot.number:02d}_{slot.name}.png"


def order_of(slot: CastSlot, cast: CastManifest, out: Path) -> Order:
    """What the window is asked for to fill `slot`."""
    request = EditRequest(
        portrait=out / PORTRAIT_FILE,
        slot=slot.name,
        medium=slot.medium,
        prompt=slot.prompt,
        aspect=cast.aspect,
        seed=slot.seed,
        long_side=cast.long_side,
        options=cast.provider_options,
    )
    facts = {
        "slot": slot.name,
        "provider": cast.provider,
        "method": slot.method,
        "augmentation": slot.augmentation,
        "recipe": f"{cast.recipe} {cast.recipe_version}",
        "portrait": cast.portrait.sha256,
    }
    return Order(key=slot.key, request=request, path=out / file_of(slot), facts=facts)


def settled(slot: CastSlot, made: Made) -> CastSlot:
    """The slot as the window left it."""
    if made.state == "done":
        changes: dict[str, object] = {
            "state": "done",
            "file": file_of(slot),
            "sha256": made.sha256,
            "width": made.width,
            "height": made.height,
            "seed": made.seed,
            "job": made.job,
            "cost_usd": made.cost_usd,
            "url": made.url,
        }
    else:
        changes = {"state": "failed" if made.state == "failed" else "planned", "code": made.code}
    return slot.model_copy(update=changes | {"error": made.error})


def _planned(
    slot: Slot,
    number: int,
    variation: int,
    *,
    source: Portrait,
    options: CastOptions,
    recipe: Recipe,
    editor: ImageEditor,
) -> CastSlot:
    can = editor.capabilities()
    name = varied_name(slot.name, variation)
    prompt = slot_prompt(recipe, slot, descriptor(options.actor_type, options.sex))
    method = can.methods.get(slot.medium, editor.name)
    seed = derive_seed("cast", options.seed, recipe.name, name)
    # what reaches the provider: captions and titles may be reworded without making images again
    inputs = {
        "portrait": source.sha256,
        "slot": name,
        "medium": slot.medium,
        "prompt": prompt,
        "provider": editor.name,
        "method": method,
        "seed": seed,
        "long_side": options.long_side,
        "aspect": options.aspect or recipe.aspect,
    }
    # added only where they say something, so that older casts keep their keys
    if can.model:
        inputs["model"] = can.model
    if options.provider_options:
        inputs["options"] = options.provider_options
    return CastSlot(
        number=number,
        name=name,
        title=slot.title if name == slot.name else f"{slot.title} ({variation + 1})",
        variation_of="" if name == slot.name else slot.name,
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


def _safety(options: CastOptions, can: Capabilities) -> tuple[int | None, int | None]:
    """The safety tolerance that is wanted and the one that the model takes together with an image."""
    if can.safety is None:
        return None, None
    text = options.provider_options.get("safety_tolerance", str(SAFETY_REQUESTED))
    wanted = int(text) if text.isdecimal() else SAFETY_REQUESTED
    return wanted, max(can.safety[0], min(can.safety[1], wanted))


def _found(slot: CastSlot, out: Path, before: CastSlot | None) -> CastSlot | None:
    return _found_at(file_of(slot), slot, out, before) or _found_at(
        spare_file(slot.name, slot.key), slot, out, before
    )


def _found_at(file: str, slot: CastSlot, out: Path, before: CastSlot | None) -> CastSlot | None:
    path = out / file
    if not path.is_file():
        return None
    digest = sha256_file(path)
    if before is not None and before.file == file:
        if digest != before.sha256:
            return None
        known: dict[str, object] = before.model_dump(include=_MADE | _JUDGED)
    else:
        # killed between the image and the manifest: the image itself tells what made it
        known = {name: value for name, value in read_stamp(path).items() if name in {"key", *_MADE}}
        if known.pop("key", None) != slot.key:
            return None
        try:
            known["width"], known["height"] = measure(path.read_bytes())
        except ProviderError:
            return None
    return CastSlot.model_validate(
        {**slot.model_dump(), **known, "state": "done", "file": file, "sha256": digest}
    )
