"""The arithmetic of an adapted layer: base and low-rank product in one pass, with just the gradients needed.

A frozen weight needs no gradient, so a layer keeps its input and the narrow product `x @ down.T` and nothing
else, and adds the low-rank part into the result where it lies rather than beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, int]
Shape = tuple[Pair, Pair, Pair]
"""Stride, padding and dilation of a convolution."""


Frozen = tuple[Tensor, Tensor | None]
"""Weight and bias of the base."""
Trained = tuple[Tensor, Tensor]
"""Down and up, float32."""


def low_rank_rows(x_NI: Tensor, frozen: Frozen, trained: Trained, *, copies: Trained, scale: float) -> Tensor:
    """y = x W^T + b + scale (x down^T) up^T for rows x (N, in): (N, out); Hu et al. 2021, eq. 3.

    `copies` are down and up in the precision of x; gradients flow to `trained`.
    """
    answer: Tensor = _LowRankRows.apply(x_NI, frozen, *trained, copies, scale)  # type: ignore[no-untyped-call]
    return answer


def merged_rows(x_NI: Tensor, frozen: Frozen, trained: Trained, *, scale: float) -> Tensor:
    """What `low_rank_rows` gives, by the sum W + scale up down, made anew in each call; for float32.

    It costs out x in x rank products once, and spares rank x (in + out) for each row: it pays where rows are
    many. In half precision the sum would round the small addition away.
    """
    answer: Tensor = _MergedRows.apply(x_NI, frozen, *trained, scale)  # type: ignore[no-untyped-call]
    return answer


def merged_convolution(x: Tensor, frozen: Frozen, trained: Trained, *, scale: float, shape: Shape) -> Tensor:
    """`merged_rows` for a convolution of (B, in, H, W)."""
    answer: Tensor = _MergedConv.apply(x, frozen, *trained, scale, shape)  # type: ignore[no-untyped-call]
    return answer


def low_rank_branches(
    x_NI: Tensor, weight: Tensor, trained: Sequence[Trained], *, copies: Sequence[Trained], scale: float
) -> Tensor:
    """Several adapted layers without bias that read the same rows, as one product: q, k, v of an attention.

    `weight` holds the layers' weights below each other, (sum of outs, in); the result is (N, sum of outs).
    """
    down_c = torch.cat([down for down, _ in copies])
    ups_c = tuple(up for _, up in copies)
    leaves = (*(down for down, _ in trained), *(up for _, up in trained))
    answer: Tensor = _Branches.apply(x_NI, weight, down_c, ups_c, scale, *leaves)  # type: ignore[no-untyped-call]
    return answer


class _LowRankRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_NI: Tensor, frozen: Frozen, down: Tensor, up: Tensor, copies: Trained, scale: float
    ) -> Tensor:
        (weight_OI, bias_O), (down_c, up_c) = frozen, copies
        hidden_NR = x_NI @ down_c.t()
        out_NO = F.linear(x_NI, weight_OI, bias_O)
        out_NO.addmm_(hidden_NR, up_c.t(), alpha=scale)
        ctx.save_for_backward(x_NI, hidden_NR, weight_OI, down_c, up_c)
        ctx.scale, ctx.trained = scale, down.dtype
        return out_NO

    @staticmethod
    def backward(ctx: Any, grad_NO: Tensor) -> Any:
        x_NI, hidden_NR, weight_OI, down_c, up_c = ctx.saved_tensors
        grad_hidden_NR = grad_NO @ (up_c * ctx.scale)
        grad_down = (grad_hidden_NR.t() @ x_NI).to(ctx.trained)
        grad_up = (grad_NO.t() @ hidden_NR).to(ctx.trained) * ctx.scale
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad_NO @ weight_OI
            grad_x.addmm_(grad_hidden_NR, down_c)
        return grad_x, None, grad_down, grad_up, None, None


class _MergedRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NI: Tensor, frozen: Frozen, down: Tensor, up: Tensor, scale: float) -> Tensor:
        merged_OI = torch.addmm(frozen[0], up, down, alpha=scale)
        ctx.save_for_backward(x_NI, merged_OI, down, up)
        ctx.scale = scale
        return F.linear(x_NI, merged_OI, frozen[1])

    @staticmethod
    def backward(ctx: Any, grad_NO: Tensor) -> Any:
        x_NI, merged_OI, down, up = ctx.saved_tensors
        grad_down = (grad_NO @ (up * ctx.scale)).t() @ x_NI
        grad_up = grad_NO.t() @ (x_NI @ (down * ctx.scale).t())
        grad_x = grad_NO @ merged_OI if ctx.needs_input_grad[0] else None
        return grad_x, None, grad_down, grad_up, None


class _MergedConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, frozen: Frozen, down: Tensor, up: Tensor, scale: float, shape: Shape
    ) -> Tensor:
        weight, bias = frozen
        merged = torch.addmm(weight.flatten(1), up.flatten(1), down.flatten(1), alpha=scale).view_as(weight)
        merged = merged.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, merged, down, up)
        ctx.scale, ctx.geometry = scale, shape
        return F.conv2d(x, merged, bias, *shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, merged, down, up = ctx.saved_tensors
        rows_NO = grad.permute(0, 2, 3, 1).flatten(0, 2)
        grad_hidden = (
            (rows_NO @ (up.flatten(1) * ctx.scale)).view(len(x), *grad.shape[2:], -1).permute(0, 3, 1, 2)
        )
        hidden = F.conv2d(x, down, None, *ctx.geometry)
        grad_up = rows_NO.t() @ hidden.permute(0, 2, 3, 1).flatten(0, 2) * ctx.scale
        grad_down = _convolution_gradients(grad_hidden, x, down, ctx.geometry, (False, True))[1]
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = _convolution_gradients(grad, x, merged, ctx.geometry, (True, False))[0]
        return grad_x, None, grad_down, grad_up.view_as(up), None, None


def merging_pays(rows: int, inside: int, outside: int) -> bool:
    """Whether making the sum once costs less than a low-rank product for each of `rows` rows."""
    return inside * outside < rows * (inside + outside)


def _convolution_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, shape: Shape, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of input and weight, each only where wanted."""
    stride, padding, dilation = (list(part) for part in shape)
    of_x, of_weight, _ = torch.ops.aten.convolution_backward(
        grad, x, weight, None, stride, padding, dilation, False, [0, 0], 1, [*wanted, False]
    )
    return of_x, of_weight


class _Branches(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_NI: Tensor,
        weight: Tensor,
        down_c: Tensor,
        ups_c: Sequence[Tensor],
        scale: float,
        *trained: Tensor,
    ) -> Tensor:
        hidden = x_NI @ down_c.t()
        out = x_NI @ weight.t()
        rank, at = down_c.shape[0] // len(ups_c), 0
        for index, up in enumerate(ups_c):
            part = out[:, at : at + up.shape[0]]
            part.addmm_(hidden[:, index * rank : (index + 1) * rank], up.t(), alpha=scale)
            at += up.shape[0]
        ctx.save_for_backward(x_NI, hidden, weight, down_c, *ups_c)
        ctx.scale, ctx.wide = scale, trained[0].dtype
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x_NI, hidden, weight, down_c, *ups_c = ctx.saved_tensors
        rank, at = down_c.shape[0] // len(ups_c), 0
        grad_hidden = torch.empty_like(hidden)
        grad_ups = []
        for index, up in enumerate(ups_c):
            own = grad[:, at : at + up.shape[0]]
            rows = slice(index * rank, (index + 1) * rank)
            grad_hidden[:, rows] = own @ (up * ctx.scale)
            grad_ups.append((own.t() @ hidden[:, rows]).to(ctx.wide) * ctx.scale)
            at += up.shape[0]
        grad_downs = (grad_hidden.t() @ x_NI).to(ctx.wide).split(rank)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ weight
            grad_x.addmm_(grad_hidden, down_c)
        return grad_x, None, None, None, None, *grad_downs, *grad_ups


def weight_lengths(weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """The length of each input's weights in `weight + scale up @ down`, (in,) float32, without that sum.

    |w + s D u|^2 = |w|^2 + 2 s D (w u) + s^2 D (u^T u) D^T, all products of width `rank`. For DoRA, which
    takes it as a constant in the gradient (Liu et al. 2024, arXiv:2402.09353, sec. 4.3); one length an input
    is what the readers of kohya's files compute.
    """
    with torch.no_grad():
        whole_OJ = weight.flatten(1).float()
        down_RJ, up_OR = down.flatten(1).float(), up.flatten(1).float()
        cross_J = (down_RJ * (up_OR.t() @ whole_OJ)).sum(dim=0)
        own_J = (((up_OR.t() @ up_OR) @ down_RJ) * down_RJ).sum(dim=0)
        squares_J = whole_OJ.square().sum(dim=0) + 2.0 * scale * cross_J + scale * scale * own_J
        return squares_J.view(weight.shape[1], -1).sum(dim=1).clamp_min(1e-12).sqrt()
