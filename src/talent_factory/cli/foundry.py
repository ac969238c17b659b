"""`talent mix`: pictures from several kits at once, each with its recipe inside."""

from __future__ import annotations

from typing import Annotated

import typer

from talent_factory.cli.common import JsonOption, WorkspaceOption
from talent_factory.cli.render import (
    BaseOption,
    CountOption,
    GuidanceOption,
    NegativeOption,
    OutOption,
    PromptOption,
    SeedOption,
    StepsOption,
    render_session,
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
    from talent_factory.core.workspace import workspace_from
    from talent_factory.foundry.session import prepare

    if len(kits) < 2:
        raise UsageError(
            "a mix needs two kits", remedy=f"talent render --kit {kits[0]}, or name a second kit"
        )
    place = workspace_from(workspace)
    session = prepare(
        kits,
        root=place.talents,
        base=base,
        prompts=prompt or [],
        seeds=range(seed, seed + count),
        options={"negative": negative, "steps": steps, "guidance": guidance},
    )
    render_session(session, out or place.root / "renders" / session.key, as_json=as_json)
