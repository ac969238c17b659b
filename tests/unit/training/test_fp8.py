"""Eight-bit storage: near the original, with the gradient of what it computes, and no copies kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from talent_factory.training.config import TrainConfig
from talent_factory.training.families import Base, load_base
from talent_factory.training.families.fp8 import FP8, Fp8Conv2d, Fp8Linear, store_in_fp8
from talent_factory.training.loop import train
from talent_factory.training.lora import attach


def _layers() -> list[nn.Linear | nn.Conv2d]:
    torch.manual_seed(0)
    return [nn.Linear(24, 16), nn.Conv2d(24, 16, 3, stride=2, padding=1), nn.Conv2d(24, 16, 1)]


@pytest.mark.parametrize("number", range(3))
def test_a_stored_layer_is_near_and_its_gradient_is_its_own(number: int) -> None:
    layer = _layers()[number]
    layer.requires_grad_(False)
    x = torch.randn(2, 24) if number == 0 else torch.randn(2, 24, 7, 6)
    exact = layer(x)
    store_in_fp8(layer)
    assert isinstance(layer, Fp8Linear | Fp8Conv2d)
    x.requires_grad_(True)
    found = layer(x)
    assert (found - exact).norm() / exact.norm() < 0.05
    plain = _layers()[number]
    plain.requires_grad_(False)
    plain.weight.data.copy_(layer.weight)
    y = x.detach().clone().requires_grad_(True)
    weights = torch.randn_like(found)
    (found * weights).sum().backward()
    (plain(y) * weights).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-5)


def test_rows_of_any_size_keep_their_digits() -> None:
    layer = nn.Linear(64, 3, bias=False).requires_grad_(False)
    layer.weight.data.copy_(torch.randn(3, 64) * torch.tensor([[1e-6], [1.0], [1e5]]))
    before = layer.weight.clone()
    store_in_fp8(layer)
    error = (layer.weight.float() - before).norm(dim=1) / before.norm(dim=1)
    assert (error < 0.05).all()


def test_a_base_in_eight_bits_trains(base_folder: Path, base: Base) -> None:
    small = load_base(base_folder, dtype="fp8")
    assert small.dtype == torch.bfloat16
    held = sum(tensor.numel() for tensor in small.unet.buffers() if tensor.dtype == FP8)
    assert held > 0.9 * sum(p.numel() for p in base.unet.parameters() if p.dim() > 1)
    latents, times = torch.randn(2, 4, 4, 4), torch.tensor([20, 800])
    text = base.encode_prompts(["a", "b"])
    with torch.no_grad():
        found, exact = small.predict(latents, times, text), base.predict(latents, times, text)
    assert (found - exact).norm() / exact.norm() < 0.1
    network = attach(small.unet, rank=2, targets="transformer+conv", name=small.lora_name, seed=1)
    small.predict(latents, times, text).square().mean().backward()
    for name, layer in network.named_layers():
        assert layer.up.grad is not None, name
        assert layer.up.grad.any(), name


def test_no_wide_copy_waits_for_the_backward_pass() -> None:
    layer = store_in_fp8(nn.Linear(256, 256).requires_grad_(False))
    kept: list[torch.dtype] = []
    x = torch.randn(1, 256, requires_grad=True)

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.dtype) if tensor.numel() >= 256 * 256 else None
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        layer(x)
    assert kept == []


def test_a_training_on_eight_bits_stays_near_one_on_thirty_two(
    make_config: Callable[..., TrainConfig], dataset: Path, tmp_path: Path
) -> None:
    losses = {}
    for precision in ("fp32", "fp8"):
        config = make_config(precision=precision, max_train_steps=3, targets="transformer+conv")
        losses[precision] = train(config, dataset=dataset, run=tmp_path / precision).final_loss
    assert losses["fp8"] != losses["fp32"]
    assert losses["fp8"] == pytest.approx(losses["fp32"], rel=0.05)
