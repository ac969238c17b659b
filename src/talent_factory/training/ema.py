"""A moving average of the weights: shipped when asked for, since it swings less than the last step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

_PREFIX = "ema."


class MovingAverage:
    """The exponential average of flat float32 vectors, without a pull towards the start.

    After n updates it is the sum of (1 - m) m^(n - i) weights_i, divided by 1 - m^n: a true average of what
    was seen, from the first update on, as Adam corrects its moments (Kingma & Ba 2015, arXiv:1412.6980).
    All is done on the device and in place, so an update may be part of a captured graph.
    """

    def __init__(self, weights: Sequence[Tensor], *, memory: float) -> None:
        """`memory` is m, below 1; `weights` are read, in this order, by every `update`."""
        self._weights = tuple(weights)
        device = self._weights[0].device
        self.values: tuple[Tensor, ...] = tuple(own.detach().clone() for own in self._weights)
        """The averages; the weights themselves before the first update."""
        self._memory = torch.tensor(memory, dtype=torch.float32, device=device)
        self._power = torch.ones((), dtype=torch.float32, device=device)

    def update(self, *, skipped: Tensor | None = None) -> None:
        """Take the weights in; where `skipped` (0-dim) is not 0 no step was made, and nothing changes."""
        power = self._power * self._memory
        # 1 exactly in the first update, since both are the same number
        rate = (1.0 - self._memory) / (1.0 - power)
        if skipped is not None:
            kept = skipped != 0
            power = torch.where(kept, self._power, power)
            rate = torch.where(kept, torch.zeros_like(rate), rate)
        self._power.copy_(power)
        for value, own in zip(self.values, self._weights, strict=True):
            value.lerp_(own.detach(), rate)

    def state(self) -> dict[str, Tensor]:
        """All that has to be kept, by names that share a file with others."""
        return {
            f"{_PREFIX}power": self._power.clone(),
            **{f"{_PREFIX}{number}": value.clone() for number, value in enumerate(self.values)},
        }

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave; other names are ignored. Raises KeyError when a part is missing."""
        self._power.copy_(tensors[f"{_PREFIX}power"])
        for number, value in enumerate(self.values):
            value.copy_(tensors[f"{_PREFIX}{number}"])
