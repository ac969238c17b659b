"""The logarithm of a mel spectrum as Whisper hears it, in numpy: 80 bands, 100 frames a second."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
HOP = 160
WINDOW = 400
BANDS = 80

_BINS = WINDOW // 2 + 1
_QUIETEST = 1e-10
_BLOCK = 4096


@cache
def filters() -> NDArray[np.float64]:
    """The mel filters (80, 201) of Slaney's Auditory Toolbox: linear below 1 kHz, unit area."""
    points = _to_hertz(np.linspace(_to_mel(0.0), _to_mel(RATE / 2), BANDS + 2))
    frequencies = np.linspace(0, RATE / 2, _BINS)
    slopes = (points[:, None] - frequencies[None, :]) / np.diff(points, append=np.inf)[:, None]
    falling = (points[2:, None] - frequencies) / np.diff(points)[1:, None]
    rising = -slopes[:-2]
    areas = 2.0 / (points[2:] - points[:-2])
    found: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling)) * areas[:, None]
    return found


def _to_mel(hertz: float) -> float:
    return 15 + 27 * float(np.log(hertz / 1000) / np.log(6.4)) if hertz >= 1000 else 3 * hertz / 200


def _to_hertz(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    high = 1000 * np.exp(np.log(6.4) / 27 * (np.maximum(mels, 15) - 15))
    found: NDArray[np.float64] = np.where(mels < 15, 200 * mels / 3, high)
    return found


@cache
def _hann() -> NDArray[np.float64]:
    turn = 2 * np.pi * np.arange(WINDOW) / WINDOW
    return np.asarray(0.5 - 0.5 * np.cos(turn))


def log_mel(padded: NDArray[Any]) -> NDArray[np.float64]:
    """log10 of the mel power of every window in `padded`: (1 + (N-400)//160, 80) float64, at least -10.

    Window k is padded[160k : 160k+400], so the caller decides what stands before the sound. Silence is -10.
    """
    count = max(0, 1 + (len(padded) - WINDOW) // HOP)
    answer = np.empty((count, BANDS))
    if count == 0:
        return answer
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    for start in range(0, count, _BLOCK):
        spectrum = np.fft.rfft(
            windows[start : start + _BLOCK] * _hann(), axis=1
        )  # float64: vector units differ in float32
        power = spectrum.real**2 + spectrum.imag**2
        answer[start : start + _BLOCK] = np.log10(np.maximum(power @ filters().T, _QUIETEST))
    return answer
