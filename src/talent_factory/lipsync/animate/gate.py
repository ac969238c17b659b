"""When nobody speaks: how open the gate of the sound is at every frame, so that silence closes the mouth."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLES = 640
AHEAD = 2
"""Frames (of 40 ms) after a frame that its gate depends on."""
QUIET = 10 ** (-50 / 20)
"""Sound whose root mean square in 40 ms is below this counts as silence: 50 dB below full scale."""
_HOLD = 2
_CLOSE = 3
BEHIND = _HOLD + _CLOSE
"""Frames before a frame that its gate depends on."""


def loud_rows(wave: NDArray[Any]) -> NDArray[np.bool_]:
    """Which 40 ms of mono 16 kHz `wave` (N,) hold sound: (ceil(N / 640),)."""
    count = -(-len(wave) // SAMPLES)
    padded = np.zeros(count * SAMPLES, np.float64)
    padded[: len(wave)] = wave
    power = np.square(padded.reshape(count, SAMPLES)).mean(axis=1)
    found: NDArray[np.bool_] = power > QUIET**2
    return found


def gate_of(loud: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How open the gate is at each row, 0..1: open two rows before sound, closing over three after it."""
    rows = np.arange(len(loud))
    heard = np.flatnonzero(loud)
    if not len(heard):
        return np.zeros(len(loud), np.float32)
    place = np.searchsorted(heard, rows, side="right")
    past = np.where(place > 0, rows - heard[np.maximum(place - 1, 0)], np.iinfo(np.int64).max // 2)
    after = np.searchsorted(heard, rows, side="left")
    future = np.where(
        after < len(heard), heard[np.minimum(after, len(heard) - 1)] - rows, np.iinfo(np.int64).max // 2
    )
    closing = np.clip((_HOLD + _CLOSE - past) / _CLOSE, 0.0, 1.0)
    return np.maximum(closing, future <= AHEAD).astype(np.float32)
