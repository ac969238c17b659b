"""A look is told from the same motif without it, and half of it is half of the way."""

from __future__ import annotations

import numpy as np
import pytest

from talent_factory.core.seeds import derive_seed
from talent_factory.foundry.texture import Pictures, style_shares, texture
from talent_factory.world import draw_character, palette, sample_character
from talent_factory.world.character import replace


def drawn(medium: str, count: int, seed: int) -> Pictures:
    pictures = []
    for index in range(count):
        rng = np.random.default_rng(derive_seed("texture", seed, index))
        pictures.append(draw_character(replace(sample_character(rng), medium=medium), rng, size=128))
    return np.stack(pictures)


@pytest.mark.parametrize("medium", [*palette.UNSEEN_MEDIA, "ink", "comic", "watercolor"])
def test_true_pictures_lie_at_their_own_end(medium: str) -> None:
    ends = {"plain": drawn("flat", 8, 1), "styled": drawn(medium, 8, 2)}
    assert float(style_shares(drawn("flat", 8, 3), **ends).mean()) < 0.3
    assert float(style_shares(drawn(medium, 8, 4), **ends).mean()) > 0.7


def test_half_of_a_style_lies_between() -> None:
    ends = {"plain": drawn("flat", 8, 1), "styled": drawn("charcoal", 8, 1)}
    half = ((ends["plain"].astype(float) + ends["styled"]) / 2).round().astype(np.uint8)
    assert 0.2 < float(style_shares(half, **ends).mean()) < 0.9


def test_pictures_of_any_size_are_looked_at_alike() -> None:
    one = drawn("comic", 1, 1)[0]
    large = one.repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_allclose(texture([one])[0], texture([large])[0])
    assert texture([large[:, :100]]).shape == texture([one]).shape


def test_without_any_difference_all_are_styled() -> None:
    same = drawn("flat", 4, 1)
    assert style_shares(same, plain=same, styled=same).tolist() == [1.0] * 4
