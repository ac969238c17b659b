"""Where a run stands on disk: go on from there, and move it forward, atomically."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from talent_factory.core.events import Reporter
from talent_factory.training import runs
from talent_factory.training.checkpoints import (
    flatten_optimizer,
    load_latest,
    restore_optimizer,
    save_checkpoint,
)
from talent_factory.training.ema import MovingAverage
from talent_factory.training.guards import require_finite
from talent_factory.training.runs import LossLog
from talent_factory.training.scaler import LossScaler
from talent_factory.training.session import Session


class Saver:
    """The newest checkpoint of a run, and the log of losses that belongs to it."""

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
            for part in _further_parts(session):
                part.load_state(found.tensors)
            self.step, loss_bytes = found.step, int(cast(int, found.meta["loss_bytes"]))
            self._seconds_before = float(cast(float, found.meta["seconds"]))
            reporter.message(f"going on from step {found.step}")
        self.resumed_from = self.step
        self.losses = LossLog(run / runs.LOSS_FILE, size=loss_bytes) if session.world.first else None
        reporter.event("begin", step=self.step, steps=session.config.max_train_steps)

    @property
    def seconds(self) -> float:
        """Time spent so far by all processes that worked on this run and saved."""
        return self._seconds_before + time.monotonic() - self._started

    def save(self, step: int) -> None:
        """Save the state after `step` steps; does nothing when the newest checkpoint is that one.

        Only the first of several processes writes: all hold the same numbers. Raises TrainingDiverged when
        some are no numbers any more: the figures of a step cannot tell what the step itself did.
        """
        if step == self.step:
            return
        require_finite(self._kept(), newest=self.newest)
        if self.losses is not None:
            tensors, meta = flatten_optimizer(self._session.optimizer)
            tensors |= self._session.adapters.state()
            for part in _further_parts(self._session):
                tensors |= part.state()
            # The log first: a checkpoint may only speak of lines that are on the disk.
            loss_bytes = self.losses.settle()
            path = save_checkpoint(
                self._root,
                step=step,
                tensors=tensors,
                meta={"optimizer": meta, "loss_bytes": loss_bytes, "seconds": self.seconds},
                keep=self._session.config.keep_checkpoints,
            )
            self._reporter.event("checkpoint", step=step, path=str(path))
        self.step = step

    @property
    def newest(self) -> str:
        """The newest checkpoint in words, empty when there is none."""
        return f"{self._root}/step_{self.step:08d}" if self.step else ""

    def _kept(self) -> dict[str, Tensor]:
        """The trained numbers by name, where they lie."""
        session = self._session
        found = {vector.name: vector.weights.data for vector in session.adapters.flat.vectors}
        average = session.engine.average
        return found if average is None else found | average.state()

    def close(self) -> None:
        """Close the log."""
        if self.losses is not None:
            self.losses.close()


def _further_parts(session: Session) -> list[MovingAverage | LossScaler]:
    """What has a state beside the weights and their moments."""
    engine = session.engine
    return [part for part in (engine.average, engine.scaler) if part is not None]
