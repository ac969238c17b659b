"""Train a LoRA, top to bottom: set up, step, save; stop and go on at any moment with the same result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from safetensors.torch import save_file

from talent_factory.core.errors import Cancelled, DatasetError, TrainingDiverged
from talent_factory.core.events import EventLog, Fanout, Reporter, SilentReporter
from talent_factory.core.files import atomic_path, clear_leftovers, sha256_file
from talent_factory.core.records import read_record, write_record
from talent_factory.core.stop import StopSignal
from talent_factory.core.workspace import exclusive
from talent_factory.dataset.manifest import load_dataset, verify_files
from talent_factory.training import runs
from talent_factory.training.board import board
from talent_factory.training.config import TrainConfig
from talent_factory.training.likeness.checkpoint import strength_of
from talent_factory.training.likeness.study import Study
from talent_factory.training.machine import choose_device, reproducible, this_machine
from talent_factory.training.parallel import World, world
from talent_factory.training.resolve import check_version, resolve_base
from talent_factory.training.runs import RunRecord, TrainResult
from talent_factory.training.samples import sample_strip
from talent_factory.training.saver import Saver
from talent_factory.training.session import Session, set_up


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
        Cancelled: `stop` was requested; a checkpoint is saved.
        WorkspaceBusy: another process trains in `run`.
        DatasetError, BaseError, DiskFull: as their names say; nothing finished is lost.
    """
    with world() as processes, _alone(run, processes):
        if processes.first:
            begin_or_check(config, dataset=dataset, run=run, cache=cache or run / "cache")
        processes.wait()
        return _train(
            runs.read_run(run),
            run,
            world=processes,
            reporter=reporter or SilentReporter(),
            stop=stop or StopSignal(),
        )


def resume(run: Path, *, reporter: Reporter | None = None, stop: StopSignal | None = None) -> TrainResult:
    """Go on with the run in `run` as it was begun; raises as `train`, and FileError when there is no run."""
    runs.read_run(run)  # before the lock, which would make the folder of a mistyped path
    with world() as processes, _alone(run, processes):
        return _train(
            runs.read_run(run),
            run,
            world=processes,
            reporter=reporter or SilentReporter(),
            stop=stop or StopSignal(),
        )


def _alone(run: Path, processes: World) -> AbstractContextManager[None]:
    """The run's lock; of processes that train together, the first holds it for all."""
    return exclusive(run) if processes.first else nullcontext()


def begin_or_check(config: TrainConfig, *, dataset: Path, run: Path, cache: Path) -> None:
    """Write run.json of a new run; hold that of an old one against `config`."""
    if not (run / runs.RUN_FILE).exists():
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


def _train(
    record: RunRecord, run: Path, *, world: World, reporter: Reporter, stop: StopSignal
) -> TrainResult:
    """The loop itself; the caller holds the run's lock."""
    ended = runs.finished(run)
    if ended is not None:
        return ended
    if world.first:
        for folder in (run, run / runs.SAMPLES):
            clear_leftovers(folder)
    world.wait()
    exact = not record.config.fast or choose_device(record.config.device) == "cpu"
    watched = record.config.tensorboard and world.first
    with reproducible(record.machine.threads, exact=exact), board(run, wanted=watched) as curves:
        if world.first:
            reporter = Fanout(EventLog(run / runs.EVENTS_FILE), curves, reporter)
        session = set_up(record, run, world=world, reporter=reporter)
        saver = Saver(session, run, reporter=reporter)
        try:
            study = _study(record, session, run, reporter=reporter)
            last = _steps(session, saver, study, run, reporter=reporter, stop=stop)
            return _finish(record, session, saver, study, last=last, run=run, reporter=reporter)
        finally:
            saver.close()
            session.adapters.detach()


def _study(record: RunRecord, session: Session, run: Path, *, reporter: Reporter) -> Study | None:
    """Who measures the checkpoints, when the config asks for it; of several processes the first."""
    if not record.config.choose.measure or not session.world.first:
        return None
    dataset = Path(record.dataset)
    return Study(
        session.base,
        config=record.config,
        manifest=load_dataset(dataset),
        dataset=dataset,
        run=run,
        held_out=session.held_out,
        progress=reporter,
    )


def _steps(
    session: Session, saver: Saver, study: Study | None, run: Path, *, reporter: Reporter, stop: StopSignal
) -> int:
    """All steps that are still to do; returns the number of the last one."""
    config, total, ring = session.config, session.config.max_train_steps, session.engine.ring
    if _enough(session, study, saver.step):
        return saver.step
    for step in range(saver.step, total):
        if session.world.any(stop.requested):
            _note_figures(session, saver, reporter)
            saver.save(step)
            reporter.event("stopped", step=step)
            raise Cancelled(
                f"stopped at step {step} of {total}, saved in {run}", remedy=f"talent train resume {run}"
            )
        if step == 0:
            _draw_samples(session, run, 0, reporter)
        session.step(step)
        done = step + 1
        saving = done % config.checkpoint_every == 0 or done == total
        if ring.full or saving or _sample_due(config, done):
            _note_figures(session, saver, reporter)
        # Samples first: with the checkpoint there already, a kill between the two would lose the picture.
        _draw_samples(session, run, done, reporter)
        if saving:
            saver.save(done)
            if _enough(session, study, done):
                return done
    return total


def _enough(session: Session, study: Study | None, step: int) -> bool:
    """Measure the checkpoint of `step`, and say whether more steps would not help; the same after a kill.

    A step at which a stop was asked for is no measuring point: an unstopped run would not have it.
    """
    config = session.config
    due = step % config.checkpoint_every == 0 or step == config.max_train_steps
    enough = False
    if study is not None and step and due:
        with session.shipping():
            study.measure(step, session.adapters.state(), strength_of(session.adapters.networks))
        enough = study.should_stop(step)
    return config.choose.measure and session.world.any(enough)


def _note_figures(session: Session, saver: Saver, reporter: Reporter) -> None:
    """Fetch what the last steps left on the device, refuse numbers that are none, and write the log."""
    total = session.config.max_train_steps
    for step, values in session.engine.ring.drain():
        _require_finite(values, step, session.config, saver)
        values["lr"] = session.config.learning_rate * session.rate_factor(step)
        if saver.losses is not None:
            saver.losses.append(step + 1, values)
        reporter.event("step", step=step + 1, **values)
        reporter.progress("train", step + 1, total, note=f"loss {values['loss']:.4f}")


def _sample_due(config: TrainConfig, done: int) -> bool:
    return config.sample_interval > 0 and done % config.sample_interval == 0


def _draw_samples(session: Session, run: Path, done: int, reporter: Reporter) -> None:
    """Draw the sample strip when one is due after `done` steps."""
    if not _sample_due(session.config, done) or not session.world.first:
        return
    path = run / runs.SAMPLES / f"step_{done:08d}.png"
    with session.shipping():
        sample_strip(session.base, prompts=session.sample_prompts, seed=session.config.seed, path=path)
    reporter.event("sample", step=done, path=str(path), prompts=list(session.sample_prompts))


def _require_finite(values: Mapping[str, float], step: int, config: TrainConfig, saver: Saver) -> None:
    """Stop before a step that would poison the weights; nothing is set to zero and passed over."""
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if not wrong:
        return
    rate = config.learning_rate
    raise TrainingDiverged(
        f"step {step + 1}: {wrong[0]} is {values[wrong[0]]}; the last good checkpoint is {saver.newest}",
        remedy=f"lower learning_rate (it is {rate:g}, try {rate / 3:.1g}) and begin anew: "
        "talent train CONFIG --fresh "
        "(a resume would fail at the same step)",
    )


def _finish(
    record: RunRecord,
    session: Session,
    saver: Saver,
    study: Study | None,
    *,
    last: int,
    run: Path,
    reporter: Reporter,
) -> TrainResult:
    """Write the LoRA, chosen or last, and the result."""
    if not session.world.first:
        session.world.wait()
        return read_record(run / runs.RESULT_FILE, TrainResult)
    lora = run / runs.LORA_FILE
    if study is not None:
        study.finish(last, strength_of(session.adapters.networks), session.adapters.load_state)
    else:
        with session.shipping(), atomic_path(lora) as temporary:
            save_file(session.adapters.state(), temporary)
    losses = [line["loss"] for line in runs.read_losses(run)]
    tail = losses[-max(1, len(losses) // 10) :]
    result = TrainResult(
        run=str(run),
        lora=str(lora),
        lora_sha256=sha256_file(lora),
        steps=len(losses),
        final_loss=math.fsum(tail) / len(tail),
        seconds=round(saver.seconds, 3),
        base_revision=record.base_revision,
        dataset_fingerprint=record.dataset_fingerprint,
        resumed_from=saver.resumed_from,
    )
    write_record(run / runs.RESULT_FILE, result)
    reporter.event("finished", steps=result.steps, final_loss=result.final_loss, seconds=result.seconds)
    session.world.wait()
    return result
