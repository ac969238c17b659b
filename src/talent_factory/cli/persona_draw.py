"""`talent persona render` and `sheet`: pictures from the very base and kits a persona was saved with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from talent_factory.cli.common import (
    DryRunOption,
    JsonOption,
    WorkspaceOption,
    console,
    counted,
    emit,
    reporter,
)

if TYPE_CHECKING:
    from talent_factory.foundry.persona_draw import OpenPersona
    from talent_factory.foundry.session import Session

PersonaArgument = Annotated[str, typer.Argument(metavar="ID", help="The persona.")]
SliderOption = Annotated[
    list[str] | None,
    typer.Option("--slider", help="NAME=VALUE for this drawing alone; may be repeated."),
]
BaseOption = Annotated[str | None, typer.Option("--base", help="Where its base lies now, when it was moved.")]


def render(
    persona_id: PersonaArgument,
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", "-p", help="What to draw; {subject}, {style} and colours are filled in."),
    ] = None,
    kind: Annotated[
        str, typer.Option("--kind", help="hero, full-body, character-sheet or expressions.")
    ] = "",
    slider: SliderOption = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Seed of the first image.", show_default="its own")
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="Images of each prompt.")] = 1,
    steps: Annotated[int | None, typer.Option("--steps", min=1, max=500, help="Sampling steps.")] = None,
    base: BaseOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the images.", show_default="WORKSPACE/renders/RECIPE"),
    ] = None,
    dry_run: DryRunOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw a persona's prompts; the same bytes again on the same machine while nothing of it changed."""
    from talent_factory.core.stop import graceful_stop
    from talent_factory.core.workspace import workspace_from
    from talent_factory.foundry.session import shoot

    place = workspace_from(workspace)
    opened = _open(persona_id, slider or (), base=base, workspace=workspace)
    first = opened.persona.draw.seed if seed is None else seed
    options = {} if steps is None else {"steps": steps}
    seeds = range(first, first + count)
    session = opened.session(prompts=prompt or (), seeds=seeds, options=options, kind=kind)
    folder = out or place.root / "renders" / session.key
    result = _told(opened, session, folder)
    if not dry_run:
        with reporter() as listener, graceful_stop("stopping after this step") as stop:
            if session.warning:
                listener.message(f"note: {session.warning}")
            images, page = shoot(session, out=folder, reporter=listener, stop=stop)
        result |= {"images": images, "sheet": page}
    emit(result, as_json, lambda: _print_drawn(result, dry_run=dry_run))


def sheet(
    persona_id: PersonaArgument,
    prompt: Annotated[
        str, typer.Option("--prompt", "-p", help="What to draw.", show_default="its first prompt")
    ] = "",
    base: BaseOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder.", show_default="WORKSPACE/renders/persona_ID"),
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw one page of a persona: its hero portrait, and the same prompt across the range of its sliders."""
    from talent_factory.core.stop import graceful_stop
    from talent_factory.core.workspace import workspace_from
    from talent_factory.foundry.persona_sheet import draw_sheet

    place = workspace_from(workspace)
    opened = _open(persona_id, (), base=base, workspace=workspace)
    folder = out or place.root / "renders" / f"persona_{persona_id}"
    with reporter() as listener, graceful_stop("stopping after this step") as stop:
        page, images = draw_sheet(opened, out=folder, reporter=listener, stop=stop, prompt=prompt)
    result = {"persona": persona_id, "version": opened.persona.version, "sheet": page, "images": images}
    emit(result, as_json, lambda: console().print(f"sheet: {page}", markup=False, soft_wrap=True))


def page(
    persona_id: PersonaArgument,
    prompt: Annotated[
        str, typer.Option("--prompt", "-p", help="What to draw.", show_default="its first prompt")
    ] = "",
    base: BaseOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="HTML file.", show_default="WORKSPACE/reports/persona_ID.html"),
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write one self-contained page of a persona: hero, sliders, introductions, kits, manner and recipe."""
    from talent_factory.core.stop import graceful_stop
    from talent_factory.core.workspace import workspace_from
    from talent_factory.foundry.kinds import EXPRESSIONS, FULL_BODY
    from talent_factory.foundry.persona_sheet import draw_range, grid_of
    from talent_factory.foundry.session import shoot
    from talent_factory.report.page import write_persona_page
    from talent_factory.report.persona import gather_persona

    place = workspace_from(workspace)
    opened = _open(persona_id, (), base=base, workspace=workspace)
    folder = place.root / "renders" / f"persona_{persona_id}"
    grid = grid_of(opened.persona)
    pictures: dict[str, Path] = {}
    with reporter() as listener, graceful_stop("stopping after this step") as stop:
        hero, *cells = draw_range(opened, grid, out=folder, reporter=listener, prompt=prompt, stop=stop)
        for kind in (FULL_BODY, EXPRESSIONS):
            session = opened.session(kind=kind)
            images, _ = shoot(session, out=folder / kind, reporter=listener, stop=stop)
            pictures |= dict(zip(session.titles, images, strict=True))
    content = gather_persona(opened, grid, hero=hero, cells=cells, pictures=pictures)
    path = write_persona_page(content, out or place.reports / f"persona_{persona_id}.html")
    result = {"persona": persona_id, "version": opened.persona.version, "page": path}
    emit(result, as_json, lambda: console().print(f"page: {path}", markup=False, soft_wrap=True))


def _open(
    persona_id: str, sliders: Sequence[str], *, base: str | None, workspace: Path | None
) -> OpenPersona:
    from talent_factory.core.workspace import workspace_from
    from talent_factory.foundry.persona_book import load_persona
    from talent_factory.foundry.persona_draw import open_persona
    from talent_factory.foundry.persona_edit import numbers

    place = workspace_from(workspace)
    persona = load_persona(place.personas, persona_id).dialled(numbers(sliders, option="--slider"))
    return open_persona(persona, root=place.talents, base=base)


def _told(opened: OpenPersona, session: Session, folder: Path) -> dict[str, object]:
    """What was or would be drawn."""
    shots = session.order.shots
    return {
        "persona": opened.persona.id,
        "version": opened.persona.version,
        "kits": [{"id": use.kit.id, "weight": use.weight} for use in session.mix.ingredients],
        "prompts": list(dict.fromkeys(shot.prompt for shot in shots)),
        "count": len(shots),
        "folder": folder,
        "warning": session.warning,
    }


def _print_drawn(result: dict[str, object], *, dry_run: bool) -> None:
    verb = "would draw " if dry_run else ""
    lines = [f"{verb}{counted(int(str(result['count'])), 'image')} in {result['folder']}"]
    if not dry_run:
        lines.append(f"sheet: {result['sheet']}")
    console().print("\n".join(lines), markup=False, soft_wrap=True)
