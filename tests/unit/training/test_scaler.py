"""Loss scaling changes no number of a quiet step, skips a loud one, and goes on exactly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from talent_factory.training.checkpoints import flatten_optimizer, restore_optimizer
from talent_factory.training.optimizers import make_optimizer
from talent_factory.training.options import OptimizerKeys, OptimizerName
from talent_factory.training.scaler import LossScaler

CPU = torch.device("cpu")


def _optimizer(parameter: nn.Parameter, name: OptimizerName = "adamw") -> torch.optim.Optimizer:
    return make_optimizer([{"params": [parameter], "lr": 0.1}], OptimizerKeys(name=name), device=CPU)


def _gradient(step: int, *, loud: bool) -> Tensor:
    gradient = torch.randn(64, generator=torch.Generator().manual_seed(step))
    if loud:
        gradient[step % 64] = (torch.inf, torch.nan, -torch.inf)[step % 3]
    return gradient


def _step(scaler: LossScaler, parameter: nn.Parameter, optimizer: torch.optim.Optimizer, step: int) -> None:
    """A step whose gradient overflows at every fifth number."""
    own = _gradient(step, loud=step % 5 == 4)
    scaler.scaled((parameter * own).sum()).backward()
    assert parameter.grad is not None
    scaler.unscale([parameter.grad])
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()


@pytest.mark.parametrize("name", ["adamw", "adamw-schedulefree"])
def test_skips_leave_no_trace_in_weights_or_moments(name: OptimizerName) -> None:
    scaled, plain = nn.Parameter(torch.ones(64)), nn.Parameter(torch.ones(64))
    own, theirs = _optimizer(scaled, name), _optimizer(plain, name)
    scaler = LossScaler(CPU, patience=3)
    for step in range(15):
        _step(scaler, scaled, own, step)
        if step % 5 != 4:
            plain.grad = _gradient(step, loud=False)
            theirs.step()
    # a power of two moves the exponent alone, so not one bit may differ
    assert torch.equal(scaled, plain)
    left, right = flatten_optimizer(own)[0], flatten_optimizer(theirs)[0]
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left)


def test_small_gradients_survive_in_half_precision() -> None:
    weight = torch.ones(4, dtype=torch.float16, requires_grad=True)
    loss = (weight.float() * 1e-9).sum()
    (lost,) = torch.autograd.grad(loss, weight, retain_graph=True)
    scaler = LossScaler(CPU)
    (kept,) = torch.autograd.grad(scaler.scaled(loss), weight)
    assert not bool(lost.any())
    wide = kept.float()
    scaler.unscale([wide])
    torch.testing.assert_close(wide, torch.full((4,), 1e-9), rtol=1e-2, atol=0)


def test_the_scale_falls_on_overflow_and_rises_when_quiet() -> None:
    scaler = LossScaler(CPU, start=8.0, patience=2)
    seen = []
    for loud in (True, False, False, False, True, True, True, True, True):
        scaler.unscale([torch.tensor([torch.inf if loud else 1.0])])
        scaler.update()
        seen.append(float(scaler.state()["scaler.scale"]))
    assert seen == [4.0, 4.0, 8.0, 8.0, 4.0, 2.0, 1.0, 1.0, 1.0]


def test_an_overflow_is_told_from_a_divergence() -> None:
    scaler, norm = LossScaler(CPU, start=2.0), torch.tensor(3.0)
    scaler.unscale([torch.ones(2)])
    assert float(scaler.judged(norm)) == 3.0
    scaler.unscale([torch.tensor([torch.nan])])
    assert float(scaler.judged(torch.tensor(torch.nan))) == 0.0
    scaler.update()  # the scale is 1 now and cannot fall any more
    scaler.unscale([torch.tensor([torch.nan])])
    assert math.isnan(float(scaler.judged(norm)))


@pytest.mark.parametrize("stop", [1, 4, 5, 11])
def test_it_goes_on_bit_for_bit(stop: int) -> None:
    def fresh() -> tuple[nn.Parameter, torch.optim.Optimizer, LossScaler]:
        parameter = nn.Parameter(torch.ones(64))
        return parameter, _optimizer(parameter), LossScaler(CPU, patience=2)

    whole, optimizer, scaler = fresh()
    for step in range(15):
        _step(scaler, whole, optimizer, step)
    end = scaler.state()

    first, optimizer, scaler = fresh()
    for step in range(stop):
        _step(scaler, first, optimizer, step)
    moments, meta = flatten_optimizer(optimizer)
    kept = scaler.state()

    again, optimizer, scaler = fresh()
    again.data.copy_(first.data)
    restore_optimizer(optimizer, moments, meta)
    scaler.load_state(kept)
    for step in range(stop, 15):
        _step(scaler, again, optimizer, step)
    assert torch.equal(whole, again)
    assert all(torch.equal(value, end[name]) for name, value in scaler.state().items())
