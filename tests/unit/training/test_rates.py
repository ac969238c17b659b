"""A climb of the learning rate finds where the loss turns upwards, and leaves nothing behind."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from talent_factory.core.errors import ConfigError, TalentError
from talent_factory.training.config import TrainConfig
from talent_factory.training.rates import find_rate, suggest

RATES = (1e-5, 1e-4, 1e-3, 1e-2)


def test_a_tenth_of_the_lowest_is_suggested() -> None:
    found = suggest(RATES, (1.0, 0.99, 0.8, 0.75, 1.2))
    assert found.lowest == 1e-3
    assert found.suggestion == 1e-4
    assert found.rates == RATES
    assert len(found.losses) == 5


def test_a_fall_after_the_first_turn_does_not_count() -> None:
    # a wild rate may fall by chance after it has ruined the weights
    assert suggest(RATES, (1.0, 0.9, 0.7, 0.8, 0.5)).lowest == 1e-4
    assert suggest(RATES, (1.0, 0.9, 0.7, 0.705, 0.5)).lowest == 1e-2


def test_numbers_that_are_none_end_the_climb() -> None:
    found = suggest(RATES, (1.0, 0.9, 0.5, math.nan, 0.1))
    assert found.losses == (1.0, 0.9, 0.5)
    assert found.lowest == 1e-4


@pytest.mark.parametrize("losses", [(1.0, 1.1, 1.2, 1.3, 2.0), (1.0, 0.9999, 1.0, 1.0, 1.0), (math.nan,) * 5])
def test_no_fall_is_said(losses: tuple[float, ...]) -> None:
    with pytest.raises(TalentError, match="falls at no rate from 1e-05 to 1e-02"):
        suggest(RATES, losses)


def test_a_climb_on_a_tiny_base(
    make_config: Callable[..., TrainConfig], dataset: Path, tmp_path: Path
) -> None:
    config = make_config(lora_rank=4, ema=0.5, checkpoint_every=1, train_text_encoder=True)

    def climb() -> object:
        return find_rate(config, dataset=dataset, cache=tmp_path / "cache", steps=12, between=(1e-4, 1.0))

    found = climb()
    assert found == climb()
    assert 1e-4 <= found.lowest <= 1.0  # type: ignore[attr-defined]
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "dataset"}


def test_prodigy_needs_none(make_config: Callable[..., TrainConfig], dataset: Path, tmp_path: Path) -> None:
    config = make_config(optimizer={"name": "prodigy"}, learning_rate=1.0)
    with pytest.raises(ConfigError, match="finds its rate itself"):
        find_rate(config, dataset=dataset, cache=tmp_path)
