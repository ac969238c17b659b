"""`talent train`: train a LoRA from a config, go on with a stopped run, see how far runs are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from talent_factory.cli.common import (
    DefaultCommandGroup,
    DryRunOption,
    JsonOption,
    WorkspaceOption,
    console,
    emit,
    reporter,
    show_plan,
)
from talent_factory.cli.train_choose import choose_checkpoint
from talent_factory.cli.train_import import before_commands, import_training

if TYPE_CHECKING:
    from collections.abc import Sequence

    from talent_factory.core.workspace import Workspace
    from talent_factory.training.runs import RunStatus

app = typer.Typer(
    cls=DefaultCommandGroup,
    no_args_is_help=True,
    add_completion=False,
    help="Train a LoRA; resume it; see how far it is. `talent train CONFIG` is `talent train start CONFIG`.",
)


@app.command("start")
def start(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML as in configs/avatar/.")],
    workspace: WorkspaceOption = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="Begin anew; an earlier run of this id is kept under another name."),
    ] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train what the config says and pack its kit; goes on by itself where an earlier call was stopped."""
    from talent_factory.core.workspace import workspace_from
    from talent_factory.training.config import load_train_config

    place = workspace_from(workspace)
    talent_id = load_train_config(config).id
    from talent_factory.pipeline import plan_kit, train_kit

    if dry_run:
        show_plan(plan_kit(config, workspace=place), as_json)
        return
    from talent_factory.training.runs import set_aside

    if fresh:
        plan_kit(config, workspace=place)  # what cannot begin must not put the earlier run aside
    with reporter() as progress:
        if fresh and (kept := set_aside(place.runs / talent_id)) is not None:
            progress.message(f"the earlier run is kept in {kept}")
        kit = train_kit(config, workspace=place, reporter=progress)
    result = {"id": talent_id, "kit": kit, "run": place.runs / talent_id}
    emit(
        result, as_json, lambda: console().print(f"{talent_id} is ready: {kit}", markup=False, soft_wrap=True)
    )


app.callback(invoke_without_command=True)(before_commands)
app.command("import")(import_training)


app.command("choose")(choose_checkpoint)


@app.command("resume")
def resume(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or its id in the workspace.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a stopped or killed run as it was begun; the result is the same as without a stop."""
    from talent_factory.core.stop import graceful_stop
    from talent_factory.core.workspace import workspace_from
    from talent_factory.training.runs import read_run

    folder = _run_folder(run, workspace_from(workspace))
    read_run(folder)  # a wrong name should fail before torch is loaded
    from talent_factory.training.loop import resume as resume_run

    with reporter() as progress, graceful_stop() as stop:
        result = resume_run(folder, reporter=progress, stop=stop)
    emit(
        result,
        as_json,
        lambda: console().print(_finished_text(folder, result.final_loss), markup=False, soft_wrap=True),
    )


@app.command("status")
def status(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="One run; all runs of the workspace without it.")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how far runs are and how to go on; loads no model."""
    from talent_factory.core.workspace import workspace_from
    from talent_factory.training.runs import list_runs, run_status

    place = workspace_from(workspace)
    folders = list_runs(place.runs) if run is None else [_run_folder(run, place)]
    found = [run_status(folder) for folder in folders]
    emit(found, as_json, lambda: _show(found, place.runs))


def _run_folder(run: str, place: Workspace) -> Path:
    """The folder that the user means: a path that exists, else a name below the workspace's runs."""
    from talent_factory.core.workspace import check_id

    path = Path(run).expanduser()
    return path if path.is_dir() else place.runs / check_id(run)


def _finished_text(run: Path, loss: float) -> str:
    return f"{run} is trained, loss {loss:.4f}\nnext: run the command that began it again, to pack its kit"


def _show(found: Sequence[RunStatus], runs: Path) -> None:
    lines = []
    for item in found:
        loss = "" if item.loss is None else f", loss {item.loss:.4f}"
        lines.append(f"{item.id}: {item.state} at step {item.step} of {item.steps}{loss}")
        if item.next:
            lines.append(f"  next: {item.next}")
    text = "\n".join(lines) or f"no runs in {runs}\nnext: talent train CONFIG"
    console().print(text, markup=False, soft_wrap=True)
