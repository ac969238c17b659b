"""`talent cast`: one portrait in, a set of training images out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from talent_factory.cli.common import (
    DryRunOption,
    JsonOption,
    WorkspaceOption,
    console,
    emit,
    reporter,
    show_plan,
)

if TYPE_CHECKING:
    from talent_factory.datagen.cast import CastManifest

_TYPES = "human, creature, robotic, anthropomorphic, mythical or other"


def cast(
    portrait: Annotated[Path, typer.Argument(help="One picture of the actor: PNG, JPEG, WEBP, HEIC, ...")],
    token: Annotated[str, typer.Option("--token", "-t", help="The actor's trigger word, such as dot_kairo.")],
    actor_type: Annotated[str, typer.Option("--actor-type", help=f"What the actor is: {_TYPES}.")] = "human",
    sex: Annotated[
        str | None, typer.Option("--sex", help="For humans: man, woman or person.", show_default="person")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of the cast.", show_default="WORKSPACE/casts/TOKEN"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed makes other variations.")] = 0,
    long_side: Annotated[
        int, typer.Option("--long-side", min=64, max=4096, help="Long side of each image in pixels.")
    ] = 1360,
    recipe: Annotated[str, typer.Option("--recipe", help="Recipe name, or a .toml file.")] = "actor-17",
    portrait_medium: Annotated[
        str, typer.Option("--portrait-medium", help="What the portrait is: photo, flat, ink, ...")
    ] = "",
    portrait_words: Annotated[
        str, typer.Option("--portrait-words", help='What in it may change: "smiling, teal shirt".')
    ] = "",
    workspace: WorkspaceOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make the training images of an actor from one portrait, offline, resumable image by image."""
    from talent_factory.core.config import parse
    from talent_factory.core.stop import graceful_stop
    from talent_factory.core.workspace import check_token, workspace_from
    from talent_factory.datagen.actor import CastOptions, cast_actor, plan_cast
    from talent_factory.datagen.recipes import class_noun
    from talent_factory.providers.embedded import EmbeddedPainter

    check_token(token)
    class_noun(actor_type, sex)  # refuses words it does not know, with a remedy
    chosen = {
        "actor_type": actor_type,
        "sex": sex,
        "recipe": recipe,
        "long_side": long_side,
        "seed": seed,
        "portrait_medium": portrait_medium.strip().lower(),
        "portrait_words": _phrases(portrait_words),
    }
    options = parse(CastOptions, chosen, source="options", remedy="talent cast --help")
    folder = out or workspace_from(workspace).casts / token
    editor = EmbeddedPainter()
    if dry_run:
        show_plan(plan_cast(portrait, out=folder, token=token, options=options, editor=editor), as_json)
        return
    with reporter() as listener, graceful_stop() as stop:
        made = cast_actor(
            portrait, out=folder, token=token, options=options, editor=editor, reporter=listener, stop=stop
        )
    emit(_document(made, folder), as_json, lambda: _show(made, folder))
    if made.failed:
        raise typer.Exit(3)


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(phrase.strip().lower() for phrase in text.split(",") if phrase.strip())


def _document(made: CastManifest, folder: Path) -> dict[str, object]:
    from talent_factory.datagen.cast import CAST_FILE, SHEET_FILE

    return {
        **made.counts(),
        "cast": folder,
        "manifest": folder / CAST_FILE,
        "contact_sheet": folder / SHEET_FILE,
        "images": [folder / slot.file for slot in made.done],
        "provider": made.provider,
        "portrait_notes": made.portrait.notes,
    }


def _show(made: CastManifest, folder: Path) -> None:
    from rich.table import Table
    from rich.text import Text

    from talent_factory.datagen.cast import SHEET_FILE

    table = Table(box=None, pad_edge=False)
    for header in ("", "image", "made by", ""):
        table.add_column(header, overflow="fold")
    for slot in made.slots:
        kind = "augmentation" if slot.augmentation else ""
        if slot.state == "done":
            table.add_row(str(slot.number), Text(slot.title), slot.method, Text(kind, "yellow"))
        else:
            table.add_row(str(slot.number), Text(slot.title), Text("failed", "red"), Text(slot.error, "red"))
    screen = console()
    screen.print(table)
    screen.print(Text(made.summary(), "bold"))
    for note in made.portrait.notes:
        screen.print(Text(f"portrait: {note}", "dim"))
    screen.print(Text(f"contact sheet: {folder / SHEET_FILE}"), soft_wrap=True)
    if made.failed:
        screen.print(Text("next: run the same command again, only what failed is made"), soft_wrap=True)
    else:
        screen.print(Text(f"next: talent dataset prepare {folder}"), soft_wrap=True)
