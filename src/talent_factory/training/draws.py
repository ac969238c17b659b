"""Every choice of a training batch is a pure function of (seed, batch number): there is no state to lose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import torch

from talent_factory.core.seeds import derive_seed

Size = tuple[int, int]
T = TypeVar("T")


@dataclass(frozen=True)
class BatchPlan:
    """Which items one batch trains on, and how; noise and timesteps come from philox.py."""

    items: tuple[int, ...]
    flips: tuple[bool, ...]
    texts: tuple[int, ...]
    """Rows of the text table: a variant of each item's caption, or the empty text."""
    classes: tuple[int, ...]
    """Rows of the prompts without token that hold the base in place."""


@dataclass(frozen=True)
class Lottery:
    """The fixed part of all choices of a run; `sizes` is (height, width) of each item's latent."""

    seed: int
    sizes: tuple[Size, ...]
    repeats: tuple[int, ...]
    batch: int
    texts: tuple[tuple[int, ...], ...]
    """Of each item, the rows of the text table that its caption may become."""
    empty_text: int = 0
    """The row of the empty text."""
    flip: bool = False
    caption_dropout: float = 0.0
    classes: tuple[int, ...] = ()
    class_batch: int = 0

    def plan(self, number: int) -> BatchPlan:
        """The choices of batch `number` (0-based), the same whatever was chosen before."""
        items = self.batch_items(number)
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "batch", number))
        count = len(items)
        flips = torch.rand(count, generator=generator) < (0.5 if self.flip else 0.0)
        dropped = torch.rand(count, generator=generator) < self.caption_dropout
        picks = torch.rand(count, generator=generator)
        texts = tuple(
            self.empty_text if drop else self.texts[item][int(pick * len(self.texts[item]))]
            for item, drop, pick in zip(items, dropped.tolist(), picks.tolist(), strict=True)
        )
        chosen: tuple[int, ...] = ()
        if self.class_batch:
            places = torch.randint(len(self.classes), (self.class_batch,), generator=generator)
            chosen = tuple(self.classes[place] for place in places.tolist())
        return BatchPlan(items=items, flips=tuple(flips.tolist()), texts=texts, classes=chosen)

    def batch_items(self, number: int) -> tuple[int, ...]:
        """The items of a batch: each epoch is a fresh permutation, each batch has one size."""
        batches = epoch_batches(self.seed, 0, self.sizes, self.repeats, self.batch)
        epoch, index = divmod(number, len(batches))
        return epoch_batches(self.seed, epoch, self.sizes, self.repeats, self.batch)[index]


@lru_cache(maxsize=4)
def epoch_batches(
    seed: int, epoch: int, sizes: tuple[Size, ...], repeats: tuple[int, ...], batch: int
) -> tuple[tuple[int, ...], ...]:
    """All batches of an epoch; the last of each size is filled up from the front of that size's order.

    The number of batches does not depend on the epoch, so a batch number leads straight to its epoch.
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
