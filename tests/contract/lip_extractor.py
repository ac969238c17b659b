"""What every extractor of audio features promises: subclass `LipExtractorContract` and give it one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from talent_factory.lipsync.ports import Extractor


class LipExtractorContract:
    """Fixture to override: `extractor`. Weights may be random."""

    @pytest.fixture
    def extractor(self) -> Extractor:
        pytest.fail("a subclass gives the extractor")

    @pytest.mark.parametrize("samples", [0, 1, 639, 640, 641, 16_000, 16_001])
    def test_a_row_for_every_frame_begun(self, extractor: Extractor, samples: int) -> None:
        rows = extractor.features(babble(samples))
        assert rows.shape == (-(-samples // 640), 10, 384)
        assert rows.dtype == np.float32
        assert np.isfinite(rows).all()

    def test_the_same_bytes_again(self, extractor: Extractor) -> None:
        wave = babble(20_000)
        assert extractor.features(wave).tobytes() == extractor.features(wave).tobytes()

    def test_a_later_sound_gives_later_rows(self, extractor: Extractor) -> None:
        click = np.zeros(32_000, np.float32)
        click[16_000:16_200] = 0.8
        changed = np.abs(extractor.features(click) - extractor.features(np.zeros(32_000, np.float32)))
        first_level = changed.reshape(50, 2, 5, 384)[:, :, 0].max(axis=(1, 2))
        assert 24 <= int(first_level.argmax()) <= 26

    def test_the_wave_is_left_as_it_is(self, extractor: Extractor) -> None:
        wave = babble(3_000)
        before = wave.copy()
        extractor.features(wave)
        assert (wave == before).all()

    def test_the_id_names_no_path(self, extractor: Extractor) -> None:
        assert extractor.id
        assert "/" not in extractor.id


def babble(samples: int) -> NDArray[np.float32]:
    """Something like speech: a tone that sweeps, in syllables."""
    time = np.arange(samples) / 16_000
    loud = np.maximum(0, np.sin(2 * np.pi * 3.1 * time)) * (0.3 + 0.2 * np.sin(2 * np.pi * 0.11 * time))
    return (loud * np.sin(2 * np.pi * (160 * time + 40 * np.sin(2 * np.pi * 0.7 * time)))).astype(np.float32)
