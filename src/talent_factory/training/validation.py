"""How well the model does on images that it never trains on, at noise that is always the same.

The loss of training swings with the noise of each step; here nothing changes but the weights, so that a rise
means that the images are being learnt by heart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from talent_factory.core.errors import DatasetError
from talent_factory.core.events import Reporter
from talent_factory.core.seeds import derive_seed
from talent_factory.dataset.manifest import Item
from talent_factory.training.bank import TextRows, TextTable
from talent_factory.training.families.port import Base
from talent_factory.training.latents import Source, encode_images
from talent_factory.training.objectives import target
from talent_factory.training.options import ValidationKeys
from talent_factory.training.philox import Stream, normal
from talent_factory.training.schedule import add_noise

LEVELS = 4
"""Timesteps that each image is looked at: the middles of as many equal parts of the schedule."""


def hold_out(items: Sequence[Item], keys: ValidationKeys, *, seed: int) -> tuple[int, ...]:
    """The numbers of the items that are not trained on, rising: a pure function of the seed and the pictures.

    Each picture's lot is drawn from its own bytes, so one more picture changes the choice by one at most, and
    copies stay together. Images of the class in general and augmentations of the portrait are never held out.
    Raises DatasetError when that would leave nothing to train on.
    """
    if keys.share == 0.0:
        return ()
    own = [item.sha256 for item in items if not item.regular and not item.augmentation]
    pictures = sorted(set(own), key=lambda digest: derive_seed(seed, "held out", digest))
    count = max(1, round(keys.share * len(pictures)))
    if count >= len(pictures):
        raise DatasetError(
            f"validation.share {keys.share:g} of {len(pictures)} images leaves none to train on",
            remedy="write validation.share: 0, or add images",
        )
    chosen = set(pictures[:count])
    return tuple(number for number, item in enumerate(items) if item.sha256 in chosen)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Images that are not trained on, on the device."""

    items: tuple[int, ...]
    """Their numbers in the dataset, which their noise is a function of."""
    latents: tuple[Tensor, ...]
    """The mean of each posterior, (C, h, w) float32: sizes may differ."""
    texts: tuple[int, ...]
    """The row of each caption in the text table."""

    def batches(self, limit: int) -> Iterator[tuple[list[int], list[int]]]:
        """Places of images and their levels, of one size and at most `limit` a time, always in this order."""
        for size in sorted({tuple(latent.shape) for latent in self.latents}):
            places = [place for place, latent in enumerate(self.latents) if tuple(latent.shape) == size]
            pairs = [(place, level) for place in places for level in range(LEVELS)]
            for start in range(0, len(pairs), limit):
                some = pairs[start : start + limit]
                yield [place for place, _ in some], [level for _, level in some]


def gather_held_out(
    base: Base,
    items: Sequence[Item],
    numbers: Sequence[int],
    *,
    table: TextTable,
    dataset: Path,
    cache: Path,
    reporter: Reporter,
) -> HeldOut:
    """Bring the items of `numbers` to the device; `table` must hold their captions, `cache` knows latents."""
    sources = [Source(dataset / items[number].file, items[number].sha256) for number in numbers]
    (plain, *_) = encode_images(base, sources, mirrored=False, cache=cache, reporter=reporter).sides()
    return HeldOut(
        items=tuple(numbers),
        latents=tuple(posterior.mean.to(base.device) for posterior in plain),
        texts=tuple(table.row(items[number].caption) for number in numbers),
    )


@torch.no_grad()
def validation_loss(
    base: Base, held: HeldOut, texts: TextRows, *, alphas_cumprod: Tensor, seed: int, batch: int = 8
) -> tuple[float, tuple[float, ...]]:
    """The mean squared error over all held-out images, and that at each level, the least noise first.

    It is neither weighted nor masked, so that runs with other loss keys can be compared. The caller sets the
    weights to look at (`evaluation_mode`, the moving average). The host waits for one answer, at the end.
    """
    device = alphas_cumprod.device
    middles = [int((level + 0.5) / LEVELS * len(alphas_cumprod)) for level in range(LEVELS)]
    sums_L = torch.zeros(LEVELS, dtype=torch.float64)
    found: list[tuple[list[int], Tensor]] = []
    for places, levels in held.batches(batch):
        latents = torch.stack([held.latents[place] for place in places])
        rows = torch.tensor([held.items[place] for place in places], device=device)
        steps = torch.tensor(levels, device=device)
        noise = normal(rows, steps, tuple(latents.shape[1:]), seed=seed, stream=Stream.VALIDATION)
        times = torch.tensor([middles[level] for level in levels], device=device)
        text = texts(torch.tensor([held.texts[place] for place in places], device=device))
        estimate = base.predict(add_noise(latents, noise, alphas_cumprod, times), times, text)
        wanted = target(base.prediction, latents, noise, alphas_cumprod, times)
        found.append((levels, (estimate.float() - wanted).square().flatten(1).mean(dim=1)))
    errors = torch.cat([values for _, values in found]).cpu().double()
    order = torch.tensor([level for levels, _ in found for level in levels])
    means = sums_L.index_add(0, order, errors) / len(held.items)
    return float(means.mean()), tuple(means.tolist())
