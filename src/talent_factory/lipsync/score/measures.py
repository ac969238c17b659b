"""The figures of a mouth that follows a sound; plain functions of numbers and pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

REACH = 8
"""Offsets are looked for up to this many frames either way."""
_LEAST = 8  # frames that a correlation needs to mean anything


def pearson(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Correlation of two series of one length; 0 where either does not vary."""
    a, b = one - one.mean(), other - other.mean()
    length = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / length) if length > 1e-9 else 0.0


def concordance(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Lin's concordance correlation coefficient: 1 only where the values themselves agree (Lin 1989)."""
    covariance = float(((one - one.mean()) * (other - other.mean())).mean())
    apart = float(one.var() + other.var() + (one.mean() - other.mean()) ** 2)
    return 2 * covariance / apart if apart > 1e-12 else 0.0


def lags(made: NDArray[Any], true: NDArray[Any], *, reach: int = REACH) -> NDArray[np.float64]:
    """(2*reach+1,) correlations with `made` later by -reach to reach frames; 0 where too little overlaps.

    Frames that are NaN in either are left out.
    """
    found = np.zeros(2 * reach + 1)
    for late in range(-reach, reach + 1):
        length = len(true) - abs(late)
        if length >= _LEAST:
            one, other = made[max(0, late) :][:length], true[max(0, -late) :][:length]
            known = np.isfinite(one) & np.isfinite(other)
            if known.sum() >= _LEAST:
                found[late + reach] = pearson(one[known], other[known])
    return found


def best_lag(correlations: NDArray[Any]) -> int:
    """The frames of delay where `lags` are highest; positive: the mouth is late. Nearest to 0 wins a tie."""
    reach = len(correlations) // 2
    return max(range(-reach, reach + 1), key=lambda late: (correlations[late + reach], -abs(late)))


def articulation(made: NDArray[Any], true: NDArray[Any]) -> float:
    """How far the mouth moves in comparison with the truth: ratio of deviations, 1 is right."""
    base = float(true.std())
    return float(made.std()) / base if base > 1e-9 else 0.0


def psnr(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Peak signal to noise of uint8 pictures in dB; 99 where they are equal."""
    error = float(np.mean((one.astype(np.float32) - other.astype(np.float32)) ** 2))
    return min(99.0, 10 * float(np.log10(255.0**2 / error))) if error > 0 else 99.0


def ssim(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Structural similarity of two (H, W, 3) uint8 pictures in grey, Gaussian windows of deviation 1.5
    (Wang et al. 2004).
    """
    import cv2

    def blur(grey: NDArray[Any]) -> NDArray[Any]:
        return cv2.GaussianBlur(grey, (11, 11), 1.5)

    a, b = (picture.astype(np.float64) @ np.array([0.299, 0.587, 0.114]) for picture in (one, other))
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    both = blur(a * b) - mean_a * mean_b
    low, high = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    share = ((2 * mean_a * mean_b + low) * (2 * both + high)) / (
        (mean_a**2 + mean_b**2 + low) * (var_a + var_b + high)
    )
    return float(share.mean())
