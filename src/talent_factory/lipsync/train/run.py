"""Train: batch after batch, step after step, saved so that a stop at any moment costs only time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from talent_factory.core.errors import Cancelled, StorageError
from talent_factory.core.events import EventLog, Fanout, Reporter, SilentReporter
from talent_factory.core.records import Record
from talent_factory.core.stop import StopSignal
from talent_factory.core.workspace import exclusive
from talent_factory.lipsync.batch import Batch
from talent_factory.lipsync.config import LipsyncConfig
from talent_factory.lipsync.train.engine import Engine
from talent_factory.lipsync.train.players import rate_factor
from talent_factory.lipsync.train.saver import Place, Saver, averaged
from talent_factory.lipsync.train.session import Session, open_session
from talent_factory.lipsync.train.validate import Validator, write_strips
from talent_factory.training.board import board, wandb_board
from talent_factory.training.runs import note_validation

# Pieces between two questions whether another process was asked to stop.
_ASK_EVERY = 8


class TrainResult(Record):
    """What a finished training left: its last checkpoint and its last figures."""

    run: Path
    checkpoint: Path
    step: int
    loss: float | None
    validation: dict[str, float]
    seconds: float


def train(
    config: LipsyncConfig, *, reporter: Reporter | None = None, stop: StopSignal | None = None
) -> TrainResult:
    """Train to `max_train_steps` in `output_dir`, from where `resume_from_checkpoint` says.

    Raises:
        Cancelled: `stop` was requested; all that was done is saved, also a part of a step.
        TrainingDiverged: a loss left the finite numbers.
        ResumeRefused: the checkpoint belongs to another training.
        WorkspaceBusy: another process trains there.
    """
    began = time.monotonic()
    told, stop = reporter or SilentReporter(), stop or StopSignal()
    with open_session(config, reporter=told, stop=stop) as session:
        if not session.first:
            return _Loop(session, SilentReporter(), stop).run(began)
        run = session.run
        run.mkdir(parents=True, exist_ok=True)
        project = config.train.wandb_project if config.train.wandb_enabled else None
        with (
            exclusive(run),
            board(run, wanted=config.train.tensorboard_enabled) as curves,
            wandb_board(run, project=project, config=config.model_dump(mode="json")) as wandb,
        ):
            ears = Fanout(told, EventLog(run / "events.jsonl"), curves, wandb)
            return _Loop(session, ears, stop).run(began)


@dataclass
class _Progress:
    """What the last steps told."""

    loss: float | None = None
    validation: dict[str, float] | None = None


class _Loop:
    """The course of one training."""

    def __init__(self, session: Session, reporter: Reporter, stop: StopSignal) -> None:
        self._session, self._reporter, self._stop = session, reporter, stop
        self._engine: Engine = session.engine
        self._saver: Saver = session.saver
        self._total = session.config.train.max_train_steps
        self._progress = _Progress()
        self._place = Place()
        self._saved: Place | None = None

    def run(self, began: float) -> TrainResult:
        session = self._session
        place = self._saver.begin(session.state, reporter=self._reporter)
        if session.first:
            # not before the state was found to fit: a refused resume changes nothing
            session.write_record()
        session.state = None  # gigabytes
        self._saved = place if session.resumed else None
        self._place = place
        self._reporter.event("begin", step=place.step, steps=self._total)
        try:
            feed = session.feed(place, reporter=self._reporter, stop=self._stop)
            step, samples = place.step, place.samples
            while step < self._total:
                self._step(step, samples, feed)
                step, samples = step + 1, 0
                self._place = Place(step)
                # first, so that a kill between the two repeats it: looking changes nothing
                self._validate_at(step)
                if step % session.config.train.checkpoint_every == 0 or step == self._total:
                    self._save(Place(step))
            if self._saved != Place(self._total):
                self._save(Place(self._total))
        except (Cancelled, StorageError):
            # stopped while waiting for clips, or waited in vain; of several processes the others may be
            # elsewhere, and go back to the last checkpoint
            if self._engine.pace.processes == 1:
                self._save_between(self._place)
            raise
        finally:
            self._saver.close()
        return TrainResult(
            run=session.run,
            checkpoint=session.run / f"checkpoint-{self._total}",
            step=self._total,
            loss=self._progress.loss,
            validation=self._progress.validation or {},
            seconds=time.monotonic() - began,
        )

    def _step(self, step: int, samples: int, feed: Callable[[int, int], Batch]) -> None:
        """One optimizer step, from the piece on that comes after `samples` of it."""
        pace, config = self._engine.pace, self._session.config
        for piece in range(samples // pace.wide, pace.pieces):
            self._stop_here(step, piece)
            self._engine.piece(feed(step, piece), step=step, piece=piece)
            self._place = Place(step, (piece + 1) * pace.wide)
            done = step * pace.samples + (piece + 1) * pace.wide
            note = "" if self._progress.loss is None else f"step {step} loss {self._progress.loss:.4f}"
            self._reporter.progress("train", done, self._total * pace.samples, unit="sample", note=note)
        factor = rate_factor(step, total=self._total, config=config.optimizer)
        figures = self._engine.finish(factor, step=step)
        self._progress.loss = figures.losses["loss"]
        values = {**figures.losses, "norm": figures.norm, "learning_rate": figures.rate}
        if figures.scale is not None:
            values["scale"] = figures.scale
        if self._saver.log is not None:
            self._saver.log.append(step + 1, values)
        self._reporter.event("step", step=step + 1, **values)

    def _stop_here(self, step: int, piece: int) -> None:
        """Save and leave when someone asked to; several processes agree on where, now and then."""
        pace = self._engine.pace
        if pace.processes > 1 and piece % _ASK_EVERY:
            return
        if not self._session.anyone(self._stop.requested):
            return
        place = Place(step, piece * pace.wide)
        self._save_between(place)
        raise Cancelled(
            f"stopped after step {step}" + (f" and {place.samples} samples of the next" if piece else ""),
            remedy=f"talent lipsync resume {self._session.run}",
        )

    def _save_between(self, place: Place) -> None:
        if place not in (self._saved, Place()):
            self._save(place)

    def _save(self, place: Place) -> None:
        path = self._saver.save(place)
        self._saved = place
        if path is not None:
            self._reporter.event("checkpoint", step=place.step, path=str(path))

    def _validate_at(self, step: int) -> None:
        every = self._session.config.train.validation_steps
        if not every or (step % every and step != self._total):
            return
        validator: Validator | None = self._session.validator
        if validator is not None and self._session.first:
            with averaged(self._engine):
                figures, strips = validator.run(self._engine.painter.bare_paint)
            path = write_strips(self._session.run, step, strips)
            note_validation(self._session.run, step, figures)
            self._progress.validation = figures
            self._reporter.event("validation", step=step, **figures)
            self._reporter.event("sample", step=step, path=str(path))
            self._reporter.message(_told(step, figures))
        self._session.wait()


def _told(step: int, figures: dict[str, float]) -> str:
    return (
        f"step {step}: held-out latent L1 {figures['latent_l1']:.4f}, "
        f"mouth {figures['mouth_psnr']:.1f} dB, SSIM {figures['mouth_ssim']:.3f}"
    )
