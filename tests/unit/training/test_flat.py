"""All numbers of a run in long vectors: the layers see them, gradients land in them, nothing is lost."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from talent_factory.training.flat import FlatParameters
from talent_factory.training.lora import LoraNetwork, attach
from talent_factory.training.options import NetworkKeys


def _network(*, dora: bool = False, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, LoraNetwork]:
    torch.manual_seed(0)
    block = nn.ModuleDict({"proj_in": nn.Linear(6, 5), "proj_out": nn.Linear(5, 7)})
    model = nn.ModuleDict({"attentions": nn.ModuleList([block])}).to(dtype)
    return block, attach(model, rank=3, seed=1, shape=NetworkKeys(dora=dora))


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("lora_plus", [1.0, 4.0])
def test_vectors_hold_every_parameter(lora_plus: float, dora: bool) -> None:
    _, network = _network(dora=dora)
    before = {name: value.clone() for name, value in network.state().items()}
    flat = FlatParameters([(network, 0.1)], lora_plus=lora_plus, compute=torch.float32)
    for name, value in network.state().items():
        assert torch.equal(value, before[name]), name
    assert sorted(vector.rate for vector in flat.vectors) == ([0.1] if lora_plus == 1.0 else [0.1, 0.4])
    with torch.no_grad():
        for own in flat.weights():
            own.fill_(2.0)
    trained = [value for name, value in network.state().items() if not name.endswith("alpha")]
    assert all((value == 2.0).all() for value in trained)


def test_gradients_land_in_the_vectors_and_add_up() -> None:
    block, network = _network()
    flat = FlatParameters([(network, 0.1)], compute=torch.float32)
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))

    def backward() -> None:
        block["proj_out"](block["proj_in"](x)).square().sum().backward()

    backward()
    once = [gradient.clone() for gradient in flat.gradients()]
    assert all(gradient.abs().sum() > 0 for gradient in once)
    backward()
    for first, second in zip(once, flat.gradients(), strict=True):
        torch.testing.assert_close(second, 2 * first)
    norm = flat.clip(0.5)
    assert norm == pytest.approx(2 * float(torch.cat(once).norm()), rel=1e-5)
    assert float(torch.cat(flat.gradients()).norm()) == pytest.approx(0.5, rel=1e-4)
    flat.zero_gradients()
    assert all(not gradient.any() for gradient in flat.gradients())
    backward()
    torch.testing.assert_close(flat.gradients()[0], once[0])


def test_copies_in_half_precision_follow_the_weights() -> None:
    _, network = _network(dtype=torch.bfloat16)
    flat = FlatParameters([(network, 0.1)], compute=torch.bfloat16)
    with torch.no_grad():
        for own in flat.weights():
            own.add_(0.25)
    flat.refresh()
    for _, layer in network.named_layers():
        down, up = layer.factors(torch.bfloat16)
        assert down is layer.down_c
        assert torch.equal(down, layer.down.detach().to(torch.bfloat16))
        assert torch.equal(up, layer.up.detach().to(torch.bfloat16))


def test_other_values_are_held_for_a_while_only() -> None:
    _, network = _network()
    flat = FlatParameters([(network, 0.1)], compute=torch.float32)
    before = {name: value.clone() for name, value in network.state().items()}
    with flat.holding([torch.full_like(own, 3.0) for own in flat.weights()]):
        (_, layer), *_ = network.named_layers()
        assert (layer.down == 3.0).all()
    assert all(torch.equal(value, before[name]) for name, value in network.state().items())
