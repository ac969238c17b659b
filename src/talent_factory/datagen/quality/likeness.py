"""How alike two pictures are: perceptual hashes for duplicates, a search for the portrait in its own edit."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from talent_factory.datagen.quality.measure import Floats, lab_of, pixels_of

_HASH_SIDE = 32
# The search for one picture in another: long sides in pixels, and scales of one against the other.
_FIELD_SIDE = 384
_COARSE_SIDE, _FINE_SIDE = 64, 160
_SCALES = tuple(1.08**step for step in range(-15, 16))
_FINE_SCALES = tuple(1.02**step for step in range(-4, 5))
_WORTH_A_LOOK = 0.75


@dataclass(frozen=True, slots=True)
class Trace:
    """What is kept of a picture for comparison: two 64-bit hashes, also of its mirror, and its colours.

    `lab` is (32, 32, 3), the whole picture squeezed to a square; `aspect` is width / height.
    """

    phash: NDArray[np.bool_]
    dhash: NDArray[np.bool_]
    phash_mirrored: NDArray[np.bool_]
    dhash_mirrored: NDArray[np.bool_]
    lab: Floats
    aspect: float


def trace(image: Image.Image) -> Trace:
    """The trace of `image`."""
    small = image.convert("RGB").resize((_HASH_SIDE, _HASH_SIDE), Image.Resampling.BOX)
    grey = np.asarray(small.convert("L"), np.float32)
    return Trace(
        phash=_phash(grey),
        dhash=_dhash(grey),
        phash_mirrored=_phash(grey[:, ::-1]),
        dhash_mirrored=_dhash(grey[:, ::-1]),
        lab=lab_of(np.asarray(small, np.uint8)),
        aspect=image.width / image.height,
    )


def distance(one: Trace, other: Trace) -> tuple[int, bool]:
    """Bits of 64 that differ, by the worse of two hashes, and whether the mirror image is nearer."""
    plain = max(_differ(one.phash, other.phash), _differ(one.dhash, other.dhash))
    mirrored = max(_differ(one.phash_mirrored, other.phash), _differ(one.dhash_mirrored, other.dhash))
    return min(plain, mirrored), mirrored < plain


def colour_distance(one: Trace, other: Trace, *, mirrored: bool = False) -> float:
    """Mean Lab distance of the two pictures, squeezed to 32 x 32; about 2 is just visible."""
    lab = one.lab[:, ::-1] if mirrored else one.lab
    return float(np.linalg.norm(lab - other.lab, axis=2).mean())


def sameness(portrait: Image.Image, edit: Image.Image, *, colour: bool = True) -> float:
    """How much of `edit` is `portrait` unchanged but for cropping, scaling or mirroring: 0 none, 1 all of it.

    The middle of the edit is searched for in the portrait at many scales, and the middle of the portrait in
    the edit; the best normalised correlation of lightness, and of colour unless told otherwise, counts.
    """
    one = _Field.of(portrait, colour=colour)
    other = _Field.of(edit, colour=colour)
    return max(
        _found(field, wanted)
        for side in (other, other.mirrored())
        for field, wanted in ((one, side), (side, one))
    )


@dataclass(frozen=True, slots=True)
class _Field:
    """A picture to search in or for: (H, W, C) float32 with a long side of `_FIELD_SIDE` pixels."""

    values: Floats

    @classmethod
    def of(cls, image: Image.Image, *, colour: bool) -> _Field:
        lab = lab_of(pixels_of(image, long_side=_FIELD_SIDE))
        return cls(np.ascontiguousarray(lab if colour else lab[..., :1]))

    def mirrored(self) -> _Field:
        return _Field(np.ascontiguousarray(self.values[:, ::-1]))

    def at(self, long_side: float) -> Floats | None:
        """The values scaled to `long_side` pixels, None when that would be larger than they are by half."""
        height, width = self.values.shape[:2]
        scale = long_side / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        if scale > 1.5:
            return None
        resized = np.asarray(cv2.resize(self.values, size, interpolation=cv2.INTER_AREA), np.float32)
        return resized.reshape(size[1], size[0], -1)

    def middle(self, long_side: int) -> Floats | None:
        """The middle square, 60 % of the short side, at a scale of `long_side` pixels for the whole."""
        whole = self.at(long_side)
        if whole is None:
            return None
        height, width = whole.shape[:2]
        side = min(height, width) * 6 // 10
        top, left = (height - side) // 2, (width - side) // 2
        return np.ascontiguousarray(whole[top : top + side, left : left + side])


def _found(field: _Field, wanted: _Field) -> float:
    """The best correlation of the middle of `wanted` with any place of `field`, coarse first."""
    coarse = [(_match(field, wanted, _COARSE_SIDE, scale), scale) for scale in _SCALES]
    score, near = max(coarse)
    if score < _WORTH_A_LOOK:
        return max(0.0, score)
    return max(0.0, *(_match(field, wanted, _FINE_SIDE, near * fine) for fine in _FINE_SCALES))


def _match(field: _Field, wanted: _Field, long_side: int, scale: float) -> float:
    patch, resized = wanted.middle(long_side), field.at(long_side * scale)
    if patch is None or resized is None or patch.shape[0] < 12 or min(resized.shape[:2]) < patch.shape[0]:
        return 0.0
    score = np.nan_to_num(cv2.matchTemplate(resized, patch, cv2.TM_CCOEFF_NORMED), posinf=0.0, neginf=0.0)
    # an empty place correlates with anything by rounding alone: places must have about the patch's contrast
    light, side = resized[..., 0], patch.shape[0]
    mean = cv2.blur(light, (side, side), anchor=(0, 0))
    spread = np.sqrt(np.maximum(cv2.blur(light * light, (side, side), anchor=(0, 0)) - mean * mean, 0.0))
    spread = spread[: score.shape[0], : score.shape[1]]
    wanted_spread = float(patch[..., 0].std())
    alive = (spread > 0.5 * wanted_spread) & (spread < 2.0 * wanted_spread) & (spread > 1.0)
    return min(1.0, float(np.where(alive, score, 0.0).max()))


def _phash(grey_HW: Floats) -> NDArray[np.bool_]:
    """Signs of the 64 lowest waves of the cosine transform against their median, the mean left out."""
    waves = np.asarray(cv2.dct(np.ascontiguousarray(grey_HW)))[:8, :8].ravel()
    return np.asarray(waves > np.median(waves[1:]), np.bool_)


def _dhash(grey_HW: Floats) -> NDArray[np.bool_]:
    """Whether each of 8 x 8 cells is brighter than its neighbour to the left."""
    small = cv2.resize(np.ascontiguousarray(grey_HW), (9, 8), interpolation=cv2.INTER_AREA)
    return np.asarray(small[:, 1:] > small[:, :-1], np.bool_).ravel()


def _differ(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(one != other))
