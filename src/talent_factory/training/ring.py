"""Keep the figures of the last steps on the device until someone asks: a step never waits for its loss."""

from __future__ import annotations

import torch
from torch import Tensor


class Ring:
    """The figures of up to `length` steps, each a row of `names`, in the order they were written."""

    def __init__(self, names: tuple[str, ...], *, length: int, device: torch.device) -> None:
        self.names = names
        self._rows = torch.zeros(length, len(names), device=device)
        self._steps: list[int] = []

    @property
    def length(self) -> int:
        """How many steps fit."""
        return len(self._rows)

    @property
    def empty(self) -> bool:
        """Whether all that was written was drained."""
        return not self._steps

    @property
    def full(self) -> bool:
        """Whether it must be drained before the next step."""
        return len(self._steps) == len(self._rows)

    def write(self, step: int, values: Tensor) -> None:
        """Note `values` (len(names),) of a step; only when not `full`."""
        self._rows[len(self._steps)].copy_(values)
        self._steps.append(step)

    def drain(self) -> list[tuple[int, dict[str, float]]]:
        """All that was written since the last time, in one transfer; on a GPU this waits for it."""
        if not self._steps:
            return []
        table = self._rows[: len(self._steps)].cpu().tolist()
        steps, self._steps = self._steps, []
        return [
            (step, dict(zip(self.names, row, strict=True))) for step, row in zip(steps, table, strict=True)
        ]
