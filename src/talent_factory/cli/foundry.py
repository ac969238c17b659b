"""`talent render` and `talent mix`: pictures from kits, each with its recipe inside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from talent_factory.cli.common import JsonOption, WorkspaceOption, console, emit, reporter

PromptOption = Annotated[
    list[str] | None,
    typer.Option("--prompt", "-p", help="What to draw; may be repeated. Without it: the kit's own prompts."),
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


def render(
    kit: Annotated[
        list[str] | None, typer.Option("--kit", "-k", help="Talent id, or ID:WEIGHT; may be repeated.")
    ] = None,
    prompt: PromptOption = None,
    negative: NegativeOption = "",
    seed: SeedOption = 0,
    count: CountOption = 1,
    steps: StepsOption = 20,
    guidance: GuidanceOption = None,
    base: BaseOption = "mini",
    out: OutOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Render prompts with a kit (or several, or the bare base) into PNG files that carry their recipe."""
    _render(
        kit or [],
        prompts=prompt or [],
        order={"negative": negative, "steps": steps, "guidance": guidance},
        seeds=range(seed, seed + count),
        base=base,
        out=out,
        workspace=workspace,
        as_json=as_json,
    )


def mix(
    kits: Annotated[list[str], typer.Argument(metavar="ID:WEIGHT...", help="Two kits or more of one base.")],
    prompt: PromptOption = None,
    negative: NegativeOption = "",
    seed: SeedOption = 0,
    count: CountOption = 1,
    steps: StepsOption = 20,
    guidance: GuidanceOption = None,
    base: BaseOption = "mini",
    out: OutOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Render the exact weighted sum of kits, such as avatar.identity.a:1.0 avatar.style.b:0.7."""
    from talent_factory.core.errors import UsageError

    if len(kits) < 2:
        raise UsageError(
            "a mix needs two kits", remedy=f"talent render --kit {kits[0]}, or name a second kit"
        )
    _render(
        kits,
        prompts=prompt or [],
        order={"negative": negative, "steps": steps, "guidance": guidance},
        seeds=range(seed, seed + count),
        base=base,
        out=out,
        workspace=workspace,
        as_json=as_json,
    )


def _render(
    kits: Sequence[str],
    *,
    prompts: Sequence[str],
    order: dict[str, object],
    seeds: Sequence[int],
    base: str,
    out: Path | None,
    workspace: Path | None,
    as_json: bool,
) -> None:
    from talent_factory.core.workspace import workspace_from
    from talent_factory.foundry.session import prepare, shoot

    place = workspace_from(workspace)
    # everything that can be wrong is found before torch is loaded
    session = prepare(kits, root=place.talents, base=base, prompts=prompts, seeds=seeds, options=order)
    folder = out or place.root / "renders" / session.key
    with reporter() as listener:
        if session.warning:
            listener.message(f"note: {session.warning}")
        images, sheet = shoot(session, out=folder, reporter=listener)
    result = {
        "kits": [{"id": use.kit.id, "weight": use.weight} for use in session.mix.ingredients],
        "images": images,
        "sheet": sheet,
        "warning": session.warning,
    }
    emit(
        result,
        as_json,
        lambda: console().print(
            f"{len(images)} images in {folder}\nsheet: {sheet}", markup=False, soft_wrap=True
        ),
    )
