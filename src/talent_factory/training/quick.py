"""What makes a model draw faster without drawing anything else: what stays the same is worked out once.

The text is the same in all steps, so its keys and values are; the weights of convolutions are laid out for
the processor once and not in every call. Both follow the weights: when those change, so do they; when weights
take turns, what belongs to each is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from talent_factory.training.attention import attend, is_plain_block, split_heads
from talent_factory.training.cpu import packs_kept

if TYPE_CHECKING:
    from talent_factory.training.families.port import Base

# Sets of weights that take turns in one layer; more are forgotten and worked out again.
_MOST_TURNS = 16
Pair = tuple[Tensor, Tensor]


@contextmanager
def quick(base: Base) -> Iterator[None]:
    """Within this context `base` draws faster; its weights may be merged into and changed meanwhile.

    Not for training, nor with LoRA layers attached: what those learn is no part of the weights.
    """
    with ExitStack() as undo:
        undo.enter_context(attention_for_drawing(base.unet))
        if base.device.type == "cpu":
            undo.enter_context(packs_kept(base.unet))
            undo.enter_context(packs_kept(base.vae))
        yield


@contextmanager
def attention_for_drawing(unet: nn.Module) -> Iterator[None]:
    """Within this context attention to a text remembers the text's keys and values from step to step."""
    # the fused kernel of a CPU is slow in sixteen bits, and the best there is in thirty-two
    weight = next(unet.parameters())
    plain = weight.device.type == "cpu" and weight.dtype == torch.bfloat16
    before: list[tuple[Any, Any]] = []
    for block in unet.modules():
        if is_plain_block(block):
            attn: Any = block
            before.append((attn, attn.processor))
            attn.set_processor(DrawingAttention(plain=plain))
    try:
        yield
    finally:
        for attn, processor in before:
            attn.set_processor(processor)


class DrawingAttention:
    """A diffusers attention processor that works out the keys and values of one text once."""

    def __init__(self, *, plain: bool) -> None:
        self._plain = plain
        self._known: dict[tuple[int, ...], _Remembered] = {}

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any
    ) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        query = split_heads(attn.to_q(hidden_states), attn.heads)
        if encoder_hidden_states is None:
            key, value = _keys_and_values(attn, hidden_states)
        else:
            key, value = self._remembered(attn, encoder_hidden_states)
        out = attend(query, key, value, plain=self._plain)
        answer: Tensor = attn.to_out[0](out.transpose(1, 2).flatten(2))
        return answer

    def _remembered(self, attn: Any, text_BTC: Tensor) -> Pair:
        weights = [own.detach() for part in (attn.to_k, attn.to_v) for own in part.parameters()]
        place = tuple(own.data_ptr() for own in weights)
        versions = tuple(own._version for own in weights)
        known = self._known.get(place)
        if known is None or known.text is not text_BTC or known.versions != versions:
            if known is None and len(self._known) == _MOST_TURNS:
                self._known.clear()
            known = _Remembered(text_BTC, weights, versions, _keys_and_values(attn, text_BTC))
            self._known[place] = known
        return known.pair


@dataclass(frozen=True, eq=False)
class _Remembered:
    """Keys and values, and what they follow from; while weights are held, no others lie in their place."""

    text: Tensor
    weights: list[Tensor]
    versions: tuple[int, ...]
    pair: Pair


def _keys_and_values(attn: Any, rows: Tensor) -> Pair:
    return split_heads(attn.to_k(rows), attn.heads), split_heads(attn.to_v(rows), attn.heads)
