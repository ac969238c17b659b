"""Lay out the batches of the next steps on the device at once, so that a step finds its numbers there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from talent_factory.training.bank import SizeBank
from talent_factory.training.draws import BatchPlan, Lottery, Size
from talent_factory.training.philox import Stream, normal, uniform


@dataclass(frozen=True, eq=False)
class Batch:
    """This process's share of one batch, on the device; `size` is (height, width) of its latents."""

    size: Size
    rows_B: Tensor
    """Rows of the size's bank, int64; mirrored images lie behind the plain ones."""
    texts_B: Tensor
    """Rows of the text table, int64."""
    classes_E: Tensor
    """Rows of the prompts without token; they meet the first E of the noisy latents."""
    timesteps_B: Tensor
    """int64."""
    posterior_BCHW: Tensor
    noise_BCHW: Tensor

    def part(self, rows: slice) -> Batch:
        """Some rows of the batch, with those of its prompts without token that meet them."""
        return replace(
            self,
            rows_B=self.rows_B[rows],
            texts_B=self.texts_B[rows],
            classes_E=self.classes_E[rows],
            timesteps_B=self.timesteps_B[rows],
            posterior_BCHW=self.posterior_BCHW[rows],
            noise_BCHW=self.noise_BCHW[rows],
        )

    def tensors(self) -> tuple[Tensor, ...]:
        """All that differs from batch to batch of one size."""
        return (
            self.rows_B,
            self.texts_B,
            self.classes_E,
            self.timesteps_B,
            self.posterior_BCHW,
            self.noise_BCHW,
        )


@dataclass(eq=False)
class Windows:
    """Batches by number; `length` of them are laid out at a time, which changes no number in them."""

    lottery: Lottery
    banks: Mapping[Size, SizeBank]
    share: tuple[int, ...]
    """The rows of each batch that this process computes."""
    timesteps: int
    channels: int
    offset: float
    device: torch.device
    length: int = 1

    def __post_init__(self) -> None:
        self._start = -1
        self._batches: tuple[Batch, ...] = ()

    def batch(self, number: int) -> Batch:
        """This process's share of batch `number`, a pure function of the seed and that number."""
        if not self._start <= number < self._start + len(self._batches):
            self._start, self._batches = number, self._lay_out(number)
        return self._batches[number - self._start]

    def _lay_out(self, start: int) -> tuple[Batch, ...]:
        numbers = range(start, start + self.length)
        plans = {number: self.lottery.plan(number) for number in numbers}
        times = dict(zip(numbers, self._timesteps(numbers), strict=True))
        found: dict[int, Batch] = {}
        for size in self.banks:
            own = [number for number in numbers if self.lottery.sizes[plans[number].items[0]] == size]
            if own:
                found |= zip(own, self._of_one_size(size, own, plans, times), strict=True)
        return tuple(found[number] for number in numbers)

    def _of_one_size(
        self, size: Size, numbers: list[int], plans: Mapping[int, BatchPlan], times: Mapping[int, Tensor]
    ) -> list[Batch]:
        bank, count = self.banks[size], len(self.share)
        shape = (self.channels, *size)
        rows = self._tensor(self.share).repeat(len(numbers))
        steps = self._tensor(numbers).repeat_interleave(count)
        seed = self.lottery.seed
        posterior = normal(rows, steps, shape, seed=seed, stream=Stream.POSTERIOR)
        noise = normal(rows, steps, shape, seed=seed, stream=Stream.NOISE)
        if self.offset:
            # brightness as a whole is learnt from noise that all pixels share (Guttenberg 2023)
            shared = (self.channels, 1, 1)
            noise = noise + self.offset * normal(rows, steps, shared, seed=seed, stream=Stream.OFFSET)
        return [
            Batch(
                size=size,
                rows_B=self._tensor([_bank_row(bank, plans[number], row) for row in self.share]),
                texts_B=self._tensor([plans[number].texts[row] for row in self.share]),
                classes_E=self._tensor(
                    [plans[number].classes[row] for row in self.share if row < len(plans[number].classes)]
                ),
                timesteps_B=times[number],
                posterior_BCHW=own_posterior,
                noise_BCHW=own_noise,
            )
            for number, own_posterior, own_noise in zip(
                numbers, posterior.split(count), noise.split(count), strict=True
            )
        ]

    def _timesteps(self, numbers: range) -> list[Tensor]:
        """One timestep from each of B equal parts of the range, in random order: (B,) int64 a batch.

        Each is uniform by itself, and a batch covers the range, which makes small batches less noisy.
        """
        batch = self.lottery.batch
        rows = torch.zeros(len(numbers), dtype=torch.int64, device=self.device)
        steps = self._tensor(list(numbers))
        draws = uniform(rows, steps, 2 * batch, seed=self.lottery.seed, stream=Stream.TIMESTEP)
        places = draws[:, :batch].argsort(dim=1, stable=True)
        share = self._tensor(self.share)
        levels = ((places + draws[:, batch:]) / batch * self.timesteps).long().clamp(0, self.timesteps - 1)
        return list(levels[:, share])

    def _tensor(self, values: list[int] | tuple[int, ...]) -> Tensor:
        numbers = torch.tensor(values, dtype=torch.int64)
        if self.device.type != "cuda":
            return numbers.to(self.device)
        # from pinned memory the copy need not wait for the steps that the card still works on
        return numbers.pin_memory().to(self.device, non_blocking=True)


def _bank_row(bank: SizeBank, plan: BatchPlan, row: int) -> int:
    return bank.places[plan.items[row]] + (bank.images if plan.flips[row] else 0)
