"""Cast an actor: fill every slot of a recipe from one portrait, resumable slot by slot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from talent_factory.core.errors import Cancelled, ProviderError, TalentError, UsageError
from talent_factory.core.events import Reporter
from talent_factory.core.files import clear_leftovers, json_text, name_as_text
from talent_factory.core.plan import Plan, PlanStep
from talent_factory.core.records import write_record
from talent_factory.core.stop import StopSignal
from talent_factory.core.workspace import check_token, exclusive
from talent_factory.datagen.cast import CAST_FILE, IMAGES, PORTRAIT_FILE, SHEET_FILE, CastManifest, CastSlot
from talent_factory.datagen.choice import keep_best
from talent_factory.datagen.collect import hand_on
from talent_factory.datagen.contact_sheet import sheet_is_current, write_contact_sheet
from talent_factory.datagen.order import Deliver, Made, Picture
from talent_factory.datagen.planning import (
    CastOptions,
    order_of,
    plan_slots,
    put_in_place,
    settled,
    take_over,
)
from talent_factory.datagen.portrait import Portrait, normalise, portrait_png, save_portrait
from talent_factory.datagen.quality.examine import examine_cast
from talent_factory.datagen.recipes import load_recipe
from talent_factory.datagen.window import SPARE, make_images
from talent_factory.providers.port import ImageEditor
from talent_factory.providers.vision.encoder import encoder_from

__all__ = ["CastOptions", "cast_actor", "plan_cast"]


def cast_actor(
    portrait: Path,
    *,
    out: Path,
    token: str,
    options: CastOptions,
    editor: ImageEditor,
    reporter: Reporter,
    stop: StopSignal | None = None,
    deliver: Deliver | None = None,
) -> CastManifest:
    """Make the images of `options.recipe` from `portrait` into `out` and return the manifest
    (`out/cast.json`).

    A slot whose image is there and was made from the same inputs is never made again, so a second call does
    nothing and a call after a crash collects what is paid and makes only what is missing. A failed slot is
    written down and the rest goes on; ask the manifest (`failed`, `require_complete`). `deliver` brings each
    image elsewhere while others are made. Raises PortraitError, ProviderError when not one image could be
    made, ProviderRefused (key, credit, input) and PolicyRefused (budget) with all that was made kept,
    Cancelled when `stop` asked for it, DiskFull, WorkspaceBusy, UsageError when `out` is where a picture of
    the user's lies under a name that the cast needs.
    """
    check_token(token)
    recipe = load_recipe(options.recipe)
    source = normalise(portrait)
    _refuse_foreign(source, out)
    planned = plan_slots(
        source, name=name_as_text(portrait.name), token=token, options=options, recipe=recipe, editor=editor
    )
    for note in source.notes:
        reporter.message(f"portrait: {note}")
    with exclusive(out):
        clear_leftovers(out)
        clear_leftovers(out / IMAGES)
        clear_leftovers(out / SPARE)
        cast = put_in_place(take_over(planned, out), out)
        _keep_portrait(source, out / PORTRAIT_FILE, cast)
        _write_if_new(out / CAST_FILE, cast)
        reporter.event("cast.begin", target=cast.target, done=len(cast.done), provider=cast.provider)
        reporter.progress("casting", len(cast.made), len(cast.slots), unit="image")
        cast, stopped = _shoot(
            cast, out=out, editor=editor, options=options, reporter=reporter, stop=stop, deliver=deliver
        )
        cast = _examined(_deliver_rest(cast, out, deliver), out)
        if not sheet_is_current(cast, out / SHEET_FILE):
            write_contact_sheet(cast, out, out / SHEET_FILE)
    reporter.event("cast.end", **cast.counts())
    if stop is not None and stop.requested and len(cast.done) < cast.target:
        raise Cancelled(f"stopped with {cast.summary()}", remedy="run the same command again to go on")
    if stopped is not None and len(cast.done) < cast.target:
        stopped.message += f"; {cast.summary()} so far, and kept"
        raise stopped
    if not cast.done:
        raise ProviderError(
            f"not one of {cast.target} images could be made: {cast.slots[0].error or 'none was tried'}",
            remedy="mend the cause and run the same command again",
        )
    return cast


def plan_cast(portrait: Path, *, out: Path, token: str, options: CastOptions, editor: ImageEditor) -> Plan:
    """What `cast_actor` would do, slot by slot, with time, memory, disk and cost; writes nothing.

    The times of a local editor are an estimate for one busy core; the prices are the editor's own figures.
    """
    check_token(token)
    recipe = load_recipe(options.recipe)
    source = normalise(portrait)
    _refuse_foreign(source, out)
    cast = take_over(
        plan_slots(
            source,
            name=name_as_text(portrait.name),
            token=token,
            options=options,
            recipe=recipe,
            editor=editor,
        ),
        out,
    )
    can = editor.capabilities()
    megapixels = options.long_side**2 * 9 / 16 / 1e6
    seconds = (30.0 if can.network else 1.2 * megapixels + 0.1) / max(
        1, min(options.in_flight, can.max_in_flight)
    )
    steps = [
        PlanStep(
            name=f"{slot.number:02d} {slot.name}",
            detail=slot.title + (" (augmentation)" if slot.augmentation else ""),
            seconds=seconds,
            memory_mb=120 + 90 * megapixels * min(options.in_flight, can.max_in_flight),
            disk_mb=2.2 * megapixels,
            cost_usd=can.price_usd,
            state="done" if slot.state == "done" else "todo",
        )
        for slot in cast.slots
    ]
    return Plan(title=f"cast {token}: {recipe.title}, by {editor.name}", steps=tuple(steps))


def _refuse_foreign(source: Portrait, out: Path) -> None:
    """Leave alone a `portrait.png` that no cast wrote: with `--out .` it may be the user's only original."""
    path = out / PORTRAIT_FILE
    if path.exists() and not (out / CAST_FILE).exists() and path.read_bytes() != portrait_png(source):
        raise UsageError(
            f"{path} belongs to no cast and would be overwritten", remedy="name another folder with --out"
        )


def _keep_portrait(source: Portrait, path: Path, cast: CastManifest) -> None:
    if not path.is_file() or len(cast.made) < len(cast.slots):
        save_portrait(source, path)


def _write_if_new(path: Path, cast: CastManifest) -> None:
    """Leave the file alone when it says the same already: a second run must change nothing."""
    text = json_text(cast.model_dump(mode="json"))
    if not path.is_file() or path.read_bytes() != text.encode("utf-8"):
        write_record(path, cast)


def _shoot(
    cast: CastManifest,
    *,
    out: Path,
    editor: ImageEditor,
    options: CastOptions,
    reporter: Reporter,
    stop: StopSignal | None,
    deliver: Deliver | None,
) -> tuple[CastManifest, TalentError | None]:
    """Make the missing images; the manifest is written as each one ends, in this thread only."""
    slots = list(cast.slots)
    missing = {slot.key: index for index, slot in enumerate(slots) if slot.state != "done"}

    def settle(made: Made) -> None:
        index = missing[made.order.key]
        slots[index] = settled(slots[index], made)
        if slots[index] != cast.slots[index]:
            write_record(out / CAST_FILE, _with(cast, slots))
        if made.state != "left":
            _tell(reporter, slots, index)

    harvest = make_images(
        [order_of(slots[index], cast, out) for index in missing.values()],
        folder=out,
        editor=editor,
        terms=options.terms(),
        stop=stop,
        on_made=settle,
        deliver=deliver,
        have={slot.key for slot in cast.made},
    )
    return _with(cast, slots), harvest.stopped


def _examined(cast: CastManifest, out: Path) -> CastManifest:
    """The cast with the checks of its images, written down; the numbers advise, they throw nothing away.

    Where more were made than wanted, the best are kept.
    """
    everything = _with(cast, [slot.model_copy(update={"kept": True}) for slot in cast.slots])
    examined = keep_best(examine_cast(everything, out, encoder=encoder_from()), out)
    _write_if_new(out / CAST_FILE, examined)
    return examined


def _deliver_rest(cast: CastManifest, out: Path, deliver: Deliver | None) -> CastManifest:
    """Deliver what earlier runs made and could not bring to its place."""
    if deliver is None or all(slot.url for slot in cast.made):
        return cast
    slots = list(cast.slots)
    for index, slot in enumerate(slots):
        if slot.state == "done" and not slot.url:
            path = out / slot.file
            picture = Picture(
                key=slot.key, path=path, raw=path.read_bytes(), sha256=slot.sha256, seed=slot.seed, sent={}
            )
            url, error = hand_on(picture, deliver)
            slots[index] = slot.model_copy(update={"url": url, "error": error})
    delivered = _with(cast, slots)
    _write_if_new(out / CAST_FILE, delivered)
    return delivered


def _tell(reporter: Reporter, slots: Sequence[CastSlot], index: int) -> None:
    slot = slots[index]
    reporter.event(
        "cast.slot", number=slot.number, name=slot.name, state=slot.state, file=slot.file, error=slot.error
    )
    if slot.state == "failed":
        reporter.message(f"slot {slot.number:02d} {slot.name} failed: {slot.error}")
    settled = sum(other.state != "planned" for other in slots)
    reporter.progress("casting", settled, len(slots), unit="image", note=slot.name)


def _with(cast: CastManifest, slots: Sequence[CastSlot]) -> CastManifest:
    return cast.model_copy(update={"slots": tuple(slots)})
