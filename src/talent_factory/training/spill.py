"""Notice when a GPU's driver moves a training into the machine's memory: no error, only a tenth of the speed.

NVIDIA's drivers for Windows do so since 2023 by default instead of failing. Two signs together tell: a step
suddenly takes much longer than it did, and the card is full.
"""

from __future__ import annotations

from collections import deque
from statistics import median

_BASELINE = 20
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
