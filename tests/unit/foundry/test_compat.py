"""What is said of two kits by their factors is what their whole matrices say."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from talent_factory.core.errors import KitError
from talent_factory.foundry.compat import Factors, Overlap, compatibility, overlap, read_factors
from talent_factory.foundry.discover import Ingredient, Kit

Matrix = NDArray[np.float32]


def matrix(rows: int, columns: int, seed: int) -> Matrix:
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)


def layer(seed: int, *, rank: int = 4, out: int = 40, inputs: int = 30) -> Factors:
    return {"lora_unet_x": (matrix(out, rank, seed), matrix(rank, inputs, seed + 1000))}


@pytest.fixture
def measured(identity: Kit, style: Kit) -> Callable[..., Overlap]:
    def of(one: Factors, two: Factors, weights: tuple[float, float] = (1.0, 1.0)) -> Overlap:
        uses = (Ingredient(kit=identity, weight=weights[0]), Ingredient(kit=style, weight=weights[1]))
        return overlap(one, two, uses=uses)

    return of


def dense(factors: Factors) -> NDArray[np.float64]:
    up, down = factors["lora_unet_x"]
    return up.astype(np.float64) @ down.astype(np.float64)


def share_inside(change: NDArray[np.float64], other: NDArray[np.float64], rank: int) -> float:
    """The share of a change's energy within the other's rows, by the dense singular vectors."""
    rows = np.linalg.svd(other)[2][:rank]
    return float(np.sum((change @ rows.T) ** 2) / np.sum(change**2))


def test_the_factors_say_what_the_dense_matrices_say(measured: Callable[..., Overlap]) -> None:
    one, two = layer(1), layer(2, rank=6)
    a, b = dense(one), dense(two)
    lengths = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    columns = float(np.abs((a * b).sum(axis=0)).sum() / lengths.sum())
    found = measured(one, two)
    assert found.columns == pytest.approx(columns, abs=1e-4)
    assert found.reads == pytest.approx((share_inside(a, b, 6) + share_inside(b, a, 4)) / 2, abs=1e-4)
    assert found.writes == pytest.approx(
        (share_inside(a.T, b.T, 6) + share_inside(b.T, a.T, 4)) / 2, abs=1e-4
    )
    assert found.chance == pytest.approx(math.sqrt(2 / (math.pi * 40)), abs=1e-4)
    assert found.layers == 1


def test_a_kit_is_all_in_its_own_way(measured: Callable[..., Overlap]) -> None:
    one = layer(1)
    again = {name: (-2.0 * up, down) for name, (up, down) in one.items()}
    found = measured(one, again)
    assert found.columns == found.reads == found.writes == 1.0
    assert found.score == 0.0
    assert found.balance == 0.5
    assert "lower a weight" in found.words


def test_unrelated_kits_leave_each_other_alone(measured: Callable[..., Overlap]) -> None:
    found = [measured(layer(seed, out=400), layer(seed + 50, out=400)).score for seed in range(5)]
    assert min(found) > 0.95


def test_kits_of_different_layers_do_not_meet(measured: Callable[..., Overlap]) -> None:
    two = {"lora_unet_y": layer(2)["lora_unet_x"]}
    found = measured(layer(1), two)
    assert (found.layers, found.score) == (0, 1.0)
    assert "different layers" in found.words


def test_the_smaller_of_two_changes_is_told(measured: Callable[..., Overlap]) -> None:
    assert measured(layer(1), layer(1), (0.2, -0.8)).balance == 0.25
    assert measured(layer(1), layer(2), (0.0, 1.0)).balance == 0.0


def test_every_two_kits_are_compared(identity: Kit, style: Kit) -> None:
    uses = [Ingredient(kit=identity, weight=1.0), *(Ingredient(kit=style, weight=w) for w in (0.5, 0.7))]
    found = compatibility(uses)
    assert [(pair.first, pair.second) for pair in found] == [
        (identity.id, style.id),
        (identity.id, style.id),
        (style.id, style.id),
    ]
    assert found[0].score > 0.9
    assert found[2].score == pytest.approx(0.0, abs=1e-3)


def test_blocks_that_are_off_do_not_meet(identity: Kit, style: Kit) -> None:
    off = Ingredient(kit=style, weight=1.0, blocks=(("all", 0.0), ("mid", 0.5)))
    whole, part = read_factors(Ingredient(kit=style, weight=1.0)), read_factors(off)
    assert part
    assert all("mid_block" in name for name in part)
    for name, (up, _) in part.items():
        np.testing.assert_allclose(up, 0.5 * whole[name][0], rtol=1e-6)
    (found,) = compatibility([Ingredient(kit=identity, weight=1.0), off])
    assert found.layers == len(part)


def test_kits_of_different_bases_are_refused(identity: Kit, style: Kit) -> None:
    other = Ingredient(kit=style.model_copy(update={"base": "sd15"}), weight=1.0)
    with pytest.raises(KitError, match="cannot be mixed"):
        compatibility([Ingredient(kit=identity, weight=1.0), other])
