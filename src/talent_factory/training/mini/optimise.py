"""One resumable optimisation: the loop that the autoencoder, the denoiser and the probe are all trained by.

State is the parameters, their moving average and AdamW; everything random is a function of (seed, step)
inside `loss_at`, so a run that was killed and started again ends in the same weights as one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from talent_factory.core.errors import TrainingDiverged
from talent_factory.core.events import Reporter
from talent_factory.core.records import Record
from talent_factory.training.checkpoints import (
    flatten_optimizer,
    load_latest,
    restore_optimizer,
    save_checkpoint,
)

Losses = Mapping[str, Tensor]


class Course(Record):
    """How one part is optimised: `average` is the decay of the moving average (0 keeps none)."""

    name: str
    steps: int
    learning_rate: float
    warmup: int = 100
    average: float = 0.0
    weight_decay: float = 0.01
    clip: float = 1.0
    save_every: int = 500
    report_every: int = 50


def rate_at(step: int, course: Course) -> float:
    """Linear warm-up, then a cosine to 2 % of the peak; a function of the step alone."""
    if step < course.warmup:
        return course.learning_rate * (step + 1) / course.warmup
    part = (step - course.warmup) / max(1, course.steps - course.warmup)
    return course.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, part))))


class _State:
    """Parameters, their moving average and the optimizer, in and out of a checkpoint."""

    def __init__(self, module: nn.Module, course: Course) -> None:
        self.course = course
        self.names = [name for name, _ in module.named_parameters()]
        self.live: list[Tensor] = [parameter for _, parameter in module.named_parameters()]
        self.mean = [parameter.detach().clone() for parameter in self.live]
        self.optimizer = torch.optim.AdamW(
            self.live,
            lr=course.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=course.weight_decay,
            fused=True,
        )

    def save(self, root: Path, step: int) -> None:
        moments, meta = flatten_optimizer(self.optimizer)
        tensors = dict(moments)
        for name, live, mean in zip(self.names, self.live, self.mean, strict=True):
            tensors[f"live.{name}"] = live.detach().contiguous()
            tensors[f"mean.{name}"] = mean.contiguous()
        save_checkpoint(root, step=step, tensors=tensors, meta={"optimizer": meta})

    def load(self, root: Path) -> int:
        found = load_latest(root)
        if found is None:
            return 0
        with torch.no_grad():
            for name, live, mean in zip(self.names, self.live, self.mean, strict=True):
                live.copy_(found.tensors[f"live.{name}"])
                mean.copy_(found.tensors[f"mean.{name}"])
        meta = found.meta["optimizer"]
        assert isinstance(meta, dict)
        restore_optimizer(self.optimizer, found.tensors, meta)
        return found.step

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Move the average; early on it follows faster, so that it never remembers the initial weights."""
        decay = min(self.course.average, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.mean, self.live, 1 - decay)

    @torch.no_grad()
    def finish(self) -> None:
        if self.course.average:
            for live, mean in zip(self.live, self.mean, strict=True):
                live.copy_(mean)


def optimise(
    module: nn.Module, course: Course, *, loss_at: Callable[[int], Losses], root: Path, reporter: Reporter
) -> None:
    """Train `module` in place and leave it with its averaged weights; `root` holds the checkpoints.

    `loss_at(step)` returns named scalar losses whose sum is minimised. Raises TrainingDiverged when the sum
    is not finite: nothing is zeroed, and the last checkpoint stays.
    """
    state = _State(module, course)
    begin = state.load(root)
    module.train()
    for step in range(begin, course.steps):
        for group in state.optimizer.param_groups:
            group["lr"] = rate_at(step, course)
        losses = loss_at(step)
        total = torch.stack(tuple(losses.values())).sum()
        if not torch.isfinite(total):
            raise TrainingDiverged(
                f"the loss of {course.name} is not finite at step {step}",
                remedy="start again from the last checkpoint with a lower learning rate",
            )
        state.optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(state.live, course.clip)
        state.optimizer.step()
        state.follow(step)
        if (step + 1) % course.report_every == 0 or step + 1 == course.steps:
            note = " ".join(f"{name} {value.item():.4f}" for name, value in losses.items())
            reporter.progress(course.name, step + 1, course.steps, note=note)
        if (step + 1) % course.save_every == 0 or step + 1 == course.steps:
            state.save(root, step + 1)
    state.finish()
    module.eval()
