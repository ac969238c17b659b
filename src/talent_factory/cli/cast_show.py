"""What a person or a program is shown of a set of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from talent_factory.cli.common import console, emit

if TYPE_CHECKING:
    from talent_factory.cli.cast_work import Outcome
    from talent_factory.core.plan import Plan
    from talent_factory.datagen.cast import CastManifest
    from talent_factory.datagen.overview import Overview, Quote
    from talent_factory.datagen.style_cast import StyleCast

_COLOURS = {"done": "green", "failed": "red", "planned": "yellow"}


def show_estimate(plan: Plan, quote: Quote, *, as_json: bool) -> None:
    """Show what a run would do and cost."""

    def human() -> None:
        from rich.text import Text

        console().print(plan.as_table())
        if quote.price_usd:
            console().print(Text(quote.sentence()), soft_wrap=True)

    emit({**plan.as_json(), "quote": {**quote.model_dump(mode="json")}}, as_json, human)


def finish(outcome: Outcome, *, as_json: bool) -> None:
    """Show a result and leave with 3 when something is missing."""
    emit(document(outcome), as_json, lambda: _show_outcome(outcome))
    if not outcome.complete:
        raise typer.Exit(3)


def document(outcome: Outcome) -> dict[str, Any]:
    """The result for programs."""
    from talent_factory.datagen.cast import CAST_FILE, SHEET_FILE, CastManifest
    from talent_factory.datagen.style_cast import STYLE_FILE

    made, folder = outcome.made, outcome.folder
    facts: dict[str, Any] = {
        **made.counts(),
        "cast": folder,
        "images": list(outcome.images.values()),
        "contact_sheet": folder / SHEET_FILE,
        "provider": made.provider,
        "model": made.model,
        "spent_usd": outcome.spent_usd,
        "training_image_urls": outcome.urls,
        "undelivered": outcome.undelivered,
    }
    if isinstance(made, CastManifest):
        return facts | {"manifest": folder / CAST_FILE, "portrait_notes": made.portrait.notes}
    return facts | {"manifest": folder / STYLE_FILE, "portrait_notes": made.picture.notes}


def _show_outcome(outcome: Outcome) -> None:
    from rich.text import Text

    from talent_factory.datagen.cast import SHEET_FILE, CastManifest

    made, folder, screen = outcome.made, outcome.folder, console()
    notes = made.portrait.notes if isinstance(made, CastManifest) else made.picture.notes
    screen.print(_cast_table(made) if isinstance(made, CastManifest) else _style_table(made))
    screen.print(Text(made.summary(), "bold"))
    for note in notes:
        screen.print(Text(f"portrait: {note}", "dim"))
    if outcome.spent_usd:
        screen.print(Text(f"spent: ${outcome.spent_usd:.2f}"))
    if outcome.urls:
        screen.print(Text(f"delivered: {len(outcome.urls)} images, first {outcome.urls[0]}"), soft_wrap=True)
    if outcome.undelivered:
        screen.print(Text(f"not delivered: {outcome.undelivered}", "red"), soft_wrap=True)
    screen.print(Text(f"contact sheet: {folder / SHEET_FILE}"), soft_wrap=True)
    if not outcome.complete:
        screen.print(Text(f"next: talent cast resume {folder} makes only what is missing"), soft_wrap=True)
    else:
        screen.print(Text(f"next: talent dataset prepare {folder}"), soft_wrap=True)


def _cast_table(made: CastManifest) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for header in ("", "image", "made by", ""):
        table.add_column(header, overflow="fold")
    for slot in made.slots:
        if slot.state == "done":
            kind = Text("augmentation" if slot.augmentation else "", "yellow")
            table.add_row(str(slot.number), Text(slot.title), slot.method, kind)
        else:
            table.add_row(str(slot.number), Text(slot.title), Text("failed", "red"), Text(slot.error, "red"))
    return table


def _style_table(made: StyleCast) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for header in ("sheet", "", "kept", ""):
        table.add_column(header, overflow="fold")
    for sheet in made.sheets:
        kept = sum(tile.image > 0 for tile in made.tiles if tile.sheet == sheet.number)
        mark = Text(sheet.state, _COLOURS[sheet.state])
        table.add_row(str(sheet.number), mark, f"{kept} of {len(sheet.subjects)}", Text(sheet.error, "red"))
    return table


def show_overview(view: Overview) -> None:
    """Show how a set stands: its parts, what is under way, the money."""
    from rich.table import Table
    from rich.text import Text

    screen = console()
    by = f"{view.provider} {view.model}".rstrip()
    screen.print(Text(f"{view.token} ({view.kind}), by {by}: {view.done} of {view.target} images", "bold"))
    table = Table(box=None, pad_edge=False)
    for header in ("", "image" if view.kind == "actor" else "sheet", "state", "checks", "cost", ""):
        table.add_column(header, overflow="fold")
    for part in view.parts:
        table.add_row(
            str(part.number),
            Text(part.title),
            Text(part.state, _COLOURS[part.state]),
            part.verdict,
            f"${part.cost_usd:.3f}" if part.cost_usd else "",
            Text(part.error, "red"),
        )
    if view.parts:
        screen.print(table)
    for job in view.open:
        known = f" as {job.job}" if job.job else ""
        screen.print(Text(f"under way: {job.slot} {job.state}{known}", "yellow"), soft_wrap=True)
    if view.attempts:
        reserved = f", ${view.reserved_usd:.2f} held for what is under way" if view.reserved_usd else ""
        screen.print(Text(f"spent: ${view.spent_usd:.2f}{reserved}"))
    if view.lost:
        screen.print(Text(f"lost: {view.lost} paid perhaps; --pay-again makes them anew", "red"))
    if view.done and not view.checked:
        screen.print(Text("ended before the images were checked", "yellow"))
    if not view.finished and view.resumable:
        screen.print(Text(f"next: talent cast resume {view.folder}"), soft_wrap=True)
