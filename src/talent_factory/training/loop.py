"""Train a LoRA, top to bottom: set up, step, save; stop and go on at any moment with the same result."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file

from talent_factory.core.errors import BaseError, Cancelled, DatasetError, TrainingDiverged
from talent_factory.core.events import EventLog, Fanout, Reporter, SilentReporter
from talent_factory.core.files import atomic_path, clear_leftovers, sha256_file
from talent_factory.core.records import write_record
from talent_factory.core.stop import StopSignal
from talent_factory.core.workspace import exclusive
from talent_factory.dataset.manifest import load_dataset, verify_files
from talent_factory.training import runs
from talent_factory.training.board import board
from talent_factory.training.checkpoints import (
    flatten_optimizer,
    load_latest,
    restore_optimizer,
    save_checkpoint,
)
from talent_factory.training.config import TrainConfig
from talent_factory.training.families import load_base
from talent_factory.training.machine import choose_device, reproducible, this_machine
from talent_factory.training.runs import LossLog, RunRecord, TrainResult
from talent_factory.training.samples import sample_strip
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
    with exclusive(run):
        if (run / runs.RUN_FILE).exists():
            record = runs.read_run(run)
            runs.check_config(run, record, config)
            known, record = (
                record,
                record.model_copy(update={"config": config, "dataset": str(dataset.resolve())}),
            )
            if record != known:
                runs.write_run(run, record)
        else:
            record = _begin(config, dataset=dataset, run=run, cache=cache or run / "cache")
        return _train(record, run, reporter=reporter or SilentReporter(), stop=stop or StopSignal())


def resume(run: Path, *, reporter: Reporter | None = None, stop: StopSignal | None = None) -> TrainResult:
    """Go on with the run in `run` as it was begun; raises as `train`, and FileError when there is no run."""
    runs.read_run(run)  # before the lock, which would make the folder of a mistyped path
    with exclusive(run):
        record = runs.read_run(run)
        return _train(record, run, reporter=reporter or SilentReporter(), stop=stop or StopSignal())


def _begin(config: TrainConfig, *, dataset: Path, run: Path, cache: Path) -> RunRecord:
    """Check what can be checked before the first step, and write run.json."""
    manifest = load_dataset(dataset)
    broken = [item for item in verify_files(dataset, manifest) if item.severity == "error"]
    if broken:
        raise DatasetError(f"{dataset}/{broken[0].subject}: {broken[0].message}", remedy=broken[0].remedy)
    if config.sdx_version == "xl":
        raise BaseError(
            "SDXL bases cannot be trained here yet",
            remedy='write sdx_version: "1.5" and the folder of a v1 base',
        )
    base = (
        config.base_model
        if config.base_model == "mini"
        else str(Path(config.base_model).expanduser().resolve())
    )
    record = RunRecord(
        config=config,
        config_hash=runs.config_hash(config),
        dataset=str(dataset.resolve()),
        dataset_fingerprint=manifest.fingerprint,
        dataset_items=runs.dataset_items(manifest),
        cache=str(cache.resolve()),
        base=base,
        base_revision=load_base(base).revision,
        machine=this_machine(choose_device(config.device)),
    )
    runs.write_run(run, record)
    return record


def _train(record: RunRecord, run: Path, *, reporter: Reporter, stop: StopSignal) -> TrainResult:
    """The loop itself; the caller holds the run's lock."""
    ended = runs.finished(run)
    if ended is not None:
        return ended
    for folder in (run, run / runs.SAMPLES):
        clear_leftovers(folder)
    with reproducible(record.machine.threads), board(run, wanted=record.config.tensorboard) as curves:
        reporter = Fanout(EventLog(run / runs.EVENTS_FILE), curves, reporter)
        session = set_up(record, run, reporter=reporter)
        saver = Saver(session, run, reporter=reporter)
        try:
            _steps(session, saver, run, reporter=reporter, stop=stop)
            return _finish(record, session, saver, run, reporter)
        finally:
            saver.losses.close()
            session.adapters.detach()


def _steps(session: Session, saver: Saver, run: Path, *, reporter: Reporter, stop: StopSignal) -> None:
    """All steps that are still to do."""
    config, total = session.config, session.config.max_train_steps
    parameters = session.adapters.parameters()
    for step in range(saver.step, total):
        if stop.requested:
            saver.save(step)
            reporter.event("stopped", step=step)
            raise Cancelled(
                f"stopped at step {step} of {total}, saved in {run}", remedy=f"talent train resume {run}"
            )
        if step == 0:
            _draw_samples(session, run, 0, reporter)

        losses = session.losses(session.plan(step))
        session.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
        values = {name: value.item() for name, value in losses.items()} | {"grad_norm": norm.item()}
        _require_finite(values, step, config, saver)
        values["lr"] = session.set_learning_rate(step)
        session.optimizer.step()

        done = step + 1
        saver.losses.append(done, values)
        reporter.event("step", step=done, **values)
        reporter.progress("train", done, total, note=f"loss {values['loss']:.4f}")
        # Samples first: with the checkpoint there already, a kill between the two would lose the picture.
        _draw_samples(session, run, done, reporter)
        if done % config.checkpoint_every == 0 or done == total:
            saver.save(done)


class Saver:
    """Where the run stands on disk: goes on from there, and moves it forward."""

    def __init__(self, session: Session, run: Path, *, reporter: Reporter) -> None:
        """Restore the newest whole checkpoint of `run` into `session`, or begin at step 0."""
        self._session = session
        self._root = run / runs.CHECKPOINTS
        self._reporter = reporter
        self._started = time.monotonic()
        self._seconds_before = 0.0
        self.step = 0
        """Step of the newest checkpoint, 0 when there is none."""
        loss_bytes = 0
        found = load_latest(self._root)
        if found is not None:
            for broken in found.skipped:
                reporter.message(f"passed over a broken checkpoint: {broken}")
            session.adapters.load_state(found.tensors)
            restore_optimizer(
                session.optimizer, found.tensors, cast("dict[str, Any]", found.meta["optimizer"])
            )
            self.step, loss_bytes = found.step, int(cast(int, found.meta["loss_bytes"]))
            self._seconds_before = float(cast(float, found.meta["seconds"]))
            reporter.message(f"going on from step {found.step}")
        self.resumed_from = self.step
        self.losses = LossLog(run / runs.LOSS_FILE, size=loss_bytes)
        reporter.event("begin", step=self.step, steps=session.config.max_train_steps)

    @property
    def seconds(self) -> float:
        """Time spent so far by all processes that worked on this run and saved."""
        return self._seconds_before + time.monotonic() - self._started

    def save(self, step: int) -> None:
        """Save the state after `step` steps; does nothing when the newest checkpoint is that one."""
        if step == self.step:
            return
        moments, meta = flatten_optimizer(self._session.optimizer)
        # The log first: a checkpoint may only speak of lines that are on the disk.
        loss_bytes = self.losses.settle()
        path = save_checkpoint(
            self._root,
            step=step,
            tensors={**self._session.adapters.state(), **moments},
            meta={"optimizer": meta, "loss_bytes": loss_bytes, "seconds": self.seconds},
            keep=self._session.config.keep_checkpoints,
        )
        self.step = step
        self._reporter.event("checkpoint", step=step, path=str(path))

    @property
    def newest(self) -> str:
        """The newest checkpoint in words."""
        return f"{self._root}/step_{self.step:08d}" if self.step else "none yet"


def _draw_samples(session: Session, run: Path, done: int, reporter: Reporter) -> None:
    """Draw the sample strip when one is due after `done` steps."""
    interval = session.config.sample_interval
    if not interval or done % interval:
        return
    path = run / runs.SAMPLES / f"step_{done:08d}.png"
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


def _finish(record: RunRecord, session: Session, saver: Saver, run: Path, reporter: Reporter) -> TrainResult:
    """Write the LoRA and the result."""
    lora = run / runs.LORA_FILE
    with atomic_path(lora) as temporary:
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
    return result
