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
)
from talent_factory.cli.train_choose import choose_checkpoint
from talent_factory.cli.train_import import before_commands, import_training
from talent_factory.cli.train_plan import (
    PresetOption,
    QualityOption,
    announce,
    choices_of,
    plan_training,
    show_dry_run,
)
from talent_factory.cli.train_queue import train_all
from talent_factory.cli.train_rate import find_learning_rate
from talent_factory.cli.train_watch import run_folder, status_lines, stop_training, watch, workspace_of

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    configs: Annotated[
        list[Path],
        typer.Argument(metavar="CONFIG...", help="YAML as in configs/avatar/; several are queued."),
    ],
    workspace: WorkspaceOption = None,
    preset: PresetOption = None,
    quality: QualityOption = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="Begin anew; an earlier run of this id is kept under another name."),
    ] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train what the config says and pack its kit; goes on by itself where an earlier call was stopped.

    Several configs are trained one after the other, or one on each GPU; a crash of one leaves the others.
    """
    from talent_factory.core.workspace import workspace_from

    place, choices = workspace_from(workspace), choices_of(preset, quality)
    if len(configs) > 1 and not dry_run:
        train_all(configs, place, choices, fresh=fresh, as_json=as_json)
        return
    if dry_run:
        show_dry_run(configs, place, choices, as_json=as_json)
    else:
        _train(configs[0], place, choices, fresh=fresh, as_json=as_json)


def _train(config: Path, place: Workspace, choices: Mapping[str, str], *, fresh: bool, as_json: bool) -> None:
    from talent_factory.core.config import load_yaml
    from talent_factory.training.company import helps
    from talent_factory.training.devices import prepare_environment

    prepare_environment(load_yaml(config))  # before anything loads torch
    from talent_factory.pipeline import train_kit
    from talent_factory.training.runs import set_aside

    if helps():  # one of several processes that torchrun started: the first one speaks
        train_kit(config, workspace=place, choices=choices)
        return
    with reporter() as progress:
        typed = announce(config, place, choices, fresh=fresh, listener=progress)
        run = place.runs / typed.id
        if fresh and (kept := set_aside(run)) is not None:
            progress.message(f"the earlier run is kept in {kept}")
        kit = train_kit(config, workspace=place, choices=choices, reporter=progress)
    result = {"id": typed.id, "kit": kit, "run": run}
    emit(
        result, as_json, lambda: console().print(f"{typed.id} is ready: {kit}", markup=False, soft_wrap=True)
    )


app.callback(invoke_without_command=True)(before_commands)
app.command("import")(import_training)


app.command("choose")(choose_checkpoint)
app.command("lr-find")(find_learning_rate)
app.command("plan")(plan_training)
app.command("stop")(stop_training)


@app.command("resume")
def resume(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or its id in the workspace.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a stopped or killed run as it was begun, and pack its kit; as if it had never stopped."""
    from talent_factory.core.workspace import workspace_from
    from talent_factory.training.company import helps
    from talent_factory.training.devices import prepare_environment
    from talent_factory.training.runs import read_run

    folder = run_folder(run, workspace_from(workspace))
    # a wrong name should fail before torch is loaded, and torch reads the environment when it is
    record = read_run(folder)
    prepare_environment(record.config.model_dump())
    if (place := workspace_of(folder, record.config.id)) is None:
        _resume_alone(folder, as_json=as_json)
        return
    from talent_factory.pipeline import resume_kit
    from talent_factory.training.runs import finished

    if helps():  # one of several processes that torchrun started: the first one speaks
        resume_kit(folder, workspace=place)
        return
    with reporter() as progress:
        kit = resume_kit(folder, workspace=place, reporter=progress)
    result = finished(folder)
    assert result is not None  # the kit holds its weights
    document = {**result.model_dump(mode="json"), "kit": kit}
    emit(
        document,
        as_json,
        lambda: console().print(f"{record.config.id} is ready: {kit}", markup=False, soft_wrap=True),
    )


def _resume_alone(run: Path, *, as_json: bool) -> None:
    """Train to the end what lies in no workspace: there is no place for a kit."""
    from talent_factory.core.stop import graceful_stop
    from talent_factory.training.company import helps
    from talent_factory.training.loop import resume as resume_run

    with reporter() as progress, graceful_stop() as stop:
        result = resume_run(run, reporter=progress, stop=stop)
    if helps():
        return
    text = f"{run} is trained, loss {result.final_loss:.4f}: {result.lora}\nit lies in no workspace: no kit"
    emit(result, as_json, lambda: console().print(text, markup=False, soft_wrap=True))


@app.command("status")
def status(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="One run; all runs of the workspace without it.")
    ] = None,
    workspace: WorkspaceOption = None,
    follow: Annotated[
        bool, typer.Option("--watch", help="Show it again and again until no run is running.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how far runs are and how to go on; loads no model."""
    from talent_factory.core.errors import UsageError
    from talent_factory.core.workspace import workspace_from
    from talent_factory.training.runs import list_runs, run_status

    place = workspace_from(workspace)

    def look() -> list[RunStatus]:
        folders = list_runs(place.runs) if run is None else [run_folder(run, place)]
        return [run_status(folder) for folder in folders]

    if not follow:
        found = look()
        emit(
            found,
            as_json,
            lambda: console().print(status_lines(found, place.runs), markup=False, soft_wrap=True),
        )
        return
    if as_json:
        raise UsageError("--watch is for people", remedy="talent train status --json, again and again")
    watch(look, place.runs)
