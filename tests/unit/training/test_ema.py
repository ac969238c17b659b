"""The moving average is a true average from the first update on, and goes on exactly."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from talent_factory.training.ema import MovingAverage


def _walk(steps: int) -> list[Tensor]:
    return [torch.randn(50, generator=torch.Generator().manual_seed(step)) for step in range(steps)]


def _follow(average: MovingAverage, weights: Tensor, walk: list[Tensor]) -> None:
    for values in walk:
        weights.copy_(values)
        average.update()


@given(steps=st.integers(1, 40), memory=st.floats(0.5, 0.999))
def test_it_is_the_weighted_mean_of_what_was_seen(steps: int, memory: float) -> None:
    weights = torch.full((50,), 1e6)  # the start must leave no trace
    average = MovingAverage([weights], memory=memory)
    _follow(average, weights, _walk(steps))
    shares = torch.tensor([memory ** (steps - 1 - i) for i in range(steps)], dtype=torch.float64)
    exact = (shares[:, None] * torch.stack(_walk(steps)).double()).sum(0) / shares.sum()
    torch.testing.assert_close(average.values[0], exact.float(), rtol=1e-3, atol=1e-4)


def test_the_first_update_is_the_weights_themselves() -> None:
    weights = torch.zeros(50)
    average = MovingAverage([weights], memory=0.99)
    _follow(average, weights, _walk(1))
    assert torch.equal(average.values[0], weights)


@pytest.mark.parametrize("stop", [0, 1, 7])
def test_it_goes_on_bit_for_bit(stop: int) -> None:
    weights = torch.zeros(50)
    whole = MovingAverage([weights], memory=0.9)
    _follow(whole, weights, _walk(12))

    first = MovingAverage([weights], memory=0.9)
    _follow(first, weights, _walk(12)[:stop])
    kept = {**first.state(), "something.else": torch.zeros(3)}
    again = MovingAverage([weights], memory=0.9)
    again.load_state(kept)
    _follow(again, weights, _walk(12)[stop:])
    assert torch.equal(again.values[0], whole.values[0])


def test_what_was_kept_does_not_move_on() -> None:
    weights = torch.zeros(50)
    average = MovingAverage([weights], memory=0.9)
    _follow(average, weights, _walk(3))
    kept = average.state()
    before = kept["ema.0"].clone()
    _follow(average, weights, _walk(5))
    assert torch.equal(kept["ema.0"], before)


def test_a_skipped_step_does_not_count() -> None:
    weights = torch.zeros(50)
    with_skips, without = MovingAverage([weights], memory=0.9), MovingAverage([weights], memory=0.9)
    for number, values in enumerate(_walk(9)):
        weights.copy_(values)
        skipped = number % 3 == 0
        with_skips.update(skipped=torch.tensor(float(skipped)))
        if not skipped:
            without.update()
    assert torch.equal(with_skips.values[0], without.values[0])


def test_a_missing_part_is_an_error() -> None:
    average = MovingAverage([torch.zeros(3)], memory=0.9)
    with pytest.raises(KeyError, match=r"ema\.power"):
        average.load_state({})
