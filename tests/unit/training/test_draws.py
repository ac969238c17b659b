"""Choices are pure functions of (seed, number), fair over an epoch, and never mix sizes in a batch."""

from __future__ import annotations

from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from talent_factory.training.draws import Lottery, epoch_batches

SIZES = st.lists(st.sampled_from([(4, 4), (4, 6), (6, 4)]), min_size=1, max_size=12)


def _lottery(sizes: list[tuple[int, int]], batch: int, **changes: object) -> Lottery:
    values: dict[str, object] = {
        "seed": 3,
        "sizes": tuple(sizes),
        "repeats": (1,) * len(sizes),
        "batch": batch,
        "texts": tuple((10 + 2 * item, 11 + 2 * item) for item in range(len(sizes))),
        "empty_text": 7,
        "flip": True,
        "caption_dropout": 0.3,
        "classes": (1, 2, 3, 4, 5),
        "class_batch": 2,
    }
    return Lottery(**{**values, **changes})  # type: ignore[arg-type]


@given(sizes=SIZES, batch=st.integers(1, 5), step=st.integers(0, 10_000))
def test_a_step_is_the_same_whatever_came_before(sizes: list[tuple[int, int]], batch: int, step: int) -> None:
    lottery = _lottery(sizes, batch)
    torch.manual_seed(step)
    once = lottery.plan(step)
    lottery.plan(step + 1)
    epoch_batches.cache_clear()
    again = lottery.plan(step)
    assert once == again


@given(sizes=SIZES, batch=st.integers(1, 5), epoch=st.integers(0, 50), data=st.data())
def test_an_epoch_shows_every_image(
    sizes: list[tuple[int, int]], batch: int, epoch: int, data: st.DataObject
) -> None:
    repeats = tuple(data.draw(st.lists(st.integers(1, 3), min_size=len(sizes), max_size=len(sizes))))
    batches = epoch_batches(1, epoch, tuple(sizes), repeats, batch)
    assert len(batches) == len(epoch_batches(1, 0, tuple(sizes), repeats, batch))
    assert all(len(items) == batch for items in batches)
    assert all(len({sizes[item] for item in items}) == 1 for items in batches)
    shown = Counter(item for items in batches for item in items)
    assert all(shown[item] >= repeats[item] for item in range(len(sizes)))


def test_epochs_and_seeds_differ() -> None:
    sizes = ((4, 4),) * 30
    orders = {epoch_batches(seed, epoch, sizes, (1,) * 30, 3) for seed in (1, 2) for epoch in (0, 1)}
    assert len(orders) == 4


def test_switches_that_are_off_do_nothing() -> None:
    lottery = _lottery([(4, 4)] * 4, 4, flip=False, caption_dropout=0.0, class_batch=0)
    for step in range(20):
        plan = lottery.plan(step)
        assert not any(plan.flips)
        assert 7 not in plan.texts
        assert plan.classes == ()


def test_shares_are_about_right() -> None:
    lottery = _lottery([(1, 1)] * 8, 8)
    plans = [lottery.plan(step) for step in range(300)]
    flips = sum(sum(plan.flips) for plan in plans) / 2400
    dropped = sum(text == 7 for plan in plans for text in plan.texts) / 2400
    second = sum(text % 2 for plan in plans for text in plan.texts if text != 7) / 2400 / (1 - dropped)
    assert abs(flips - 0.5) < 0.05
    assert abs(dropped - 0.3) < 0.05
    assert abs(second - 0.5) < 0.05


def test_a_text_belongs_to_its_item() -> None:
    lottery = _lottery([(1, 1)] * 8, 8)
    for number in range(50):
        plan = lottery.plan(number)
        pairs = zip(plan.items, plan.texts, strict=True)
        assert all(text == 7 or (text - 10) // 2 == item for item, text in pairs)
