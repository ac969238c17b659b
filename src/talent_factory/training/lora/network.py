"""Low-rank adapters that take the place of a layer's forward while they are attached.

Source: Hu et al. 2021 (arXiv:2106.09685); kohya-ss/sd-scripts networks/lora.py for initial values and
convolutions; Liu et al. 2024 (arXiv:2402.09353) for DoRA.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from talent_factory.core.errors import KitError
from talent_factory.core.seeds import derive_seed
from talent_factory.training.lora.names import UNET_PREFIX, Namer, kohya_name, target_layers
from talent_factory.training.lora.products import (
    low_rank_rows,
    merged_convolution,
    merged_rows,
    merging_pays,
    weight_lengths,
)
from talent_factory.training.options import NetworkKeys, Targets

Target = nn.Linear | nn.Conv2d
Forward = Callable[[Tensor], Tensor]


class LoraLayer(nn.Module):
    """The low-rank addition of one Linear or Conv2d: down to `rank`, up to the output, in float32."""

    def __init__(self, target: Target, *, rank: int, alpha: float, seed: int, dora: bool = False) -> None:
        super().__init__()
        self.rank = rank
        self.alpha = alpha
        self.conv = isinstance(target, nn.Conv2d)
        self.pointwise = not isinstance(target, nn.Conv2d) or (
            target.kernel_size == (1, 1) and target.stride == (1, 1) and target.padding == (0, 0)
        )
        if isinstance(target, nn.Conv2d):
            down_shape: tuple[int, ...] = (rank, target.in_channels, *target.kernel_size)
            up_shape: tuple[int, ...] = (target.out_channels, rank, 1, 1)
        else:
            down_shape, up_shape = (rank, target.in_features), (target.out_features, rank)
        down = torch.empty(down_shape)
        # a = sqrt(5) as in kohya: uniform within 1 / sqrt(fan in). Up starts at zero, so step 0 is the base.
        nn.init.kaiming_uniform_(down, a=math.sqrt(5), generator=torch.Generator().manual_seed(seed))
        device = target.weight.device
        self.down = nn.Parameter(down.to(device))
        self.up = nn.Parameter(torch.zeros(up_shape, device=device))
        self.lengths: nn.Parameter | None = None
        if dora:
            zero = self.up.detach()
            self.lengths = nn.Parameter(weight_lengths(target.weight, self.down.detach(), zero, 0.0))
        # The same weights in the precision of the base; flat.py keeps them up to date, None casts each time.
        self.down_c: Tensor | None = None
        self.up_c: Tensor | None = None

    @property
    def ratio(self) -> float:
        """alpha / rank, what the product is multiplied by."""
        return self.alpha / self.rank

    def factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Down and up in `dtype`, without gradient where a copy is kept."""
        if self.down_c is not None and self.up_c is not None and self.down_c.dtype == dtype:
            return self.down_c, self.up_c
        return self.down.to(dtype), self.up.to(dtype)


def adapted(layer: LoraLayer, target: Target, own: Forward, x: Tensor, scale: float) -> Tensor:
    """What `target` answers with `scale` times the low-rank addition; `own` is its forward without it."""
    if layer.lengths is not None:
        return _adapted_dora(layer, target, own, x, scale)
    # a packed convolution has no weight left to multiply with, one in fp8 has it in another type
    known = type(target) in (nn.Linear, nn.Conv2d)
    plain = known and target.weight.dtype == x.dtype and target.weight.numel() > 0
    if layer.pointwise and plain:
        return _adapted_rows(layer, target, x, scale)
    if plain and x.dtype == torch.float32 and isinstance(target, nn.Conv2d):
        rows = x.numel() // x.shape[1] // (target.stride[0] * target.stride[1])
        if merging_pays(rows, target.weight[0].numel(), target.out_channels):
            shape: Any = (target.stride, target.padding, target.dilation)
            frozen = (target.weight, target.bias)
            return merged_convolution(x, frozen, (layer.down, layer.up), scale=scale, shape=shape)
    down, up = layer.down.to(x.dtype), layer.up.to(x.dtype)
    return own(x).add_(_low_rank(target, x, down, up * scale))


def _adapted_rows(layer: LoraLayer, target: Target, x: Tensor, scale: float) -> Tensor:
    """A linear layer or a 1 x 1 convolution, which is one over the channels of each place."""
    down_c, up_c = (part.detach().flatten(1) for part in layer.factors(x.dtype))
    weight, down, up = target.weight.flatten(1), layer.down.flatten(1), layer.up.flatten(1)
    places = x.permute(0, 2, 3, 1) if layer.conv else x
    shape = places.shape
    rows_NI = places.reshape(-1, shape[-1])
    frozen, trained = (weight, target.bias), (down, up)
    if x.dtype == torch.float32 and merging_pays(len(rows_NI), *weight.shape):
        out_NO = merged_rows(rows_NI, frozen, trained, scale=scale)
    else:
        out_NO = low_rank_rows(rows_NI, frozen, trained, copies=(down_c, up_c), scale=scale)
    out = out_NO.view(*shape[:-1], -1)
    return out.permute(0, 3, 1, 2) if layer.conv else out


def _adapted_dora(layer: LoraLayer, target: Target, own: Forward, x: Tensor, scale: float) -> Tensor:
    """Base and addition, each input's weights at the trained length: the input is what is scaled."""
    assert layer.lengths is not None
    factor = layer.lengths / weight_lengths(target.weight, layer.down, layer.up, scale)
    scaled = x * factor.to(x.dtype).view((1, -1, 1, 1) if layer.conv else (-1,))
    down, up = layer.down.to(x.dtype), layer.up.to(x.dtype)
    return own(scaled) + _low_rank(target, scaled, down, up * scale)


def _low_rank(target: Target, x: Tensor, down: Tensor, up: Tensor) -> Tensor:
    if isinstance(target, nn.Linear):
        return F.linear(F.linear(x, down), up)
    hidden = F.conv2d(x, down, None, target.stride, target.padding, target.dilation)
    # a product over the channels of each place: oneDNN has no fast convolution that is as narrow
    return F.linear(hidden.permute(0, 2, 3, 1), up.flatten(1)).permute(0, 3, 1, 2)


class LoraNetwork(nn.Module):
    """All low-rank layers of one model, in the place of its layers' forwards; the model is not copied."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = 1.0
        """Strength of the whole network on top of alpha / rank; 0 is the base."""
        self.layers = nn.ModuleDict()
        self.targets: dict[str, Target] = {}
        self._before: list[tuple[nn.Module, Any]] = []

    def add(self, name: str, target: Target, layer: LoraLayer) -> None:
        """Put one more layer before `target`; it is called `name` in the file."""
        self.layers[name] = layer
        self.targets[name] = target
        own = target.forward

        def forward(x: Tensor, *rest: Any) -> Tensor:
            # diffusers still hands a scale to some layers; ours is the network's
            strength = self.scale * layer.ratio
            return own(x) if strength == 0.0 else adapted(layer, target, own, x, strength)

        self._before.append((target, target.__dict__.get("forward")))
        target.forward = forward  # type: ignore[method-assign,assignment]

    def named_layers(self) -> Iterator[tuple[str, LoraLayer]]:
        """Each layer with its name in the file, in the model's order."""
        for name, layer in self.layers.items():
            assert isinstance(layer, LoraLayer)
            yield name, layer

    def state(self) -> dict[str, Tensor]:
        """The tensors of a kohya file, float32 on the CPU: down, up and alpha of each layer."""
        tensors: dict[str, Tensor] = {}
        for name, layer in self.named_layers():
            tensors[f"{name}.lora_down.weight"] = layer.down.detach().clone().cpu()
            tensors[f"{name}.lora_up.weight"] = layer.up.detach().clone().cpu()
            tensors[f"{name}.alpha"] = torch.tensor(float(layer.alpha))
            if layer.lengths is not None:
                shape = (1, -1, 1, 1) if layer.conv else (1, -1)
                tensors[f"{name}.dora_scale"] = layer.lengths.detach().clone().cpu().view(shape)
        return tensors

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the weights from a kohya file; raises KitError when a layer is missing or misshapen."""
        for name, layer in self.named_layers():
            parts = [("lora_down.weight", layer.down), ("lora_up.weight", layer.up)]
            if layer.lengths is not None:
                parts.append(("dora_scale", layer.lengths))
            for part, parameter in parts:
                key = f"{name}.{part}"
                found = tensors.get(key)
                wanted = parameter.numel() if part == "dora_scale" else parameter.shape
                if found is None or (found.numel() if part == "dora_scale" else found.shape) != wanted:
                    shape = None if found is None else tuple(found.shape)
                    raise KitError(f"LoRA tensor {key}: expected {tuple(parameter.shape)}, found {shape}")
                parameter.copy_(found.view(parameter.shape))

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The base as it is without this network."""
        before, self.scale = self.scale, 0.0
        try:
            yield
        finally:
            self.scale = before

    def detach(self) -> None:
        """Give all layers their own forward back; the weights stay readable."""
        for target, before in reversed(self._before):
            if before is None:
                del target.forward
            else:
                target.forward = before
        self._before.clear()


def attach(
    module: nn.Module,
    *,
    prefix: str = UNET_PREFIX,
    rank: int,
    alpha: float | None = None,
    targets: Targets = "transformer",
    seed: int = 0,
    name: Namer = kohya_name,
    shape: NetworkKeys | None = None,
) -> LoraNetwork:
    """Adapt a UNet or text encoder: freeze it and add a network whose output is zero until it is trained.

    "attention" adapts q, k, v and out; "transformer" also the feed-forward and the projections (what kohya
    adapts by default); "transformer+conv" also the convolutions and time embeddings of the residual blocks.
    `alpha` None means `rank`. A layer's initial value depends on `seed` and its name only, not on the order.
    Raises ValueError when nothing in `module` is a target.
    """
    module.requires_grad_(False)
    keys = shape or NetworkKeys()
    strength = float(rank if alpha is None else alpha)
    network = LoraNetwork()
    for full_name, target in target_layers(module, prefix=prefix, targets=targets, name=name):
        own_rank, own_alpha = _size(target, rank, strength, keys)
        # a file knows alpha / rank only: alpha / sqrt(rank) is that with a larger alpha (Kalajdzievski 2023)
        own_alpha *= math.sqrt(own_rank) if keys.rslora else 1.0
        own_seed = derive_seed(seed, "lora", full_name)
        layer = LoraLayer(target, rank=own_rank, alpha=own_alpha, seed=own_seed, dora=keys.dora)
        network.add(full_name, target, layer)
    if not network.layers:
        raise ValueError(f"{type(module).__name__} has no layer that a LoRA of {targets!r} adapts")
    return network


def _size(target: Target, rank: int, alpha: float, keys: NetworkKeys) -> tuple[int, float]:
    """Rank and alpha of one layer: 3 x 3 convolutions may have their own."""
    if not isinstance(target, nn.Conv2d) or target.kernel_size == (1, 1) or keys.conv_rank is None:
        return rank, alpha
    return keys.conv_rank, alpha * keys.conv_rank / rank if keys.conv_alpha is None else keys.conv_alpha
