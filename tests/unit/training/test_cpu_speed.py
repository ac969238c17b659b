"""What makes a CPU fast changes no number: packed convolutions, joined attention, plain products."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from talent_factory.training.attention import attend, plain_attention, tune_attention
from talent_factory.training.cpu import pack_convolutions
from talent_factory.training.families import Base, load_base
from talent_factory.training.lora import attach


def _convolutions() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(16, 16, 1), nn.Conv2d(16, 8, 3, stride=2))
    return model.requires_grad_(False).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_convolutions_are_the_convolutions(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = _convolutions().to(dtype)
    packed = copy.deepcopy(plain)
    x = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    # the one of stride 2 stays as it is
    assert pack_convolutions(packed, lambda: packed(x), leave=set()) == 2
    assert packed[0].weight.numel() == 0
    answers, gradients = [], []
    for model in (plain, packed):
        own = x.clone().requires_grad_()
        answer = model(own)
        answer.float().square().sum().backward()
        answers.append(answer)
        gradients.append(own.grad)
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    torch.testing.assert_close(answers[1], answers[0], **tolerance)
    torch.testing.assert_close(gradients[1], gradients[0], **tolerance)
    # another batch and another size go through the same packs
    other = torch.randn(1, 8, 12, 10, generator=torch.Generator().manual_seed(2)).to(dtype)
    torch.testing.assert_close(packed(other), plain(other), **tolerance)


def test_packs_keep_to_their_share_and_to_what_may_be_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("talent_factory.training.cpu._ALWAYS_BYTES", 0)
    model = _convolutions()
    x = torch.randn(1, 8, 8, 8)
    assert pack_convolutions(model, lambda: model(x), leave=set(model)) == 0
    assert all(layer.weight.numel() for layer in model)
    # the largest layer is 53 % of the weights, and a tenth may be copied
    assert pack_convolutions(model, lambda: model(x), leave=set()) == 1
    assert model[1].weight.numel() == 0


@pytest.mark.parametrize("keys", [16, 5])
def test_plain_products_are_attention(keys: int) -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 3, 16, 8, generator=generator)
    key, value = (torch.randn(2, 3, keys, 8, generator=generator) for _ in range(2))
    torch.testing.assert_close(
        attend(query, key, value, plain=True), F.scaled_dot_product_attention(query, key, value)
    )


def _answer(base: Base, seed: int = 1) -> Tensor:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
    return base.predict(latents, torch.tensor([10, 500]), base.encode_prompts(["a robot", "a man"]))


def test_joined_attention_is_the_attention(base_folder: object) -> None:
    answers, gradients = [], []
    for tuned in (False, True):
        base = load_base(str(base_folder))
        network = attach(base.unet, rank=4, seed=3)
        with torch.no_grad():
            for index, (_, layer) in enumerate(network.named_layers()):
                layer.up.normal_(0, 0.1, generator=torch.Generator().manual_seed(index))
        if tuned:
            assert tune_attention(base.unet, network) == 2 * _blocks(base.unet)
        else:
            plain_attention(base.unet)
        answer = _answer(base)
        answer.square().sum().backward()
        answers.append(answer.detach())
        gradients.append({name: (layer.down.grad, layer.up.grad) for name, layer in network.named_layers()})
        with network.disabled():
            answers.append(_answer(base).detach())
    torch.testing.assert_close(answers[2], answers[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(answers[3], answers[1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(answers[0], answers[1])
    for name, (down, up) in gradients[0].items():
        torch.testing.assert_close(gradients[1][name][0], down, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(gradients[1][name][1], up, rtol=1e-3, atol=1e-4)


def _blocks(unet: nn.Module) -> int:
    return sum(type(module).__name__ == "BasicTransformerBlock" for module in unet.modules())
