"""Uniform numbers that follow from names alone, for all that the drawn heads choose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.seeds import derive_seed

ChoiceT = TypeVar("ChoiceT")
Floats = NDArray[np.float64]


class Dice:
    """Numbers from a Philox stream whose key is the sha256 of `parts`; the same on every machine.

    Only uniform draws are used: their bits are part of numpy's promise, those of other distributions are not.
    """

    def __init__(self, *parts: str | int) -> None:
        self._draw = np.random.Generator(np.random.Philox(key=derive_seed(*parts)))

    def number(self, low: float = 0.0, high: float = 1.0) -> float:
        """One number in [low, high)."""
        return low + (high - low) * float(self._draw.random())

    def numbers(self, count: int) -> Floats:
        """(count,) numbers in [0, 1)."""
        return self._draw.random(count)

    def choice(self, options: Sequence[ChoiceT]) -> ChoiceT:
        """One of `options`."""
        return options[int(self.number(0, len(options)))]

    def chance(self, share: float) -> bool:
        """True in `share` of all cases."""
        return self.number() < share

    def noise(self, count: int) -> Floats:
        """(count,) numbers of about normal distribution, mean 0 and deviation 1: sums of twelve uniforms."""
        whole: Floats = self._draw.random((12, count)).sum(axis=0) - 6.0
        return whole

    def drift(self, count: int, period: float) -> Floats:
        """(count,) a slow wandering in about [-1, 1] without jumps; `period` is in samples."""
        time = np.arange(count)
        waves = [
            np.sin(2 * np.pi * (time / (period * stretch) + self.number()))
            for stretch in (1.0, 0.61803, 0.36067)
        ]
        return (0.5 * waves[0] + 0.3 * waves[1] + 0.2 * waves[2]).astype(np.float64)
