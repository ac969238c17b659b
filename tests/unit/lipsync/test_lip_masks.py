from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from talent_factory.lipsync.masks import FaceMask

KINDS = [FaceMask(), FaceMask(kind="rectangle"), FaceMask(kind="ellipse")]


def test_by_default_the_lower_half_is_covered() -> None:
    images = torch.rand(2, 3, 64, 64)
    covered = FaceMask().apply(images)
    assert torch.equal(covered[:, :, :32], images[:, :, :32])
    assert bool((covered[:, :, 32:] == -1).all())
    assert float(images.min()) >= 0  # the pictures themselves stay


@pytest.mark.parametrize("mask", KINDS, ids=lambda mask: mask.kind)
@pytest.mark.parametrize("size", [64, 128, 256])
def test_the_upper_half_stays_and_mouth_and_chin_are_hidden(mask: FaceMask, size: int) -> None:
    covered = mask.covered(size, size)
    assert not bool(covered[: size // 2].any())
    # where an aligned face has its mouth, and its chin when the mouth is wide open
    assert bool(covered[int(0.58 * size) : int(0.85 * size), int(0.3 * size) : int(0.7 * size)].all())
    assert bool(covered[int(0.95 * size), size // 2])
    assert torch.equal(covered, covered.flip(1))


def test_the_margin_under_the_chin_can_be_made_to_show_the_jaw() -> None:
    covered = FaceMask(kind="rectangle", below=0.2).covered(100, 100)
    assert bool(covered[79, 50])
    assert not bool(covered[81, 50])


@pytest.mark.parametrize("mask", KINDS, ids=lambda mask: mask.kind)
def test_a_pixel_loss_counts_the_covered_part_and_the_mouth_most(mask: FaceMask) -> None:
    weights = mask.weights(64, 64, mouth=3.0)
    covered = mask.covered(64, 64)
    assert not bool(weights[~covered].any())
    assert float(weights[covered].mean()) == pytest.approx(1, abs=1e-5)
    assert float(weights[34, 6]) > 0
    assert float(weights[48, 32]) > 1.5 * float(weights[34, 6])
    even = mask.weights(64, 64, mouth=1.0)
    assert torch.allclose(even[covered], torch.ones(int(covered.sum())))


def test_the_kept_part_fits_latents() -> None:
    kept = FaceMask().kept(8, 8)
    assert kept.shape == (1, 1, 8, 8)
    assert kept[0, 0].tolist() == [[1.0] * 8] * 4 + [[0.0] * 8] * 4


def test_ids_tell_masks_apart_and_masks_survive_json() -> None:
    masks = [*KINDS, FaceMask(top=0.45), FaceMask(kind="ellipse", below=0.1)]
    assert len({mask.id for mask in masks}) == len(masks)
    assert FaceMask().id == "half-0.5"
    for mask in masks:
        assert FaceMask.model_validate_json(mask.model_dump_json()) == mask


def test_a_mask_that_covers_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="nothing to cover"):
        FaceMask(kind="ellipse", top=0.8, below=0.3)
