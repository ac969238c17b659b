"""Keep frozen matrices in eight bits: half the memory of bf16, for cards where the base would not fit.

Numbers are float8_e4m3fn (Micikevicius et al. 2022, arXiv:2209.05433) with one scale for each output, and
become bf16 only while their layer computes. The backward pass makes them anew instead of keeping them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input

FP8 = torch.float8_e4m3fn
_LARGEST = torch.finfo(FP8).max


class _Product(torch.autograd.Function):
    """Rows x times a stored matrix; only the eight-bit form waits for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Fp8Linear) -> Tensor:
        ctx.layer = layer
        return F.linear(x, layer.weight.to(x.dtype), layer.bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        layer: Fp8Linear = ctx.layer
        return grad @ layer.weight.to(grad.dtype), None


class _Convolution(torch.autograd.Function):
    """A convolution of x with stored kernels, likewise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Fp8Conv2d) -> Tensor:
        ctx.layer, ctx.shape = layer, x.shape
        made: Tensor = layer._conv_forward(x, layer.weight.to(x.dtype), layer.bias)
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        layer: Fp8Conv2d = ctx.layer
        weight = layer.weight.to(grad.dtype)
        padding = [int(side) for side in layer.padding]
        into = conv2d_input(
            ctx.shape, weight, grad, list(layer.stride), padding, list(layer.dilation), layer.groups
        )
        return into, None


class _Stored:
    """The weight of a layer as eight bits and a scale for each output."""

    stored: Tensor
    scale: Tensor

    @property
    def weight(self) -> Tensor:
        """The matrix in bf16, made anew at each look: writing into it changes nothing."""
        return self.stored.to(torch.bfloat16) * self.scale


class Fp8Linear(_Stored, nn.Linear):  # type: ignore[override]
    """A frozen linear layer in eight bits."""

    def forward(self, x: Tensor) -> Tensor:
        """As nn.Linear; only x may receive a gradient."""
        rows: Tensor = _Product.apply(x.reshape(-1, x.shape[-1]), self)  # type: ignore[no-untyped-call]
        return rows.view(*x.shape[:-1], -1)


class Fp8Conv2d(_Stored, nn.Conv2d):  # type: ignore[override]
    """A frozen convolution in eight bits."""

    def forward(self, x: Tensor) -> Tensor:
        """As nn.Conv2d; only x may receive a gradient."""
        product: Tensor = _Convolution.apply(x, self)  # type: ignore[no-untyped-call]
        return product


@torch.no_grad()
def store_in_fp8(model: nn.Module) -> nn.Module:
    """Bring every Linear and Conv2d of a frozen model into eight bits, in place; returns the model.

    Norms, biases and embeddings stay as they are, and so do the first and the last convolution: they are
    small, and an error there is an error everywhere.
    """
    spared = {getattr(model, name, None) for name in ("conv_in", "conv_out")}
    for layer in model.modules():
        if layer in spared:
            continue
        if type(layer) is nn.Linear:
            _store(layer, Fp8Linear)
        elif type(layer) is nn.Conv2d and layer.padding_mode == "zeros":
            _store(layer, Fp8Conv2d)
    return model


def _store(layer: nn.Linear | nn.Conv2d, kind: type[Any]) -> None:
    weight = layer.weight.detach()
    rows = weight.float().flatten(1)
    scale = (rows.abs().amax(dim=1).clamp_min(1e-12) / _LARGEST).to(torch.bfloat16)
    # rounded first: the stored numbers must fit the very scale that they are multiplied by
    scale = scale * (1.0 + 2.0**-7)
    shape = (-1, *[1] * (weight.dim() - 1))
    stored = (rows / scale.float()[:, None]).view(weight.shape).clamp(-_LARGEST, _LARGEST).to(FP8)
    if weight.dim() == 4:
        stored = stored.contiguous(memory_format=torch.channels_last)
    del layer._parameters["weight"]
    # The object stays where hooks, names and containers know it; only what it is changes.
    layer.__class__ = kind
    layer.register_buffer("stored", stored)
    layer.register_buffer("scale", scale.view(shape))
