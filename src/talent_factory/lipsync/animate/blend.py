"""How a made face goes back into its frame: colours brought near, edges faded, the lower face alone."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from talent_factory.lipsync.masks import FaceMask

# Shares of the side of the face: the fade, the rim, and how far the made part reaches to the sides and down.
_FEATHER = 0.06
_MARGIN = 0.02
_REACH = (0.43, 0.97)
# How far colours may be moved: more is no difference of light but another picture.
_SHIFT = 40.0
# So many levels from the usual difference a place at the rim begins to show something else, and does; its
# neighbours, which share its edge, as a share of the side; how little the usual difference counts where a rim
# can be trusted.
_DOUBTED, _FOREIGN, _NEIGHBOURS, _USUAL = 12.0, 24.0, 0.016, 1e-4
# Two pictures look alike up to so many levels of 255, and are others from so many on; what is looked at and
# what belongs to a change, as shares of the side.
_ALIKE, _OTHER = 3.0, 10.0
_LOOK, _AROUND = 0.015, 0.04
_WIDTHS = ((0.05, 1.0), (0.12, 0.1), (0.35, 0.01))
"""Deviations of the smoothing, as shares of the side, and what each counts: the nearest rim decides."""
_FIELD = 64
"""Colours are smoothed in so many pixels at most: the narrowest deviation is three of them."""


@lru_cache(maxsize=8)
def face_alpha(mask: FaceMask, size: int) -> NDArray[np.float32]:
    """(size, size) float32, 1 where the made face shows, faded to 0 at the edges of the covered part.

    It has the shape of a jaw, which an aligned face fills: hair and background beside it stay as they are.
    It never reaches the rim of the square, so that no seam is cut there.
    """
    covered = mask.covered(size, size).numpy()
    y, x = ((np.arange(size) + 0.5) / size for _ in range(2))
    across, down = (x[None, :] - 0.5) / _REACH[0], (y[:, None] - mask.top) / (_REACH[1] * (1 - mask.top))
    inside = (covered & (np.abs(across) ** 2.5 + np.abs(down) ** 2.5 <= 1)).astype(np.uint8)
    margin = max(1, round(_MARGIN * size))
    inside[:, :margin] = inside[:, size - margin :] = inside[size - margin :] = 0
    distance = cv2.distanceTransform(np.pad(inside, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    share = np.clip((distance - 0.5) / max(1.0, _FEATHER * size), 0.0, 1.0)
    # a smooth step has no crease that the eye would find
    found: NDArray[np.float32] = (share * share * (3 - 2 * share)).astype(np.float32)
    found.setflags(write=False)
    return found


@lru_cache(maxsize=8)
def _rim(mask: FaceMask, size: int) -> NDArray[np.float32]:
    """Where made and true face must agree, (size, size, 1) in 0..1: the fade and a band around it."""
    alpha = face_alpha(mask, size)
    width = max(3, round(2 * _FEATHER * size)) | 1
    around = cv2.dilate((alpha > 0).astype(np.uint8), np.ones((width, width), np.uint8))
    return np.asarray((around * (1 - alpha))[..., None], np.float32)


def match_colours(made: NDArray[Any], true: NDArray[Any], mask: FaceMask) -> NDArray[np.uint8]:
    """`made` (S, S, 3) uint8 with its colours moved so that it meets `true` all along the rim.

    The difference at the rim is carried inward, smoothly: a membrane, as in the cloning of Perez et al. 2003.
    Places where it is far from usual are left out: there a collar lies beside a neck or a jaw before a wall,
    not the same in another light. Details of the made face, and the mouth among them, stay.
    """
    size = made.shape[0]
    rim = _rim(mask, size)
    if not rim.any():  # a mask too small for this size: nothing of the made face will show
        return made
    apart = true.astype(np.float32) - made
    usual = np.median(apart[rim[..., 0] > 0], axis=0)
    width = max(1, round(_NEIGHBOURS * size)) * 2 + 1
    strange = cv2.dilate(np.abs(apart - usual).max(axis=2), np.ones((width, width), np.uint8))[..., None]
    weight = rim * np.clip((_FOREIGN - strange) / (_FOREIGN - _DOUBTED), 0.0, 1.0)
    # three colours and their weight, smoothed at once
    both = np.concatenate([np.clip(apart, -_SHIFT, _SHIFT) * weight, weight], axis=2)
    side = min(size, _FIELD)
    both = both if side == size else cv2.resize(both, (side, side), interpolation=cv2.INTER_AREA)
    smooth = np.sum([count * _blurred(both, share * side) for share, count in _WIDTHS], axis=0)
    field = (smooth[..., :3] + _USUAL * np.clip(usual, -_SHIFT, _SHIFT)) / (smooth[..., 3:] + _USUAL)
    field = field if side == size else cv2.resize(field, (size, size), interpolation=cv2.INTER_LINEAR)
    moved = np.clip(np.rint(made.astype(np.float32) + field), 0, 255)
    found: NDArray[np.uint8] = moved.astype(np.uint8)
    return found


def changed(made: NDArray[Any], true: NDArray[Any]) -> NDArray[np.float32]:
    """(S, S) float32, 1 where `made` shows something else than `true` and around it, 0 where they look alike.

    Where nothing changed the picture keeps its own pixels, sharper than any made at the network's size.
    """
    size = made.shape[0]
    apart = np.abs(made.astype(np.float32) - true).max(axis=2)
    share = np.clip((_blurred(apart, _LOOK * size) - _ALIKE) / (_OTHER - _ALIKE), 0.0, 1.0)
    width = max(3, round(2 * _AROUND * size)) | 1
    round_ = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    return np.asarray(_blurred(cv2.dilate(share, round_), _LOOK * size), np.float32)


def _blurred(picture: NDArray[Any], deviation: float) -> NDArray[Any]:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), max(0.5, deviation), borderType=cv2.BORDER_CONSTANT))
