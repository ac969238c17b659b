"""Attention between the frames of a sample, added to a UNet without changing what it does at first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from talent_factory.core.errors import FileError


class TemporalUNet(nn.Module):
    """A UNet2DConditionModel with attention over time after each of its attention layers.

    `unet` keeps its own names and weights, so it can be saved and used alone. What is added lies in `layers`
    and ends in matrices of zeros: before training the answer is that of the UNet, bit for bit. Each place of
    a picture attends to the same place in the other frames of its sample (as in AnimateDiff, Guo et al.
    2023), with sinusoids for the order; there is no greatest number of frames.
    """

    def __init__(self, unet: nn.Module, *, heads: int = 8) -> None:
        super().__init__()
        self.unet = unet
        self.layers = nn.ModuleList()
        self._length = 1
        for site in _sites(unet):
            index = len(self.layers)
            self.layers.append(TemporalAttention(int(site.in_channels), heads))
            site.register_forward_hook(partial(self._after, index))

    @property
    def config(self) -> Any:
        """The configuration of the UNet."""
        return self.unet.config

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        *,
        length: int = 1,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        """As the UNet, for (B, 2C, h, w) whose rows are B/length samples of `length` frames in order."""
        if len(sample) % length:
            raise ValueError(f"{len(sample)} frames are no whole samples of {length}")
        self._length = length
        answer: tuple[Tensor] = self.unet(sample, timestep, encoder_hidden_states, return_dict=False)
        return answer

    def _after(self, index: int, module: nn.Module, inputs: Any, output: Any) -> Any:
        layer = self.layers[index]
        if isinstance(output, tuple):
            return (layer(output[0], self._length), *output[1:])
        output.sample = layer(output.sample, self._length)
        return output

    def temporal_state(self) -> dict[str, Tensor]:
        """The weights of what was added, without the UNet's."""
        return dict(self.layers.state_dict())

    def load_temporal(self, state: Mapping[str, Tensor]) -> None:
        """Take weights that `temporal_state` gave. Raises FileError when they are of another UNet."""
        try:
            self.layers.load_state_dict(dict(state), strict=True)
        except RuntimeError as error:
            line = next(iter(str(error).strip().splitlines()), "other names")
            raise FileError(
                f"the temporal weights do not fit this UNet: {line}", remedy="use both of one checkpoint"
            ) from None

    def second_stage(self) -> Iterator[nn.Parameter]:
        """What the second stage trains: attention over time, and the UNet's attention to sound."""
        yield from self.layers.parameters()
        for name, parameter in self.unet.named_parameters():
            if ".attn2." in name:
                yield parameter


class TemporalAttention(nn.Module):
    """Attention over the frames of a sample, one place of the picture at a time, added to its input."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = math.gcd(heads, channels)
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, hidden: Tensor, length: int) -> Tensor:
        """(B·length, C, h, w) to the same shape."""
        frames, channels, height, width = hidden.shape
        if length == 1:
            return hidden
        places = hidden.reshape(frames // length, length, channels, height * width)
        places = places.permute(0, 3, 1, 2).reshape(-1, length, channels)  # (B·h·w, length, C)
        normed = self.norm(places) + _order(length, channels).to(places)
        split = self.qkv(normed).reshape(-1, length, 3, self.heads, channels // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        added = self.out(mixed.transpose(1, 2).reshape(-1, length, channels))
        added = added.reshape(frames // length, height * width, length, channels).permute(0, 2, 3, 1)
        answer: Tensor = hidden + added.reshape(frames, channels, height, width)
        return answer


def _order(length: int, channels: int) -> Tensor:
    """Sinusoids of the places in a sample: (length, channels)."""
    places = torch.arange(length, dtype=torch.float32)[:, None]
    count = (channels + 1) // 2
    rates = torch.exp(torch.arange(count, dtype=torch.float32) * (-math.log(1000.0) / count))
    return torch.cat([torch.sin(places * rates), torch.cos(places * rates)], dim=1)[:, :channels]


def _sites(unet: nn.Module) -> list[Any]:
    """The attention layers of a UNet in their order, each a Transformer2DModel."""
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    return [module for module in unet.modules() if isinstance(module, Transformer2DModel)]
