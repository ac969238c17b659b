"""Cast an actor: fill every slot of a recipe from one portrait, resumable slot by slot."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from talent_factory.core.errors import (
    Cancelled,
    DiskFull,
    PolicyRefused,
    ProviderError,
    TalentError,
    UsageError,
)
from talent_factory.core.events import Reporter
from talent_factory.core.files import clear_leftovers, json_text, name_as_text, sha256_bytes, write_bytes
from talent_factory.core.plan import Plan, PlanStep
from talent_factory.core.records import write_record
from talent_factory.core.stop import StopSignal
from talent_factory.core.workspace import check_token, exclusive
from talent_factory.datagen.cast import CAST_FILE, IMAGES, PORTRAIT_FILE, SHEET_FILE, CastManifest, CastSlot
from talent_factory.datagen.contact_sheet import sheet_is_current, write_contact_sheet
from talent_factory.datagen.planning import CastOptions, file_of, plan_slots, take_over
from talent_factory.datagen.portrait import Portrait, normalise, portrait_png, save_portrait
from talent_factory.datagen.recipes import load_recipe
from talent_factory.datagen.stamp import measure, stamp
from talent_factory.providers.port import EditRequest, ImageEditor

__all__ = ["CastOptions", "cast_actor", "plan_cast"]

_JOB_LIMIT_S = 30 * 60


def cast_actor(
    portrait: Path,
    *,
    out: Path,
    token: str,
    options: CastOptions,
    editor: ImageEditor,
    reporter: Reporter,
    stop: StopSignal | None = None,
) -> CastManifest:
    """Make the images of `options.recipe` from `portrait` into `out` and return the manifest
    (`out/cast.json`).

    A slot whose image is there and was made from the same inputs is never made again, so a second call does
    nothing and a call after a crash makes only what is missing. A failed slot is written down and the rest
    goes on; ask the manifest (`failed`, `require_complete`). Raises PortraitError, ProviderError when not one
    image could be made, Cancelled when `stop` asked for it, DiskFull, WorkspaceBusy, UsageError when `out` is
    where a picture of the user's lies under a name that the cast needs.
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
        cast = take_over(planned, out)
        _keep_portrait(source, out / PORTRAIT_FILE, cast)
        _write_if_new(out / CAST_FILE, cast)
        reporter.event("cast.begin", target=cast.target, done=len(cast.done), provider=cast.provider)
        reporter.progress("casting", len(cast.done), cast.target, unit="image")
        cast = _shoot(cast, out=out, editor=editor, in_flight=options.in_flight, reporter=reporter, stop=stop)
        if not sheet_is_current(cast, out / SHEET_FILE):
            write_contact_sheet(cast, out, out / SHEET_FILE)
    reporter.event("cast.end", **cast.counts())
    if stop is not None and stop.requested and len(cast.done) < cast.target:
        raise Cancelled(f"stopped with {cast.summary()}", remedy="run the same command again to go on")
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
    if not path.is_file() or len(cast.done) < cast.target:
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
    in_flight: int,
    reporter: Reporter,
    stop: StopSignal | None,
) -> CastManifest:
    """Make the missing images, a few at a time; the manifest is written after each, in this thread only."""
    slots = list(cast.slots)
    todo = [index for index, slot in enumerate(slots) if slot.state != "done"]
    if not todo:
        return cast
    workers = max(1, min(in_flight, editor.capabilities().max_in_flight, len(todo)))
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="cast")
    try:
        pending = {pool.submit(_make, slots[index], cast, out, editor): index for index in todo}
        while pending:
            if stop is not None and stop.requested:
                pending = {future: index for future, index in pending.items() if not future.cancel()}
            ready, _ = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
            # images first: an error that ends the cast must not leave finished ones out of the record
            for future in sorted(ready, key=lambda future: future.exception() is not None):
                index = pending.pop(future)
                slots[index] = _settle(slots[index], future)
                write_record(out / CAST_FILE, _with(cast, slots))
                _tell(reporter, slots, index)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return _with(cast, slots)


def _make(slot: CastSlot, cast: CastManifest, out: Path, editor: ImageEditor) -> CastSlot:
    """One image from submit to the file on disk; runs in a worker thread."""
    request = EditRequest(
        portrait=out / PORTRAIT_FILE,
        slot=slot.name,
        medium=slot.medium,
        prompt=slot.prompt,
        aspect=cast.aspect,
        seed=slot.seed,
        long_side=cast.long_side,
    )
    png = _await_job(editor, editor.submit(request))
    width, height = measure(png)
    facts = {
        "key": slot.key,
        "slot": slot.name,
        "provider": cast.provider,
        "method": slot.method,
        "augmentation": slot.augmentation,
        "seed": slot.seed,
        "recipe": f"{cast.recipe} {cast.recipe_version}",
        "portrait": cast.portrait.sha256,
    }
    data = stamp(png, facts)
    file = file_of(slot)
    write_bytes(out / file, data)
    return slot.model_copy(
        update={"state": "done", "file": file, "sha256": sha256_bytes(data), "width": width, "height": height}
    )


def _await_job(editor: ImageEditor, job: str) -> bytes:
    deadline = time.monotonic() + _JOB_LIMIT_S
    pause = 0.01
    while (state := editor.poll(job)) in ("queued", "running"):
        if time.monotonic() > deadline:
            editor.cancel(job)
            raise ProviderError(f"job {job} was not ready after {_JOB_LIMIT_S // 60} minutes")
        time.sleep(pause)
        pause = min(2.0, pause * 1.5)
    if state != "succeeded":
        raise ProviderError(f"job {job} {state}")
    return editor.fetch(job)


def _settle(slot: CastSlot, future: Future[CastSlot]) -> CastSlot:
    """The slot as its job left it; what must stop the cast is raised, other faults stay with the slot."""
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, DiskFull | PolicyRefused | Cancelled) or not isinstance(error, Exception):
        raise error
    text = error.message if isinstance(error, TalentError) else f"{type(error).__name__}: {error}"
    return slot.model_copy(update={"state": "failed", "error": " ".join(text.split())[:300]})


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
