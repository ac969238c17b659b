"""How long work takes here: the measured figures behind the estimates that a plan shows."""

from __future__ import annotations

from talent_factory.quality import Dials
from talent_factory.stage_book import Cost

# Measured on two x86 cores with the embedded base (128 px) by `make demo`, and rounded up by about a quarter.
_TORCH_START_SECONDS = 5.0
_TORCH_MEMORY_MB = 900.0
_SECONDS_PER_PAINTED_MEGAPIXEL = 0.6
_SECONDS_PER_TRAINED_IMAGE = 0.032
_SECONDS_PER_DENOISED_IMAGE = 0.012
_MEMORY_PER_PAINTED_MEGAPIXEL = 90.0
_EMBEDDED_SIDE = 128


def cast_cost(images: int, long_side: int) -> Cost:
    """Painting `images` pictures in 16:9 with the given long side in pixels."""
    megapixels = long_side**2 * 9 / 16 / 1e6
    return Cost(
        seconds=1 + images * (0.1 + _SECONDS_PER_PAINTED_MEGAPIXEL * megapixels),
        memory_mb=180 + 5 * _MEMORY_PER_PAINTED_MEGAPIXEL * megapixels,
        disk_mb=images * 2.2 * megapixels,
    )


def dataset_cost(images: int, resolution: int) -> Cost:
    """Scaling and captioning `images` pictures."""
    return Cost(seconds=0.5 + 0.03 * images, memory_mb=150, disk_mb=images * 3 * resolution**2 / 2e6)


def train_cost(steps: int, batch: int, *, resolution: int, kept: bool, measuring: int = 0) -> Cost:
    """`steps` optimiser steps; base preservation (`kept`) adds half a batch, seen by base and LoRA.

    `measuring` counts how often the UNet sees one picture because checkpoints are measured.
    """
    images = batch * (1.7 if kept else 1.0)
    work = steps * images * _SECONDS_PER_TRAINED_IMAGE + measuring / 2 * _SECONDS_PER_DENOISED_IMAGE
    seconds = work * _area(resolution)
    return Cost(seconds=_TORCH_START_SECONDS + seconds, memory_mb=_memory(resolution), disk_mb=20)


def render_cost(images: int, dials: Dials, *, resolution: int) -> Cost:
    """Rendering `images` pictures with guidance."""
    seconds = images * dials.render_steps * _SECONDS_PER_DENOISED_IMAGE * _area(resolution)
    return Cost(seconds=2 + seconds, memory_mb=_memory(resolution), disk_mb=images * 3 * resolution**2 / 2e6)


def page_cost() -> Cost:
    """Writing the report."""
    return Cost(seconds=1, memory_mb=150, disk_mb=3)


def _area(resolution: int) -> float:
    # a larger base is wider too, so this is a floor for it; the embedded base is the one that was measured
    return (resolution / _EMBEDDED_SIDE) ** 2


def _memory(resolution: int) -> float:
    return _TORCH_MEMORY_MB + 250 * _area(resolution)
