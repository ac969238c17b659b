"""`talent new`: somebody's photos in, a trained likeness out, with every check of the list on the way."""

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
)

if TYPE_CHECKING:
    from talent_factory.core.plan import Plan
    from talent_factory.core.workspace import Workspace
    from talent_factory.newcomer import Newcomer, Welcome

_MARKS = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "error": ("error", "bold red")}


BaseOption = Annotated[
    str,
    typer.Option(
        "--base",
        help="mini, a folder, a .safetensors checkpoint or an id of the hub.",
        show_default="Stable Diffusion 1.5",
    ),
]
ResolutionOption = Annotated[
    int | None,
    typer.Option("--resolution", min=64, max=2048, help="Training size.", show_default="the base's own"),
]
StepsOption = Annotated[
    int | None, typer.Option("--steps", min=1, help="Optimiser steps.", show_default="the preset's")
]
ConsentOption = Annotated[
    str, typer.Option("--consent", help="A real person is shown and agreed: self or written.")
]
ExportOption = Annotated[
    Path | None, typer.Option("--export", help="Also put the LoRA file here, such as a webui's folder.")
]


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who it is; also the trigger unless --token.")],
    photos: Annotated[Path, typer.Option("--photos", "-p", help="Folder of 20 to 40 photos of one person.")],
    token: Annotated[str, typer.Option("--token", "-t", help="A trigger word that means nothing else.")] = "",
    class_noun: Annotated[str, typer.Option("--class-noun", help="woman, man, robot, ...")] = "person",
    base: BaseOption = "",
    preset: Annotated[str, typer.Option("--preset", help="standard, fast or quality.")] = "standard",
    resolution: ResolutionOption = None,
    steps: StepsOption = None,
    medium: Annotated[str, typer.Option("--medium", help="What they are: photo, drawing, ...")] = "photo",
    consent: ConsentOption = "",
    keep_all: Annotated[bool, typer.Option("--keep-all", help="Use every photo that can be read.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Replace what this made from other photos.")] = False,
    no_train: Annotated[bool, typer.Option("--no-train", help="Only check and prepare.")] = False,
    export: ExportOption = None,
    notes: Annotated[str, typer.Option("--notes", help="A remark for the registry.")] = "",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed, another training.")] = 0,
    workspace: WorkspaceOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check photos, square them on white, caption them, train, pack the kit and enter it in the registry.

    The photos stay as they are; copies go to people/TOKEN/photos/30_TOKEN, where captions may be edited
    before a later call trains. Goes on where it stopped, and does nothing when nothing changed.
    """
    from talent_factory.core.workspace import workspace_from
    from talent_factory.newcomer import USUAL_BASE, Newcomer, consent_of, welcome

    place = workspace_from(workspace)
    who = Newcomer(
        name=name,
        photos=photos,
        token=token,
        class_noun=class_noun,
        base=base or USUAL_BASE,
        preset=preset,
        resolution=resolution,
        steps=steps,
        medium=medium,
        consent=consent_of(consent),
        keep_all=keep_all,
        seed=seed,
    )
    if dry_run:
        _dry_run(who, place, as_json=as_json)
        return
    with reporter() as progress:
        greeted = welcome(who, place=place, again=again, need_base=not no_train, reporter=progress)
    if not as_json:
        _show(greeted)
    if no_train:
        emit(greeted, as_json, lambda: _next(greeted))
        return
    made = _train(greeted, place, export=export, notes=notes)
    emit({**greeted.model_dump(mode="json"), **made}, as_json, lambda: _finished(greeted, made, place))


def _dry_run(who: Newcomer, place: Workspace, *, as_json: bool) -> None:
    from talent_factory.newcomer import plan_newcomer

    with reporter() as progress:
        greeted, plan = plan_newcomer(who, place=place, reporter=progress)
    document = {**greeted.model_dump(mode="json"), "plan": plan.as_json()}
    emit(document, as_json, lambda: _show_plan(greeted, plan))


def _train(greeted: Welcome, place: Workspace, *, export: Path | None, notes: str) -> dict[str, object]:
    """Train, pack, export, enter in the registry."""
    from talent_factory.cli.train_plan import announce
    from talent_factory.core.config import load_yaml
    from talent_factory.kits.export import export_kit
    from talent_factory.kits.registry import update_registry
    from talent_factory.newcomer import LORA, given_names
    from talent_factory.training.devices import prepare_environment

    prepare_environment(load_yaml(greeted.config))  # before anything loads torch
    from talent_factory.pipeline import train_kit
    from talent_factory.training.resolve import resolve_base

    with reporter() as progress:
        announce(greeted.config, place, {}, fresh=False, listener=progress)
        # other options are another training; the one before is kept beside it
        kit = train_kit(greeted.config, workspace=place, replace=True, reporter=progress)
    folders = [greeted.folder / LORA, *([export] if export else [])]
    base = resolve_base(greeted.base).kit_folder
    files = [
        export_kit(kit, target="a1111", out=folder, name=greeted.token, base_folder=base).files[0].path
        for folder in folders
    ]
    remarks = {greeted.talent_id: notes} if notes else None
    update_registry(place.root, place.talents, notes=remarks, names=given_names(place))
    return {"kit": kit, "lora": files[0], "exported": files[1:]}


def _show(greeted: Welcome) -> None:
    from rich.table import Table
    from rich.text import Text

    screen = console()
    title = f"{greeted.images} photos of {greeted.token} at {greeted.resolution} px for {greeted.base}"
    if greeted.left_out:
        title += f", {len(greeted.left_out)} left out"
    screen.print(Text(title, "bold"), soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for header in ("", "check", "finding", "what to do"):
        table.add_column(header, overflow="fold")
    for finding in greeted.findings:
        word, style = _MARKS[finding.severity]
        remedy = finding.remedy if finding.severity != "ok" else ""
        table.add_row(Text(word, style), Text(finding.subject), Text(finding.message), Text(remedy))
    screen.print(table)
    if greeted.kept_before:
        screen.print(Text("prepared before from these very photos: captions are used as they stand"))


def _show_plan(greeted: Welcome, plan: Plan) -> None:
    _show(greeted)
    console().print(plan.as_table())


def _next(greeted: Welcome) -> None:
    from rich.text import Text

    screen = console()
    screen.print(Text(f"sheet:  {greeted.sheet}"), soft_wrap=True)
    screen.print(Text(f"config: {greeted.config}"), soft_wrap=True)
    screen.print(Text(f"next: look at the captions, then talent train {greeted.config}"), soft_wrap=True)


def _finished(greeted: Welcome, made: dict[str, object], place: Workspace) -> None:
    from rich.text import Text

    screen = console()
    for line in (
        f"{greeted.talent_id} is ready: {made['kit']}",
        f"lora:     {made['lora']}",
        f"registry: {place.root / 'registry.md'}",
        f"next: talent render {greeted.talent_id}",
    ):
        screen.print(Text(line), soft_wrap=True)
