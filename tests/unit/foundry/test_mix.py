"""A mix is the exact weighted sum, whatever the order, and leaves no trace."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from foundry_maker import IDENTITY, add_kit
from talent_factory.core.errors import KitError
from talent_factory.foundry.blend import Mix
from talent_factory.foundry.discover import Ingredient, Kit, load_kit
from talent_factory.foundry.mix import combine, mixed
from talent_factory.training.families.port import Base
from talent_factory.training.lora import low_rank_delta, target_layers

WEIGHTS = st.floats(-2, 2, width=32)


def lora(rank: int, alpha: float, seed: int, *, shape: tuple[int, ...] = (6, 5)) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    out, *rest = shape
    return {
        "lora_unet_x.lora_down.weight": torch.randn((rank, *rest), generator=generator),
        "lora_unet_x.lora_up.weight": torch.randn((out, rank, *([1] * (len(rest) - 1))), generator=generator),
        "lora_unet_x.alpha": torch.tensor(alpha),
    }


def together(*ingredients: Ingredient) -> Mix:
    return Mix(ingredients=ingredients)


def bits(base: Base) -> list[Tensor]:
    return [p.detach().clone() for _, module in base.modules() for p in module.parameters()]


@given(WEIGHTS, WEIGHTS, st.integers(1, 4), st.integers(1, 4), st.floats(0.5, 8, width=32))
def test_the_combination_is_the_weighted_sum(
    one: float, two: float, rank: int, other: int, alpha: float
) -> None:
    a, b = lora(rank, alpha, 1), lora(other, 2 * alpha, 2)
    expected = one * low_rank_delta(a, "lora_unet_x") + two * low_rank_delta(b, "lora_unet_x")
    found = combine([(a, one), (b, two)])
    assert found["lora_unet_x.lora_down.weight"].shape[0] == rank + other
    torch.testing.assert_close(low_rank_delta(found, "lora_unet_x"), expected, rtol=1e-4, atol=1e-4)


def test_convolutions_and_layers_of_one_part_alone_combine_too() -> None:
    a, b = lora(2, 2.0, 1, shape=(4, 3, 3, 3)), {}
    for name, tensor in lora(1, 1.0, 2).items():
        b[name.replace("_x", "_y")] = tensor
    found = combine([(a, 0.5), (b, 1.0)])
    torch.testing.assert_close(low_rank_delta(found, "lora_unet_x"), 0.5 * low_rank_delta(a, "lora_unet_x"))
    torch.testing.assert_close(low_rank_delta(found, "lora_unet_y"), low_rank_delta(b, "lora_unet_y"))


def test_a_missing_alpha_means_alpha_equals_rank() -> None:
    a = lora(3, 3.0, 1)
    without = {name: tensor for name, tensor in a.items() if not name.endswith("alpha")}
    left, right = combine([(without, 1.0)]), combine([(a, 1.0)])
    assert all(torch.equal(left[name], right[name]) for name in right)


def test_incomplete_and_contradicting_layers_are_refused() -> None:
    a = lora(2, 2.0, 1)
    broken = {name: tensor for name, tensor in a.items() if "lora_up" not in name}
    with pytest.raises(KitError, match="incomplete"):
        combine([(broken, 1.0)])
    with pytest.raises(KitError, match="different shapes"):
        combine([(a, 1.0), (lora(2, 2.0, 1, shape=(6, 7)), 1.0)])


def test_the_base_comes_back_bit_for_bit(base: Base, identity: Kit, style: Kit) -> None:
    before = bits(base)
    use = together(Ingredient(kit=identity, weight=0.9), Ingredient(kit=style, weight=0.333))
    with mixed(base, use):
        assert any(not torch.equal(old, new) for old, new in zip(before, bits(base), strict=True))
    assert all(torch.equal(old, new) for old, new in zip(before, bits(base), strict=True))
    with pytest.raises(RuntimeError, match="in between"), mixed(base, use):
        raise RuntimeError("in between")
    assert all(torch.equal(old, new) for old, new in zip(before, bits(base), strict=True))


def test_the_order_of_kits_does_not_matter_in_the_last_bit(base: Base, identity: Kit, style: Kit) -> None:
    use = together(Ingredient(kit=identity, weight=0.9), Ingredient(kit=style, weight=0.333))
    with mixed(base, use):
        first = bits(base)
    with mixed(base, together(*use.ingredients[::-1])):
        second = bits(base)
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))


def test_nothing_mixed_is_the_base(base: Base, identity: Kit) -> None:
    before = bits(base)
    for use in (Mix(), together(Ingredient(kit=identity, weight=0.0))):
        with mixed(base, use):
            assert all(torch.equal(old, new) for old, new in zip(before, bits(base), strict=True))


def test_a_dora_kit_brings_its_lengths_and_cannot_be_mixed(
    base: Base, base_folder: Path, style: Kit, tmp_path: Path
) -> None:
    add_kit(tmp_path, base_folder, IDENTITY, revision=base.revision, token="dot_test", dora=True)
    alone = Ingredient(kit=load_kit(tmp_path, IDENTITY, base_folder=base_folder), weight=1.0)
    before = bits(base)
    with mixed(base, together(alone)):
        layers = [layer for _, module in base.modules() for _, layer in target_layers(module)]
        assert len(layers) > 10
        for layer in layers:
            columns = layer.weight.detach().float().transpose(0, 1).flatten(1).norm(dim=1)
            torch.testing.assert_close(columns, torch.full_like(columns, 2.0), rtol=1e-3, atol=1e-3)
    assert all(torch.equal(old, new) for old, new in zip(before, bits(base), strict=True))
    with (
        pytest.raises(KitError, match="DoRA"),
        mixed(base, together(alone, Ingredient(kit=style, weight=0.5))),
    ):
        pass
