"""What every identity encoder promises: subclass `IdentityEncoderContract` and give it an encoder."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from talent_factory.training.likeness.encoders import IdentityEncoder
from talent_factory.world import Character
from talent_factory.world.draw import draw_character


def drawing(seed: int, *, size: int = 128) -> NDArray[np.uint8]:
    """One of many drawn characters, (size, size, 3)."""
    kinds, media = ("man", "woman", "robot", "creature"), ("flat", "watercolor", "comic")
    place = ("red", "blue", "forest")[seed % 3]
    who = Character(kind=kinds[seed % 4], medium=media[seed % 3], background=place)
    return draw_character(who, np.random.default_rng(seed), size=size)


class IdentityEncoderContract:
    """Fixture to override: `encoder`. Weights may be random: nothing is asked about how good it is."""

    @pytest.fixture
    def encoder(self) -> IdentityEncoder:
        pytest.fail("a subclass gives the encoder")

    def test_rows_are_vectors_of_length_one(self, encoder: IdentityEncoder) -> None:
        rows = encoder.embed([drawing(seed) for seed in range(4)])
        assert rows.shape[0] == 4
        assert rows.dtype == np.float32
        assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(4), abs=1e-5)

    def test_an_array_of_pictures_is_a_sequence_of_pictures(self, encoder: IdentityEncoder) -> None:
        pictures = [drawing(0), drawing(1)]
        assert (encoder.embed(np.stack(pictures)) == encoder.embed(pictures)).all()

    def test_a_row_does_not_depend_on_its_neighbours(self, encoder: IdentityEncoder) -> None:
        together = encoder.embed([drawing(seed) for seed in range(20)])
        alone = encoder.embed([drawing(17)])
        assert together[17] == pytest.approx(alone[0], abs=1e-4)

    def test_pictures_of_any_size_and_shape(self, encoder: IdentityEncoder) -> None:
        wide = np.concatenate([drawing(1, size=64)] * 2, axis=1)
        rows = encoder.embed([drawing(0, size=256), wide])
        assert rows.shape == (2, encoder.embed([drawing(0)]).shape[1])
        assert np.isfinite(rows).all()

    def test_the_same_picture_is_most_like_itself(self, encoder: IdentityEncoder) -> None:
        rows = encoder.embed([drawing(0), drawing(0), drawing(1)])
        assert rows[0] @ rows[1] == pytest.approx(1.0, abs=1e-5)
        assert rows[0] @ rows[2] < 1.0 - 1e-6

    def test_the_same_again_is_the_same_again(self, encoder: IdentityEncoder) -> None:
        assert (encoder.embed([drawing(3)]) == encoder.embed([drawing(3)])).all()

    def test_no_pictures_are_no_rows(self, encoder: IdentityEncoder) -> None:
        assert len(encoder.embed([])) == 0

    def test_it_says_who_it_is_without_a_path(self, encoder: IdentityEncoder) -> None:
        assert encoder.name
        assert "/" not in encoder.name
        assert isinstance(encoder.revision, str)
