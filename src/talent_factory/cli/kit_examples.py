"""`talent kit examples`: draw a kit's own prompts and put the pictures into it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from talent_factory.cli.common import DryRunOption, JsonOption, WorkspaceOption, console, emit, reporter


def examples(
    talent_id: Annotated[str, typer.Argument(metavar="TALENT_ID", help="The kit to fill.")],
    *,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=64, help="How many examples.")] = 6,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the first round of prompts.")] = 0,
    steps: Annotated[int, typer.Option("--steps", min=1, max=500, help="Sampling steps.")] = 20,
    base: Annotated[
        str, typer.Option("--base", help="The base of the kit, as for `talent render`.")
    ] = "mini",
    dry_run: DryRunOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw the kit's own prompts, replace its examples and preview, and state their digests anew."""
    from talent_factory.core.stop import graceful_stop
    from talent_factory.core.workspace import workspace_from
    from talent_factory.foundry.examples import example_session, fill_examples

    place = workspace_from(workspace)
    session = example_session(talent_id, root=place.talents, base=base, count=count, seed=seed, steps=steps)
    out = place.root / "renders" / session.key
    result: dict[str, Any] = {
        "kit": talent_id,
        "images": [{"prompt": shot.prompt, "seed": shot.seed} for shot in session.order.shots],
    }
    if not dry_run:
        with graceful_stop("stopping; finished images are kept") as stop, reporter() as listener:
            filled = fill_examples(session, out=out, reporter=listener, stop=stop)
        result |= filled.model_dump(mode="json")
    emit(result, as_json, lambda: _show(result, dry_run=dry_run))


def _show(result: dict[str, Any], *, dry_run: bool) -> None:
    if dry_run:
        lines = [f"{image['seed']}  {image['prompt']}" for image in result["images"]]
        lines.append(f"{len(lines)} images would become the examples of {result['kit']}")
    else:
        lines = [f"{len(result['examples'])} examples and a preview in {result['kit']}"]
        lines += [f"{name} is gone: the kit changed; sign it again" for name in result["unsigned"]]
    console().print("\n".join(lines), markup=False, soft_wrap=True)
