"""The layers' own arithmetic gives what plain autograd gives: answers and every gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from talent_factory.training.lora import attach
from talent_factory.training.lora.products import (
    low_rank_branches,
    low_rank_rows,
    merged_convolution,
    merged_rows,
    merging_pays,
    weight_lengths,
)
from talent_factory.training.options import NetworkKeys


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _gradients(answer: Tensor, *leaves: Tensor) -> list[Tensor]:
    weights = _random(*answer.shape, seed=99)
    return list(torch.autograd.grad((answer.float() * weights).sum(), leaves))


def _same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("merged", [True, False])
def test_rows(merged: bool, bias: bool) -> None:
    x, down, up = (
        _random(*shape, seed=n).requires_grad_() for n, shape in enumerate([(9, 6), (4, 6), (5, 4)])
    )
    weight, offset = _random(5, 6, seed=3), _random(5, seed=4) if bias else None
    expected = F.linear(x, weight, offset) + 0.7 * (x @ down.t()) @ up.t()
    if merged:
        found = merged_rows(x, (weight, offset), (down, up), scale=0.7)
    else:
        copies = (down.detach(), up.detach())
        found = low_rank_rows(x, (weight, offset), (down, up), copies=copies, scale=0.7)
    _same(found, expected)
    for own, plain in zip(_gradients(found, x, down, up), _gradients(expected, x, down, up), strict=True):
        _same(own, plain)


def test_an_input_without_gradient_gets_none_and_the_layer_still_learns() -> None:
    x, weight = _random(9, 6, seed=0), _random(5, 6, seed=3)
    down, up = _random(4, 6, seed=1).requires_grad_(), _random(5, 4, seed=2).requires_grad_()
    found = low_rank_rows(x, (weight, None), (down, up), copies=(down.detach(), up.detach()), scale=1.0)
    assert all(gradient.abs().sum() > 0 for gradient in _gradients(found, down, up))


@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 1), (1, 0)])
def test_a_merged_convolution(stride: int, padding: int) -> None:
    x = _random(2, 3, 8, 8, seed=0).contiguous(memory_format=torch.channels_last).requires_grad_()
    down, up = _random(4, 3, 3, 3, seed=1).requires_grad_(), _random(5, 4, 1, 1, seed=2).requires_grad_()
    weight, bias = _random(5, 3, 3, 3, seed=3), _random(5, seed=4)
    shape = ((stride, stride), (padding, padding), (1, 1))
    expected = F.conv2d(x, weight, bias, *shape) + 0.5 * F.conv2d(F.conv2d(x, down, None, *shape), up)
    found = merged_convolution(x, (weight, bias), (down, up), scale=0.5, shape=shape)
    _same(found, expected)
    for own, plain in zip(_gradients(found, x, down, up), _gradients(expected, x, down, up), strict=True):
        _same(own, plain)


def test_branches_are_their_layers() -> None:
    x = _random(9, 6, seed=0).requires_grad_()
    downs = [_random(4, 6, seed=n).requires_grad_() for n in (1, 2, 3)]
    ups = [_random(width, 4, seed=10 + width).requires_grad_() for width in (5, 5, 7)]
    weights = [_random(width, 6, seed=20 + width) for width in (5, 5, 7)]
    trained = list(zip(downs, ups, strict=True))
    copies = [(down.detach(), up.detach()) for down, up in trained]
    found = low_rank_branches(x, torch.cat(weights), trained, copies=copies, scale=0.3)
    expected = torch.cat(
        [
            x @ weight.t() + 0.3 * (x @ down.t()) @ up.t()
            for weight, (down, up) in zip(weights, trained, strict=True)
        ],
        dim=1,
    )
    _same(found, expected)
    leaves = (x, *downs, *ups)
    for own, plain in zip(_gradients(found, *leaves), _gradients(expected, *leaves), strict=True):
        _same(own, plain)


def test_lengths_are_those_of_the_sum() -> None:
    for weight, down, up in (
        (_random(5, 6, seed=0), _random(4, 6, seed=1), _random(5, 4, seed=2)),
        (_random(5, 6, 3, 3, seed=0), _random(4, 6, 3, 3, seed=1), _random(5, 4, 1, 1, seed=2)),
    ):
        whole = weight + 0.7 * (up.flatten(1) @ down.flatten(1)).view_as(weight)
        _same(weight_lengths(weight, down, up, 0.7), whole.transpose(0, 1).flatten(1).norm(dim=1))


def test_merging_is_for_many_rows() -> None:
    assert merging_pays(1536, 64, 64)
    assert not merging_pays(64, 1280, 1280)


def test_bf16_keeps_small_additions() -> None:
    """A sum in bf16 would round the addition away; the product beside the base's keeps it."""
    layer = nn.Linear(64, 64, bias=False).to(torch.bfloat16)
    network = attach(
        nn.ModuleDict({"attentions": nn.ModuleList([nn.ModuleDict({"proj_in": layer})])}), rank=4
    )
    ((_, own),) = network.named_layers()
    x = _random(3, 64, seed=0).to(torch.bfloat16)
    before = layer(x)
    with torch.no_grad():
        own.up.fill_(0.01)
    difference = (layer(x) - before).float()
    expected = (x.float() @ own.down.t()) @ own.up.t()
    assert torch.corrcoef(torch.stack([difference.flatten(), expected.flatten()]))[0, 1] > 0.9
    network.detach()
    assert torch.equal(layer(x), before)


def test_ranks_and_scales_follow_the_keys() -> None:
    def made(**keys: object) -> dict[str, Tensor]:
        block = nn.ModuleDict({"conv1": nn.Conv2d(4, 4, 3), "conv_shortcut": nn.Conv2d(4, 4, 1)})
        model = nn.ModuleDict({"resnets": nn.ModuleList([block])})
        shape = NetworkKeys.model_validate(keys)
        return attach(model, rank=4, alpha=2.0, targets="transformer+conv", shape=shape).state()

    plain, conv, rslora = made(), made(conv_rank=8), made(rslora=True)
    name = "lora_unet_resnets_0_conv1"
    assert plain[f"{name}.lora_down.weight"].shape == (4, 4, 3, 3)
    assert conv[f"{name}.lora_down.weight"].shape == (8, 4, 3, 3)
    assert conv["lora_unet_resnets_0_conv_shortcut.lora_down.weight"].shape == (4, 4, 1, 1)
    assert conv[f"{name}.alpha"] / 8 == plain[f"{name}.alpha"] / 4
    assert rslora[f"{name}.alpha"] == 2.0 * 4**0.5
    assert made(conv_rank=8, conv_alpha=1.0)[f"{name}.alpha"] == 1.0
    assert made(dora=True)[f"{name}.dora_scale"].shape == (1, 4, 1, 1)
