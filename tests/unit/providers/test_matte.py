"""Who is in front, and where the head is."""

from __future__ import annotations

import numpy as np
import pytest

from talent_factory.providers.embedded.matte import find_subject
from talent_factory.providers.embedded.raster import F32, f32
from unit.providers.portraits import character, photograph


def portrait(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> F32:
    return f32(image) / np.float32(255)


def test_a_drawn_character_is_cut_out_whole() -> None:
    subject = find_subject(portrait(character()), seed=1)
    alpha = subject.alpha_HW
    assert alpha.shape == (256, 256)
    assert alpha[125, 128] > 0.95  # face
    assert alpha[245, 128] > 0.95  # shirt
    assert alpha[:20].max() < 0.05
    assert alpha[60:180, :40].max() < 0.05
    left, top, right, bottom = subject.head
    assert left == pytest.approx(0.26, abs=0.06)
    assert right == pytest.approx(0.74, abs=0.06)
    assert top == pytest.approx(0.12, abs=0.05)
    assert bottom == pytest.approx(0.74, abs=0.1)


def test_a_photograph_is_cut_between_hair_and_wall() -> None:
    subject = find_subject(portrait(photograph()), seed=1)
    alpha = subject.alpha_HW
    assert alpha[60:70, 105:120].mean() > 0.95  # face
    assert alpha[200:240, 60:110].mean() > 0.95  # suit
    assert alpha[10:60, 150:180].mean() < 0.1  # wall
    left, top, right, bottom = subject.head
    assert 0.2 < left < 0.36
    assert 0.5 < right < 0.66
    assert top < 0.08
    assert 0.26 < bottom < 0.5


@pytest.mark.parametrize("kind", ["flat", "noise"])
def test_without_a_clear_cut_the_whole_portrait_stays(kind: str) -> None:
    rng = np.random.default_rng(3)
    image = {
        "flat": np.full((120, 120, 3), 90, np.uint8),
        "noise": rng.integers(0, 255, (120, 120, 3), dtype=np.uint8),
    }[kind]
    alpha = find_subject(portrait(image), seed=1).alpha_HW
    assert alpha[30:, 20:100].min() > 0.9
    assert alpha[:, 0].max() < 0.1


def test_the_seed_pins_the_cut_whatever_was_drawn_before() -> None:
    import cv2

    image = portrait(photograph())
    cuts = []
    for history in (1, 2):
        cv2.setRNGSeed(history)
        cuts.append(find_subject(image, seed=7).alpha_HW)
    assert np.array_equal(*cuts)
