"""Few colours from many: cuts of tone, k-means in Lab and flat areas with smooth borders."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from talent_factory.providers.embedded.raster import F32, blur, f32

Labels = npt.NDArray[np.int32]


def tone_cuts(gray_HW: F32, alpha_HW: F32, count: int) -> tuple[float, ...]:
    """`count - 1` rising thresholds that part the subject's tones where they part best (one-dimensional
    k-means).
    """
    inside = gray_HW[::3, ::3][alpha_HW[::3, ::3] > 0.5]
    values = inside if inside.size >= 32 else gray_HW[::3, ::3].ravel()
    quantiles = np.quantile(values, (np.arange(count) + 0.5) / count)
    centres = 0.5 * quantiles + 0.5 * np.linspace(0.1, 0.9, count)
    for _ in range(12):
        nearest = np.abs(values[:, None] - centres[None, :]).argmin(axis=1)
        for k in range(count):
            mine = values[nearest == k]
            if mine.size:
                centres[k] = float(mine.mean())
        centres = np.sort(centres)
    return tuple(float(cut) for cut in (centres[1:] + centres[:-1]) / 2)


def dominant_colours(rng: np.random.Generator, points_NC: F32, count: int) -> F32:
    """k-means (Lloyd 1982, k-means++ seeding) on at most 4,000 of the points; (k, C), k <= count, most common
    first.

    Written out because OpenCV's own draws from a generator that all of a thread's code shares.
    """
    if len(points_NC) > 4000:
        points_NC = points_NC[rng.choice(len(points_NC), 4000, replace=False)]
    points = points_NC.astype(np.float64)
    centres = points[[int(rng.integers(len(points)))]]
    nearest2 = ((points - centres[0]) ** 2).sum(axis=1)
    while len(centres) < count and float(nearest2.max()) > 9.0:
        # The root softens the usual weights: small vivid marks get a colour, outliers do not take them all.
        chance = nearest2 / nearest2.sum()
        centres = np.vstack([centres, points[int(rng.choice(len(points), p=chance))]])
        nearest2 = np.minimum(nearest2, ((points - centres[-1]) ** 2).sum(axis=1))
    owner = np.zeros(len(points), np.int64)
    for _ in range(12):
        owner = ((points[:, None, :] - centres[None]) ** 2).sum(axis=2).argmin(axis=1)
        for k in range(len(centres)):
            mine = points[owner == k]
            if len(mine):
                centres[k] = mine.mean(axis=0)
    order = np.argsort(-np.bincount(owner, minlength=len(centres)), kind="stable")
    return f32(centres[order])


def nearest_colour(image_HWC: F32, colours_KC: F32) -> Labels:
    """Index of the nearest colour for every pixel."""
    distance = np.stack([((image_HWC - colour) ** 2).sum(axis=2) for colour in colours_KC])
    return np.asarray(distance.argmin(axis=0), np.int32)


def merge_specks(labels_HW: Labels, smallest: int) -> Labels:
    """Areas below `smallest` pixels join the label that surrounds them."""
    result = labels_HW.copy()
    keep = np.zeros(labels_HW.shape, bool)
    for label in np.unique(labels_HW):
        _, pieces, stats, _ = cv2.connectedComponentsWithStats(
            (labels_HW == label).astype(np.uint8), connectivity=4
        )
        big = stats[:, cv2.CC_STAT_AREA] >= smallest
        big[0] = False
        keep |= big[pieces]
    if keep.any() and not keep.all():
        _, owner = cv2.distanceTransformWithLabels(
            (~keep).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        source = np.zeros(int(owner.max()) + 1, np.int32)
        source[owner[keep]] = labels_HW[keep]
        result = source[owner]
    return result


def smooth_areas(labels_HW: Labels, colours_KC: F32, size: tuple[int, int], sigma: float) -> F32:
    """Flat colours at (height, width): every label's mask is blurred at full size, and the strongest wins.

    `sigma` in pixels of the result rounds the borders; a thin ramp between neighbours keeps them free of
    jaggies.
    """
    height, width = size
    best = np.full(size, -1.0, np.float32)
    second = np.full(size, -1.0, np.float32)
    first_colour = np.zeros((height, width, colours_KC.shape[1]), np.float32)
    second_colour = np.zeros_like(first_colour)
    for label in np.unique(labels_HW):
        mask = f32(cv2.resize(f32(labels_HW == label), (width, height), interpolation=cv2.INTER_LINEAR))
        mask = blur(mask, sigma)
        wins, places = mask > best, mask > second
        second_colour = np.where(wins[..., None], first_colour, second_colour)
        second_colour[~wins & places] = colours_KC[label]
        second = np.where(wins, best, np.where(places, mask, second))
        first_colour[wins] = colours_KC[label]
        best = np.maximum(best, mask)
    margin = np.clip((best - second) * 2.2 * max(1.0, sigma) * 0.5 + 0.5, 0.5, 1.0)
    return f32(second_colour + (first_colour - second_colour) * margin[..., None])
