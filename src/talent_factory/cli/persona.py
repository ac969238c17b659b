"""`talent persona`: save a mix under a name, turn its sliders, draw it again bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from talent_factory.cli.common import (
    DryRunOption,
    JsonOption,
    WorkspaceOption,
    console,
    emit,
    plain,
    printable,
)
from talent_factory.cli.persona_draw import page, render, sheet
from talent_factory.cli.persona_edit import change, new, print_saved

if TYPE_CHECKING:
    from talent_factory.foundry.persona import Persona
    from talent_factory.foundry.persona_draw import Finding

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Save, change and draw personas.")
app.command("new")(new)
app.command("set")(change)
app.command("render")(render)
app.command("sheet")(sheet)
app.command("page")(page)

PersonaArgument = Annotated[str, typer.Argument(metavar="ID", help="The persona.")]


@app.command("list")
def list_all(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List the personas of the workspace, unreadable ones too."""
    from talent_factory.core.errors import TalentError
    from talent_factory.core.workspace import workspace_from
    from talent_factory.foundry.persona_book import list_personas

    found = list_personas(workspace_from(workspace).personas)
    rows: list[dict[str, Any]] = [
        {"id": name, "problem": item.message}
        if isinstance(item, TalentError)
        else {
            "id": name,
            "version": item.version,
            "base": item.base.name,
            "kits": [kit.id for kit in item.kits],
            "sliders": {key: slider.value for key, slider in item.sliders.items()},
        }
        for name, item in found
    ]
    emit(rows, as_json, lambda: _print_list(rows))


@app.command("show")
def show(persona_id: PersonaArgument, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Show one persona: its kits at their weights now, its sliders, colours, prompts and words."""
    from talent_factory.core.workspace import workspace_from
    from talent_factory.foundry.persona_book import load_persona

    persona = load_persona(workspace_from(workspace).personas, persona_id)
    factors = persona.factors()
    weights = {kit.id: kit.weight * factors[kit.id] for kit in persona.kits}
    document = {**plain(persona), "weights_now": weights}
    emit(document, as_json, lambda: _print_persona(persona, weights))


@app.command("check")
def check(
    persona_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The persona; all of them without it.")
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", help="Where its base lies now, when it was moved.")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether base and kits are here and unchanged; exit code 1 when a persona cannot draw."""
    from talent_factory.core.workspace import workspace_from
    from talent_factory.foundry.persona_book import load_persona, persona_ids
    from talent_factory.foundry.persona_draw import examine

    place = workspace_from(workspace)
    names = [persona_id] if persona_id else persona_ids(place.personas)
    found = {
        name: examine(load_persona(place.personas, name), root=place.talents, base=base) for name in names
    }
    good = not any(finding.fatal for findings in found.values() for finding in findings)
    emit({"good": good, "personas": found}, as_json, lambda: _print_findings(found))
    if not good:
        raise typer.Exit(1)


@app.command("export")
def export(
    persona_id: PersonaArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="The JSON file to write.")],
    form: Annotated[
        str, typer.Option("--form", help="talent for all of it, field for Persona Foundry's own file.")
    ] = "talent",
    dry_run: DryRunOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a persona to a file for another machine or for Persona Foundry, without paths of this one."""
    from talent_factory.core.errors import UsageError
    from talent_factory.core.files import write_json
    from talent_factory.core.workspace import workspace_from
    from talent_factory.foundry.persona_book import load_persona
    from talent_factory.foundry.persona_field import to_field, without_paths

    if form not in ("talent", "field"):
        raise UsageError(f"there is no form {form[:40]!r}", remedy="choose --form talent or --form field")
    persona = load_persona(workspace_from(workspace).personas, persona_id)
    chosen = to_field(persona) if form == "field" else without_paths(persona)
    document = chosen.model_dump(mode="json", exclude_none=True)
    if not dry_run:
        write_json(out, document)
    result = {"written": not dry_run, "path": out, "form": form, "document": document}
    verb = "would write" if dry_run else "wrote"
    emit(result, as_json, lambda: console().print(f"{verb} {out}", markup=False, soft_wrap=True))


@app.command("import")
def take_in(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A persona of ours or of Persona Foundry.")],
    persona_id: Annotated[
        str | None, typer.Option("--id", help="Call it so.", show_default="its own id")
    ] = None,
    identity: Annotated[
        str | None,
        typer.Option("--identity", help="Its identity kit.", show_default="avatar.identity.dot_NAME"),
    ] = None,
    slider: Annotated[
        list[str] | None,
        typer.Option("--slider", help="NAME=LOW_ID,HIGH_ID: the kits at its ends; may be repeated."),
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", help="The base here.", show_default="its own, or mini")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite a persona of that id.")] = False,
    dry_run: DryRunOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a persona file in, with the kits and the base that lie here."""
    from talent_factory.core.workspace import workspace_from
    from talent_factory.foundry.persona_book import add_persona
    from talent_factory.foundry.persona_import import import_persona

    place = workspace_from(workspace)
    made = import_persona(
        path, root=place.talents, persona_id=persona_id, identity=identity, dials=slider or (), base=base
    )
    where = None if dry_run else add_persona(place.personas, made, anew=replace)
    emit({"persona": made, "path": where}, as_json, lambda: print_saved(made, where))


def _print_list(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    if not rows:
        console().print("no personas yet\nnext: talent persona new NAME --identity avatar.identity.NAME")
        return
    table = Table("persona", "version", "base", "kits", "sliders", box=None, pad_edge=False)
    for row in rows:
        if "problem" in row:
            table.add_row(Text(printable(row["id"])), Text(f"cannot be used: {printable(row['problem'])}"))
            continue
        sliders = ", ".join(f"{name} {value:g}" for name, value in row["sliders"].items())
        kits = ", ".join(name.removeprefix("avatar.") for name in row["kits"])
        cells = (row["id"], row["version"], row["base"], kits, sliders)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console().print(table)


def _print_persona(persona: Persona, weights: dict[str, float]) -> None:
    print(f"{persona.id}  version {persona.version}")
    print(f"base     {printable(persona.base.name)}  {persona.base.revision[:12]}")
    for kit in persona.kits:
        span = "" if (kit.begin, kit.end) == (0.0, 1.0) else f"  steps {kit.begin:g}-{kit.end:g}"
        print(f"kit      {kit.id}  {weights[kit.id]:g} of {kit.weight:g}{span}  {kit.sha256[:12]}")
    if persona.choice:
        print(f"chosen   {printable(str(persona.choice.get('reason', '')))}")
    if persona.projection or persona.switch:
        print(f"mixing   {'taking turns' if persona.switch else f'projection {persona.projection:g}'}")
    for name, slider in persona.sliders.items():
        bar = "".join("●" if index == round(slider.value * 20) else "─" for index in range(21))
        print(f"slider   {name}  {slider.low} {bar} {slider.high}  {slider.value:g}")
    words = {
        "finish": persona.finish,
        "palette": "  ".join(f"{name} {value}" for name, value in persona.palette.items()),
        "voice": _pairs(persona.voice),
        "tone": _pairs(persona.tone),
        "says": " / ".join(persona.phrasebook.say),
        "avoids": " / ".join(persona.phrasebook.avoid),
        "limits": _pairs(persona.boundaries),
        "not": persona.negatives,
    }
    for title, text in words.items():
        if text:
            print(f"{title:8} {printable(text)}")
    for prompt in persona.prompts:
        print(f"prompt   {printable(prompt)}")


def _pairs(values: Any) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _print_findings(found: dict[str, tuple[Finding, ...]]) -> None:
    for name, findings in found.items():
        bad = any(finding.fatal for finding in findings)
        print(f"{'BROKEN' if bad else 'good  '}  {name}")
        for finding in findings:
            kind = "error" if finding.fatal else "note"
            print(f"  {kind:5}  {printable(finding.subject)}: {printable(finding.message)}")
            if finding.remedy:
                print(f"         try: {printable(finding.remedy)}")
