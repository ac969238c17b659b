"""Say before anything is rendered how much two kits get into each other's way, from their factors alone.

A LoRA changes a layer by up @ down, so all that is asked of two changes follows from products of the size of
the ranks: no dense matrix is made, and a pair of kits takes milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.records import Record
from talent_factory.foundry.blocks import block_namer, factor_of
from talent_factory.foundry.discover import Ingredient, check_same_base
from talent_factory.kits.lora_file import read_lora

Matrix = NDArray[np.float32]
Factors = Mapping[str, tuple[Matrix, Matrix]]
"""By layer: up (out, r) with alpha / rank and the block's factor in it, and down (r, in)."""


class Overlap(Record):
    """How two kits meet, each figure from 0 (not at all) to 1; means over the layers that both change.

    `columns` is the mean cosine, without its sign, of what both write for the same input (ZipLoRA's measure,
    arXiv 2311.13600), and `chance` what two unrelated changes would have. `reads` and `writes` are the shares
    of each one's change that lie in directions which the other reads from or writes to: squared cosines of
    the principal angles, weighted by the change. All kits of a base read much the same, so it is the columns
    that tell whether they also do the same. `balance` is the smaller change over the larger, at the weights
    asked for.
    """

    first: str
    second: str
    layers: int
    columns: float
    chance: float
    reads: float
    writes: float
    balance: float
    score: float
    """1 when the columns meet as by chance, 0 when both kits do the same."""
    words: str


def compatibility(ingredients: Sequence[Ingredient]) -> tuple[Overlap, ...]:
    """The overlap of every two kits at their weights. Raises KitError when they cannot be mixed at all."""
    check_same_base(ingredients)
    factors = [read_factors(use) for use in ingredients]
    return tuple(
        overlap(factors[one], factors[two], uses=(ingredients[one], ingredients[two]))
        for one, two in combinations(range(len(ingredients)), 2)
    )


def read_factors(use: Ingredient) -> Factors:
    """The factors of a kit's layers that its blocks leave anything of. Raises KitError for a broken file."""
    tensors, block_of = read_lora(use.kit.weights), block_namer(use.kit.base)
    found: dict[str, tuple[Matrix, Matrix]] = {}
    for key, down in tensors.items():
        name, _, part = key.partition(".")
        factor = factor_of(block_of(name), use.blocks) if use.blocks else 1.0
        if part == "lora_down.weight" and factor:
            alpha = float(tensors.get(f"{name}.alpha", np.array(len(down))))
            up = tensors[f"{name}.lora_up.weight"].reshape(-1, len(down))
            found[name] = np.float32(factor * alpha / len(down)) * up, down.reshape(len(down), -1)
    return found


def overlap(one: Factors, two: Factors, *, uses: tuple[Ingredient, Ingredient]) -> Overlap:
    """How two kits of one base meet; see `Overlap`."""
    rows = list(_meetings(one, two, (abs(uses[0].weight), abs(uses[1].weight))))
    sizes = [sum(_squares(*pair) for pair in kit.values()) for kit in (one, two)]
    ends = sorted(math.sqrt(size) * abs(use.weight) for size, use in zip(sizes, uses, strict=True))
    columns, reads, writes, chance = _means(rows)
    score = 1.0 - max(0.0, columns - chance) / (1.0 - chance)
    return Overlap(
        first=uses[0].kit.id,
        second=uses[1].kit.id,
        layers=len(rows),
        columns=columns,
        reads=reads,
        writes=writes,
        chance=chance,
        balance=round(ends[0] / ends[1], 4) if ends[1] else 0.0,
        score=round(score, 4),
        words=_words(score, rows),
    )


def _means(rows: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    if not rows:
        return 0.0, 0.0, 0.0, 0.0
    table = np.array(rows, np.float64)
    sizes = table[:, 0]
    if not sizes.any():
        return 0.0, 0.0, 0.0, 0.0
    return tuple(round(float(value), 4) for value in sizes @ table[:, 1:] / sizes.sum())


def _meetings(
    one: Factors, two: Factors, weights: tuple[float, float]
) -> Iterator[tuple[float, float, float, float, float]]:
    """For each layer that both change: the size of what meets, then columns, reads, writes and chance."""
    for name in sorted(one.keys() & two.keys()):
        (up_a, down_a), (up_b, down_b) = one[name], two[name]
        if down_a.shape[1:] != down_b.shape[1:] or len(up_a) != len(up_b):
            continue
        size_a, size_b = _squares(up_a, down_a), _squares(up_b, down_b)
        if not size_a or not size_b:
            continue
        grams = [(up.T @ up, down @ down.T) for up, down in (one[name], two[name])]
        across_up, across_down = up_a.T @ up_b, down_a @ down_b.T
        shares = [
            (
                _inside(across_down, grams[1][1], grams[0][0], size_a)
                + _inside(across_down.T, grams[0][1], grams[1][0], size_b)
            ),
            (
                _inside(across_up, grams[1][0], grams[0][1], size_a)
                + _inside(across_up.T, grams[0][0], grams[1][1], size_b)
            ),
        ]
        met = math.sqrt(size_a * size_b) * weights[0] * weights[1]
        columns = _columns(across_up, (down_a, down_b), (grams[0][0], grams[1][0]))
        # the mean |cosine| of two random directions among so many
        chance = min(0.99, math.sqrt(2.0 / (math.pi * len(up_a))))
        yield met, columns, shares[0] / 2, shares[1] / 2, chance


def _squares(up: Matrix, down: Matrix) -> float:
    """The squared norm of up @ down, from the two Gram matrices of the rank's size."""
    return max(0.0, float(np.sum((up.T @ up) * (down @ down.T), dtype=np.float64)))


def _columns(across: Matrix, downs: tuple[Matrix, Matrix], grams: tuple[Matrix, Matrix]) -> float:
    """The mean |cosine| of the columns of both changes, each weighted by the product of their lengths."""
    products = np.sum((across.T @ downs[0]) * downs[1], axis=0)
    squares = [np.sum((gram @ down) * down, axis=0) for gram, down in zip(grams, downs, strict=True)]
    whole = float(np.sqrt(np.maximum(squares[0] * squares[1], 0.0)).sum(dtype=np.float64))
    return min(1.0, float(np.abs(products).sum(dtype=np.float64)) / whole) if whole else 0.0


def _inside(across: Matrix, other: Matrix, gram: Matrix, size: float) -> float:
    """The share of a change that lies within the other's span.

    `across` (r, s) are the products of both factors on that side, `other` (s, s) those of the other's own,
    and `gram` (r, r) those of the change's own factor on the far side.
    """
    inverse: Any = np.linalg.pinv(other.astype(np.float64), rcond=1e-6, hermitian=True)
    within = across @ inverse @ across.T
    return min(1.0, max(0.0, float(np.sum(gram * within) / size)))


def _words(score: float, rows: Sequence[object]) -> str:
    if not rows:
        return "the kits change different layers: nothing meets"
    if score >= 0.92:
        return "the kits change different things: which one prevails is a matter of weights"
    if score >= 0.84:
        return "the kits meet in part: compare ways of mixing them (talent mix choose)"
    return "the kits change the same things: lower a weight, or let them take turns"
