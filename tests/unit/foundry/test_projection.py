"""The projection done on factors is the one that the paper writes with dense matrices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from talent_factory.foundry.blend import Mix
from talent_factory.foundry.discover import Ingredient, Kit
from talent_factory.foundry.mix import Part, combined
from talent_factory.foundry.projection import DIRECTIONS, kept_out, read_directions


def factors(out: int, rank: int, inputs: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    up = torch.randn(out, rank, generator=generator, dtype=torch.float64)
    return up, torch.randn(rank, inputs, generator=generator, dtype=torch.float64)


def projected_densely(identity: Tensor, style: Tensor, strength: float, count: int) -> Tensor:
    """The formula as it stands, on whole matrices."""
    rows = torch.linalg.svd(style).Vh[:count]
    return identity @ (torch.eye(identity.shape[1]).double() - strength / (1 + strength) * rows.T @ rows)


# an inner width of 36 is that of a 3 x 3 convolution over 4 channels
@pytest.mark.parametrize(("out", "inputs"), [(12, 20), (30, 12), (8, 36)])
@pytest.mark.parametrize(("rank", "strength"), [(4, 0.5), (10, 0.5), (4, 100.0)])
def test_the_factors_give_the_dense_form(out: int, inputs: int, rank: int, strength: float) -> None:
    up, down = factors(out, 6, inputs, 1)
    style_up, style_down = factors(out, min(rank, out), inputs, 2)
    count = min(DIRECTIONS, rank, out)
    dense = projected_densely(up @ down, style_up @ style_down, strength, count)
    directions = read_directions([(style_up, style_down)])
    assert directions.shape == (inputs, count)
    torch.testing.assert_close(up @ kept_out(down, directions, strength), dense, rtol=0, atol=1e-6)


def test_several_styles_are_read_as_their_sum() -> None:
    one, two = factors(12, 2, 20, 1), factors(12, 3, 20, 2)
    dense = torch.linalg.svd(one[0] @ one[1] + two[0] @ two[1]).Vh[:5]
    found = read_directions([one, two])
    torch.testing.assert_close(found @ found.T, dense.T @ dense, rtol=0, atol=1e-9)


def test_a_style_that_does_nothing_has_no_directions() -> None:
    up, down = factors(12, 3, 20, 1)
    assert read_directions([(up * 0, down)]).shape == (20, 0)
    assert read_directions([(up, down[:1].expand(3, -1))]).shape == (20, 1)


def part(kit: int, seed: int) -> Part:
    up, down = factors(12, 4, 20, seed)
    return Part(kit=kit, up=up.float(), down=down.float(), factor=1.0)


@pytest.mark.parametrize("weight", [1.0, 0.3, 0.0])
def test_the_identity_gives_way_as_far_as_the_style_acts(identity: Kit, style: Kit, weight: float) -> None:
    uses = (Ingredient(kit=identity, weight=0.8), Ingredient(kit=style, weight=weight))
    parts = [part(0, 1), part(1, 2)]
    found = combined(parts, (0.8, weight), Mix(ingredients=uses, projection=0.5))
    assert found is not None
    own, other = (one.up.double() @ one.down.double() for one in parts)
    wanted = 0.8 * projected_densely(own, other, 0.5 * weight, 4) + weight * other
    torch.testing.assert_close((found[0] @ found[1]).double(), wanted, rtol=1e-5, atol=1e-5)


def test_two_identities_do_not_give_way_to_each_other(identity: Kit) -> None:
    uses = (Ingredient(kit=identity, weight=1.0), Ingredient(kit=identity, weight=0.5))
    found = combined([part(0, 1), part(1, 2)], (1.0, 0.5), Mix(ingredients=uses, projection=0.5))
    plain = combined([part(0, 1), part(1, 2)], (1.0, 0.5), Mix(ingredients=uses))
    assert found is not None
    assert plain is not None
    assert all(torch.equal(one, two) for one, two in zip(found, plain, strict=True))
