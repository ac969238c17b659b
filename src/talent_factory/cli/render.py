"""`talent render`: pictures from kits, each with its recipe inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    from talent_factory.foundry.session import Session

PromptOption = Annotated[
    list[str] | None,
    typer.Option("--prompt", "-p", help="What to draw; may be repeated. Without it: the kit's own prompts."),
]
PromptsOption = Annotated[
    Path | None, typer.Option("--prompts", help="File of prompts: one a line, or a kit's prompts.json.")
]
NegativeOption = Annotated[str, typer.Option("--negative", help="What to keep out of the picture.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of the first image of each prompt.")]
CountOption = Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="Images of each prompt.")]
StepsOption = Annotated[int, typer.Option("--steps", min=1, max=500, help="Sampling steps.")]
GuidanceOption = Annotated[
    float | None,
    typer.Option(
        "--guidance",
        min=0,
        max=50,
        help="How strictly to follow the prompt.",
        show_default="what suits the base",
    ),
]
SizeOption = Annotated[
    str | None,
    typer.Option("--size", metavar="WxH", help="Pixels, such as 512x768.", show_default="the base's own"),
]
BatchOption = Annotated[int, typer.Option("--batch", min=1, max=64, help="Images drawn at once.")]
BaseOption = Annotated[
    str,
    typer.Option(
        "--base", help="The base of the kits: mini, a folder, a .safetensors checkpoint or a hub id."
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Folder for the images.", show_default="WORKSPACE/renders/RECIPE"),
]
KindOption = Annotated[
    str,
    typer.Option("--kind", help="Introduce the actor: hero, full-body, character-sheet or expressions."),
]
PreviewOption = Annotated[
    int,
    typer.Option("--preview", min=0, help="Show images on the way in preview.png, every so many steps."),
]
ControlOption = Annotated[
    str | None,
    typer.Option(
        "--control", help="Picture that steers: a pose or depth map, or one in the kit's controls/."
    ),
]
ControlModelOption = Annotated[
    Path | None, typer.Option("--control-model", help="Folder of the ControlNet that reads it.")
]
ControlStrengthOption = Annotated[
    float, typer.Option("--control-strength", min=0, max=2, help="How strictly to follow it.")
]
ControlStepsOption = Annotated[
    str, typer.Option("--control-steps", metavar="BEGIN-END", help="Share of the steps in which it acts.")
]


def render(
    kit: Annotated[
        list[str] | None,
        typer.Option("--kit", "-k", help="Talent id, ID:WEIGHT or ID:WEIGHT@BEGIN-END; may be repeated."),
    ] = None,
    prompt: PromptOption = None,
    prompts: PromptsOption = None,
    kind: KindOption = "",
    negative: NegativeOption = "",
    seed: SeedOption = 0,
    count: CountOption = 1,
    steps: StepsOption = 20,
    guidance: GuidanceOption = None,
    size: SizeOption = None,
    batch: BatchOption = 4,
    control: ControlOption = None,
    control_model: ControlModelOption = None,
    control_strength: ControlStrengthOption = 1.0,
    control_steps: ControlStepsOption = "0-1",
    preview: PreviewOption = 0,
    base: BaseOption = "mini",
    out: OutOption = None,
    dry_run: DryRunOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Render prompts with a kit (or several, or the bare base) into PNG files that carry their recipe.

    Ctrl-C keeps what is finished; the same command goes on then.
    """
    from talent_factory.core.workspace import workspace_from
    from talent_factory.foundry.asked import control_options, read_prompt_file, read_size
    from talent_factory.foundry.session import prepare

    place = workspace_from(workspace)
    asked = [*(prompt or []), *(read_prompt_file(prompts) if prompts else ())]
    options = {"negative": negative, "steps": steps, "guidance": guidance, "batch": batch}
    if size is not None:
        options["size"] = read_size(size)
    options |= control_options(
        control,
        control_model,
        strength=control_strength,
        steps=control_steps,
        kits=[place.talents / text.partition(":")[0].partition("@")[0] for text in kit or ()],
    )
    session = prepare(
        kit or [],
        root=place.talents,
        base=base,
        prompts=asked,
        seeds=range(seed, seed + count),
        options=options,
        kind=kind,
    )
    folder = out or place.root / "renders" / session.key
    render_session(session, folder, preview=preview, dry_run=dry_run, as_json=as_json)


def render_session(
    session: Session, folder: Path, *, preview: int = 0, dry_run: bool = False, as_json: bool
) -> None:
    """Draw a checked session into `folder` and say where the images are; a dry run says what would be."""
    result: dict[str, Any] = {
        "kits": [{"id": use.kit.id, "weight": use.weight} for use in session.mix.ingredients],
        "warning": session.warning,
        "folder": folder,
    }
    if dry_run:
        result["shots"] = session.order.shots
        lines = [f"{shot.seed}  {shot.prompt}" for shot in session.order.shots]
        lines.append(f"{counted(len(lines), 'image')} would be in {folder}")
        emit(result, as_json, lambda: console().print("\n".join(lines), markup=False, soft_wrap=True))
        return
    # everything that can be wrong is found before torch is loaded
    from talent_factory.core.stop import graceful_stop
    from talent_factory.foundry.session import shoot

    with graceful_stop("stopping; finished images are kept") as stop, reporter() as listener:
        if session.warning:
            listener.message(f"note: {session.warning}")
        images, sheet = shoot(session, out=folder, reporter=listener, stop=stop, preview=preview)
    result |= {"images": images, "sheet": sheet}
    text = f"{counted(len(images), 'image')} in {folder}\nsheet: {sheet}"
    emit(result, as_json, lambda: console().print(text, markup=False, soft_wrap=True))
