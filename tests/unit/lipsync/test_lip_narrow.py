"""A network trained in sixteen bits on a processor: as near to the truth as torch's own way."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lip_clips import make_clips
from lip_training import SMALL, small_config, train_in_parts
from talent_factory.lipsync.actor import WEIGHTS
from talent_factory.lipsync.codec import open_codec
from talent_factory.lipsync.models import narrow
from talent_factory.lipsync.models.unet import build_unet, make_latents
from talent_factory.lipsync.train import networks
from talent_factory.lipsync.train.folders import TENSORS
from talent_factory.lipsync.train.run import train
from talent_factory.training.attention import attend, split_heads


def autocast(enabled: bool = True) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled)


def error(found: Tensor, truth: Tensor) -> float:
    found, truth = found.detach().float(), truth.detach().float()
    return float((found - truth).norm() / truth.norm())


@pytest.mark.parametrize(
    ("heads", "places", "context", "width"), [(2, 1100, 1100, 40), (8, 64, 50, 16), (3, 300, 77, 32)]
)
def test_attention_is_the_formula(heads: int, places: int, context: int, width: int) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(2, count, heads * width) for count in (places, context, context)]

    def made(call: Any, dtype: torch.dtype) -> list[Tensor]:
        parts = [part.detach().to(dtype).requires_grad_() for part in inputs]
        out = call(*(split_heads(part, heads) for part in parts))
        out.float().square().sum().backward()
        return [out, *(part.grad for part in parts if part.grad is not None)]

    truth = made(functional.scaled_dot_product_attention, torch.float32)
    usual = made(partial(attend, plain=True), torch.bfloat16)
    found = made(narrow._Attend.apply, torch.bfloat16)
    for one, other, plain in zip(found, truth, usual, strict=True):
        assert error(one, other) < 1.1 * error(plain, other)


@pytest.mark.parametrize("layout", ["rows first", "channels last", "columns first"])
@pytest.mark.parametrize(
    ("side", "stride", "bias"), [(8, 1, True), (8, 2, True), (7, 2, False), (5, 1, True)]
)
def test_a_convolution_as_a_product_is_the_convolution(
    side: int, stride: int, bias: bool, layout: str
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(24, 40, 3, stride, 1, bias=bias).to(memory_format=torch.channels_last)
    x = torch.randn(3, 24, side, side)
    if layout == "channels last":
        x = x.contiguous(memory_format=torch.channels_last)
    elif layout == "columns first":
        x = x.transpose(2, 3)

    def made(call: Any, *, narrowed: bool) -> list[Tensor]:
        conv.zero_grad(set_to_none=True)
        inputs = x.clone(memory_format=torch.preserve_format).requires_grad_()
        with autocast(narrowed):
            out = call(inputs)
        out.float().square().sum().backward()
        return [out, inputs.grad, *(own.grad for own in conv.parameters())]  # type: ignore[list-item]

    truth, usual = made(conv, narrowed=False), made(conv, narrowed=True)
    found = made(narrow._Deep(conv), narrowed=True)
    assert found[0].dtype == torch.bfloat16
    assert [one.dtype for one in found[1:]] == [torch.float32] * (len(found) - 1)
    assert [one.stride() for one in found[2:]] == [one.stride() for one in usual[2:]]
    for one, other, plain in zip(found, truth, usual, strict=True):
        assert error(one, other) < 1.2 * error(plain, other)
    assert torch.equal(made(narrow._Deep(conv), narrowed=False)[0], truth[0]), "outside nothing changes"


def test_frozen_weights_get_no_gradient_and_still_lead_back() -> None:
    conv = nn.Conv2d(8, 8, 3, padding=1).requires_grad_(False)
    x = torch.ones(1, 8, 4, 4, requires_grad=True)
    with autocast():
        narrow._Deep(conv)(x).sum().backward()
    assert conv.weight.grad is None
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("way", ["optimizer", "load_state_dict", "another tensor", "a look"])
def test_copies_follow_the_weights(way: str) -> None:
    torch.manual_seed(0)
    conv, other = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
    deep, x = narrow._Deep(conv), torch.randn(1, 8, 4, 4)
    optimizer = torch.optim.AdamW(conv.parameters(), lr=0.5, fused=True)
    narrow.Copies([deep]).follow(optimizer)
    with autocast():
        before = deep(x)
        kept = deep._copy
        assert torch.equal(deep(x), before)
        assert deep._copy is kept, "nothing is copied as long as nothing changes"
        before.float().sum().backward()
    if way == "optimizer":
        optimizer.step()
    elif way == "load_state_dict":
        conv.load_state_dict(other.state_dict())
    elif way == "another tensor":
        conv.weight.data = other.weight.data
    else:
        truth = conv.weight.detach().clone()
        conv.weight.data.copy_(other.weight.data)
        with autocast(), torch.no_grad():
            assert not torch.equal(deep(x), before)
        conv.weight.data.copy_(truth)
        with autocast():
            assert torch.equal(deep(x), before)
        return
    with autocast():
        assert torch.equal(deep(x), narrow._Deep(conv)(x))
        assert not torch.equal(deep(x), before)


def test_a_quickened_network_answers_and_learns_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrow, "_MANY_WEIGHTS", 0)
    torch.manual_seed(0)
    plain = build_unet(SMALL, open_codec("mini"))
    quick = copy.deepcopy(plain)
    assert len(narrow.quicken(quick).layers) > 10
    assert list(quick.state_dict()) == list(plain.state_dict())
    one, other, tokens = torch.randn(2, 4, 4, 4), torch.randn(2, 4, 4, 4), torch.randn(2, 50, 384)

    def made(unet: Any, *, narrowed: bool) -> tuple[Tensor, Tensor]:
        unet.zero_grad()
        with autocast(narrowed):
            out = make_latents(unet, one, other, tokens)
        out.float().square().sum().backward()
        return out, torch.cat([own.grad.flatten() for own in unet.parameters() if own.grad is not None])

    truth = made(plain, narrowed=False)
    for found, usual, exact in zip(
        made(quick, narrowed=True), made(plain, narrowed=True), truth, strict=True
    ):
        assert found.shape == exact.shape
        assert error(found, exact) < max(0.02, 1.5 * error(usual, exact))
    assert error(made(quick, narrowed=False)[0], truth[0]) < 1e-5


@pytest.mark.slow
def test_sixteen_bits_resume_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrow, "_MANY_WEIGHTS", 0)
    seen: list[narrow.Copies] = []

    def quicken(unet: nn.Module) -> narrow.Copies:
        seen.append(narrow.quicken(unet))
        return seen[-1]

    monkeypatch.setattr(networks, "quicken", quicken)
    make_clips(tmp_path / "d")
    changes: dict[str, Any] = {
        "mixed_precision": "bf16",
        "vae_pretrained_model_name_or_path": "mini",
        "pixel_loss": 1.0,
    }
    train(small_config(tmp_path / "d", tmp_path / "one", **changes))
    train_in_parts(small_config(tmp_path / "d", tmp_path / "two", **changes), 10)
    assert [len(copies.layers) > 10 for copies in seen] == [True] * 3
    for name in ("metrics.jsonl", f"checkpoint-4/{TENSORS}", f"checkpoint-4/unet/{WEIGHTS}"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
