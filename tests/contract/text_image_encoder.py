"""What every encoder of texts and pictures promises: subclass `TextImageEncoderContract` and give it one."""

from __future__ import annotations

import numpy as np
import pytest

from contract.identity_encoder import drawing
from talent_factory.kits.catalog.encoder import TextImageEncoder


class TextImageEncoderContract:
    """Fixture to override: `encoder`. Weights may be random: nothing is asked about how good it is."""

    TEXTS = ("a red robot", "blue forest, ink", "a crimson robot in a very green garden " * 40, "")

    @pytest.fixture
    def encoder(self) -> TextImageEncoder:
        pytest.fail("a subclass gives the encoder")

    def test_rows_are_vectors_of_length_one_or_zero(self, encoder: TextImageEncoder) -> None:
        for rows in (encoder.embed([drawing(seed) for seed in range(4)]), encoder.texts(self.TEXTS)):
            assert rows.shape[0] == 4
            assert rows.dtype == np.float32
            for length in np.linalg.norm(rows, axis=1):
                assert length == pytest.approx(1.0, abs=1e-5) or length == 0.0

    def test_texts_and_pictures_share_a_space(self, encoder: TextImageEncoder) -> None:
        pictures, texts = encoder.embed([drawing(0)]), encoder.texts(["a robot"])
        assert pictures.shape[1] == texts.shape[1] > 1
        assert abs(float((pictures @ texts.T)[0, 0])) <= 1.0 + 1e-5

    def test_a_row_does_not_depend_on_its_neighbours(self, encoder: TextImageEncoder) -> None:
        together = encoder.embed([drawing(seed) for seed in range(20)])
        assert together[17] == pytest.approx(encoder.embed([drawing(17)])[0], abs=1e-4)
        texts = encoder.texts(self.TEXTS)
        assert texts[1] == pytest.approx(encoder.texts([self.TEXTS[1]])[0], abs=1e-5)

    def test_pictures_of_any_size_and_shape(self, encoder: TextImageEncoder) -> None:
        wide = np.concatenate([drawing(1, size=64)] * 2, axis=1)
        rows = encoder.embed([drawing(0, size=256), wide, np.zeros((1, 1, 3), np.uint8)])
        assert np.isfinite(rows).all()

    def test_different_things_are_told_apart(self, encoder: TextImageEncoder) -> None:
        pictures = encoder.embed([drawing(0), drawing(1)])
        texts = encoder.texts(["a red robot", "a blue forest"])
        assert not np.allclose(pictures[0], pictures[1], atol=1e-6)
        assert not np.allclose(texts[0], texts[1], atol=1e-6)

    def test_the_same_again_is_the_same_again(self, encoder: TextImageEncoder) -> None:
        assert (encoder.embed([drawing(3)]) == encoder.embed([drawing(3)])).all()
        assert (encoder.texts(["a robot"]) == encoder.texts(["a robot"])).all()

    def test_nothing_is_no_rows(self, encoder: TextImageEncoder) -> None:
        assert len(encoder.embed([])) == 0

    def test_it_says_who_it_is_without_a_path(self, encoder: TextImageEncoder) -> None:
        assert encoder.name
        assert "/" not in encoder.name
        assert encoder.revision
