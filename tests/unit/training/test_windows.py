"""Batches on the device are the same however many are laid out at once and however many share them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from talent_factory.core.errors import UsageError
from talent_factory.training.bank import SizeBank
from talent_factory.training.draws import Lottery
from talent_factory.training.parallel import World
from talent_factory.training.windows import Windows

_SIZES = ((4, 4), (4, 6), (4, 4), (6, 4), (4, 4), (4, 6))


def _windows(*, length: int = 1, share: tuple[int, ...] = (0, 1, 2, 3), offset: float = 0.0) -> Windows:
    lottery = Lottery(
        seed=3,
        sizes=_SIZES,
        repeats=(2,) * len(_SIZES),
        batch=4,
        texts=tuple((item + 1,) for item in range(len(_SIZES))),
        flip=True,
        caption_dropout=0.2,
        classes=(7, 8),
        class_batch=2,
    )
    banks = {}
    for size in set(_SIZES):
        items = [item for item, own in enumerate(_SIZES) if own == size]
        mean = torch.randn(2 * len(items), 4, *size)
        banks[size] = SizeBank(
            {item: i for i, item in enumerate(items)}, mean, mean.abs(), None, torch.ones(len(mean))
        )
    return Windows(
        lottery=lottery,
        banks=banks,
        share=share,
        timesteps=1000,
        channels=4,
        offset=offset,
        device=torch.device("cpu"),
        length=length,
    )


@given(number=st.integers(0, 500), length=st.sampled_from([1, 2, 7, 16]), start=st.integers(0, 6))
def test_the_length_of_a_window_changes_nothing(number: int, length: int, start: int) -> None:
    one, many = _windows(), _windows(length=length)
    many.batch(max(0, number - start))
    left, right = one.batch(number), many.batch(number)
    assert left.size == right.size
    assert all(torch.equal(a, b) for a, b in zip(left.tensors(), right.tensors(), strict=True))


@given(number=st.integers(0, 500))
def test_processes_share_the_very_batch(number: int) -> None:
    whole = _windows().batch(number)
    shares = [World(rank, 2).share(4) for rank in (0, 1)]
    parts = [_windows(share=share).batch(number) for share in shares]
    for name in ("rows_B", "texts_B", "timesteps_B", "posterior_BCHW", "noise_BCHW"):
        together = torch.cat([getattr(part, name) for part in parts])
        back = torch.tensor([*shares[0], *shares[1]]).argsort()
        assert torch.equal(together[back], getattr(whole, name)), name
    assert sorted(torch.cat([part.classes_E for part in parts])) == sorted(whole.classes_E)


def test_each_batch_has_its_own_noise_and_covers_the_timesteps() -> None:
    windows = _windows(length=4)
    batches = [windows.batch(number) for number in range(40)]
    same = [b for b in batches if b.size == (4, 4)]
    assert not any(
        torch.equal(a.noise_BCHW, b.noise_BCHW) or torch.equal(a.posterior_BCHW, b.posterior_BCHW)
        for i, a in enumerate(same)
        for b in same[:i]
    )
    for batch in batches:
        assert sorted((batch.timesteps_B // 250).tolist()) == [0, 1, 2, 3]


def test_an_offset_is_shared_by_the_pixels_of_a_channel() -> None:
    plain, moved = _windows().batch(3).noise_BCHW, _windows(offset=0.1).batch(3).noise_BCHW
    difference = moved - plain
    torch.testing.assert_close(difference, difference[:, :, :1, :1].expand_as(difference), atol=1e-6, rtol=0)
    assert difference.abs().max() > 0.01


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(UsageError, match="batch_size 3"):
        World(0, 2).share(3)
