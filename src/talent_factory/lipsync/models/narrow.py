"""A UNet trained in sixteen bits on a processor, without what torch's own kernels waste there.

oneDNN lays the weights of a convolution out anew in every call and their gradients back; where a picture has
few places and a layer many weights, that is two thirds of the time. As products of the columns of the picture
the same sums need no layout, and a copy of the weights in sixteen bits lasts until they change. Attention by
maps that fit into the cache takes half the time of the fused kernel, which is slow in sixteen bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from talent_factory.training.attention import is_plain_block, split_heads

NARROW = torch.bfloat16
# Up to so many places of a picture, and from so many weights on, products are quicker than oneDNN.
_FEW_PLACES, _MANY_WEIGHTS = 64, 1 << 20
# Numbers in the maps of attention that are worked on at a time: 2 MB, which stay in the cache.
_MAP_NUMBERS = 1 << 20


def quicken(unet: nn.Module) -> Copies:
    """Let `unet` train faster under autocast to bfloat16 on a CPU; what is given follows its optimizer.

    Its names, weights and results outside of autocast stay as they are. Pictures lie channels last.
    """
    unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    deep: list[_Deep] = []
    for module in unet.modules():
        if is_plain_block(module):
            attn: Any = module
            attn.set_processor(MapByMap())
        elif _is_deep(module):
            assert isinstance(module, nn.Conv2d)
            deep.append(_Deep(module))
            module.forward = deep[-1]  # type: ignore[method-assign,assignment]
    return Copies(deep)


class Copies:
    """The weights in sixteen bits that layers keep from batch to batch of a step."""

    def __init__(self, layers: list[_Deep]) -> None:
        self.layers = layers

    def follow(self, optimizer: torch.optim.Optimizer) -> None:
        """Forget them when `optimizer` has moved the weights: its fused kernel leaves no other trace."""
        optimizer.register_step_post_hook(lambda *_: self._forget())

    def _forget(self) -> None:
        for layer in self.layers:
            layer.forget()


class MapByMap:
    """A diffusers attention processor that keeps each map of attention in the cache."""

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any
    ) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        parts = attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)
        query, key, value = (split_heads(part, attn.heads) for part in parts)
        if query.dtype == NARROW:
            out: Tensor = _Attend.apply(query, key, value)  # type: ignore[no-untyped-call]
        else:
            out = functional.scaled_dot_product_attention(query, key, value)
        answer: Tensor = attn.to_out[0](out.transpose(1, 2).flatten(2))
        return answer


class _Attend(torch.autograd.Function):
    """softmax(q k^T / sqrt(d)) v for (B, heads, N, d); the backward pass makes the maps again."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        ctx.heads = query.shape[:2]
        q, k, v = (part.flatten(0, 1) for part in (query, key, value))
        ctx.save_for_backward(q, k, v)
        out = torch.empty_like(q)
        for part, weights in _maps(q, k):
            torch.bmm(weights, v[part], out=out[part])
        answer: Tensor = out.unflatten(0, ctx.heads)
        return answer

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        q, k, v = ctx.saved_tensors
        grad = grad.flatten(0, 1)
        scale = q.shape[-1] ** -0.5
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        for part, weights in _maps(q, k):
            torch.bmm(weights.transpose(1, 2), grad[part], out=dv[part])
            slopes = torch.bmm(grad[part], v[part].transpose(1, 2))
            slopes = torch._softmax_backward_data(slopes, weights, -1, slopes.dtype)
            torch.baddbmm(dq[part], slopes, k[part], beta=0, alpha=scale, out=dq[part])
            torch.baddbmm(dk[part], slopes.transpose(1, 2), q[part], beta=0, alpha=scale, out=dk[part])
        return tuple(part.unflatten(0, ctx.heads) for part in (dq, dk, dv))


def _maps(q: Tensor, k: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Some rows of q and k (heads, N, d) at a time, with their weights (some, N, M)."""
    places = q.shape[1], k.shape[1]
    count = max(1, _MAP_NUMBERS // (places[0] * places[1]))
    scores, weights = (q.new_empty(min(count, len(q)), *places) for _ in range(2))
    for start in range(0, len(q), count):
        part = slice(start, min(start + count, len(q)))
        some = part.stop - part.start
        one, other = scores[:some], weights[:some]
        torch.baddbmm(one, q[part], k[part].transpose(1, 2), beta=0, alpha=q.shape[-1] ** -0.5, out=one)
        torch._softmax(one, -1, False, out=other)
        yield part, other


class _Deep:
    """A convolution as a product, under autocast and where the picture has few places."""

    def __init__(self, conv: nn.Conv2d) -> None:
        self._conv = conv
        self._copy: Tensor | None = None
        self._copy_of: tuple[int, int] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        conv = self._conv
        height, width = (_steps(side, conv.stride[0]) for side in x.shape[-2:])
        narrow = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == NARROW
        if not narrow or height * width > _FEW_PLACES:
            usual: Tensor = conv._conv_forward(x, conv.weight, conv.bias)
            return usual
        answer: Tensor = _Product.apply(x, conv.weight, conv.bias, self._narrow(), conv.stride[0])  # type: ignore[no-untyped-call]
        return answer

    def forget(self) -> None:
        """Make the next copy from the weights as they are then."""
        self._copy = self._copy_of = None

    def _narrow(self) -> Tensor:
        """The weights in sixteen bits, (out, 3, 3, in) in memory; kept where they are trained."""
        weight = self._conv.weight
        wanted = weight.data_ptr(), weight._version
        if self._copy is not None and self._copy_of == wanted and torch.is_grad_enabled():
            return self._copy
        made = weight.detach().to(NARROW, memory_format=torch.channels_last)
        if torch.is_grad_enabled():  # whoever only looks may have put other weights there for a while
            self._copy, self._copy_of = made, wanted
        return made


class _Product(torch.autograd.Function):
    """A convolution of 3 x 3 with a border of one: columns of the picture times weights."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, narrow: Tensor, stride: int
    ) -> Tensor:
        ctx.dtypes = x.dtype, weight.dtype
        x = x.to(NARROW)
        ctx.save_for_backward(x, narrow)
        ctx.stride = stride
        columns, places = _columns(x, stride)
        rows = functional.linear(columns, _matrix(narrow), None if bias is None else bias.to(NARROW))
        return rows.view(*places, -1).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, narrow = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        rows = grad.permute(0, 2, 3, 1).reshape(-1, grad.shape[1])
        of_x = of_weight = of_bias = None
        if wants_x:
            of_x = _folded(rows @ _matrix(narrow), x.shape, ctx.stride).to(ctx.dtypes[0])
        if wants_weight:
            product = rows.t() @ _columns(x, ctx.stride)[0]
            of_weight = product.to(ctx.dtypes[1]).view(-1, 3, 3, x.shape[1]).permute(0, 3, 1, 2)
        if wants_bias:
            of_bias = rows.sum(0, dtype=ctx.dtypes[1])
        return of_x, of_weight, of_bias, None, None


def _columns(x: Tensor, stride: int) -> tuple[Tensor, tuple[int, int, int]]:
    """(B, C, h, w) as (B·h'·w', 9·C), what each place sees; and (B, h', w')."""
    count, channels, height, width = x.shape
    framed = functional.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).contiguous()
    frame, row, place, _ = framed.stride()
    sides = _steps(height, stride), _steps(width, stride)
    seen = framed.as_strided(
        (count, *sides, 3, 3, channels), (frame, row * stride, place * stride, row, place, 1)
    )
    return seen.reshape(-1, 9 * channels), (count, *sides)


def _folded(columns: Tensor, shape: torch.Size, stride: int) -> Tensor:
    """The way back, overlaps added up in fp32: (B·h'·w', 9·C) to (B, C, h, w) of `shape`."""
    count, channels, height, width = shape
    down, across = _steps(height, stride), _steps(width, stride)
    seen = columns.view(count, down, across, 3, 3, channels)
    sums = columns.new_zeros(count, height + 2, width + 2, channels, dtype=torch.float32)
    for y in range(3):
        for x in range(3):
            part = sums[:, y : y + stride * down : stride, x : x + stride * across : stride]
            part += seen[:, :, :, y, x]
    return sums[:, 1:-1, 1:-1].permute(0, 3, 1, 2)


def _matrix(narrow: Tensor) -> Tensor:
    """Weights that lie channels last as the matrix (out, 9·in) that they are in memory."""
    return narrow.permute(0, 2, 3, 1).flatten(1)


def _steps(side: int, stride: int) -> int:
    """Places along a side after a convolution of three with a border of one."""
    return (side - 1) // stride + 1


def _is_deep(module: nn.Module) -> bool:
    return (
        type(module) is nn.Conv2d
        and (module.kernel_size, module.padding) == ((3, 3), (1, 1))
        and module.stride in ((1, 1), (2, 2))
        and (module.dilation, module.groups, module.padding_mode) == ((1, 1), 1, "zeros")
        and module.weight.numel() >= _MANY_WEIGHTS
    )
