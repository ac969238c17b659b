"""What one batch asks of the model: look its numbers up, predict, and compare; all on the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from talent_factory.training.bank import SizeBank, TextRows
from talent_factory.training.draws import Size
from talent_factory.training.families.port import Base
from talent_factory.training.objectives import denoising_loss, preservation_loss, target
from talent_factory.training.options import LossKeys
from talent_factory.training.schedule import add_noise
from talent_factory.training.windows import Batch


@dataclass(frozen=True, eq=False)
class Goal:
    """The loss of a run as a function of a batch; tables are on the device, nothing asks the host."""

    base: Base
    untouched: Callable[[], AbstractContextManager[None]]
    """Within this context the base answers without the adapters."""
    banks: Mapping[Size, SizeBank]
    texts: TextRows
    """What the adapted model reads; gradients flow when the text encoder is trained."""
    frozen_texts: TextRows
    """What the untouched base reads."""
    alphas_cumprod: Tensor
    weights_T: Tensor
    widths_T: Tensor
    keys: LossKeys
    batch: int
    """Images of a whole batch, over all processes: shares are divided by it."""
    class_batch: int
    prior_weight: float

    @property
    def names(self) -> tuple[str, ...]:
        """What `__call__` gives values of."""
        return ("loss", "denoise", "preserve") if self.class_batch else ("loss",)

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The share of this process in the mean loss of the whole batch, 0-dim, and its parts by `names`."""
        bank, timesteps = self.banks[batch.size], batch.timesteps_B
        latents = bank.latents(batch.rows_B, batch.posterior_BCHW)
        noisy = add_noise(latents, batch.noise_BCHW, self.alphas_cumprod, timesteps)
        count, extra = len(batch.rows_B), len(batch.classes_E)
        # One call of the UNet for both aims: class prompts meet the same noisy latents as the captions.
        estimate = self.base.predict(
            torch.cat([noisy, noisy[:extra]]) if extra else noisy,
            torch.cat([timesteps, timesteps[:extra]]) if extra else timesteps,
            self.texts(torch.cat([batch.texts_B, batch.classes_E])),
        )
        denoise = self._denoise(estimate[:count], latents, batch, bank)
        if not self.class_batch:
            return denoise, denoise.detach()[None]
        preserve = self._preserve(estimate[count:], noisy[:extra], batch)
        loss = denoise + self.prior_weight * preserve
        return loss, torch.stack([loss, denoise, preserve]).detach()

    def _denoise(self, estimate: Tensor, latents: Tensor, batch: Batch, bank: SizeBank) -> Tensor:
        wanted = target(
            self.base.prediction, latents, batch.noise_BCHW, self.alphas_cumprod, batch.timesteps_B
        )
        errors_B = denoising_loss(
            estimate,
            wanted,
            weights_B=self.weights_T[batch.timesteps_B],
            keys=self.keys,
            mask_B1HW=None if bank.masks is None else bank.masks[batch.rows_B],
            widths_B=self.widths_T[batch.timesteps_B],
        )
        return (errors_B * bank.weights[batch.rows_B]).sum() / self.batch

    def _preserve(self, adapted: Tensor, noisy: Tensor, batch: Batch) -> Tensor:
        if not len(batch.classes_E):
            return adapted.sum()  # of nothing: another process has the prompts of this batch
        with torch.no_grad(), self.untouched():
            text = self.frozen_texts(batch.classes_E)
            own = self.base.predict(noisy, batch.timesteps_B[: len(batch.classes_E)], text)
        return preservation_loss(adapted, own).sum() / self.class_batch
