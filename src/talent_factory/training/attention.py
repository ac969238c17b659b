"""Attention as a training wants it: q, k and v in one product, and the formula that suits the device.

On a CPU torch's fused kernel is two to three times slower in bf16 than plain products as long as the map of
attention is small; on a GPU, and where that map is large, the fused kernel it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from talent_factory.training.lora import LoraLayer, LoraNetwork
from talent_factory.training.lora.products import low_rank_branches

# Numbers in one map of attention (heads x queries x keys) up to which plain products are used on a CPU.
_PLAIN_NUMBERS = 12_000_000


@dataclass(eq=False)
class Branches:
    """Adapted layers that read the same rows, such as q, k and v: their weights below each other."""

    network: LoraNetwork
    layers: Sequence[LoraLayer]
    weight: Tensor
    """(sum of outputs, in); the layers' own weights are views into it."""

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """What each layer answers to x (..., in)."""
        widths = [layer.up.shape[0] for layer in self.layers]
        rows = x.reshape(-1, x.shape[-1])
        scale = self.network.scale * self.layers[0].ratio
        if scale == 0.0:
            out = rows @ self.weight.t()
        else:
            trained = [(layer.down, layer.up) for layer in self.layers]
            factors = [layer.factors(x.dtype) for layer in self.layers]
            copies = [(down.detach(), up.detach()) for down, up in factors]
            out = low_rank_branches(rows, self.weight, trained, copies=copies, scale=scale)
        return tuple(out.view(*x.shape[:-1], -1).split(widths, dim=-1))


class TrainingAttention:
    """A diffusers attention processor for blocks without mask, norm or residual of their own."""

    def __init__(self, joined: Branches | None, *, across: bool, plain: bool) -> None:
        """`joined` are q, k, v of a block that looks at itself, or k, v of one that looks `across` at text.

        `plain` asks for products in place of the fused kernel wherever the map is small enough.
        """
        self._joined = joined
        self._across = across
        self._plain = plain

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any
    ) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if self._joined is None:
            query, key, value = attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)
        elif self._across:
            query = attn.to_q(hidden_states)
            key, value = self._joined(context)
        else:
            query, key, value = self._joined(hidden_states)
        out = attend(*(split_heads(part, attn.heads) for part in (query, key, value)), plain=self._plain)
        out = out.transpose(1, 2).flatten(2)
        answer: Tensor = attn.to_out[0](out)
        return answer


def attend(query: Tensor, key: Tensor, value: Tensor, *, plain: bool) -> Tensor:
    """softmax(q k^T / sqrt(d)) v for (B, heads, N, d): (B, heads, N, d)."""
    numbers = query.shape[1] * query.shape[2] * key.shape[2]
    if not plain or numbers > _PLAIN_NUMBERS:
        return F.scaled_dot_product_attention(query, key, value)
    weights = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    mixed: Tensor = weights.softmax(dim=-1) @ value
    return mixed


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, N, heads x d) as (B, heads, N, d)."""
    return x.view(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def tune_attention(unet: nn.Module, network: LoraNetwork) -> int:
    """Join what can be joined in the attention blocks of an adapted UNet; returns how many blocks were."""
    names: dict[nn.Module, str] = {target: name for name, target in network.targets.items()}
    layers = dict(network.named_layers())
    on_cpu = next(unet.parameters()).device.type == "cpu"
    joined_blocks = 0
    for block in unet.modules():
        if not is_plain_block(block):
            continue
        attn: Any = block
        across = attn.to_k.in_features != attn.to_q.in_features or attn.is_cross_attention
        parts = [attn.to_k, attn.to_v] if across else [attn.to_q, attn.to_k, attn.to_v]
        joined = _join(network, parts, names, layers)
        joined_blocks += joined is not None
        attn.set_processor(TrainingAttention(joined, across=across, plain=on_cpu))
    return joined_blocks


def plain_attention(unet: nn.Module) -> None:
    """The reference formula in every attention block, product by product, as diffusers writes it."""
    from diffusers.models.attention_processor import AttnProcessor

    model: Any = unet
    model.set_attn_processor(AttnProcessor())


def is_plain_block(block: nn.Module) -> bool:
    """Whether a module is an attention as SD's UNets have it: no norms, masks or residuals inside."""
    if type(block).__name__ != "Attention" or not hasattr(block, "set_processor"):
        return False
    attn: Any = block
    extras = (attn.group_norm, attn.spatial_norm, attn.norm_cross, attn.norm_q, attn.norm_k, attn.add_k_proj)
    return all(extra is None for extra in extras) and not attn.residual_connection


def _join(
    network: LoraNetwork,
    parts: Sequence[nn.Linear],
    names: Mapping[nn.Module, str],
    layers: Mapping[str, LoraLayer],
) -> Branches | None:
    """The parts as branches, when all are adapted alike; their weights become views of one tensor."""
    if not all(part in names and type(part) is nn.Linear and part.bias is None for part in parts):
        return None
    own = [layers[names[part]] for part in parts]
    alike = {(layer.rank, layer.alpha, layer.lengths is None) for layer in own}
    if len(alike) != 1 or own[0].lengths is not None:
        return None
    weight = torch.cat([part.weight.detach() for part in parts])
    for part, rows in zip(parts, weight.split([part.out_features for part in parts]), strict=True):
        part.weight.data = rows
    return Branches(network, own, weight)
