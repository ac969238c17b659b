"""The validation loss depends on nothing but the weights, and its images are never trained on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from talent_factory.core.errors import DatasetError
from talent_factory.core.events import SilentReporter
from talent_factory.dataset.manifest import Item, load_dataset
from talent_factory.training.bank import TextTable
from talent_factory.training.families import Base
from talent_factory.training.latents import read_image
from talent_factory.training.options import ValidationKeys
from talent_factory.training.validation import (
    LEVELS,
    HeldOut,
    gather_held_out,
    hold_out,
    validation_loss,
)


def _item(number: int, *, content: str | None = None, augmentation: bool = False) -> Item:
    return Item(
        file=f"images/{number:03d}.png",
        sha256=hashlib.sha256((content or str(number)).encode()).hexdigest(),
        caption=f"picture {number}",
        width=64,
        height=64,
        source="test",
        augmentation=augmentation,
    )


@given(
    count=st.integers(2, 60),
    share=st.floats(0.01, 0.5),
    seed=st.integers(0, 2**63 - 1),
    extra=st.integers(60, 99),
)
def test_the_split_is_a_function_of_seed_and_pictures(
    count: int, share: float, seed: int, extra: int
) -> None:
    items, keys = [_item(number) for number in range(count)], ValidationKeys(share=share)
    if max(1, round(share * count)) >= count:
        with pytest.raises(DatasetError):
            hold_out(items, keys, seed=seed)
        return
    held = hold_out(items, keys, seed=seed)
    assert len(held) == max(1, round(share * count)) < count
    backwards = hold_out(items[::-1], keys, seed=seed)
    assert {items[place].file for place in held} == {items[::-1][place].file for place in backwards}
    more = hold_out([*items, _item(extra)], keys, seed=seed)
    assert len(set(held) - set(more)) <= 1


def test_nothing_is_held_out_unless_asked() -> None:
    assert hold_out([_item(0)], ValidationKeys(), seed=0) == ()


def test_copies_stay_together_and_augmentations_are_trained_on() -> None:
    items = [_item(number, content=str(number // 2)) for number in range(20)]
    items += [_item(number, augmentation=True) for number in range(20, 40)]
    held = set(hold_out(items, ValidationKeys(share=0.3), seed=5))
    assert len(held) == 6
    assert max(held) < 20
    assert all((number ^ 1) in held for number in held)


def test_too_few_images_are_said() -> None:
    with pytest.raises(DatasetError, match="none to train on"):
        hold_out([_item(0)], ValidationKeys(share=0.5), seed=0)


def _held(sizes: list[tuple[int, int]], table: TextTable) -> HeldOut:
    latents = [
        torch.randn(4, *size, generator=torch.Generator().manual_seed(number))
        for number, size in enumerate(sizes)
    ]
    numbers = range(len(sizes))
    return HeldOut(
        items=tuple(10 + number for number in numbers),
        latents=tuple(latents),
        texts=tuple(table.row(f"text {number}") for number in numbers),
    )


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_it_is_the_same_whenever_it_is_asked(base: Base, prediction: str) -> None:
    base.prediction = prediction  # type: ignore[assignment]
    table = TextTable([f"text {number}" for number in range(3)])
    held, texts = _held([(8, 8), (8, 16), (8, 8)], table), table.encoded(base)
    answers = []
    for batch in (8, 8, 3, 1):
        torch.manual_seed(batch)
        answers.append(
            validation_loss(base, held, texts, alphas_cumprod=base.alphas_cumprod, seed=7, batch=batch)
        )
    assert answers[0] == answers[1]
    loss, levels = answers[0]
    assert len(levels) == LEVELS
    assert loss == pytest.approx(sum(levels) / LEVELS)
    for other, _ in answers[2:]:
        assert other == pytest.approx(loss, rel=1e-5)
    again, _ = validation_loss(base, held, texts, alphas_cumprod=base.alphas_cumprod, seed=8)
    assert again != loss


def test_it_sees_the_weights_and_keeps_no_graph(base: Base) -> None:
    table = TextTable(["text 0"])
    held, texts = _held([(8, 8)], table), table.encoded(base)

    def loss() -> float:
        return validation_loss(base, held, texts, alphas_cumprod=base.alphas_cumprod, seed=7)[0]

    before = loss()
    with torch.no_grad():
        next(base.unet.parameters()).add_(0.1)
    assert loss() != before


def test_a_perfect_model_has_no_loss(base: Base) -> None:
    table = TextTable(["text 0", "text 1"])
    held = _held([(8, 8), (8, 8)], table)
    alphas = base.alphas_cumprod

    class _Oracle:
        prediction = "epsilon"

        @staticmethod
        def predict(noisy: torch.Tensor, times: torch.Tensor, text: object) -> torch.Tensor:
            clean = torch.stack([held.latents[int(row)] for row in text])  # type: ignore[attr-defined]
            alpha = alphas[times].view(-1, 1, 1, 1)
            return (noisy - alpha.sqrt() * clean) / (1 - alpha).sqrt()

    rows = dict(zip(held.texts, range(2), strict=True))
    loss, _ = validation_loss(
        _Oracle(),  # type: ignore[arg-type]
        held,
        lambda texts: torch.tensor([rows[int(row)] for row in texts]),  # type: ignore[arg-type,return-value]
        alphas_cumprod=alphas,
        seed=0,
    )
    assert loss == pytest.approx(0.0, abs=1e-9)


def test_what_is_held_out_is_encoded_without_chance(base: Base, dataset: Path, tmp_path: Path) -> None:
    items = load_dataset(dataset).items
    table = TextTable([item.caption for item in items])

    def gathered() -> HeldOut:
        return gather_held_out(
            base, items, (1, 3), table=table, dataset=dataset, cache=tmp_path, reporter=SilentReporter()
        )

    held = gathered()
    assert held.items == (1, 3)
    assert [table.texts[row] for row in held.texts] == [items[1].caption, items[3].caption]
    mean, _ = base.encode_images(read_image(dataset / items[1].file))
    assert torch.equal(held.latents[0], mean[0].float())
    assert all(torch.equal(a, b) for a, b in zip(held.latents, gathered().latents, strict=True))
