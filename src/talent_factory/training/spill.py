"""Notice when a GPU's driver moves a training into the machine's memory: no error, only a tenth of the speed.

NVIDIA's drivers for Windows do so since 2023 by default instead of failing. Two signs together tell: a step
suddenly takes much longer than it did, and the card is full.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from statistics import median

import torch

# Observations, each of the steps since the last one.
_BASELINE = 10
_WINDOW = 5
_SLOWER = 2.5
_FULL = 0.97


class SpillWatch:
    """Looks at the seconds of steps and at how full the card is; speaks once."""

    def __init__(self, *, total: int) -> None:
        """`total` is the card's memory in bytes."""
        self._total = total
        self._first: list[float] = []
        self._last: deque[float] = deque(maxlen=_WINDOW)
        self._told = False

    def observe(self, step_seconds: float, *, reserved: int, free: int) -> str | None:
        """What to tell the user after a step, or None.

        `reserved` are the bytes that torch holds, `free` those that the driver calls free on the whole card.
        More reserved than there is, is proof by itself.
        """
        if self._told:
            return None
        full = reserved > self._total or self._total - free >= _FULL * self._total
        if len(self._first) < _BASELINE:
            self._first.append(step_seconds)
            slow = False
        else:
            self._last.append(step_seconds)
            slow = len(self._last) == _WINDOW and median(self._last) > _SLOWER * median(self._first)
        if not (reserved > self._total or (full and slow)):
            return None
        self._told = True
        factor = median(self._last) / median(self._first) if self._last else 1.0
        slower = f"steps take {factor:.1f} times as long as at first, and " if slow else ""
        held = f"{reserved / 2**30:.1f} of {self._total / 2**30:.1f} GB held"
        return (
            f"{slower}the card is full ({held}): the driver may be using the machine's memory, "
            "which is many times slower; stop, and write "
            "gradient_checkpointing: true or a smaller batch_size, or turn the driver's system memory "
            "fallback off"
        )


class CardWatch:
    """A spill watch with a clock: tell it each time how many steps are done since the last time."""

    def __init__(
        self,
        *,
        total: int,
        memory: Callable[[], tuple[int, int]],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`memory` gives the bytes that torch holds and those that are free on the card."""
        self._watch = SpillWatch(total=total)
        self._memory = memory
        self._clock = clock
        self._last: float | None = None

    def note(self, steps: int) -> str | None:
        """What to tell the user, or None; call it when `steps` more steps are known to be done."""
        now, before = self._clock(), self._last
        self._last = now
        if before is None or steps < 1:
            return None  # before the first time, kernels are chosen and graphs are captured
        reserved, free = self._memory()
        return self._watch.observe((now - before) / steps, reserved=reserved, free=free)


def watch_card(device: torch.device) -> CardWatch | None:
    """Who looks after the memory of a CUDA card; None for other devices, which do not spill unnoticed."""
    if device.type != "cuda":
        return None

    def memory() -> tuple[int, int]:
        return torch.cuda.memory_reserved(device), torch.cuda.mem_get_info(device)[0]

    return CardWatch(total=torch.cuda.mem_get_info(device)[1], memory=memory)
