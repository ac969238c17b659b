"""Do the pictures suit the training size? Enlarged ones, cut ones, lone ones, and sizes no model takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from talent_factory.core.doctor import Finding
from talent_factory.core.errors import DatasetError
from talent_factory.dataset.frame import nearest_bucket
from talent_factory.dataset.manifest import Mode

STEP = 8  # pixels for each latent of every family here
_ENLARGED = 1.25
_CUT = 0.34
_SHOWN = 4

Size = tuple[int, int]


def check_resolution(resolution: int) -> int:
    """`resolution` when an autoencoder of factor 8 can take it. Raises DatasetError otherwise."""
    if resolution < STEP or resolution % STEP:
        below, above = max(STEP, resolution // STEP * STEP), (max(resolution, 0) // STEP + 1) * STEP
        raise DatasetError(
            f"resolution {resolution} is not a multiple of {STEP}", remedy=f"use {below} or {above}"
        )
    return resolution


def shape_findings(sizes: Sequence[Size], *, resolution: int, mode: Mode) -> list[Finding]:
    """What bringing pictures of `sizes` (width, height) to `resolution` in `mode` costs them.

    Warned of are pictures that must be enlarged by more than a quarter, pictures of which a crop cuts more
    than a third, and, among buckets, those that hold a single picture: it is shown alone in its batch.
    """
    targets = [nearest_bucket(size, resolution) if mode == "bucket" else (resolution,) * 2 for size in sizes]
    found = []
    enlarged = [
        scale
        for size, target in zip(sizes, targets, strict=True)
        if (scale := _scale(size, target, mode)) > _ENLARGED
    ]
    if enlarged:
        message = f"{len(enlarged)} of {len(sizes)} are enlarged, up to {max(enlarged):.1f} times"
        found.append(_warn("size", message, f"bring larger pictures, or train at less than {resolution} px"))
    cut = [
        share
        for size, target in zip(sizes, targets, strict=True)
        if mode != "letterbox" and (share := _cut(size, target)) > _CUT
    ]
    if cut:
        message = f"{len(cut)} of {len(sizes)} lose more than a third of their area, up to {max(cut):.0%}"
        found.append(_warn("crop", message, "use mode: bucket or letterbox, or crop them yourself"))
    if mode == "bucket" and len(sizes) > 1:
        found += _buckets(Counter(targets))
    return found


def _buckets(counts: Counter[Size]) -> list[Finding]:
    shown = [f"{width} x {height} ({count})" for (width, height), count in counts.most_common(_SHOWN)]
    more = f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
    message = f"{len(counts)} shapes: {', '.join(shown)}{more}"
    found = [Finding(severity="ok", subject="buckets", message=message)]
    lone = [size for size, count in counts.items() if count == 1]
    if lone and len(counts) > 1:
        names = ", ".join(f"{width} x {height}" for width, height in sorted(lone)[:_SHOWN])
        message = f"{len(lone)} shapes have a single picture ({names}): it is alone in its batch"
        found.append(_warn("buckets", message, "crop those pictures to the shape of others"))
    return found


def _scale(size: Size, target: Size, mode: Mode) -> float:
    """How many times larger the picture becomes; below 1 it is scaled down."""
    ratios = (target[0] / size[0], target[1] / size[1])
    return min(ratios) if mode == "letterbox" else max(ratios)


def _cut(size: Size, target: Size) -> float:
    """Share of the picture that a crop to the target's shape leaves out."""
    aspect, wanted = size[0] / size[1], target[0] / target[1]
    return 1.0 - min(aspect, wanted) / max(aspect, wanted)


def _warn(subject: str, message: str, remedy: str) -> Finding:
    return Finding(severity="warn", subject=subject, message=message, remedy=remedy)
