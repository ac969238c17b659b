"""Cut the face out of a picture so that the mask's edge runs across the nose, and put it back.

The cut is a square (it may lean with the head) whose middle lies on the bridge of the nose; the chin then
lies in the lower half with room below it, so a mask of the lower half always covers the whole jaw.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from talent_factory.core.errors import UsageError
from talent_factory.core.records import Record

CHIN_REACH = 0.4
"""How far below the middle the closed chin lies, as a share of the cut's side; the edge is at 0.5."""


class Face(Record):
    """A face in a picture, in pixels from the upper left corner; y grows downwards.

    The box is as its detector draws it; `bridge` (about the middle of the nose's ridge) and `chin` are what
    the alignment stands on, `angle` is the lean of the head in degrees, clockwise on the screen. `score` is
    0 where its own detector doubts it.
    """

    left: float
    top: float
    right: float
    bottom: float
    bridge: tuple[float, float]
    chin: tuple[float, float]
    angle: float = 0.0
    score: float = 1.0

    @property
    def side(self) -> float:
        """The mean of the box's width and height in pixels."""
        return (self.right - self.left + self.bottom - self.top) / 2

    def overlap(self, other: Face) -> float:
        """Shared area of both boxes by their joint area, 0..1."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        if wide <= 0 or high <= 0:
            return 0.0
        areas = sum((f.right - f.left) * (f.bottom - f.top) for f in (self, other))
        return wide * high / (areas - wide * high)


class Alignment(Record):
    """The square that is cut out: middle (x, y) and side in pixels of the picture, lean in degrees."""

    x: float
    y: float
    side: float = Field(gt=0)
    angle: float = 0.0

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the smallest upright box around the square, in pixels."""
        turn = math.radians(self.angle)
        half = self.side / 2 * (abs(math.cos(turn)) + abs(math.sin(turn)))
        return self.x - half, self.y - half, self.x + half, self.y + half


def align_face(face: Face, *, shift: float = 0.0) -> Alignment:
    """The cut for a face; `shift` moves it down by that share of its side (the mask's edge with it)."""
    (x, y), (chin_x, chin_y) = face.bridge, face.chin
    side = math.hypot(chin_x - x, chin_y - y) / CHIN_REACH
    turn = math.radians(face.angle)
    down = shift * side
    return Alignment(x=x - down * math.sin(turn), y=y + down * math.cos(turn), side=side, angle=face.angle)


def crop(image: NDArray[Any], alignment: Alignment, size: int) -> NDArray[Any]:
    """Cut the square out of an (H, W, 3) uint8 picture: (size, size, 3) uint8.

    Where the square leaves the picture the picture's edge goes on. Shrinking averages, so nothing flickers.
    """
    _check(image)
    fine = max(1, math.ceil(alignment.side / size - 1e-6))  # averaged down below
    shrinks = alignment.side > size
    cut = cv2.warpAffine(
        image,
        _to_picture(alignment, size * fine),
        (size * fine, size * fine),
        flags=(cv2.INTER_LINEAR if shrinks else cv2.INTER_CUBIC) | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return cut if fine == 1 else cv2.resize(cut, (size, size), interpolation=cv2.INTER_AREA)


def paste(image: NDArray[Any], face: NDArray[Any], alignment: Alignment, alpha: NDArray[Any]) -> NDArray[Any]:
    """Put an (S, S, 3) uint8 face back where `crop` took it from; returns a new (H, W, 3) uint8 picture.

    `alpha` (S, S) float in 0..1 says how much of the face counts; outside the square the picture stays as it
    is, to the bit.
    """
    _check(image)
    height, width = image.shape[:2]
    left, top, right, bottom = alignment.box
    first, above = max(0, math.floor(left)), max(0, math.floor(top))
    last, below = min(width, math.ceil(right) + 1), min(height, math.ceil(bottom) + 1)
    result = image.copy()
    if first >= last or above >= below:
        return result
    made, weight = _shrunk(face, alpha.astype(np.float32), alignment.side)
    back = _to_square(alignment, made.shape[0], first, above)
    area, flags = (last - first, below - above), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    smooth = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(made, back, area, flags=smooth, borderMode=cv2.BORDER_REPLICATE)
    share = cv2.warpAffine(weight, back, area, flags=flags, borderMode=cv2.BORDER_CONSTANT)[..., None]
    under = image[above:below, first:last].astype(np.float32)
    mixed = under + share * (laid.astype(np.float32) - under)
    result[above:below, first:last] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    return result


def _check(image: NDArray[Any]) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise UsageError(
            f"a picture of shape {image.shape} and type {image.dtype} is no (H, W, 3) uint8 picture",
            remedy="convert it to RGB first",
        )


def _shrunk(face: NDArray[Any], alpha: NDArray[Any], side: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Face and alpha brought down to about the square's own pixels, as plain interpolation would alias."""
    target = max(1, round(side))
    if target >= face.shape[0]:
        return face, alpha
    small = [cv2.resize(a, (target, target), interpolation=cv2.INTER_AREA) for a in (face, alpha)]
    return small[0], small[1]


def _to_picture(alignment: Alignment, size: int) -> NDArray[Any]:
    """The 2x3 map from pixels of the cut to pixels of the picture; centres of pixels at whole numbers."""
    turn = math.radians(alignment.angle)
    scale = alignment.side / size
    turned = scale * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    middle = np.full(2, (size - 1) / 2)
    start = np.array([alignment.x, alignment.y]) - 0.5 - turned @ middle
    return np.column_stack([turned, start])


def _to_square(alignment: Alignment, size: int, left: int, top: int) -> NDArray[Any]:
    """The 2x3 map from pixels of a region that starts at (left, top) to pixels of the cut."""
    way = _to_picture(alignment, size)
    turned = np.linalg.inv(way[:, :2])
    return np.column_stack([turned, turned @ (np.array([left, top]) - way[:, 2])])
