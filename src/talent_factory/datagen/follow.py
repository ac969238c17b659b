"""Whether each image shows what its slot ordered: asked of a vision, written beside the other checks."""

from __future__ import annotations

from pathlib import Path

from talent_factory.core.errors import TalentError
from talent_factory.core.events import Reporter
from talent_factory.core.records import write_record
from talent_factory.core.workspace import exclusive
from talent_factory.datagen.cast import CAST_FILE, SHEET_FILE, CastManifest, CastSlot, load_cast
from talent_factory.datagen.contact_sheet import write_contact_sheet
from talent_factory.datagen.quality.verdict import Check, unmeasured
from talent_factory.providers.vision.port import Vision

FOLLOWS = "follows"


def check_slots(folder: Path, vision: Vision, *, reporter: Reporter) -> CastManifest:
    """Ask `vision` about every finished image of the cast in `folder` that was not asked about before.

    The manifest is written after each answer and the contact sheet at the end. A vision that fails ends the
    asking with a message, never the cast: its images are made and paid. Raises DatasetError without a cast,
    WorkspaceBusy.
    """
    with exclusive(folder):
        cast = load_cast(folder)
        todo = [slot for slot in cast.made if not _asked(slot)]
        for number, slot in enumerate(todo, start=1):
            try:
                check = _check(slot, cast, folder, vision)
            except TalentError as error:
                reporter.message(f"images are not compared with their slots: {error.message}")
                break
            others = tuple(old for old in slot.checks if old.name != FOLLOWS)
            cast = _with(cast, slot.model_copy(update={"checks": (*others, check)}))
            write_record(folder / CAST_FILE, cast)
            reporter.progress("comparing images with their slots", number, len(todo), unit="image")
        if todo:
            write_contact_sheet(cast, folder, folder / SHEET_FILE)
    return cast


def _asked(slot: CastSlot) -> bool:
    """Whether there is a verdict; one that could not be had is asked for again."""
    return any(
        check.name == FOLLOWS and (slot.augmentation or check.verdict != "not_measured")
        for check in slot.checks
    )


def _check(slot: CastSlot, cast: CastManifest, folder: Path, vision: Vision) -> Check:
    if slot.augmentation:
        return unmeasured(FOLLOWS, "the portrait in another light is not meant to follow")
    ordered = f"{slot.title}: a {cast.descriptor} {slot.action}, {slot.setting}; {slot.light}"
    verdict = vision.follows(folder / slot.file, ordered)
    return Check(name=FOLLOWS, verdict=verdict.state, note=verdict.note)


def _with(cast: CastManifest, changed: CastSlot) -> CastManifest:
    slots = tuple(changed if slot.number == changed.number else slot for slot in cast.slots)
    return cast.model_copy(update={"slots": slots})
