"""Random numbers that are a pure function of their place: the same in every batch and after any stop.

Philox 4x32 with ten rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") in
whole-number tensor operations, the same on every device: there is no generator whose state could be lost,
and nothing for the host to wait for.
"""

from __future__ import annotations

import math
from enum import IntEnum

import torch
from torch import Tensor

_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_MASK = 0xFFFFFFFF
_ROUNDS = 10


class Stream(IntEnum):
    """What a number is for; two streams never share one."""

    POSTERIOR = 1
    NOISE = 2
    OFFSET = 3
    TIMESTEP = 4
    VALIDATION = 5


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], seed: int) -> tuple[Tensor, ...]:
    """Four words in 0..2^32-1 (int64) for each counter of four such words; `seed` gives the 64-bit key."""
    c0, c1, c2, c3 = counter
    key0, key1 = seed & _MASK, (seed >> 32) & _MASK
    for _ in range(_ROUNDS):
        high0, low0 = _product(c0, _M0)
        high1, low1 = _product(c2, _M1)
        c0, c1, c2, c3 = high1 ^ c1 ^ key0, low1, high0 ^ c3 ^ key1, low0
        key0, key1 = (key0 + _W0) & _MASK, (key1 + _W1) & _MASK
    return c0, c1, c2, c3


def uniform(rows: Tensor, steps: Tensor, count: int, *, seed: int, stream: Stream) -> Tensor:
    """Numbers in (0, 1], (len(rows), count) float32, each a function of (seed, stream, step, row, place).

    `rows` (n,) int64 are numbers of samples within their step, `steps` (n,) int64 the steps.
    """
    words = torch.stack(_words(rows, steps, -(-count // 4), seed=seed, stream=stream), dim=-1)
    return _unit(words).flatten(1)[:, :count]


def normal(rows: Tensor, steps: Tensor, shape: tuple[int, ...], *, seed: int, stream: Stream) -> Tensor:
    """Standard normal numbers (len(rows), *shape) float32, as `uniform`; by Box & Muller 1958."""
    count = math.prod(shape)
    u0, u1, u2, u3 = (_unit(w) for w in _words(rows, steps, -(-count // 4), seed=seed, stream=stream))
    near, far = (-2.0 * u0.log()).sqrt(), (-2.0 * u2.log()).sqrt()
    turn, other = 2.0 * math.pi * u1, 2.0 * math.pi * u3
    values = torch.stack((near * turn.cos(), near * turn.sin(), far * other.cos(), far * other.sin()), dim=-1)
    return values.flatten(1)[:, :count].reshape(len(rows), *shape)


def _words(rows: Tensor, steps: Tensor, blocks: int, *, seed: int, stream: Stream) -> tuple[Tensor, ...]:
    """Four words for each of `blocks` places of each row: four tensors (len(rows), blocks) int64."""
    place = torch.arange(blocks, device=rows.device).expand(len(rows), blocks)
    row, when = rows[:, None].expand_as(place), steps[:, None].expand_as(place)
    return philox((place, row, when & _MASK, (when >> 32) * 256 + int(stream)), seed)


def _product(word: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """High and low half of a 32 x 32 bit product.

    int64 has a sign, so the factor goes in two halves of 16 bits: no partial product leaves 48 bits.
    """
    low_part = word * (factor & 0xFFFF)
    high_part = word * (factor >> 16)
    total = high_part + (low_part >> 16)
    return total >> 16, ((total & 0xFFFF) << 16) | (low_part & 0xFFFF)


def _unit(word: Tensor) -> Tensor:
    """A word as a number in (0, 1] with 24 bits, which float32 holds exactly."""
    return ((word >> 8) + 1).float() * 2.0**-24
