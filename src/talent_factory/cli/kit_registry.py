"""`talent kit registry`: the table of all that was trained here, rebuilt from the kits, with your notes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from talent_factory.cli.common import JsonOption, WorkspaceOption, console, emit

if TYPE_CHECKING:
    from talent_factory.kits.registry import Row


def registry(
    talent_id: Annotated[
        str | None, typer.Argument(metavar="[TALENT_ID]", help="The kit that --note is about.")
    ] = None,
    note: Annotated[str | None, typer.Option("--note", help="A remark to keep about it.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rebuild registry.jsonl and registry.md from the kits of the workspace and show the table."""
    from talent_factory.core.errors import UsageError
    from talent_factory.core.workspace import workspace_from
    from talent_factory.kits.registry import update_registry
    from talent_factory.newcomer import given_names

    if (talent_id is None) != (note is None):
        raise UsageError("a note and a kit belong together", remedy='talent kit registry ID --note "TEXT"')
    place = workspace_from(workspace)
    notes = {talent_id: note} if talent_id is not None and note is not None else None
    rows = update_registry(place.root, place.talents, notes=notes, names=given_names(place))
    emit(rows, as_json, lambda: _show(rows))


def _show(rows: list[Row]) -> None:
    from rich.table import Table
    from rich.text import Text

    if not rows:
        console().print("no kits yet\nnext: talent new NAME --photos FOLDER")
        return
    table = Table(box=None, pad_edge=False)
    names = ("name", "token", "date", "base", "steps", "images", "weight", "notes")
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        values = row.model_dump()
        table.add_row(*(Text("" if values[name] is None else str(values[name])) for name in names))
    console().print(table)
