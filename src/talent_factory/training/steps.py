"""The steps of a run, top to bottom: step, look, save, measure; then ship what is best."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save_file

from talent_factory.core.errors import Cancelled
from talent_factory.core.events import Reporter
from talent_factory.core.files import atomic_path, sha256_file
from talent_factory.core.records import read_record, write_record
from talent_factory.core.stop import StopSignal
from talent_factory.dataset.manifest import load_dataset
from talent_factory.training import runs
from talent_factory.training.adapters import strength_of
from talent_factory.training.config import TrainConfig
from talent_factory.training.guards import require_effect
from talent_factory.training.parallel import World
from talent_factory.training.runs import RunRecord, TrainResult
from talent_factory.training.samples import sample_strip
from talent_factory.training.saver import Saver
from talent_factory.training.session import Session, set_up
from talent_factory.training.stepdown import Execution
from talent_factory.training.supervise import Supervisor
from talent_factory.training.validation import validation_loss

if TYPE_CHECKING:
    from talent_factory.training.likeness.study import Study


def run_steps(
    record: RunRecord,
    run: Path,
    *,
    execution: Execution,
    world: World,
    reporter: Reporter,
    stop: StopSignal,
) -> TrainResult:
    """Set up, go on from the newest checkpoint, make the steps that are left, and write the LoRA.

    Raises as `loop.train` says; may be called again after any of it.
    """
    session = set_up(record, run, execution=execution, world=world, reporter=reporter)
    try:
        saver = Saver(session, run, reporter=reporter)
        try:
            study = _study(record, session, run, reporter=reporter)
            last = _steps(session, saver, study, run, reporter=reporter, stop=stop)
            return _finish(record, session, saver, study, last=last, run=run, reporter=reporter)
        finally:
            saver.close()
    finally:
        session.adapters.detach()


def _study(record: RunRecord, session: Session, run: Path, *, reporter: Reporter) -> Study | None:
    """Who measures the checkpoints, when the config asks for it; of several processes the first."""
    if not record.config.choose.measure or not session.world.first:
        return None
    # the encoders that judge pictures are large libraries: only a run that measures loads them
    from talent_factory.training.likeness.study import Study

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
    supervisor = Supervisor(session, reporter=reporter)
    if _enough(session, study, saver.step):
        return saver.step
    for step in range(saver.step, total):
        # Asked where all processes ask: to agree they have to wait for each other.
        if (ring.empty or session.world.size == 1) and session.world.any(stop.requested):
            _note_figures(session, saver, supervisor, reporter)
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
        validating = _validation_due(config, done)
        if ring.full or saving or validating or _sample_due(config, done):
            _note_figures(session, saver, supervisor, reporter)
        if validating:
            _validate(session, run, done, reporter)
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


def _note_figures(session: Session, saver: Saver, supervisor: Supervisor, reporter: Reporter) -> None:
    """Fetch what the last steps left on the device, refuse numbers that are none, and write the log."""
    total = session.config.max_train_steps
    drained = session.engine.ring.drain()
    supervisor.after_several(len(drained))
    for step, values in drained:
        supervisor.after(values, step, newest=saver.newest)
        values["lr"] = session.config.learning_rate * session.rate_factor(step)
        if saver.losses is not None:
            saver.losses.append(step + 1, values)
        reporter.event("step", step=step + 1, **values)
        reporter.progress("train", step + 1, total, note=f"loss {values['loss']:.4f}")


def _validation_due(config: TrainConfig, done: int) -> bool:
    if not config.validation.share:
        return False
    return done % (config.validation.every or config.checkpoint_every) == 0 or done == config.max_train_steps


def _validate(session: Session, run: Path, done: int, reporter: Reporter) -> None:
    """Note the loss on images that are not trained on; the first process computes it for all."""
    held = session.material.held_out
    if held is None or not session.world.first:
        return
    goal = session.engine.goal
    with session.shipping():
        loss, levels = validation_loss(
            session.base, held, goal.texts, alphas_cumprod=goal.alphas_cumprod, seed=session.config.seed
        )
    runs.note_validation(run, done, {"validation": loss, "levels": list(levels)})
    reporter.event("validation", step=done, loss=loss)


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
        with session.shipping():
            state = session.adapters.state()
        remark = require_effect(state)
        if remark:
            reporter.message(remark)
        with atomic_path(lora) as temporary:
            save_file(state, temporary)
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
