"""Keep small fp16 gradients from vanishing: scale the loss up, and skip a step whose gradients overflow.

torch has a scaler too, but it asks the device each step whether to go on, and its skips are not part of a
state that resumes exactly. This one answers on the device alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

_PREFIX = "scaler."
_START = 2.0**16
_LEAST = 1.0
# torch waits 2,000 steps before it tries a larger scale; a LoRA is often done after 1,000.
_PATIENCE = 200


class LossScaler:
    """A power of two that gradients are multiplied with on their way: halved on overflow, doubled when quiet.

    A step: `scaled(loss).backward()`, add gradients up over processes, `unscale`, clip, `step`, `update`. The
    source of the scheme is Micikevicius et al. 2018 (arXiv:1710.03740, section 3.2).
    """

    def __init__(self, device: torch.device, *, start: float = _START, patience: int = _PATIENCE) -> None:
        self._scale = torch.tensor(start, dtype=torch.float32, device=device)
        self._quiet = torch.zeros((), dtype=torch.float32, device=device)
        self._patience = patience
        self.overflow = torch.zeros((), dtype=torch.float32, device=device)
        """1 when the gradients of this step left the finite numbers, so that it is skipped; else 0."""

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss to call backward on."""
        return loss * self._scale

    def unscale(self, gradients: Sequence[Tensor]) -> None:
        """Bring the gradients to their true size in place, and note whether all are finite."""
        factor = self._scale.reciprocal()  # exact, of a power of two
        finite = torch.ones_like(self.overflow, dtype=torch.bool)
        for gradient in gradients:
            gradient.mul_(factor)
            finite = finite & gradient.isfinite().all()
        self.overflow.copy_(~finite)

    def judged(self, norm: Tensor) -> Tensor:
        """The gradient norm to report: 0 for a skipped step, NaN once the scale cannot fall any more.

        An overflow is no divergence, one that stays at scale 1 is: the NaN stops the run as any other does.
        """
        skipped = torch.where(self._scale > _LEAST, 0.0, torch.nan)
        return torch.where(self.overflow != 0, skipped, norm)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Let the optimiser move the weights unless the gradients overflowed.

        Fused optimisers of torch look at the flag on the device; for others the host has to ask, and wait.
        """
        if all(group.get("fused") for group in optimizer.param_groups):
            cast(Any, optimizer).grad_scale = None
            cast(Any, optimizer).found_inf = self.overflow
            optimizer.step()
        elif not bool(self.overflow):
            optimizer.step()

    def update(self) -> None:
        """Choose the scale of the next step."""
        overflow = self.overflow != 0
        quiet = self._quiet + 1.0
        grown = quiet >= self._patience
        lower = (self._scale * 0.5).clamp(min=_LEAST)
        self._scale.copy_(torch.where(overflow, lower, torch.where(grown, self._scale * 2.0, self._scale)))
        self._quiet.copy_(torch.where(overflow | grown, torch.zeros_like(quiet), quiet))

    def state(self) -> dict[str, Tensor]:
        """All that has to be kept, by names that share a file with others."""
        return {f"{_PREFIX}scale": self._scale.clone(), f"{_PREFIX}quiet": self._quiet.clone()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave; other names are ignored. Raises KeyError when a part is missing."""
        self._scale.copy_(tensors[f"{_PREFIX}scale"])
        self._quiet.copy_(tensors[f"{_PREFIX}quiet"])
