"""Train a LoRA, top to bottom: set up, step, save; stop and go on at any moment with the same result."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from talent_factory.core.errors import DatasetError
from talent_factory.core.events import EventLog, Fanout, Reporter, SilentReporter
from talent_factory.core.files import clear_leftovers
from talent_factory.core.stop import StopSignal
from talent_factory.core.workspace import exclusive
from talent_factory.dataset.manifest import load_dataset, verify_files
from talent_factory.training import runs
from talent_factory.training.board import board, wandb_board
from talent_factory.training.config import TrainConfig
from talent_factory.training.devices import check_precision, device_facts
from talent_factory.training.machine import choose_device, reproducible, this_machine
from talent_factory.training.parallel import World, world
from talent_factory.training.resolve import check_version, resolve_base
from talent_factory.training.runs import RunRecord, TrainResult
from talent_factory.training.stepdown import (
    Execution,
    load_execution,
    naming_a_lost_device,
    with_step_down,
)
from talent_factory.training.steps import run_steps


def train(
    config: TrainConfig,
    *,
    dataset: Path,
    run: Path,
    cache: Path | None = None,
    reporter: Reporter | None = None,
    stop: StopSignal | None = None,
) -> TrainResult:
    """Train `config` on the prepared dataset in the folder `run`: begin, go on, or return what is finished.

    The same config and data in the same folder always lead to the same LoRA, however often it was killed.
    `cache` holds encoded images (`run/cache` when None) and may be shared and deleted.

    Raises:
        ResumeRefused: `run` was begun with another config, dataset, base, torch or device.
        TrainingDiverged: the loss or its gradient left the finite numbers.
        DeviceLost: the GPU failed; the newest checkpoint is kept.
        Cancelled: `stop` was requested; a checkpoint is saved.
        WorkspaceBusy: another process trains in `run`.
        DatasetError, BaseError, DiskFull: as their names say; nothing finished is lost.
    """
    with world() as processes, _alone(run, processes):
        processes.any(True)  # those that only help hear that a training begins
        if processes.first:
            begin_or_check(config, dataset=dataset, run=run, cache=cache or run / "cache")
        return _train(run, world=processes, reporter=reporter, stop=stop)


def resume(run: Path, *, reporter: Reporter | None = None, stop: StopSignal | None = None) -> TrainResult:
    """Go on with the run in `run` as it was begun; raises as `train`, and FileError when there is no run."""
    runs.read_run(run)  # before the lock, which would make the folder of a mistyped path
    with world() as processes, _alone(run, processes):
        processes.any(True)
        return _train(run, world=processes, reporter=reporter, stop=stop)


def join(run: Path, *, stop: StopSignal) -> None:
    """Train with the first of several processes, which has just begun or gone on with `run`."""
    with world() as processes:
        _train(run, world=processes, reporter=SilentReporter(), stop=stop)


def _alone(run: Path, processes: World) -> AbstractContextManager[None]:
    """The run's lock; of processes that train together, the first holds it for all."""
    return exclusive(run) if processes.first else nullcontext()


def begin_or_check(config: TrainConfig, *, dataset: Path, run: Path, cache: Path) -> None:
    """Write run.json of a new run; hold that of an old one against `config`.

    A run without a checkpoint has promised nothing yet: it begins anew, so that a config or dataset that was
    refused in the last check before the first step can be mended.
    """
    if not runs.holds_work(run):
        runs.clear_start(run)
        _begin(config, dataset=dataset, run=run, cache=cache)
        return
    record = runs.read_run(run)
    runs.check_config(run, record, config)
    updated = record.model_copy(update={"config": config, "dataset": str(dataset.resolve())})
    if updated != record:
        runs.write_run(run, updated)


def _begin(config: TrainConfig, *, dataset: Path, run: Path, cache: Path) -> None:
    """Check what can be checked before the first step, and write run.json."""
    manifest = load_dataset(dataset)
    broken = [item for item in verify_files(dataset, manifest) if item.severity == "error"]
    if broken:
        raise DatasetError(f"{dataset}/{broken[0].subject}: {broken[0].message}", remedy=broken[0].remedy)
    found = resolve_base(config.base_model, fetch=True)
    check_version(found.family, config.sdx_version, name=config.base_model)
    if choose_device(config.device) != "cpu":  # fp16 is slow on a CPU, and exact: tests train with it
        check_precision(config, device_facts(config.device))
    here = Path(config.base_model).expanduser()
    record = RunRecord(
        config=config,
        config_hash=runs.config_hash(config),
        dataset=str(dataset.resolve()),
        dataset_fingerprint=manifest.fingerprint,
        dataset_items=runs.dataset_items(manifest),
        cache=str(cache.resolve()),
        # a local path must mean the same wherever the run goes on; a name of the hub already does
        base=str(here.resolve()) if found.form != "mini" and here.exists() else config.base_model,
        base_revision=found.revision(),
        machine=this_machine(choose_device(config.device)),
    )
    runs.write_run(run, record)


def _train(run: Path, *, world: World, reporter: Reporter | None, stop: StopSignal | None) -> TrainResult:
    """Train what is still to do; the caller holds the run's lock."""
    world.wait()  # the first may only now have written what the others read
    record = runs.read_run(run)
    reporter = reporter or SilentReporter()
    stop = stop or StopSignal()
    ended = runs.finished(run)
    if ended is not None:
        return ended
    if world.first:
        for folder in (run, run / runs.SAMPLES):
            clear_leftovers(folder)
    world.wait()
    exact = not record.config.fast or choose_device(record.config.device) == "cpu"
    watched = record.config.tensorboard and world.first
    project = record.config.wandb if world.first else None
    told = record.config.model_dump(mode="json", exclude={"train_data_dir"})
    with (
        reproducible(record.machine.threads, exact=exact),
        board(run, wanted=watched) as curves,
        wandb_board(run, project=project, config=told) as sent,
    ):
        if world.first:
            reporter = Fanout(EventLog(run / runs.EVENTS_FILE), curves, sent, reporter)

        def attempt(execution: Execution) -> TrainResult:
            with naming_a_lost_device(run):
                return run_steps(record, run, execution=execution, world=world, reporter=reporter, stop=stop)

        if world.size > 1:  # processes that step down one by one would wait for each other for ever
            return attempt(load_execution(run, record.config))
        return with_step_down(run, record.config, attempt, reporter=reporter)
