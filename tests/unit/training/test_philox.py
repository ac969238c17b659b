"""Counter-based numbers: the published words, the right distribution, and no memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from talent_factory.training.philox import Stream, normal, philox, uniform


def _counter(*words: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    a, b, c, d = (torch.tensor([word]) for word in words)
    return a, b, c, d


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((2**32 - 1,) * 4, 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            0x299F31D0A4093822,
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_the_words_are_those_of_the_authors(
    counter: tuple[int, ...], key: int, words: tuple[int, ...]
) -> None:
    # the known answers that come with the authors' own implementation, Random123
    assert tuple(int(word) for word in philox(_counter(*counter), key)) == words


def test_normal_numbers_are_normal() -> None:
    values = normal(torch.arange(16), torch.zeros(16).long(), (4, 32, 32), seed=5, stream=Stream.NOISE)
    flat = values.double().flatten()
    assert abs(flat.mean()) < 0.01
    assert abs(flat.std() - 1.0) < 0.01
    assert abs((flat**3).mean()) < 0.05
    assert abs((flat**4).mean() - 3.0) < 0.1
    # neighbours share a Philox block, so a mistake in Box & Muller would correlate them
    assert abs((flat[:-1] * flat[1:]).mean()) < 0.01
    assert values.isfinite().all()


def test_uniform_numbers_never_reach_zero() -> None:
    values = uniform(torch.arange(64), torch.zeros(64).long(), 4096, seed=1, stream=Stream.TIMESTEP)
    assert values.min() > 0.0
    assert values.max() <= 1.0
    assert abs(values.mean() - 0.5) < 0.005


def test_a_row_is_the_same_in_any_company() -> None:
    steps = torch.tensor([3, 3, 9])
    together = normal(torch.tensor([0, 1, 1]), steps, (4, 5, 5), seed=8, stream=Stream.NOISE)
    alone = normal(torch.tensor([1]), torch.tensor([9]), (4, 5, 5), seed=8, stream=Stream.NOISE)
    assert torch.equal(together[2:], alone)
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(together[1], together[2])


@pytest.mark.parametrize("other", [{"seed": 9}, {"stream": Stream.POSTERIOR}, {"step": 2**32}])
def test_seed_stream_and_step_each_matter(other: dict[str, int]) -> None:
    def draw(seed: int = 8, stream: Stream = Stream.NOISE, step: int = 0) -> Tensor:
        return normal(torch.tensor([0]), torch.tensor([step]), (64,), seed=seed, stream=Stream(stream))

    assert not torch.equal(draw(), draw(**other))  # type: ignore[arg-type]
