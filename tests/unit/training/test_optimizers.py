"""Each optimiser trains, and goes on bit for bit from what a checkpoint holds of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from talent_factory.core.errors import ConfigError, UsageError
from talent_factory.core.seeds import derive_seed
from talent_factory.training import loop, session
from talent_factory.training.checkpoints import (
    flatten_optimizer,
    load_latest,
    restore_optimizer,
    save_checkpoint,
)
from talent_factory.training.config import TrainConfig
from talent_factory.training.optimizers import (
    capturable,
    evaluation_mode,
    keeps_own_schedule,
    make_optimizer,
    set_rate,
)
from talent_factory.training.options import OptimizerKeys, OptimizerName

CPU = torch.device("cpu")
NAMES = get_args(OptimizerName)
STEPS = 24
# One above and one below the size from which 8-bit moments are used, and one that begins as zeros, as up
# matrices do.
SIZES = (5000, 300, 4500)

each_optimizer = pytest.mark.parametrize("name", NAMES)


def _parameters() -> list[nn.Parameter]:
    starts = [torch.randn(size, generator=torch.Generator().manual_seed(size)) for size in SIZES]
    starts[-1].zero_()
    return [nn.Parameter(start) for start in starts]


def _make(name: OptimizerName, parameters: list[nn.Parameter], rate: float = 1e-2) -> torch.optim.Optimizer:
    groups = [{"params": [parameter], "lr": rate} for parameter in parameters]
    return make_optimizer(groups, OptimizerKeys(name=name), device=CPU)


def _train(parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        set_rate(optimizer, [1e-2 * (1 - step / STEPS)] * len(SIZES))
        for number, parameter in enumerate(parameters):
            generator = torch.Generator().manual_seed(derive_seed(7, step, number))
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.grad = (parameter.detach() - 1.0) + 0.1 * noise
        optimizer.step()


def _values(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in parameters]


def _equal(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@each_optimizer
@pytest.mark.parametrize("number", range(3))
def test_a_resume_at_any_step_ends_in_the_same_bits(name: OptimizerName, number: int, tmp_path: Path) -> None:
    stop = 1 + derive_seed(name, number) % (STEPS - 1)
    whole = _parameters()
    _train(whole, _make(name, whole), range(STEPS))

    first = _parameters()
    optimizer = _make(name, first)
    _train(first, optimizer, range(stop))
    moments, meta = flatten_optimizer(optimizer)
    weights = {f"w{number}": parameter for number, parameter in enumerate(first)}
    # through the file, as a run does it: what JSON or safetensors cannot hold must show here
    save_checkpoint(tmp_path, step=stop, tensors={**weights, **moments}, meta={"optimizer": meta})

    found = load_latest(tmp_path)
    assert found is not None
    again = [nn.Parameter(found.tensors[f"w{number}"]) for number in range(len(SIZES))]
    optimizer = _make(name, again)
    restore_optimizer(optimizer, found.tensors, found.meta["optimizer"])  # type: ignore[arg-type]
    _train(again, optimizer, range(stop, STEPS))
    assert _equal(_values(whole), _values(again))


@each_optimizer
def test_it_comes_nearer_to_the_target(name: OptimizerName) -> None:
    parameters = _parameters()
    optimizer = _make(name, parameters, rate=1.0 if name == "prodigy" else 1e-2)
    before = float((parameters[0].detach() - 1).square().mean())
    for _ in range(200):
        for parameter in parameters:
            parameter.grad = parameter.detach() - 1.0
        optimizer.step()
    with evaluation_mode(optimizer):
        after = float((parameters[0].detach() - 1).square().mean())
    assert after < 0.5 * before


@each_optimizer
def test_looking_at_a_run_changes_nothing(name: OptimizerName) -> None:
    plain, looked_at = _parameters(), _parameters()
    optimizers = _make(name, plain), _make(name, looked_at)
    _train(plain, optimizers[0], range(10))
    _train(looked_at, optimizers[1], range(5))
    before = _values(looked_at)
    with evaluation_mode(optimizers[1]):
        shown = _values(looked_at)
    assert _equal(before, _values(looked_at))
    assert _equal(before, shown) == (name != "adamw-schedulefree")
    _train(looked_at, optimizers[1], range(5, 10))
    assert _equal(_values(plain), _values(looked_at))


def test_a_failure_while_looking_puts_the_weights_back() -> None:
    parameters = _parameters()
    optimizer = _make("adamw-schedulefree", parameters)
    _train(parameters, optimizer, range(3))
    before = _values(parameters)
    with pytest.raises(RuntimeError, match="stop"), evaluation_mode(optimizer):
        raise RuntimeError("stop")
    assert _equal(before, _values(parameters))
    _train(parameters, optimizer, range(3, 4))  # it is in training mode again


def test_eight_bits_are_used_where_they_are_asked_for() -> None:
    parameters = _parameters()
    optimizer = _make("adamw8bit", parameters)
    _train(parameters, optimizer, range(1))
    assert optimizer.state[parameters[0]]["state1"].dtype == torch.uint8


def test_eight_bits_stay_near_thirty_two() -> None:
    exact, coarse = _parameters(), _parameters()
    _train(exact, _make("adamw", exact), range(STEPS))
    _train(coarse, _make("adamw8bit", coarse), range(STEPS))
    moved = float((exact[0].detach() - _parameters()[0].detach()).abs().mean())
    apart = float((exact[0].detach() - coarse[0].detach()).abs().mean())
    assert apart < 0.1 * moved


def test_a_rate_in_a_tensor_is_filled_in_place() -> None:
    parameter = nn.Parameter(torch.zeros(4))
    held = torch.tensor(0.5)
    optimizer = torch.optim.AdamW([{"params": [parameter], "lr": held}], fused=True)
    set_rate(optimizer, [0.25])
    assert optimizer.param_groups[0]["lr"] is held
    assert float(held) == 0.25
    _, meta = flatten_optimizer(optimizer)
    held.fill_(9.0)
    restore_optimizer(optimizer, {}, meta)
    assert optimizer.param_groups[0]["lr"] is held
    assert float(held) == 0.25


def test_prodigy_refuses_two_rates() -> None:
    groups = [
        {"params": [parameter], "lr": rate}
        for parameter, rate in zip(_parameters(), (1, 1, 0.1), strict=True)
    ]
    with pytest.raises(ConfigError, match="one rate"):
        make_optimizer(groups, OptimizerKeys(name="prodigy"), device=CPU)


@pytest.mark.parametrize(
    ("name", "module"),
    [("adamw8bit", "bitsandbytes.optim"), ("prodigy", "prodigyopt"), ("adamw-schedulefree", "schedulefree")],
)
def test_a_missing_library_is_said(name: Any, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match="not installed") as caught:
        _make(name, _parameters())
    assert "talent-factory[optimizers]" in caught.value.remedy


def test_a_missing_library_is_said_before_the_base_is_loaded(
    make_config: Callable[..., TrainConfig], dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prodigyopt", None)
    monkeypatch.setattr(session, "load_base", None)
    config = make_config(optimizer={"name": "prodigy"}, learning_rate=1.0)
    with pytest.raises(UsageError, match="needs prodigyopt"):
        loop.train(config, dataset=dataset, run=tmp_path / "run")


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(ConfigError, match="no kernels"):
        make_optimizer([], OptimizerKeys(name="adamw8bit"), device=torch.device("mps"))


def test_prodigy_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    _make("prodigy", _parameters())
    assert capsys.readouterr().out == ""


def test_who_can_be_captured_and_who_averages() -> None:
    cuda = torch.device("cuda")
    assert [name for name in NAMES if capturable(name, cuda)] == ["adamw"]
    assert not any(capturable(name, CPU) for name in NAMES)
    assert [name for name in NAMES if keeps_own_schedule(name)] == ["adamw-schedulefree"]
