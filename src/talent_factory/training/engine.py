"""One optimiser step: gradients of all its batches, added up over processes, clipped, applied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from talent_factory.training.capture import Recorder, Replay
from talent_factory.training.ema import MovingAverage
from talent_factory.training.flat import FlatParameters
from talent_factory.training.goal import Goal
from talent_factory.training.guards import GradientWatch, total_norm
from talent_factory.training.parallel import World
from talent_factory.training.ring import Ring
from talent_factory.training.scaler import LossScaler
from talent_factory.training.stepdown import Execution
from talent_factory.training.windows import Batch, Windows


@dataclass(eq=False)
class Engine:
    """Moves the weights of a run by one step at a time; a step leaves no number on the host."""

    goal: Goal
    flat: FlatParameters
    optimizer: torch.optim.Optimizer
    windows: Windows
    ring: Ring
    world: World
    accumulation: int
    max_grad_norm: float
    execution: Execution
    """Into how many pieces a batch is cut where memory is short."""
    average: MovingAverage | None = None
    scaler: LossScaler | None = None
    """For fp16, whose small gradients would vanish."""
    watch: GradientWatch | None = None
    """Notes whose gradients flow, in the first steps."""
    run_batch: Callable[[Batch], None] = field(init=False)
    """Adds a batch's gradients and figures; a captured graph may take its place."""
    figures: Tensor = field(init=False)
    """Means over the batches of the step, by the goal's names."""
    clipped: Tensor | None = field(init=False, default=None)
    """The gradients' norm after clipping, 0-dim, of the first step."""

    def __post_init__(self) -> None:
        self.figures = torch.zeros(len(self.goal.names), device=self.windows.device)
        self.run_batch = self.add_batch

    def replay_with(self, record: Recorder, *, refused: Callable[[str], None]) -> None:
        """Do batches from recordings; `step` stays as it is. `refused` is told when they cannot be made."""
        kept = [*self.flat.gradients(), self.figures]
        self.run_batch = Replay(self.add_batch, kept=kept, record=record, refused=refused)

    def step(self, number: int) -> None:
        """Make step `number` (0-based); its figures go into the ring."""
        self.flat.zero_gradients()
        self.figures.zero_()
        for part in range(self.accumulation):
            batch = self.windows.batch(number * self.accumulation + part)
            for rows in self.execution.pieces(len(batch.rows_B)):
                self.run_batch(batch.part(rows) if self.execution.splits > 1 else batch)
        self.world.add_up([*self.flat.gradients(), self.figures])
        if self.watch is not None:
            self.watch.note()
        norm = self._apply()
        self.ring.write(number, torch.cat([self.figures, norm[None]]))

    def add_batch(self, batch: Batch) -> None:
        """Add the gradients of one batch into the flat vectors, and its figures."""
        loss, values = self.goal(batch)
        loss = loss / self.accumulation
        (loss if self.scaler is None else self.scaler.scaled(loss)).backward()
        self.figures.add_(values, alpha=1.0 / self.accumulation)

    def _apply(self) -> Tensor:
        """Clip, move the weights and all that follows them; returns the gradients' norm, 0-dim."""
        if self.scaler is None:
            norm = self.flat.clip(self.max_grad_norm)
            if self.clipped is None:
                self.clipped = total_norm(self.flat.gradients())  # now: some optimisers use them up
            self.optimizer.step()
        else:
            self.scaler.unscale(self.flat.gradients())
            norm = self.scaler.judged(self.flat.clip(self.max_grad_norm))
            self.scaler.step(self.optimizer)
            if self.watch is not None:
                self.watch.forgive(self.scaler.overflow != 0)
        self.flat.refresh()
        if self.average is not None:
            self.average.update(skipped=None if self.scaler is None else self.scaler.overflow)
        if self.scaler is not None:
            self.scaler.update()
        return norm
