"""One optimizer step from many small batches, without a wait for the device between them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from talent_factory.core.errors import TrainingDiverged
from talent_factory.lipsync.batch import Batch
from talent_factory.lipsync.models.unet import Canvas
from talent_factory.lipsync.train.objective import Objective
from talent_factory.lipsync.train.players import Player
from talent_factory.training.ema import MovingAverage
from talent_factory.training.scaler import LossScaler

if TYPE_CHECKING:
    from accelerate import Accelerator

# A small start, since one overflow costs a whole step of thousands of samples, and a quick rise.
SCALE_START, SCALE_PATIENCE = 2.0**12, 50


@dataclass(frozen=True)
class Pace:
    """A step is `pieces` batches of `micro` samples on each of `processes`; this one is `rank`."""

    pieces: int
    micro: int
    processes: int
    rank: int

    @property
    def wide(self) -> int:
        """Samples that all processes make at a time."""
        return self.micro * self.processes

    @property
    def samples(self) -> int:
        """Samples of an optimizer step."""
        return self.pieces * self.wide

    def first(self, step: int, piece: int) -> int:
        """The global index of this process's first sample of a piece; the others follow it."""
        return step * self.samples + piece * self.wide + self.rank * self.micro


@dataclass(frozen=True)
class Figures:
    """What one optimizer step tells: the means of its losses, the norm of its gradients, its rate."""

    losses: dict[str, float]
    norm: float
    rate: float
    scale: float | None


class Engine:
    """The networks of a run and what moves them; `players[0]` is the one that paints."""

    def __init__(
        self,
        accelerator: Accelerator,
        players: tuple[Player, ...],
        objective: Objective,
        *,
        pace: Pace,
        max_norm: float,
        ema_decay: float,
        canvas: Canvas,
    ) -> None:
        """`canvas` is what the network paints on."""
        self.accelerator, self.players, self.objective, self.pace = accelerator, players, objective, pace
        self.painter = players[0]
        self._max_norm, self._canvas = max_norm, canvas
        device = accelerator.device
        self.average = (
            MovingAverage([p.data for p in self.painter.parameters], memory=ema_decay) if ema_decay else None
        )
        fp16 = accelerator.mixed_precision == "fp16"
        self.scaler = LossScaler(device, start=SCALE_START, patience=SCALE_PATIENCE) if fp16 else None
        self.sums = torch.zeros(len(objective.names), device=device)
        """Sums of the losses over the pieces of the step under way, each divided by their number."""
        self._watch = _FiniteWatch(device)

    def piece(self, batch: Batch, *, step: int, piece: int) -> None:
        """Add the gradients of one small batch; the last one of a step brings the processes together.

        Raises TrainingDiverged when the loss is no finite number, before it can reach the weights.
        """
        last = piece == self.pace.pieces - 1
        with nullcontext() if last else self.accelerator.no_sync(self.painter.called):
            made = self.painter.paint(batch, self._canvas)
            losses, images = self.objective.losses(made, batch, step=step)
            self._watch.look(losses["loss"], step=step, first=self.pace.first(step, piece))
            self._backward(losses["loss"])
        for player in self.players[1:]:
            with nullcontext() if last else self.accelerator.no_sync(player.called):
                judged = self.objective.judge(player.called, images, batch, step=step)
                if judged is not None:
                    losses[player.name] = judged
                    self._backward(judged)
        values = [losses.get(name) for name in self.objective.names]
        with torch.no_grad():
            zero = torch.zeros((), device=self.sums.device)
            row = torch.stack([zero if value is None else value.detach().float() for value in values])
            self.sums += row / self.pace.pieces

    def finish(self, factor: float, *, step: int) -> Figures:
        """Clip, move the weights at `factor` of their peak rates, and read the figures: the one wait."""
        norms: list[Tensor] = []
        overflow = None
        rate = 0.0
        playing = self.players if self.objective.judges(step) else self.players[:1]
        for number, player in enumerate(playing):
            gradients = player.gradients()
            if self.scaler is not None:
                self.scaler.unscale(gradients)
            norm = torch.nn.utils.clip_grad_norm_(player.parameters, self._max_norm)
            used = player.set_rate(factor)
            if self.scaler is None:
                player.optimizer.step()
            else:
                norm = self.scaler.judged(norm)
                self.scaler.step(player.optimizer)
            player.optimizer.zero_grad(set_to_none=False)
            norms.append(norm)
            if number == 0:
                rate, overflow = used, None if self.scaler is None else self.scaler.overflow.clone()
        if self.scaler is not None:
            assert overflow is not None
            self.scaler.overflow.copy_(overflow)
            self.scaler.update()
        if self.average is not None:
            self.average.update(skipped=overflow)
        return self._read(norms[0], rate)

    def state(self) -> dict[str, Tensor]:
        """What the engine itself keeps, beside its players, by names that share a file with others."""
        tensors = {"sums": self.sums}
        if self.average is not None:
            tensors |= self.average.state()
        if self.scaler is not None:
            tensors |= self.scaler.state()
        return tensors

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave."""
        if len(tensors["sums"]) == len(self.sums):
            self.sums.copy_(tensors["sums"])
        if self.average is not None:
            self.average.load_state(tensors)
        if self.scaler is not None:
            self.scaler.load_state(tensors)

    def _backward(self, loss: Tensor) -> None:
        loss = loss / self.pace.pieces
        self.accelerator.backward(loss if self.scaler is None else self.scaler.scaled(loss))

    def _read(self, norm: Tensor, rate: float) -> Figures:
        sums: Any = self.accelerator.reduce(self.sums, reduction="mean")
        scale = None if self.scaler is None else self.scaler.state()["scaler.scale"]
        more = [norm.float().reshape(())] + ([] if scale is None else [scale])
        values = torch.cat([sums, torch.stack([value.to(sums) for value in more])]).tolist()
        self.sums.zero_()
        count = len(self.objective.names)
        return Figures(
            losses=dict(zip(self.objective.names, values[:count], strict=True)),
            norm=values[count],
            rate=rate,
            scale=None if scale is None else values[-1],
        )


class _FiniteWatch:
    """Stops at a loss that is no number; on a GPU it looks one batch late instead of waiting."""

    def __init__(self, device: torch.device) -> None:
        self._late = device.type == "cuda"
        self._flag = torch.ones((), dtype=torch.bool, pin_memory=self._late)
        self._before: tuple[Any, int, int] | None = None

    def look(self, loss: Tensor, *, step: int, first: int) -> None:
        if not self._late:
            if not bool(torch.isfinite(loss)):
                raise _diverged(step, first)
            return
        if self._before is not None:
            event, at, sample = self._before
            event.synchronize()  # long done: a whole batch was computed since
            if not bool(self._flag):
                raise _diverged(at, sample)
        self._flag.copy_(torch.isfinite(loss.detach()), non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._before = (event, step, first)


def _diverged(step: int, first: int) -> TrainingDiverged:
    return TrainingDiverged(
        f"the loss of step {step + 1} is no finite number, in the batch that begins at sample {first}",
        remedy="lower learning_rate, or mixed_precision: bf16; the last checkpoint is kept: "
        "talent lipsync resume RUN",
    )
