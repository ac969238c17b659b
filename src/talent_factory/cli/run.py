"""`talent run`: one portrait in, a rendered Talent Kit and a report page out."""

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
    from talent_factory.core.workspace import Workspace
    from talent_factory.pipeline import RunOptions, RunResult


def run(
    portrait: Annotated[Path, typer.Argument(help="One picture of the actor: PNG, JPEG, WEBP, HEIC, ...")],
    token: Annotated[str, typer.Option("--token", "-t", help="The actor's trigger word, such as dot_kairo.")],
    actor_type: Annotated[
        str,
        typer.Option("--actor-type", help="human, creature, robotic, anthropomorphic, mythical or other."),
    ] = "human",
    sex: Annotated[
        str | None, typer.Option("--sex", help="For humans: man, woman or person.", show_default="person")
    ] = None,
    style: Annotated[
        Path | None,
        typer.Option("--style", help="Config of a style; its kit is trained and mixed with the actor."),
    ] = None,
    quality: Annotated[
        str, typer.Option("--quality", help="draft, standard or best: steps, rank and number of renders.")
    ] = "standard",
    base: Annotated[
        str,
        typer.Option("--base", help="mini, a diffusers folder, a .safetensors checkpoint or a hub id."),
    ] = "mini",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed makes other variations.")] = 0,
    recipe: Annotated[str, typer.Option("--recipe", help="Recipe name, or a .toml file.")] = "actor-17",
    portrait_medium: Annotated[
        str, typer.Option("--portrait-medium", help="What the portrait is: photo, flat, ink, ...")
    ] = "",
    portrait_words: Annotated[
        str,
        typer.Option(
            "--portrait-words", help='What is seen in it and may change: "smiling, teal shirt". For captions.'
        ),
    ] = "",
    workspace: WorkspaceOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Cast, train, pack and render an actor; goes on where it stopped, does nothing when nothing changed."""
    from talent_factory.core.workspace import workspace_from
    from talent_factory.pipeline import RunOptions

    options = RunOptions(
        quality=quality,
        base=base,
        style=style,
        recipe=recipe,
        actor_type=actor_type,
        sex=sex,
        portrait_medium=portrait_medium.strip().lower(),
        portrait_words=tuple(word.strip().lower() for word in portrait_words.split(",") if word.strip()),
        seed=seed,
    )
    if dry_run:
        _plan(portrait, token, options, place=workspace_from(workspace), as_json=as_json)
    else:
        _run(portrait, token, options, place=workspace_from(workspace), as_json=as_json)


def _plan(portrait: Path, token: str, options: RunOptions, *, place: Workspace, as_json: bool) -> None:
    from talent_factory.pipeline import plan

    show_plan(plan(portrait, token=token, workspace=place, options=options), as_json)
    if not as_json and (note := _beyond_mini(portrait, options)):
        console().print(note, markup=False, soft_wrap=True)


def _run(portrait: Path, token: str, options: RunOptions, *, place: Workspace, as_json: bool) -> None:
    from talent_factory.pipeline import run as run_pipeline

    with reporter() as listener:
        if note := _beyond_mini(portrait, options):
            listener.message(note)
        made = run_pipeline(portrait, token=token, workspace=place, reporter=listener, options=options)
    emit(made, as_json, lambda: _show(made))


def _beyond_mini(portrait: Path, options: RunOptions) -> str:
    """What to expect where the embedded base is to draw somebody photographed; "" where it is not."""
    from talent_factory.core.errors import PortraitError
    from talent_factory.datagen.portrait import normalise
    from talent_factory.datagen.quality.face import count_faces

    if options.base != "mini" or options.portrait_medium not in ("", "photo"):
        return ""
    try:
        if options.portrait_medium != "photo" and not count_faces(normalise(portrait).image):
            return ""
    except PortraitError:
        return ""  # the run refuses it, after what is wrong with the other words
    return (
        "note: a photographed face, and mini draws characters of a small drawn world: renders will not look "
        "like it; the images of the cast do, and a base of Stable Diffusion learns it (--base)"
    )


def _show(made: RunResult) -> None:
    from talent_factory.core.plan import duration

    screen = console()
    if made.changed:
        done = ", ".join(stage.name for stage in made.stages if stage.state == "made")
        screen.print(f"{made.talent_id} is ready after {duration(made.seconds)} ({done})", markup=False)
    else:
        screen.print(f"{made.talent_id} is up to date: nothing changed, nothing was done", markup=False)
    screen.print(f"kit:    {made.kit}", markup=False, soft_wrap=True)
    if made.style_kit is not None:
        screen.print(f"style:  {made.style_kit}", markup=False, soft_wrap=True)
    screen.print(f"report: {made.report}", markup=False, soft_wrap=True)
