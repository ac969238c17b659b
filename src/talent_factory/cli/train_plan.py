"""`talent train plan`: what a training will need and take, before anything is loaded or written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from talent_factory.cli.common import JsonOption, WorkspaceOption, console, emit, print_json, reporter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from talent_factory.core.events import Reporter
    from talent_factory.core.plan import Plan
    from talent_factory.core.workspace import Workspace
    from talent_factory.training.config import TrainConfig
    from talent_factory.training.fit import Fit

PresetOption = Annotated[
    str | None,
    typer.Option("--preset", help="standard, fast or quality: values for keys that the config leaves out."),
]
QualityOption = Annotated[
    str | None,
    typer.Option(
        "--quality", help="draft, standard or best: steps, rank and rates from the number of images."
    ),
]
# What a config decides that people ask about; the rest is in the YAML.
_SHOWN = (
    "base_model", "resolution", "max_train_steps", "batch_size", "accumulation", "lora_rank", "lora_alpha",
    "learning_rate", "train_text_encoder", "precision", "gradient_checkpointing", "attention", "device",
)  # fmt: skip


def choices_of(preset: str | None, quality: str | None) -> dict[str, str]:
    """The words of the command line that take the place of the config's."""
    return {key: value for key, value in (("preset", preset), ("quality", quality)) if value is not None}


def plan_training(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML as in configs/avatar/.")],
    workspace: WorkspaceOption = None,
    preset: PresetOption = None,
    quality: QualityOption = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Train ten real steps to time one; needs base and images.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Predict memory and time of a training, with error bars, and say why each open key got its value."""
    from talent_factory.core.workspace import workspace_from
    from talent_factory.training.config import explained_config

    place = workspace_from(workspace)
    typed, reasons = explained_config(config, choices=choices_of(preset, quality), place=place)
    fit = foresee(typed, place)
    if probe:
        fit = _probed(fit, typed, place)
    emit(
        _document(typed, reasons, fit),
        as_json,
        lambda: console().print("\n".join(_lines(typed, reasons, fit)), markup=False, soft_wrap=True),
    )


def show_dry_run(
    configs: Sequence[Path], place: Workspace, choices: Mapping[str, str], *, as_json: bool
) -> None:
    """What `talent train CONFIG…` would do, stage by stage, and whether each training fits.

    As JSON one config is one document, several are a list of them.
    """
    from talent_factory.pipeline import plan_kit
    from talent_factory.training.config import explained_config

    documents = []
    for config in configs:
        plan = plan_kit(config, workspace=place, choices=choices)
        typed, reasons = explained_config(config, choices=choices, place=place)
        fit = foresee(typed, place)
        plan = _with_fit(plan, fit)
        documents.append({**plan.as_json(), **_document(typed, reasons, fit)})
        if not as_json:
            console().print(plan.as_table())
            console().print("\n".join([*reasons, *fit.lines()]), markup=False, soft_wrap=True)
    if as_json:
        print_json(documents[0] if len(documents) == 1 else documents)


def foresee(config: TrainConfig, place: Workspace) -> Fit:
    """The prediction for a config on this machine."""
    from talent_factory.training.filling import count_images
    from talent_factory.training.fit import forecast

    return forecast(config, images=count_images(config.train_data_dir, place=place))


def announce(
    config: Path,
    place: Workspace,
    choices: Mapping[str, str],
    *,
    fresh: bool,
    listener: Reporter,
) -> TrainConfig:
    """Tell before a training begins why keys have their values, and what it will need; returns the config.

    A training that is done already is not predicted.
    """
    from talent_factory.core.errors import BaseError
    from talent_factory.pipeline import plan_kit
    from talent_factory.training.config import explained_config

    typed, reasons = explained_config(config, choices=choices, place=place)
    try:
        plan = plan_kit(config, workspace=place, choices=choices)
        ahead = fresh or any(step.name == "train" for step in plan.todo)
    except BaseError:
        if fresh:  # what cannot begin must not put the earlier run aside
            raise
        ahead = True  # a base of the hub is fetched only by the work itself
    if ahead:
        fit = foresee(typed, place)
        listener.event("fit", **fit.model_dump(mode="json"), verdict=fit.verdict)
        for line in (*reasons, *fit.lines()):
            listener.message(line)
        if fit.verdict == "does not fit":
            listener.message("it begins all the same, and goes on in smaller pieces when memory runs out")
    return typed


def _with_fit(plan: Plan, fit: Fit) -> Plan:
    """The plan with the training's own figures in its line."""
    found = {"seconds": fit.seconds, "memory_mb": fit.memory.total / 2**20}
    steps = [
        step.model_copy(update=found) if step.name == "train" and step.state == "todo" else step
        for step in plan.steps
    ]
    return plan.model_copy(update={"steps": tuple(steps)})


def _probed(fit: Fit, config: TrainConfig, place: Workspace) -> Fit:
    """The prediction with a step as ten of them took here."""
    import tempfile

    from talent_factory.pipeline import data_folder
    from talent_factory.stage_work import make_folder_dataset
    from talent_factory.training.fit import refined
    from talent_factory.training.trial import STEPS, run_trial

    with reporter() as progress, tempfile.TemporaryDirectory(prefix="talent-plan-") as name:
        progress.message(f"training {STEPS} steps to time one")
        dataset = Path(name) / "dataset"
        make_folder_dataset(config, folder=data_folder(place, config), out=dataset)
        trial = run_trial(config, dataset=dataset)
    return refined(
        fit, trial.step_seconds, memory=trial.memory, source=f"{STEPS} steps measured on this machine"
    )


def _document(config: TrainConfig, reasons: Sequence[str], fit: Fit) -> dict[str, object]:
    return {
        "config": config.model_dump(mode="json"),
        "reasons": list(reasons),
        "fit": {**fit.model_dump(mode="json"), "verdict": fit.verdict, "seconds": fit.seconds},
    }


def _lines(config: TrainConfig, reasons: Sequence[str], fit: Fit) -> list[str]:
    values = config.model_dump(mode="json")
    shown = ", ".join(f"{key} {values[key]}" for key in _SHOWN)
    return [f"{config.id}: {shown}", *reasons, *fit.lines()]
