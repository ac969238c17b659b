"""`talent train A.yaml B.yaml …`: train several configs, a process on each device; show how each ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from talent_factory.cli.common import console, emit, reporter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from talent_factory.core.workspace import Workspace
    from talent_factory.engines.queue import Device, Ended, Task
    from talent_factory.training.config import TrainConfig


def train_all(
    configs: Sequence[Path], place: Workspace, choices: Mapping[str, str], *, fresh: bool, as_json: bool
) -> None:
    """Train all configs; exits with 3 when some failed, 130 when it was stopped."""
    from talent_factory.core.errors import UsageError
    from talent_factory.core.stop import graceful_stop
    from talent_factory.engines.queue import run_queue
    from talent_factory.training.company import processes

    if processes() > 1:
        raise UsageError(
            "several processes train one config together", remedy="start one config, or leave torchrun out"
        )
    tasks, places = _tasks(configs, place, choices, fresh=fresh)
    notice = "stopping: each training saves first"
    with reporter() as progress, graceful_stop(notice) as stop:
        progress.message(f"{len(tasks)} trainings on {', '.join(item.name for item in places)}")
        ended = run_queue(
            tasks,
            places=places,
            reporter=progress,
            stop=stop,
            look=lambda talent_id: _steps(place.runs / talent_id),
        )
    emit([item.model_dump() for item in ended], as_json, lambda: _show(ended))
    states = {item.state for item in ended}
    if "stopped" in states:
        raise typer.Exit(130)
    if states != {"done"}:
        raise typer.Exit(3)


def _tasks(
    configs: Sequence[Path], place: Workspace, choices: Mapping[str, str], *, fresh: bool
) -> tuple[list[Task], tuple[Device, ...]]:
    """One task a config; every one is checked before the first begins."""
    from talent_factory.core.errors import UsageError
    from talent_factory.core.files import clear_leftovers
    from talent_factory.engines.queue import Task, devices, training_command
    from talent_factory.pipeline import plan_kit
    from talent_factory.training.config import load_train_config

    logs = place.cache / "queue"
    options = [word for key, value in choices.items() for word in (f"--{key}", value)]
    options += ["--fresh"] if fresh else []
    tasks: dict[str, Task] = {}
    wanted: list[TrainConfig] = []
    for path in configs:
        with named(path):
            config = load_train_config(path, choices=choices, place=place)
        if config.id in tasks:
            raise UsageError(
                f"{path} and {tasks[config.id].config} both train {config.id}", remedy="give each its own id"
            )
        with named(path):
            plan_kit(path, workspace=place, choices=choices)
        command = training_command(path, workspace=place.root, options=options)
        tasks[config.id] = Task(id=config.id, config=path, command=command, log=logs / f"{config.id}.log")
        wanted.append(config)
    clear_leftovers(logs)
    return list(tasks.values()), devices(_device(wanted), gpus=_gpus(wanted))


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Within this context an error says which of the configs it is about."""
    from talent_factory.core.errors import TalentError

    try:
        yield
    except TalentError as error:
        if str(path) in error.message:
            raise
        raise type(error)(f"{path}: {error.message}", remedy=error.remedy) from error


def _device(configs: Sequence[TrainConfig]) -> str:
    """The device that all configs want, or "auto" where they differ."""
    names = {config.device for config in configs}
    return names.pop() if len(names) == 1 else "auto"


def _gpus(configs: Sequence[TrainConfig]) -> int:
    if all(config.device in ("cpu", "mps") for config in configs):
        return 0
    from talent_factory.training.devices import count_gpus

    return count_gpus()


def _steps(run: Path) -> tuple[int, int] | None:
    """How many of how many steps a run has made, without touching its lock."""
    from talent_factory.core.errors import TalentError
    from talent_factory.training.runs import RUN_FILE, read_losses, read_run

    if not (run / RUN_FILE).is_file():
        return None
    try:
        total = read_run(run).config.max_train_steps
        losses = read_losses(run)
    except TalentError:
        return None  # the child says what is wrong with it
    return (int(losses[-1]["step"]), total) if losses else None


def _show(ended: Sequence[Ended]) -> None:
    from rich.table import Table
    from rich.text import Text

    from talent_factory.core.plan import duration

    table = Table(box=None, pad_edge=False)
    for header in ("training", "state", "device", "starts", "time"):
        table.add_column(header, no_wrap=True)
    for item in ended:
        row = (item.id, item.state, item.device, str(item.starts), duration(item.seconds))
        table.add_row(*(Text(word) for word in row))
    screen = console()
    screen.print(table)
    for line in _lines(ended):
        screen.print(line, markup=False, highlight=False, soft_wrap=True)


def _lines(ended: Sequence[Ended]) -> Iterator[str]:
    """Where each kit is, or what went wrong and what to do about it."""
    for item in ended:
        if item.kit:
            yield f"{item.id}: {item.kit}"
        elif item.message:
            yield f"{item.id}: {item.message}"
        if item.remedy and not item.kit:
            yield f"  next: {item.remedy}; log {item.log}"
    if any(item.state == "stopped" for item in ended):
        yield "next: the same command goes on where each stopped"
    elif any(item.state != "done" for item in ended):
        yield "next: what failed put right, the same command does the rest"
