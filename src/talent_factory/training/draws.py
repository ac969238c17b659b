"""Every random choice of a training step is a pure function of (seed, step): there is no state to lose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor

from talent_factory.core.seeds import derive_seed

Size = tuple[int, int]
T = TypeVar("T")


@dataclass(frozen=True)
class StepPlan:
    """What one step trains on; tensors are on the CPU so that a GPU draws the same."""

    items: tuple[int, ...]
    flips: tuple[bool, ...]
    dropped: tuple[bool, ...]
    timesteps_B: Tensor
    posterior_BCHW: Tensor
    noise_BCHW: Tensor
    class_prompts: tuple[int, ...]


@dataclass(frozen=True)
class Lottery:
    """The fixed part of all draws of a run; `sizes` is (height, width) of each item's latent."""

    seed: int
    sizes: tuple[Size, ...]
    repeats: tuple[int, ...]
    batch: int
    timesteps: int
    channels: int = 4
    flip: bool = False
    caption_dropout: float = 0.0
    class_prompts: int = 0
    class_batch: int = 0

    def plan(self, step: int) -> StepPlan:
        """The draws of `step` (0-based), the same whatever was drawn before."""
        items = self.batch_items(step)
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "step", step))
        count = len(items)
        flips = torch.rand(count, generator=generator) < (0.5 if self.flip else 0.0)
        dropped = torch.rand(count, generator=generator) < self.caption_dropout
        shape = (count, self.channels, *self.sizes[items[0]])
        return StepPlan(
            items=items,
            flips=tuple(flips.tolist()),
            dropped=tuple(dropped.tolist()),
            timesteps_B=stratified_timesteps(count, self.timesteps, generator),
            posterior_BCHW=torch.randn(shape, generator=generator),
            noise_BCHW=torch.randn(shape, generator=generator),
            class_prompts=self._class_prompts(generator),
        )

    def batch_items(self, step: int) -> tuple[int, ...]:
        """The items of `step`: each epoch is a fresh permutation, each batch has one size."""
        batches = epoch_batches(self.seed, 0, self.sizes, self.repeats, self.batch)
        epoch, index = divmod(step, len(batches))
        return epoch_batches(self.seed, epoch, self.sizes, self.repeats, self.batch)[index]

    def _class_prompts(self, generator: torch.Generator) -> tuple[int, ...]:
        if not self.class_batch:
            return ()
        chosen = torch.randint(self.class_prompts, (self.class_batch,), generator=generator)
        return tuple(chosen.tolist())


def stratified_timesteps(count: int, total: int, generator: torch.Generator) -> Tensor:
    """One timestep from each of `count` equal parts of 0..total-1, in random order: (count,) int64.

    Each is uniform by itself, and a batch covers the range, which makes small batches less noisy.
    """
    places = torch.randperm(count, generator=generator)
    within = torch.rand(count, generator=generator, dtype=torch.float64)
    return ((places + within) / count * total).long().clamp(0, total - 1)


@lru_cache(maxsize=4)
def epoch_batches(
    seed: int, epoch: int, sizes: tuple[Size, ...], repeats: tuple[int, ...], batch: int
) -> tuple[tuple[int, ...], ...]:
    """All batches of an epoch; the last of each size is filled up from the front of that size's order.

    The number of batches does not depend on the epoch, so a step number leads straight to its epoch.
    """
    batches: list[tuple[int, ...]] = []
    for number, size in enumerate(sorted(set(sizes))):
        entries = [i for i, own in enumerate(sizes) if own == size for _ in range(repeats[i])]
        order = _permuted(entries, derive_seed(seed, "order", epoch, number))
        for start in range(0, len(order), batch):
            batches.append(tuple(order[(start + k) % len(order)] for k in range(batch)))
    return tuple(_permuted(batches, derive_seed(seed, "batches", epoch)))


def _permuted(values: Sequence[T], seed: int) -> list[T]:
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))
    return [values[index] for index in order.tolist()]
