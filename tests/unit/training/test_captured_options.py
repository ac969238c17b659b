"""On a GPU the tail of a step (unscale, move, average, rescale) can be one graph, with the same numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from talent_factory.training.ema import MovingAverage
from talent_factory.training.optimizers import make_optimizer, set_rate
from talent_factory.training.options import OptimizerKeys
from talent_factory.training.scaler import LossScaler

pytestmark = pytest.mark.gpu

_STEPS = 12


class _Tail:
    """Weights with all that follows a gradient."""

    def __init__(self) -> None:
        cuda = torch.device("cuda")
        self.weights = nn.Parameter(torch.ones(4096, device=cuda))
        self.weights.grad = torch.zeros_like(self.weights)
        groups = [{"params": [self.weights], "lr": 1e-2}]
        self.optimizer = make_optimizer(groups, OptimizerKeys(), device=cuda)
        self.average = MovingAverage([self.weights.data], memory=0.9)
        self.scaler = LossScaler(cuda, patience=3)

    def apply(self) -> None:
        assert self.weights.grad is not None
        self.scaler.unscale([self.weights.grad])
        self.scaler.step(self.optimizer)
        self.average.update(skipped=self.scaler.overflow)
        self.scaler.update()

    def feed(self, step: int) -> None:
        """The gradient of a step, scaled; every fifth overflows."""
        set_rate(self.optimizer, [1e-2 / (step + 1)])
        gradient = torch.randn(4096, generator=torch.Generator().manual_seed(step))
        if step % 5 == 4:
            gradient[step] = torch.inf
        assert self.weights.grad is not None
        self.weights.grad.copy_(gradient.cuda() * self.scaler.state()["scaler.scale"])

    def outcome(self) -> list[Tensor]:
        return [self.weights.detach(), *self.average.values, *self.scaler.state().values()]


def test_a_captured_tail_is_the_eager_one() -> None:
    eager, captured = _Tail(), _Tail()
    for step in range(_STEPS):
        eager.feed(step)
        eager.apply()

    # the first steps make the optimiser's state and warm the allocator, on the stream that captures
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for step in range(3):
            captured.feed(step)
            captured.apply()
    torch.cuda.current_stream().wait_stream(stream)
    captured.feed(3)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured.apply()
    for step in range(3, _STEPS):
        captured.feed(step)
        graph.replay()
    assert all(
        torch.equal(left, right) for left, right in zip(eager.outcome(), captured.outcome(), strict=True)
    )
